/*
 * The window map (contract T5): where each training sample's text lies, 16 bytes a sample, in a file that one process
 * builds once and all ranks map. A window is a run of whole sentences of one document that reaches a target length, as
 * BERT's create_pretraining_data.py chunks a document; with two segments it has two sentences wherever its document
 * has.
 */
#ifndef TRAINER_DATA_WINDOWS_H
#define TRAINER_DATA_WINDOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/hex.h"
#include "trainer/data/corpora.h"

struct window {
        uint32_t document; /* of all corpora together */
        uint32_t first;    /* first sentence, counted in the document */
        uint32_t n_sentences;
        uint32_t target; /* tokens of text wanted: the full length, or a random shorter one */
};

struct windows_options {
        uint64_t seed;
        uint32_t stage;
        uint32_t max_tokens;      /* of text in a sample, special tokens not counted; >= 2 */
        bool two_segments;        /* NSP or SOP */
        double short_probability; /* share of windows with a target drawn from 2 .. max_tokens */
};

struct windows;

/* Builds the map at `path` unless a whole one with the same key exists. Key: the options and the corpora's hash. */
int windows_build(const char *path, const struct corpora *corpora, const struct windows_options *options,
                  struct error *error);

/* Maps a built map and checks its hash. A wrong one is refused with exit 74: delete it and it is built again. */
int windows_open(const char *path, struct windows **ret, struct error *error);
void windows_close(struct windows *windows);

/* The whole map as its file has it, and the same of a mapping that came from elsewhere: it is taken, and
 * unmapped also where it is refused as by windows_open. Maps whose first WINDOWS_HEAD_BYTES are equal and which
 * are whole are the same. */
#define WINDOWS_HEAD_BYTES 64
const void *windows_data(const struct windows *windows, size_t *ret_size);
int windows_take(void *map, size_t size, const char *name, struct windows **ret, struct error *error);

uint64_t windows_n(const struct windows *windows);
const struct window *windows_get(const struct windows *windows, uint64_t index);
void windows_hash(const struct windows *windows, char hex[HEX_128_SIZE]); /* of the entries */

#endif
