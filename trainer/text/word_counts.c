/* See word_counts.h. Open addressing, at most half full. Forgetting walks the slots, so it depends on the counts alone. */
#include "trainer/text/word_counts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/array.h"
#include "common/cleanup.h"

#define SLOTS_MIN 4096

void word_counts_free(struct word_counts *counts) {
        free(counts->slots);
        free(counts->arena);
        *counts = (struct word_counts) {};
}

void word_counts_clear(struct word_counts *counts) {
        if (counts->slots)
                memset(counts->slots, 0, counts->n_slots * sizeof(*counts->slots));
        counts->n = counts->arena_size = 0;
}

static struct word_count *find_slot(const struct word_counts *counts, const char *word, size_t size, uint32_t hash) {
        size_t mask = counts->n_slots - 1, i = hash & mask;

        while (counts->slots[i].count > 0) {
                const struct word_count *slot = &counts->slots[i];
                if (slot->hash == hash && slot->size == size && memcmp(counts->arena + slot->offset, word, size) == 0)
                        break;
                i = (i + 1) & mask;
        }
        return &counts->slots[i];
}

static int resize(struct word_counts *counts, size_t n_slots) {
        struct word_count *old = counts->slots, *slots = calloc(n_slots, sizeof(*slots));
        size_t n_old = counts->n_slots;

        if (!slots)
                return -ENOMEM;
        counts->slots = slots;
        counts->n_slots = n_slots;
        for (size_t i = 0; i < n_old; i++) {
                if (old[i].count == 0)
                        continue;
                *find_slot(counts, counts->arena + old[i].offset, old[i].size, old[i].hash) = old[i];
        }
        free(old);
        return 0;
}

/* Leaves out the words seen no more often than ever more, until half of the room is free. */
static int forget_rare(struct word_counts *counts) {
        while (counts->n > WORD_COUNTS_MAX / 2) {
                struct word_counts kept = { .rare = counts->rare + 1 };
                int r = 0;
                for (size_t i = 0; i < counts->n_slots && r >= 0; i++) {
                        const struct word_count *slot = &counts->slots[i];
                        if (slot->count > kept.rare)
                                r = word_counts_add(&kept, counts->arena + slot->offset, slot->size, slot->count);
                }
                if (r < 0) {
                        word_counts_free(&kept);
                        return r;
                }
                word_counts_free(counts);
                *counts = kept;
        }
        return 0;
}

static int make_room(struct word_counts *counts, size_t size) {
        if (array_reserve(&counts->arena, &counts->arena_capacity, counts->arena_size + size, 1) < 0)
                return -ENOMEM;
        if (counts->n_slots == 0 || 2 * (counts->n + 1) > counts->n_slots)
                return resize(counts, MAX((size_t) SLOTS_MIN, 2 * counts->n_slots));
        return 0;
}

struct word_count *word_counts_find(const struct word_counts *counts, const char *word, size_t size) {
        if (counts->n_slots == 0)
                return NULL;
        struct word_count *slot = find_slot(counts, word, size, (uint32_t) XXH3_64bits(word, size));
        return slot->count > 0 ? slot : NULL;
}

int word_counts_add(struct word_counts *counts, const char *word, size_t size, uint64_t count) {
        uint32_t hash = (uint32_t) XXH3_64bits(word, size);

        int r = counts->n >= WORD_COUNTS_MAX ? forget_rare(counts) : 0;
        if (r >= 0)
                r = make_room(counts, size);
        if (r < 0)
                return r;
        struct word_count *slot = find_slot(counts, word, size, hash);
        if (slot->count == 0) {
                memcpy(counts->arena + counts->arena_size, word, size);
                *slot = (struct word_count) { .offset = counts->arena_size, .hash = hash, .size = (uint32_t) size };
                counts->arena_size += size;
                counts->n++;
        }
        slot->count += count;
        return 0;
}

int word_counts_merge(struct word_counts *counts, const struct word_counts *from) {
        for (size_t i = 0; i < from->n_slots; i++) {
                const struct word_count *slot = &from->slots[i];
                int r = slot->count > 0 ? word_counts_add(counts, from->arena + slot->offset, slot->size, slot->count)
                                        : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}
