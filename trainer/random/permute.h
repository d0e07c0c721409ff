/*
 * A keyed permutation of [0, n) without a table: a Feistel network over the next even power of two, walked until the
 * value falls inside. Order of windows in an epoch (contract T5); sought in O(1), so a resume costs nothing.
 */
#ifndef TRAINER_RANDOM_PERMUTE_H
#define TRAINER_RANDOM_PERMUTE_H

#include <stdint.h>

#define PERMUTE_ROUNDS 6

struct permute {
        uint64_t n;
        uint32_t half_bits;
        uint64_t keys[PERMUTE_ROUNDS];
};

/* Round keys come from Philox: key `seed`, site `site`, k = `epoch`. n > 0, n <= 2^62. */
void permute_init(struct permute *permute, uint64_t n, uint64_t seed, uint32_t site, uint64_t epoch);

/* The place of `index` (< n): a bijection. */
uint64_t permute_index(const struct permute *permute, uint64_t index);

#endif
