/*
 * Labelled texts as sequences of ids, in memory, and the streams that training and evaluation take from them.
 *
 *   texts_new → { texts_read | texts_add } → [texts_sort_labels] → text_set_all, text_set_split … → text_set_source → texts_free
 *
 * A sequence is [CLS] text [SEP], shortened to sequence_length: its head, its tail, or both; or it is several segments, each such a
 * sequence; or of a pair [CLS] first [SEP] second [SEP]. Sample k of a set of n is text π(k mod n), π being the permutation of epoch k / n: a pure function of (seed, stage, k)
 * (contract C9).
 */
#ifndef TRAINER_DATA_EXAMPLES_H
#define TRAINER_DATA_EXAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/hex.h"
#include "common/spec/spec.h"
#include "trainer/data/labels.h"
#include "trainer/data/records.h"
#include "trainer/data/sample.h"
#include "trainer/text/encoder.h"

#define TEXTS_LENGTH_MIN 8 /* as data.sequence_length */

struct texts_options {
        uint32_t sequence_length; /* with [CLS] and [SEP] */
        enum truncation truncation;
        uint32_t head_tokens;  /* of head_tail; 0: 128 of 510, scaled */
        uint32_t max_segments; /* of segments; what lies behind them is cut */
        int32_t cls, sep;      /* ids */
        bool numbers;          /* labels are numbers to be predicted, not classes */
};

struct texts;

int texts_new(const struct encoder *encoder, const struct texts_options *options, struct texts **ret,
              struct error *error);
void texts_free(struct texts *texts);

/* A line about `what` where the vocabulary does not know much of the texts that were added, dropped ones too (text/unknown.h). */
void texts_print_unknown(const struct texts *texts, const char *what, FILE *to);

/* Drops all texts and keeps the memory. */
void texts_clear(struct texts *texts);

/* What to report of files of texts that were read; zeroed = nothing. Paths are borrowed. */
struct texts_found {
        struct text_findings bytes;
        uint64_t n_empty, empty_line; /* texts without a token, and where the first of them is */
        const char *first_empty;
};

void texts_note_empty(struct texts_found *found, const char *path, const struct record *record);

/* Refused (exit 65) if there were empty texts and `empty` does not skip them; `option`: what makes it skip them. */
int texts_check_empty(const struct texts_found *found, enum data_empty empty, const char *option, struct error *error);

/* A line for each finding. */
void texts_print_found(const struct texts_found *found, FILE *to);

/* `second`: of a pair; else NULL. -ENODATA: the text, or either, has no token. `label`: −1: none; it has no target. */
int texts_add(struct texts *texts, const char *text, size_t size, const char *second, size_t second_size,
              int32_t label);

/* How many tokens of each text of a pair are kept: as transformers' longest_first, by its fast tokenizers. The longer text is cut until both
 * are half of the room; of an odd room the longer text keeps the half that is longer, of two of the same length the second. */
void texts_fit_pair(size_t room, size_t *first, size_t *second);

/* A record of `path`, whose label, if it has one, is a number, or among the labels; `learn`: or is added to them. 0: its text has no token, and
 * it is skipped; else 1. */
int texts_take(struct texts *texts, const char *path, const struct record *record, struct labels *labels, bool learn,
               struct error *error);

/* All records of a file but the empty ones, of which *found counts the number. `learn`: names not seen yet are
 * added to the labels; else they are refused (exit 65, file and line). */
int texts_read(struct texts *texts, const char *path, const struct records_options *options, struct labels *labels,
               bool learn, struct texts_found *found, struct error *error);

/* Puts names in order and the labels of the texts from `first` on with them. */
int texts_sort_labels(struct texts *texts, uint64_t first, struct labels *labels, struct error *error);

/* Adds `by` to the labels of the texts from `first` on: a task's classes come after those of the tasks before it. */
void texts_shift_labels(struct texts *texts, uint64_t first, uint32_t by);

uint64_t texts_n(const struct texts *texts);
int32_t texts_label(const struct texts *texts, uint64_t index); /* of a number 0 */
double texts_target(const struct texts *texts, uint64_t index); /* NaN: none */

/* A text's sequence, or its first; *ret_second: the first token of the second text of a pair, else *ret_n. Borrowed. */
const int32_t *texts_ids(const struct texts *texts, uint64_t index, uint32_t *ret_n, uint32_t *ret_second);

/* Tokens with [CLS] and [SEP], before it was shortened; and whether it was. */
uint32_t texts_length(const struct texts *texts, uint64_t index);
bool texts_is_cut(const struct texts *texts, uint64_t index);

/* The first text of a file of columns that has no header: it may be one. */
struct text_first {
        const char *path; /* borrowed */
        uint64_t line, index;
};
const struct text_first *texts_first(const struct texts *texts, size_t *ret_n);

/* xxh3-128 over ids, lengths, and labels or targets. */
void texts_hash(const struct texts *texts, char hex[HEX_128_SIZE]);

/* Some of the texts, in any order. Borrows the texts; the owner frees `index`. */
struct text_set {
        const struct texts *texts;
        uint64_t *index, n;
        uint64_t seed;
        uint32_t stage;
        bool shuffle; /* false: every epoch in this order */
};

int text_set_all(const struct texts *texts, struct text_set *ret, struct error *error);
void text_set_free(struct text_set *set);

/* Moves round(share · n) texts, drawn by the seed, from `set` to *ret, at least one. */
int text_set_split(struct text_set *set, double share, struct text_set *ret, struct error *error);

/* Keeps of each class `per_class` texts (0: all), then or else `fraction` of each, at least one, drawn by the seed. */
int text_set_subset(struct text_set *set, uint32_t n_labels, uint64_t per_class, double fraction, struct error *error);

/* Borrows the set. */
struct sample_source text_set_source(const struct text_set *set);

#endif
