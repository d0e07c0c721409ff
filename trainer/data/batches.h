/*
 * One rank's share of one global batch, packed into micro-batches (contract T4): samples laid end to end, a
 * micro-batch closes when the next sample would pass its budget of tokens, samples or masked positions. All arrays are
 * allocated once; the micro-batches are views into them. N, the masked tokens, is known as soon as the share is made,
 * before the first backward (T1).
 */
#ifndef TRAINER_DATA_BATCHES_H
#define TRAINER_DATA_BATCHES_H

#include <stdint.h>

#include "common/error.h"
#include "trainer/data/batch.h"
#include "trainer/data/sample.h"

struct batches_limits {
        uint32_t max_share;     /* samples in one fill; 0 is allowed */
        uint32_t max_tokens;    /* of a micro-batch, >= the source's max_length */
        uint32_t max_sequences; /* sequences of a micro-batch, >= max_segments */
        uint32_t max_masked;    /* of a micro-batch, >= max_predictions */
};

struct batches;

/* Samples [*begin, *end) of `count`, counted from 0, that rank r of n takes: [count·r/n, count·(r+1)/n). */
void batches_share(uint64_t count, uint32_t rank, uint32_t n_ranks, uint64_t *ret_begin, uint64_t *ret_end);

int batches_new(const struct sample_source *source, const struct batches_limits *limits, struct batches **ret,
                struct error *error);
void batches_free(struct batches *batches);

/* Makes samples [begin, end) of the stream, at most max_share of them. */
void batches_fill(struct batches *batches, uint64_t begin, uint64_t end);

uint32_t batches_n(const struct batches *batches); /* micro-batches */
const struct batch *batches_get(const struct batches *batches, uint32_t index);
uint64_t batches_n_masked(const struct batches *batches);
uint64_t batches_n_tokens(const struct batches *batches);

/* Sum modulo 2^64 of a hash of each sample's ids and labels: does not depend on order, ranks or packing, and shares
 * add up. */
uint64_t batches_hash(const struct batches *batches);

#endif
