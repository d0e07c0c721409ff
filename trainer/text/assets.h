/*
 * The files of a tokenizer, by name and byte for byte: what a checkpoint keeps (its table asset) so that it needs no other file.
 *
 *   { assets_add | assets_read } … → assets_vocab → assets_free
 *
 * A vocabulary is the asset ASSET_VOCAB or ASSET_SENTENCEPIECE, never both, and ASSET_ADDED, if it has added tokens; any other asset
 * belongs to it.
 */
#ifndef TRAINER_TEXT_ASSETS_H
#define TRAINER_TEXT_ASSETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/hex.h"
#include "trainer/text/vocab.h"
#include "trainer/text/vocab_file.h"

#define ASSET_VOCAB "vocab.txt"
#define ASSET_SENTENCEPIECE "spiece.model"
#define ASSET_ADDED "added_tokens.json" /* added_format's: not the file of that name that transformers writes */
#define ASSET_NAME_MAX 64               /* bytes, with the NUL */
#define ASSET_BYTES_MAX VOCAB_FILE_BYTES_MAX
#define ASSETS_MAX 16

struct asset {
        char name[ASSET_NAME_MAX], checksum[HEX_128_SIZE]; /* xxh3-128 of the data in hex */
        char *data;                                        /* owned, a NUL follows it */
        size_t size;
};

/* Zeroed = empty; assets_free leaves it so. */
struct assets {
        struct asset item[ASSETS_MAX];
        uint32_t n;
};

/* A file's name, as a Hugging Face folder has it: printable ASCII without a slash, and no dot in front. */
bool asset_name_valid(const char *name);

/* Keeps a copy of the bytes, in place of an asset that has the name already. */
int assets_add(struct assets *assets, const char *name, const void *data, size_t size, struct error *error);

/* The file at `path` under that name; NULL: the vocabulary that `path` names as vocab_load has it, and its added tokens. Errors as
 * vocab_load's. */
int assets_read(struct assets *assets, const char *name, const char *path, struct error *error);

/* The same, with the vocabulary, which knows how its files have text folded and what to report of them. `path` may be a folder whose own
 * vocabulary `file` stands for (NULL: it does not). */
int assets_tokenizer(struct assets *assets, const char *path, const char *file, struct vocab **ret,
                     struct error *error);

const struct asset *assets_find(const struct assets *assets, const char *name); /* NULL: not there */

/* The asset that is the vocabulary; NULL: none. */
const struct asset *assets_vocabulary(const struct assets *assets);

/* The vocabulary, with all that belongs to it; `path` is for messages. The caller frees it; the assets are not kept. */
int assets_vocab(const struct assets *assets, const char *path, struct vocab **ret, struct error *error);

void assets_free(struct assets *assets);
static inline void cleanup_assets_p(struct assets *assets) { assets_free(assets); }
#define cleanup_assets cleanup(cleanup_assets_p)

#endif
