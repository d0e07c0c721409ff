/*
 * How much of a text its vocabulary does not know, and which words: a corpus that is mostly [UNK] is of another language, or folded in
 * another way, than its vocabulary. Zeroed = nothing seen.
 */
#ifndef TRAINER_TEXT_UNKNOWN_H
#define TRAINER_TEXT_UNKNOWN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "trainer/text/encoder.h"
#include "trainer/text/word_counts.h"

struct unknown {
        uint64_t n_tokens, n_unknown;
        uint64_t n_looked; /* texts in which words were looked at: at most UNKNOWN_TEXTS_MAX */
        struct word_counts words;
};

#define UNKNOWN_TEXTS_MAX 256
#define UNKNOWN_MERGED_MAX ((uint64_t) 64 * UNKNOWN_TEXTS_MAX)
#define UNKNOWN_SHARE 0.2 /* beyond it a warning is printed ... */
#define UNKNOWN_TOKENS 10 /* ... of a text of so many tokens */

/* Takes a text and what it became, its last `n` ids. Returns 0 or -ENOMEM. */
int unknown_take(struct unknown *unknown, const struct encoder *encoder, int thread, const char *text, size_t size,
                 const int32_t *ids, size_t n);
/* Counts all, and takes words until they are of UNKNOWN_MERGED_MAX texts: memory does not grow with a corpus. */
int unknown_merge(struct unknown *unknown, const struct unknown *from);
void unknown_clear(struct unknown *unknown); /* keeps the memory */
void unknown_free(struct unknown *unknown);

/* A line about `what` where too much of it is unknown: how much, the commonest words, what may be the reason. */
void unknown_print(const struct unknown *unknown, const struct encoder *encoder, const char *what, FILE *to);

#endif
