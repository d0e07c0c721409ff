/* Checks of a submission against include/bertd/limits.h: used by bertctl before the call and by bertd, with the same
 * messages. */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

#include <stddef.h>

#include "common/error.h"

/* Size of arguments or variables for a bound: each counts its bytes with the NUL, and at least BERTD_WORD_MIN.
 * NULL-terminated, or NULL. */
size_t limits_words_size(char *const *words);

/* Return 0 or −EINVAL with the bound and the cure. A text may be NULL. */
int limits_check_name(const char *name, struct error *error);
int limits_check_path(const char *key, const char *path, struct error *error);
int limits_check_command(char *const *words, struct error *error);
int limits_check_inputs(const char *spec, char *const *environment, struct error *error);

#endif
