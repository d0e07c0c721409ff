/* A growing NULL-terminated vector of owned strings. `failed` is sticky: append without checks, check once at the end.
 */
#ifndef DAEMON_BASE_STRV_H
#define DAEMON_BASE_STRV_H

#include <stdbool.h>
#include <stddef.h>

#include "common/cleanup.h"

struct strv {
        char **words; /* NULL while empty */
        size_t n;
        bool failed;
};

void strv_add(struct strv *strv, const char *word);
void strv_take(struct strv *strv, char *word); /* takes it; NULL sets `failed` */
void strv_format(struct strv *strv, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *strv_environment(const struct strv *strv, const char *name); /* the value of NAME=, or NULL */
void strv_free(struct strv *strv);
#define cleanup_strv cleanup(strv_free)

#endif
