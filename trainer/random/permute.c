/* See permute.h. Holds no state beyond the round keys. The domain is below 4n, so the walk takes fewer than four
 * turns on average. */
#include "trainer/random/permute.h"

#include "trainer/random/philox.h"

void permute_init(struct permute *permute, uint64_t n, uint64_t seed, uint32_t site, uint64_t epoch) {
        uint32_t bits = 2;

        while (bits < 62 && (UINT64_C(1) << bits) < n)
                bits += 2;
        permute->n = n;
        permute->half_bits = bits / 2;
        for (uint32_t r = 0; r < PERMUTE_ROUNDS; r++) {
                struct philox p = philox(seed, r, site, epoch);
                permute->keys[r] = (uint64_t) p.v[0] << 32 | p.v[1];
        }
}

/* The finaliser of splitmix64 (Steele et al. 2014) as round function. */
static uint64_t mix(uint64_t x) {
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

static uint64_t feistel(const struct permute *permute, uint64_t value) {
        uint64_t mask = (UINT64_C(1) << permute->half_bits) - 1, left = value >> permute->half_bits,
                 right = value & mask;

        for (uint32_t r = 0; r < PERMUTE_ROUNDS; r++) {
                uint64_t next = left ^ (mix(right + permute->keys[r]) & mask);
                left = right;
                right = next;
        }
        return left << permute->half_bits | right;
}

uint64_t permute_index(const struct permute *permute, uint64_t index) {
        do
                index = feistel(permute, index);
        while (index >= permute->n);
        return index;
}
