/* The name that was meant by a word that is none: by the slips of a hand. */
#ifndef COMMON_NEAREST_H
#define COMMON_NEAREST_H

#include <stddef.h>

#define NEAREST_FAR 3 /* slips: so many are another word */

/* How many letters were missed, added, changed, or swapped with the next; of a name with a unit or the like at its end, "grace_sec", also
 * without that. '-' is '_'. NEAREST_FAR: so many or more, or too many for a word as short. */
size_t nearest_distance(const char *word, const char *name);

/* The nearest of `names`, the first of several; NULL: all are far. */
const char *nearest_of(const char *word, const char *const *names, size_t n);

#endif
