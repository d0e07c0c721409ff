/*
 * Job arrays: one spec, some of its keys taking several values, a job for each combination. The last key's values go
 * fastest. A job of an array is named NAME[learning_rate=2e-5,seed=1]: keys without their section.
 */
#ifndef CTL_ARRAY_H
#define CTL_ARRAY_H

#include <stddef.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "ctl/options.h"

#define ARRAY_AXES_MAX 8
#define ARRAY_SIZE_MAX 1000 /* jobs */

struct array_axis {
        char *key; /* "optimizer.learning_rate"; owned, the values lie in the same memory */
        char **values;
        size_t n;
};
struct array {
        struct array_axis axes[ARRAY_AXES_MAX];
        size_t n; /* 0: no array */
};

/* Of the --array options, each KEY=V,V,... */
int array_parse(const struct option_list *options, struct array *ret, struct error *error);
void array_free(struct array *array);
#define cleanup_array cleanup(array_free)

size_t array_size(const struct array *array); /* jobs */

/* Of job `index`: a "KEY=VALUE" for each axis, and "key=value,key=value". The caller frees all, also after an error. */
int array_member(const struct array *array, size_t index, char *ret_settings[ARRAY_AXES_MAX], char **ret_label,
                 struct error *error);

/* The key without its section. */
const char *array_short_key(const char *key);

#endif
