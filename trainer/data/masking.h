/*
 * Which tokens of a sample are predicted, and what stands in their place: 80 % [MASK], 10 % random, 10 % kept. A pure function of
 * (seed, site, key): the caller's key is the window, with its epoch or duplicate.
 *
 * As many tokens as masked_fraction of the sample's length (special tokens counted, as BERT does), at least one, at most
 * max_predictions:
 *   token        drawn without replacement
 *   whole_word   words in random order, all pieces of a word or none; one that no longer fits is passed over
 *   ngram        as whole_word, but n words in a row at a time, n ≤ 3 with p ∝ 1/n; fewer where they do not fit or a segment ends
 *                (ALBERT's create_pretraining_data.py, which also lets an n-gram run from one segment into the next)
 */
#ifndef TRAINER_DATA_MASKING_H
#define TRAINER_DATA_MASKING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"
#include "trainer/text/vocab.h"

#define SAMPLES_SPECIAL_MAX 5
#define MASKING_NGRAM_MAX 3

/* What masking needs to know of a vocabulary. */
struct samples_vocab {
        uint32_t size;
        int32_t cls, sep, mask;
        int32_t special[SAMPLES_SPECIAL_MAX]; /* ascending; never masked, never drawn as replacement */
        uint32_t n_special;
        uint8_t *continues; /* (size) bits: the token continues a word ("##ing"); NULL: none does */
};

/* A vocabulary without [CLS], [SEP] or [MASK], or with nothing else, is refused (exit 65). `path` is for the
 * message. The caller frees. */
int samples_vocab_init(struct samples_vocab *ret, const struct vocab *vocab, const char *path, struct error *error);
void samples_vocab_free(struct samples_vocab *vocab);

struct masking {
        const struct samples_vocab *vocab; /* borrowed */
        enum mask_unit unit;
        double fraction;
        uint32_t max_predictions;
        uint64_t seed;
        uint32_t pick_site, order_site, length_site; /* philox_site of each use */
};

/* Masks `ids` (length ≤ MASKING_LENGTH_MAX) in place; fills positions, ascending, and labels, the original ids. Returns their
 * number. */
#define MASKING_LENGTH_MAX 65536
uint32_t masking_apply(const struct masking *masking, uint64_t key, int32_t *ids, uint32_t length, int32_t *positions,
                       int32_t *labels);

#endif
