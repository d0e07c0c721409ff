/*
 * Several prepared corpora (.bin/.idx prefixes) seen as one list of documents, in the order of the spec.
 *
 *   corpora_open → corpora_check → { corpora_locate … } → corpora_close
 */
#ifndef TRAINER_DATA_CORPORA_H
#define TRAINER_DATA_CORPORA_H

#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/hex.h"
#include "trainer/data/corpus.h"

struct corpora {
        uint32_t n;
        struct corpus **part;
        char *const *prefixes;    /* borrowed from the spec: must outlive this */
        uint64_t *first_document; /* (n + 1) of each part; the last is the number of documents */
};

int corpora_open(char *const *prefixes, uint32_t n, struct corpora **ret, struct error *error);
void corpora_close(struct corpora *corpora);
static inline void cleanup_corpora_p(struct corpora **corpora) { corpora_close(*corpora); }
#define cleanup_corpora cleanup(cleanup_corpora_p)

/* A corpus prepared with another vocabulary is refused (exit 65). Ids are not read (corpus_check_ids). */
int corpora_check(const struct corpora *corpora, const char *vocab_hash, struct error *error);

/* xxh3-128 in hex over the parts' own hashes, in order. */
int corpora_hash(const struct corpora *corpora, char hex[HEX_128_SIZE], struct error *error);

uint64_t corpora_n_documents(const struct corpora *corpora);

/* The number of the part that holds a document, and the documents [*ret_first, *ret_last) of it. */
uint32_t corpora_part(const struct corpora *corpora, uint64_t document, uint64_t *ret_first, uint64_t *ret_last);

/* The part that holds a document, and the document's sentences [*ret_begin, *ret_end) in it. */
struct corpus *corpora_locate(const struct corpora *corpora, uint64_t document, uint64_t *ret_begin, uint64_t *ret_end);

#endif
