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
#ifndef TRAINER_CHECKPOINT_FORMAT_H
#define TRAINER_CHECKPOINT_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/hex.h"
#include "trainer/checkpoint/meta.h"
#include "trainer/text/assets.h"

#define CHECKPOINT_APPLICATION_ID 0x42455254 /* "BERT" */
#define CHECKPOINT_FORMAT 1
#define CHECKPOINT_DIMS_MAX 4

struct checkpoint_tensor {
        char name[192], kind[12], dtype[12], checksum[HEX_128_SIZE];
        uint32_t n_dims, shape[CHECKPOINT_DIMS_MAX];
        size_t size;      /* bytes */
        const void *data; /* writing only: borrowed */
        int64_t id;       /* reading only */
};

static inline int64_t checkpoint_chunk_rowid(int64_t tensor, uint64_t seq) { return tensor << 24 | (int64_t) seq; }

#define CHECKPOINT_ASSETS_KEY "assets"
#define CHECKPOINT_FILE_KEY "file_checksum" /* of meta, by an older bert-trainer */
#define CHECKPOINT_FILE_MARKER "file-xxh3-128:"

/* Hashes the rest of an open file (its digits count as zeros) into ret_hex; the checksum that it records, and where. 0 or
 * −errno. */
int checkpoint_file_checksum(int fd, char ret_hex[HEX_128_SIZE], char ret_said[HEX_128_SIZE], off_t *ret_at);

/* xxh3-128 in hex over all meta items but the two checksums and all tensor rows: what "digest" must be. */
void checkpoint_digest(const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors, uint32_t n,
                       char hex[HEX_128_SIZE]);

/* xxh3-128 in hex over names and checksums of all assets: what meta's "assets" must be. */
void checkpoint_assets_digest(const struct assets *assets, char hex[HEX_128_SIZE]);

/* "[768, 768]" */
void checkpoint_format_shape(const struct checkpoint_tensor *tensor, char *buffer, size_t size);

#endif
