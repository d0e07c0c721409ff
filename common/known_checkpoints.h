/* A job's checkpoints: as bertd's ledger has them when an attempt starts, then as its shim sees them. */
#ifndef COMMON_KNOWN_CHECKPOINTS_H
#define COMMON_KNOWN_CHECKPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KNOWN_CHECKPOINTS_MAX 2048 /* the newest ones */

/* Good checkpoints, ascending by step, and those that must not be used. */
struct known {
        struct known_checkpoint {
                uint64_t step;
                char *path;       /* NULL: RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt */
                bool unconfirmed; /* an attempt starts from it only without a good one */
        } * rows;
        size_t n;
        uint64_t *aside; /* steps of demoted and abandoned ones */
        size_t n_aside;
        uint64_t until; /* an attempt starts at this step or an earlier one */
};

/* Replaces the row of the same step; drops the oldest beyond the bound. Adds nothing if out of memory. */
void known_add(struct known *known, uint64_t step, const char *path, bool unconfirmed);
void known_remove(struct known *known, uint64_t step);
const struct known_checkpoint *known_newest(const struct known *known); /* at most `until`; NULL: none */
bool known_is_file(const struct known *known, uint64_t step);           /* has it, at its usual path */
bool known_is_aside(const struct known *known, uint64_t step);
void known_free(struct known *known);

#endif
