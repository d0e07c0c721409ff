/* See nearest.h. Owns nothing. */
#include "common/nearest.h"

#include <stdbool.h>
#include <string.h>

#include "common/cleanup.h"

#define WORD_MAX 64 /* longer words are not compared */
#define BEGINNING 3 /* letters from which on the beginning of a name means that name */

static bool same(char a, char b) { return a == b || (strchr("-_", a) && strchr("-_", b)); }

/* Levenshtein distance; swapping two letters counts as one mistake. */
static size_t distance(const char *a, size_t la, const char *b, size_t lb) {
        size_t row[3][WORD_MAX + 1];

        if (la > WORD_MAX || lb > WORD_MAX)
                return NEAREST_FAR;
        for (size_t i = 0; i <= la; i++) {
                for (size_t j = 0; j <= lb; j++) {
                        size_t *cell = &row[i % 3][j];
                        if (i == 0 || j == 0) {
                                *cell = i + j;
                                continue;
                        }
                        *cell = MIN(row[(i - 1) % 3][j], row[i % 3][j - 1]) + 1;
                        *cell = MIN(*cell, row[(i - 1) % 3][j - 1] + !same(a[i - 1], b[j - 1]));
                        if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                                *cell = MIN(*cell, row[(i - 2) % 3][j - 2] + 1);
                }
        }
        /* One mistake in two or three letters, two in more. */
        return 3 * row[la % 3][lb] <= MIN(la, lb) + 1 ? MIN(row[la % 3][lb], (size_t) NEAREST_FAR) : NEAREST_FAR;
}

size_t nearest_distance(const char *word, const char *name) {
        const char *unit = strrchr(name, '_');
        size_t length = strlen(word), whole = distance(word, length, name, strlen(name));

        if (unit)
                whole = MIN(whole, distance(word, length, name, (size_t) (unit - name)));
        if (length >= BEGINNING && strncmp(word, name, length) == 0)
                whole = MIN(whole, (size_t) NEAREST_FAR - 1);
        return whole;
}

/* By its meaning, not its letters. */
static bool is_meant(const char *word, const char *name) {
        return strcmp(word, "gpu") == 0 && strcmp(name, "cuda") == 0;
}

const char *nearest_of(const char *word, const char *const *names, size_t n) {
        const char *nearest = NULL;
        size_t best = NEAREST_FAR;

        for (size_t i = 0; i < n; i++) {
                size_t d = is_meant(word, names[i]) ? 0 : nearest_distance(word, names[i]);
                if (d < best) {
                        best = d;
                        nearest = names[i];
                }
        }
        return nearest;
}
