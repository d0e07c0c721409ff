/* Corpora written by hand for unit tests: Megatron's format as trainer/data/corpus.h describes it, int32 ids. */
#ifndef TESTS_UNIT_TRAINER_CORPUS_H
#define TESTS_UNIT_TRAINER_CORPUS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "tests/unit/folder.h"

static inline void put(FILE *file, const void *data, size_t size) {
        if (fwrite(data, 1, size, file) != size)
                abort();
}

/* Writes PREFIX.bin and .idx: document d of per_document[d % n_counts] sentences, sentence s of length shortest + s %
 * 9, its ids first_id + s % range + i % 10. */
static inline void write_sentences(const char *prefix, uint64_t n_documents, const uint64_t *per_document,
                                   uint64_t n_counts, uint64_t first_id, uint64_t range, uint64_t shortest) {
        char *bin = format_string("%s.bin", prefix), *idx = format_string("%s.idx", prefix);
        FILE *b = fopen(bin, "wbe"), *x = fopen(idx, "wbe");
        uint64_t version = 1, n = 0, entries = n_documents + 1;
        uint8_t int32_code = 4;
        int64_t offset = 0, begin = 0;
        if (!b || !x)
                abort();

        for (uint64_t d = 0; d < n_documents; d++)
                n += per_document[d % n_counts];
        put(x, "MMIDIDX\0\0", 9);
        put(x, &version, 8);
        put(x, &int32_code, 1);
        put(x, &n, 8);
        put(x, &entries, 8);
        for (uint64_t s = 0; s < n; s++) {
                int32_t length = (int32_t) (shortest + s % 9);
                put(x, &length, 4);
                for (int32_t i = 0; i < length; i++)
                        put(b, &(int32_t) { (int32_t) (first_id + s % range + (uint64_t) i % 10) }, 4);
        }
        for (uint64_t s = 0; s < n; s++) {
                put(x, &offset, 8);
                offset += (int64_t) (shortest + s % 9) * 4;
        }
        for (uint64_t d = 0; d <= n_documents; d++) {
                put(x, &begin, 8);
                begin += (int64_t) per_document[d % n_counts];
        }
        if (fclose(b) != 0 || fclose(x) != 0)
                abort();
        free(bin);
        free(idx);
}

static inline void write_ids(const char *prefix, uint64_t n_documents, const uint64_t *per_document, uint64_t n_counts,
                             uint64_t first_id, uint64_t range) {
        write_sentences(prefix, n_documents, per_document, n_counts, first_id, range, 3);
}

static inline void write_documents(const char *prefix, uint64_t n_documents, const uint64_t *per_document,
                                   uint64_t n_counts) {
        write_ids(prefix, n_documents, per_document, n_counts, 10, 80);
}

static inline void write_corpus(const char *prefix, uint64_t n_documents, uint64_t per_document) {
        write_documents(prefix, n_documents, &per_document, 1);
}

#endif
