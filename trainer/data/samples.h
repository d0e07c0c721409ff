/*
 * The global sample stream (contracts C9, T5): sample k of it is window w of epoch k / n, and its pairing and its masking are pure
 * functions of (seed, stage, w, epoch), or, where masking is static, of epoch mod dupe_factor: then the stream repeats itself
 * after dupe_factor epochs, in another order. Nothing is saved, so any rank makes any sample, and a resume starts at any k.
 *
 *   samples_build_map (one process) → samples_new (every rank) → { samples_make } → samples_free
 *
 * A sample is [CLS] A [SEP] B [SEP] (mlm: [CLS] A [SEP]). Epoch k / n takes the n windows in its own order. NSP:
 * B is the rest of the window, or, half of the time, text of one of the other documents, from a random sentence on.
 * Text left over after a random B is not reused (Google's pipeline does; that would make window boundaries depend on
 * draws, and each duplicate of its static masking cuts again). SOP: A and B are the two parts of the window, half of the time
 * in swapped order; a window of one sentence is cut between two tokens.
 *
 * With weights, each corpus has its share of every epoch's n samples (mixture.h), its windows come round in separate epochs, which
 * key the draws, and a random B is of the same corpus.
 */
#ifndef TRAINER_DATA_SAMPLES_H
#define TRAINER_DATA_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/hex.h"
#include "common/spec/spec.h"
#include "trainer/data/corpora.h"
#include "trainer/data/masking.h"
#include "trainer/data/sample.h"

struct samples_options {
        uint64_t seed;
        uint32_t stage;
        uint32_t sequence_length; /* tokens with the special ones; >= 8 */
        enum objective objective;
        double masked_fraction;
        uint32_t max_predictions; /* > 0 */
        double short_probability;
        enum mask_unit mask_unit;
        uint32_t dupe_factor;  /* static masking: epochs until the draws repeat; 0: dynamic, they never do */
        bool evaluation;       /* separate draws (PHILOX_EVALUATE) */
        const double *weights; /* (corpora->n) borrowed, above 0; NULL: every window once an epoch */
};

struct samples;
struct windows;

/* Writes the window map unless it exists. Refused (exit 65): NSP over fewer than two documents, NSP or SOP over a corpus in
 * which no document has two sentences; with weights, NSP over a corpus of fewer than two documents. */
int samples_build_map(const char *map_path, const struct corpora *corpora, const struct samples_options *options,
                      struct error *error);

/* Maps the window map. Refused (exit 65): weights that leave a corpus without a sample. Borrows corpora and the vocabulary's memory until samples_free. */
int samples_new(const char *map_path, const struct corpora *corpora, const struct samples_vocab *vocab,
                const struct samples_options *options, struct samples **ret, struct error *error);

/* The same of a map that is open, which is taken also where this fails. */
int samples_with(struct windows *windows, const struct corpora *corpora, const struct samples_vocab *vocab,
                 const struct samples_options *options, struct samples **ret, struct error *error);
void samples_free(struct samples *samples);

uint64_t samples_n(const struct samples *samples); /* in one epoch */
const struct samples_options *samples_options(const struct samples *samples);
void samples_map_hash(const struct samples *samples, char hex[HEX_128_SIZE]);

/* Fills *sample, whose arrays are the caller's. Thread-safe. */
void samples_make(const struct samples *samples, uint64_t k, struct sample *sample);

/* Once an id was met that the vocabulary lacks (a file that changed since it was checked): exit 65, naming the corpus. */
int samples_check(const struct samples *samples, struct error *error);

/* The stream as batches take it; borrows. */
struct sample_source samples_source(const struct samples *samples);

#endif
