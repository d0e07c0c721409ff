/* Did you mean: the name nearest to a word that is not a name, by its typing errors or as its beginning. */
#ifndef COMMON_NEAREST_H
#define COMMON_NEAREST_H

#include <stddef.h>

#define NEAREST_FAR 3 /* typing errors: a word with as many is a different word */

/* Number of letters missed, added, changed, or swapped with the next. Of a name that ends in a unit, "grace_sec", also
 * without the unit.
 * '-' equals '_'. The beginning of a name, "stat" of "status", is nearer than NEAREST_FAR. NEAREST_FAR: as many or
 * more, or too many for a word as short. */
size_t nearest_distance(const char *word, const char *name);

/* The nearest of `names`, the first of several; NULL if none is near. */
const char *nearest_of(const char *word, const char *const *names, size_t n);

#endif
