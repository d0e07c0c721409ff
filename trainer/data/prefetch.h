/*
 * Makes the next step's samples in a separate thread while the current step computes: two sets of batches, used in
 * turn.
 *
 *   prefetch_new → { prefetch_take(begin, end, next_begin, next_end) } → prefetch_free
 */
#ifndef TRAINER_DATA_PREFETCH_H
#define TRAINER_DATA_PREFETCH_H

#include "trainer/data/batches.h"

struct prefetch;

int prefetch_new(const struct sample_source *source, const struct batches_limits *limits, struct prefetch **ret,
                 struct error *error);
void prefetch_free(struct prefetch *prefetch);

/* Samples [begin, end), ready or made now, valid until the next call; then starts on [next_begin, next_end). */
struct batches *prefetch_take(struct prefetch *prefetch, uint64_t begin, uint64_t end, uint64_t next_begin,
                              uint64_t next_end);

#endif
