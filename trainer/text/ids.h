/* A growing array of token ids. Zeroed = empty; the owner frees `data`. */
#ifndef TRAINER_TEXT_IDS_H
#define TRAINER_TEXT_IDS_H

#include <stddef.h>
#include <stdint.h>

struct ids {
        int32_t *data;
        size_t n, capacity;
};

/* Room for so many more. 0 or -ENOMEM. */
int ids_reserve(struct ids *ids, size_t more);
int ids_append(struct ids *ids, int32_t id);

#endif
