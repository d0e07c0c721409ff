/* What a checkpoint is described by: keys and values. */
#ifndef TRAINER_CHECKPOINT_META_H
#define TRAINER_CHECKPOINT_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"

#define CHECKPOINT_META_KEYS_MAX 4096u
#define CHECKPOINT_META_BYTES_MAX ((size_t) 64 << 20) /* of all keys and values */
#define CHECKPOINT_META_VALUE_MAX ((size_t) 1 << 20)

/*
 * Key and value pairs, in the order in which they were first set. Zeroed = empty. All is kept whole or `failed` has what was not (no
 * memory, or beyond the limits above, which reading has, too); checkpoint_write refuses such a meta.
 *
 *   {} → { checkpoint_meta_set, checkpoint_meta_copy } → checkpoint_meta_free, which leaves it empty
 */
struct checkpoint_meta {
        uint32_t n;
        size_t room;
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
int checkpoint_meta_check(const struct checkpoint_meta *meta, struct error *error); /* 0, or as `failed` */
void checkpoint_meta_free(struct checkpoint_meta *meta);
static inline void cleanup_checkpoint_meta_p(struct checkpoint_meta *meta) { checkpoint_meta_free(meta); }
#define cleanup_checkpoint_meta cleanup(cleanup_checkpoint_meta_p)
const char *checkpoint_meta_get(const struct checkpoint_meta *meta, const char *key); /* NULL where absent */

/* A decimal number; a figure as %.17g writes it, NaN if it is missing; "1" if it is set. Anything else is refused with exit 76, naming the file and
 * the key. */
int checkpoint_meta_u64(const struct checkpoint_meta *meta, const char *path, const char *key, uint64_t *ret,
                        struct error *error);
int checkpoint_meta_double(const struct checkpoint_meta *meta, const char *path, const char *key, double *ret,
                           struct error *error);
int checkpoint_meta_flag(const struct checkpoint_meta *meta, const char *path, const char *key, bool *ret,
                         struct error *error);

#endif
