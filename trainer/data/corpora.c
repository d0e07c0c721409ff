/*
 * See corpora.h. Owns the opened parts; the documents of part p are numbered first_document[p] .. first_document[p +
 * 1] − 1. Nothing is copied: the parts are memory-mapped.
 */
#include "trainer/data/corpora.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/hex.h"

static struct corpora *corpora_new(char *const *prefixes, uint32_t n) {
        struct corpora *corpora = calloc(1, sizeof(*corpora));
        if (!corpora)
                return NULL;
        corpora->prefixes = prefixes;
        corpora->part = calloc(n, sizeof(*corpora->part));
        corpora->first_document = calloc((size_t) n + 1, sizeof(*corpora->first_document));
        if (!corpora->part || !corpora->first_document) {
                corpora_close(corpora);
                return NULL;
        }
        return corpora;
}

int corpora_open(char *const *prefixes, uint32_t n, struct corpora **ret, struct error *error) {
        cleanup_corpora struct corpora *corpora = corpora_new(prefixes, n);
        if (!corpora)
                return error_errno(error, ENOMEM, "corpora");

        for (uint32_t p = 0; p < n; p++) {
                int r = corpus_open(prefixes[p], &corpora->part[p], error);
                if (r < 0)
                        return r;
                corpora->n = p + 1;
                corpora->first_document[p + 1] = corpora->first_document[p] + corpus_n_documents(corpora->part[p]);
        }
        if (corpora_n_documents(corpora) > UINT32_MAX)
                return error_input(error, BERTD_EXIT_DATA, "%s: more than 2^32 documents in all", prefixes[0]);
        *ret = steal_pointer(&corpora);
        return 0;
}

void corpora_close(struct corpora *corpora) {
        if (!corpora)
                return;
        for (uint32_t p = 0; p < corpora->n; p++)
                corpus_close(corpora->part[p]);
        free(corpora->part);
        free(corpora->first_document);
        free(corpora);
}

int corpora_check(const struct corpora *corpora, const char *vocab_hash, struct error *error) {
        for (uint32_t p = 0; p < corpora->n; p++) {
                const char *made_with = corpus_vocab_hash(corpora->part[p]);
                if (made_with && strcmp(made_with, vocab_hash) != 0)
                        return error_input(
                                error, BERTD_EXIT_DATA,
                                "%s: prepared with another vocabulary (hash %s) than model.vocab (%s): prepare it "
                                "again",
                                corpora->prefixes[p], made_with, vocab_hash);
        }
        return 0;
}

int corpora_hash(const struct corpora *corpora, char hex[HEX_128_SIZE], struct error *error) {
        cleanup_free char *all = calloc(corpora->n, HEX_128_SIZE);
        if (!all)
                return error_errno(error, ENOMEM, "corpora");
        for (uint32_t p = 0; p < corpora->n; p++)
                corpus_hash(corpora->part[p], all + HEX_128_SIZE * (size_t) p);
        XXH128_hash_t hash = XXH3_128bits(all, HEX_128_SIZE * (size_t) corpora->n);
        hex_128(hash.high64, hash.low64, hex);
        return 0;
}

uint64_t corpora_n_documents(const struct corpora *corpora) { return corpora->first_document[corpora->n]; }

uint32_t corpora_part(const struct corpora *corpora, uint64_t document, uint64_t *ret_first, uint64_t *ret_last) {
        uint32_t p = 0;

        while (document >= corpora->first_document[p + 1])
                p++;
        *ret_first = corpora->first_document[p];
        *ret_last = corpora->first_document[p + 1];
        return p;
}

struct corpus *corpora_locate(const struct corpora *corpora, uint64_t document, uint64_t *ret_begin,
                              uint64_t *ret_end) {
        uint64_t first, last, local;
        uint32_t p = corpora_part(corpora, document, &first, &last);

        local = document - first;
        *ret_begin = corpus_document_begin(corpora->part[p], local);
        *ret_end = corpus_document_begin(corpora->part[p], local + 1);
        return corpora->part[p];
}
