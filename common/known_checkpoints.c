/* See known_checkpoints.h. Invariant: rows are in ascending order of steps, each step once. */
#include "common/known_checkpoints.h"

#include <stdlib.h>
#include <string.h>

#include "common/array.h"

static size_t known_bound(const struct known *known, uint64_t step) {
        size_t i = known->n;

        while (i > 0 && known->rows[i - 1].step >= step)
                i--;
        return i;
}

static void remove_row(struct known *known, size_t i) {
        free(known->rows[i].path);
        memmove(&known->rows[i], &known->rows[i + 1], (--known->n - i) * sizeof(*known->rows));
}

void known_remove(struct known *known, uint64_t step) {
        size_t i = known_bound(known, step);

        if (i < known->n && known->rows[i].step == step)
                remove_row(known, i);
}

void known_add(struct known *known, uint64_t step, const char *path, bool unconfirmed) {
        char *copy = path ? strdup(path) : NULL;

        known_remove(known, step);
        if (known->n >= KNOWN_CHECKPOINTS_MAX)
                remove_row(known, 0);
        if ((path && !copy) || array_resize(&known->rows, known->n + 1, sizeof(*known->rows)) < 0) {
                free(copy);
                return;
        }
        size_t i = known_bound(known, step);
        memmove(&known->rows[i + 1], &known->rows[i], (known->n++ - i) * sizeof(*known->rows));
        known->rows[i] = (struct known_checkpoint) { .step = step, .path = copy, .unconfirmed = unconfirmed };
}

const struct known_checkpoint *known_newest(const struct known *known) {
        const struct known_checkpoint *best = NULL;

        for (size_t i = 0; i < known->n && known->rows[i].step <= known->until; i++)
                if (!best || best->unconfirmed || !known->rows[i].unconfirmed)
                        best = &known->rows[i];
        return best;
}

bool known_is_aside(const struct known *known, uint64_t step) {
        for (size_t i = 0; i < known->n_aside; i++)
                if (known->aside[i] == step)
                        return true;
        return false;
}

bool known_is_file(const struct known *known, uint64_t step) {
        size_t i = known_bound(known, step);

        return i < known->n && known->rows[i].step == step && !known->rows[i].path;
}

void known_free(struct known *known) {
        for (size_t i = 0; i < known->n; i++)
                free(known->rows[i].path);
        free(known->rows);
        free(known->aside);
        *known = (struct known) {};
}
