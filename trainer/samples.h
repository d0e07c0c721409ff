/*
 * The global sample stream (contracts C9, T5): sample k, its pairing and its masking are pure functions of (seed,
 * stage, k). Nothing is saved, so any rank makes any sample, and a resume starts at any k.
 *
 *   samples_build_map (one process) → samples_new (every rank) → { samples_make } → samples_free
 *
 * A sample is [CLS] A [SEP] B [SEP] (mlm: [CLS] A [SEP]). Epoch k / n takes the n windows in an order of its own. NSP:
 * B is the rest of the window, or, half of the time, text of one of the other documents, from a random sentence on.
 * Text left over after a random B is not reused (Google's pipeline does; that would make window boundaries depend on
 * draws). 15 % of the tokens are predicted: 80 % [MASK], 10 % random, 10 % kept.
 */
#ifndef TRAINER_SAMPLES_H
#define TRAINER_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec.h"
#include "trainer/corpora.h"
#include "trainer/text/wordpiece.h"

#define SAMPLES_SPECIAL_MAX 5

/* What masking needs to know of a vocabulary. */
struct samples_vocab {
        uint32_t size;
        int32_t cls, sep, mask;
        int32_t special[SAMPLES_SPECIAL_MAX]; /* ascending; never masked, never drawn as replacement */
        uint32_t n_special;
};

/* A vocabulary without [CLS], [SEP] or [MASK], or with nothing else, is refused (exit 65). `path` is for the
 * message. */
int samples_vocab_init(struct samples_vocab *ret, const struct vocab *vocab, const char *path, struct error *error);

struct samples_options {
        uint64_t seed;
        uint32_t stage;
        uint32_t sequence_length; /* tokens with the special ones; >= 8 */
        enum objective objective;
        double masked_fraction;
        uint32_t max_predictions; /* > 0 */
        double short_probability;
        bool evaluation; /* draws of their own (PHILOX_EVALUATE) */
};

struct sample {
        uint32_t length, n_masked;
        int32_t *ids, *token_types; /* room for sequence_length */
        int32_t *masked_positions;  /* ascending; room for max_predictions */
        int32_t *masked_labels;
        int32_t sentence_label; /* as struct batch's */
};

struct samples;

/* Writes the window map unless it is there; NSP over fewer than two documents is refused (exit 65). */
int samples_build_map(const char *map_path, const struct corpora *corpora, const struct samples_options *options,
                      struct error *error);

/* Maps the window map. Borrows corpora until samples_free. */
int samples_new(const char *map_path, const struct corpora *corpora, const struct samples_vocab *vocab,
                const struct samples_options *options, struct samples **ret, struct error *error);
void samples_free(struct samples *samples);

uint64_t samples_n(const struct samples *samples); /* in one epoch */
const struct samples_options *samples_options(const struct samples *samples);
void samples_map_hash(const struct samples *samples, char hex[33]);

/* Fills *sample, whose arrays are the caller's. Thread-safe. */
void samples_make(const struct samples *samples, uint64_t k, struct sample *sample);

#endif
