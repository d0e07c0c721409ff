/* A job spec's YAML: from a file's text to the text of each key, and back. values.c gives the texts their meaning. */
#ifndef COMMON_SPEC_YAML_H
#define COMMON_SPEC_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/spec/fields.h"

#define SPEC_LIST_MAX 4096 /* entries of a list */

/* Whether a plain scalar means that there is no value: "", "~", "null". */
bool yaml_is_null(const char *text);

/* Fills `file`, which is empty, and is the caller's to part_free, in any case. Refuses, naming line and key: what is
 * not one plain YAML document (anchors, aliases, merge keys, tags, NUL), unknown and repeated keys, wrong shapes, null.
 * `path` is for messages. */
int yaml_read(const char *path, const char *text, size_t size, struct part *file, struct error *error);

/* Its texts must be UTF-8. Caller frees. */
int yaml_write(const struct part *file, char **ret_text, struct error *error);

#endif
