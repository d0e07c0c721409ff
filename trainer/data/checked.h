/*
 * RUN_DIR/checked-ids: which corpora's ids were all read and found good, so that a restart need not read them again.
 * A corpus is known by corpus_state, which changes with the file's size, inode, times and index, and with the
 * vocabulary's size: a line vouches for itself, and one that was damaged vouches for nothing.
 *
 *   checked_load → { checked_has, checked_add } → checked_save → checked_free
 */
#ifndef TRAINER_DATA_CHECKED_H
#define TRAINER_DATA_CHECKED_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

#define CHECKED_TEXT_MAX 33
#define CHECKED_MAX 1024 /* kept in the file: the newest */

struct checked {
        char (*list)[CHECKED_TEXT_MAX];
        size_t n, n_saved;
};

void checked_load(struct checked *checked, const char *path); /* what cannot be read is not known */
bool checked_has(const struct checked *checked, const char *state);
int checked_add(struct checked *checked, const char *state); /* −ENOMEM */
int checked_save(struct checked *checked, const char *path, struct error *error);
void checked_free(struct checked *checked);

#endif
