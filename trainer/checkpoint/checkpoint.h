/*
 * Checkpoint files (contract C7): one SQLite database, whole or absent.
 *
 *   file   (checksum TEXT): covers every byte of the file; an older bert-trainer wrote it as meta's "file_checksum"
 *   meta   (key TEXT PRIMARY KEY, value TEXT): what it was made with; "digest" covers the rows of meta and tensor
 *   tensor (id INTEGER PRIMARY KEY, name, kind, dtype, shape, checksum): kind is param, moment1 or moment2; shape is
 *          "[768, 768]"
 *   chunk  (tensor, seq, data): row-major elements, little-endian; rowid = tensor · 2^24 + seq
 *   asset  (name TEXT PRIMARY KEY, data, checksum): the tokenizer's files, byte for byte (text/assets.h). meta's "assets" is a
 *          checksum over their names and checksums. A checkpoint without any has neither, as those of older programs.
 *
 * application_id CHECKPOINT_APPLICATION_ID, user_version CHECKPOINT_FORMAT, pages of 64 KiB. checksum = xxh3-128 of
 * the tensor's or the asset's bytes in hex. Reading trusts nothing: a file that is cut, flipped, of another kind or version is
 * refused with exit 76 and one line.
 *
 *   write: checkpoint_write(path, meta, tensors, assets)
 *   read:  checkpoint_open → { checkpoint_read_tensor …, checkpoint_read_assets } → checkpoint_close
 */
#ifndef TRAINER_CHECKPOINT_CHECKPOINT_H
#define TRAINER_CHECKPOINT_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "trainer/text/assets.h"

#define CHECKPOINT_APPLICATION_ID 0x42455254 /* "BERT" */
#define CHECKPOINT_FORMAT 1
#define CHECKPOINT_META_KEYS_MAX 4096u
#define CHECKPOINT_META_BYTES_MAX ((size_t) 64 << 20) /* of all keys and values */
#define CHECKPOINT_META_VALUE_MAX ((size_t) 1 << 20)
#define CHECKPOINT_DIMS_MAX 4

/*
 * Key and value pairs, in the order in which they were first set. Zeroed = empty. All is kept whole or `failed` says what was not (no
 * memory, or beyond the limits above, which reading has, too); checkpoint_write refuses such a meta.
 *
 *   {} → { checkpoint_meta_set, checkpoint_meta_copy } → checkpoint_meta_free, which leaves it empty
 */
struct checkpoint_meta {
        uint32_t n, room;
        size_t bytes;
        struct checkpoint_meta_item {
                char *key, *value;
        } * items;
        struct error failed; /* code 0: all was kept */
};

/* Sets or replaces. */
void checkpoint_meta_set(struct checkpoint_meta *meta, const char *key, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* Sets all that `from` has, and fails as it failed. */
void checkpoint_meta_copy(struct checkpoint_meta *to, const struct checkpoint_meta *from);
int checkpoint_meta_check(const struct checkpoint_meta *meta, struct error *error); /* 0, or as `failed` says */
void checkpoint_meta_free(struct checkpoint_meta *meta);
static inline void cleanup_checkpoint_meta_p(struct checkpoint_meta *meta) { checkpoint_meta_free(meta); }
#define cleanup_checkpoint_meta cleanup(cleanup_checkpoint_meta_p)
const char *checkpoint_meta_get(const struct checkpoint_meta *meta, const char *key); /* NULL where absent */

/* A decimal number, or refused with exit 76 naming the file and the key. */
int checkpoint_meta_u64(const struct checkpoint_meta *meta, const char *path, const char *key, uint64_t *ret,
                        struct error *error);

struct checkpoint_tensor {
        char name[192], kind[12], dtype[12], checksum[33];
        uint32_t n_dims, shape[CHECKPOINT_DIMS_MAX];
        size_t size;      /* bytes */
        const void *data; /* writing only: borrowed */
        int64_t id;       /* reading only */
};

/* Writes PATH.tmp, makes it durable and gives it its name; a failure leaves nothing behind. `assets` may be NULL: none. */
int checkpoint_write(const char *path, const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors,
                     uint32_t n, const struct assets *assets, struct error *error);

static inline int64_t checkpoint_chunk_rowid(int64_t tensor, uint64_t seq) { return tensor << 24 | (int64_t) seq; }

struct checkpoint;

/* Reads and checks meta and the list of tensors, not yet their bytes. A missing file is exit 66. */
int checkpoint_open(const char *path, struct checkpoint **ret, struct error *error);
void checkpoint_close(struct checkpoint *checkpoint);
static inline void cleanup_checkpoint_p(struct checkpoint **checkpoint) { checkpoint_close(*checkpoint); }
#define cleanup_checkpoint cleanup(cleanup_checkpoint_p)

const char *checkpoint_path(const struct checkpoint *checkpoint);
const struct checkpoint_meta *checkpoint_meta(const struct checkpoint *checkpoint);
uint32_t checkpoint_n_tensors(const struct checkpoint *checkpoint);
const struct checkpoint_tensor *checkpoint_tensor(const struct checkpoint *checkpoint, uint32_t index);

/* Index of a tensor, or −1. */
int64_t checkpoint_find(const struct checkpoint *checkpoint, const char *name, const char *kind);

/* Reads tensor `index` into `data` (its size in bytes) and compares the checksum. */
int checkpoint_read_tensor(struct checkpoint *checkpoint, uint32_t index, void *data, struct error *error);

/* Reads all assets into the empty *assets, which the caller frees in any case, each held against its checksum. */
int checkpoint_read_assets(struct checkpoint *checkpoint, struct assets *assets, struct error *error);

/* Holds the whole file against its own checksum: after the tensors, whose checksums say more. */
int checkpoint_check_file(struct checkpoint *checkpoint, struct error *error);

/* Reads every tensor and asset once and keeps none, then checks the whole file. */
int checkpoint_verify(struct checkpoint *checkpoint, struct error *error);

#define CHECKPOINT_ASSETS_KEY "assets"
#define CHECKPOINT_FILE_KEY "file_checksum" /* of meta, by an older bert-trainer */
#define CHECKPOINT_FILE_MARKER "file-xxh3-128:"

/* Hashes the rest of an open file (its digits count as zeros) into ret_hex; what it says of itself and where. 0 or
 * −errno. */
int checkpoint_file_checksum(int fd, char ret_hex[33], char ret_said[33], off_t *ret_at);

/* xxh3-128 in hex over all meta items but the two checksums and all tensor rows: what "digest" must say. */
void checkpoint_digest(const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors, uint32_t n,
                       char hex[33]);

/* xxh3-128 in hex over names and checksums of all assets: what meta's "assets" must say. */
void checkpoint_assets_digest(const struct assets *assets, char hex[33]);

/* "[768, 768]" */
void checkpoint_format_shape(const struct checkpoint_tensor *tensor, char *buffer, size_t size);

#endif
