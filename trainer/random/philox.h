/*
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A value is a pure function of (key, counter), so
 * sample k's masking, pairing and dropout need no generator state and can be sought in O(1) (contracts C9, T3).
 *
 * Key = the job's seed. Counter = { element block, site, low k, high k } where
 *   site = domain << 28 | stage << 24 | layer << 8 | place
 * keeps every use apart. Domains are data on disk and in checkpoints' meaning: never renumber.
 */
#ifndef TRAINER_RANDOM_PHILOX_H
#define TRAINER_RANDOM_PHILOX_H

#include <stdint.h>

/* The same code runs on a GPU. */
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

enum philox_domain {
        PHILOX_INIT = 0,     /* k = tensor index */
        PHILOX_DROPOUT = 1,  /* k = sample's position in the global stream */
        PHILOX_MASKING = 2,  /* k = sample's position in the global stream */
        PHILOX_PAIR = 3,     /* NSP/SOP draws */
        PHILOX_SHUFFLE = 4,  /* k = epoch: keys of the Feistel permutation */
        PHILOX_WINDOW = 5,   /* k = document: short sequences */
        PHILOX_EVALUATE = 6, /* evaluation's masking and pairing */
};

struct philox {
        uint32_t v[4];
};

static inline HOST_DEVICE uint32_t philox_site(enum philox_domain domain, uint32_t stage, uint32_t layer,
                                               uint32_t place) {
        return (uint32_t) domain << 28 | (stage & 0xf) << 24 | (layer & 0xffff) << 8 | (place & 0xff);
}

static inline HOST_DEVICE struct philox philox(uint64_t key, uint32_t block, uint32_t site, uint64_t k) {
        uint32_t k0 = (uint32_t) key, k1 = (uint32_t) (key >> 32);
        uint32_t c0 = block, c1 = site, c2 = (uint32_t) k, c3 = (uint32_t) (k >> 32);

        for (int round = 0; round < 10; round++) {
                uint64_t p0 = (uint64_t) 0xD2511F53u * c0, p1 = (uint64_t) 0xCD9E8D57u * c2;
                uint32_t n0 = (uint32_t) (p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t) (p0 >> 32) ^ c3 ^ k1;
                c1 = (uint32_t) p1;
                c3 = (uint32_t) p0;
                c0 = n0;
                c2 = n2;
                k0 += 0x9E3779B9u;
                k1 += 0xBB67AE85u;
        }
        struct philox random = { { c0, c1, c2, c3 } };
        return random;
}

/* Uniform in [0, n), n > 0, from one 32-bit word by multiplication: bias below n / 2^32. */
static inline HOST_DEVICE uint32_t philox_below(uint32_t word, uint32_t n) {
        return (uint32_t) ((uint64_t) word * n >> 32);
}

/* Uniform in [0, 1), 24 bits. */
static inline HOST_DEVICE float philox_unit(uint32_t word) { return (float) (word >> 8) * 0x1p-24f; }

#endif
