/* PREFIX.json beside a prepared corpus: how it was made. */
#ifndef TRAINER_DATA_CORPUS_SIDECAR_H
#define TRAINER_DATA_CORPUS_SIDECAR_H

#include <stdint.h>

#include "common/error.h"
#include "trainer/text/unicode.h"
#include "trainer/text/vocab.h"

#define CORPUS_SIDECAR_VERSION 1
#define CORPUS_SIDECAR_BYTES_MAX ((size_t) 1 << 20)

struct corpus_sidecar {
        char vocab_hash[VOCAB_HASH_MAX];
        uint32_t vocab_size;
        struct text_options options;
        char format[16]; /* lines, prose, wikitext, jsonl */
        uint64_t n_documents, n_sentences, n_tokens;
};

/* JSON text that the caller frees; NULL: no memory. */
char *corpus_sidecar_format(const struct corpus_sidecar *sidecar);

/* Returns 1 and fills `ret`, 0 without a file, or an error (BERTD_EXIT_DATA). */
int corpus_sidecar_read(const char *path, struct corpus_sidecar *ret, struct error *error);

#endif
