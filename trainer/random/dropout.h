/*
 * Dropout masks (contract T3): a pure function of (seed, sample k, stage, layer, place, element), never of the batch, the
 * layout, the backend or the thread. Nothing is stored: backward asks again.
 *
 * One Philox call decides the eight elements of a block: element e of a block is half e & 1 (low first) of word e >> 1; it is
 * dropped where those 16 bits are below the threshold. Kept elements are multiplied by 65536 / (65536 − threshold), so the
 * expectation is exact for the probability really used.
 *
 *   hidden (position, channel):  block = position · ceil(H / 8) + channel / 8,                    element = channel % 8
 *   attention (head, q, kv):     block = (head · n + q) · ceil(n / 8) + kv / 8, n = sample length, element = kv % 8
 */
#ifndef TRAINER_RANDOM_DROPOUT_H
#define TRAINER_RANDOM_DROPOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/random/philox.h"

/* Values of philox_site's `place`: data in checkpoints' meaning, never renumber. The embeddings use layer 0xffff. */
enum dropout_place {
        DROPOUT_EMBEDDINGS = 0,
        DROPOUT_ATTENTION_PROBABILITIES = 1,
        DROPOUT_ATTENTION_OUTPUT = 2,
        DROPOUT_FEED_FORWARD_OUTPUT = 3,
        DROPOUT_CLASSIFIER = 4, /* position 0; layer as the embeddings' */
};
#define DROPOUT_LAYER_EMBEDDINGS 0xffffu

struct dropout {
        uint64_t seed;
        uint32_t site;      /* philox_site(PHILOX_DROPOUT, stage, layer, place) */
        uint32_t threshold; /* of 65536; 0 = no dropout */
        double scale;       /* of kept elements */
};

static inline HOST_DEVICE struct dropout dropout_new(double probability, uint64_t seed, uint32_t stage, uint32_t layer,
                                                     enum dropout_place place) {
        uint32_t threshold = (uint32_t) (probability * 65536.0 + 0.5);
        if (threshold > 65535)
                threshold = 65535;
        struct dropout d = {
                .seed = seed,
                .site = philox_site(PHILOX_DROPOUT, stage, layer, (uint32_t) place),
                .threshold = threshold,
                .scale = 65536.0 / (65536.0 - threshold),
        };
        return d;
}

static inline HOST_DEVICE uint32_t dropout_hidden_block(uint32_t position, uint32_t hidden_size) {
        return position * ((hidden_size + 7) / 8);
}
static inline HOST_DEVICE uint32_t dropout_attention_block(uint32_t head, uint32_t q, uint32_t length) {
        return (head * length + q) * ((length + 7) / 8);
}

/* The definition, one element at a time: whether element `column` of the row that starts at `first_block` is kept. */
static inline HOST_DEVICE bool dropout_keeps(const struct dropout *d, uint64_t k, uint32_t first_block,
                                             uint32_t column) {
        struct philox r = philox(d->seed, first_block + column / 8, d->site, k);
        uint32_t word = r.v[(column % 8) >> 1];
        return (column & 1 ? word >> 16 : word & 0xffff) >= d->threshold;
}

#endif
