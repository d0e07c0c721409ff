/* Words and how often each was seen: a hash table over one arena of bytes. Not thread safe: merge one per block, in order. */
#ifndef TRAINER_TEXT_WORD_COUNTS_H
#define TRAINER_TEXT_WORD_COUNTS_H

#include <stddef.h>
#include <stdint.h>

/* Beyond so many distinct words the rarest are dropped: about 150 MB. */
#define WORD_COUNTS_MAX ((size_t) 2 << 20)

struct word_count {
        uint64_t count; /* 0: a free slot */
        uint64_t offset;
        uint32_t hash, size;
};

/* Zeroed = empty. */
struct word_counts {
        struct word_count *slots;
        size_t n_slots, n;
        char *arena;
        size_t arena_size, arena_capacity;
        uint64_t rare; /* words seen up to so often have been forgotten; 0 for all but enormous texts */
};

void word_counts_free(struct word_counts *counts);  /* what it owns; leaves it empty */
void word_counts_clear(struct word_counts *counts); /* keeps the memory */

/* Adds to a word's count, at least 1. Returns 0 or -ENOMEM. */
int word_counts_add(struct word_counts *counts, const char *word, size_t size, uint64_t count);

/* The word's entry, or NULL. Valid until the next addition. */
struct word_count *word_counts_find(const struct word_counts *counts, const char *word, size_t size);

/* Adds all of `from`. */
int word_counts_merge(struct word_counts *counts, const struct word_counts *from);

#endif
