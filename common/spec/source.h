/* Where a spec comes from: a regular file, or standard input, a pipe or a device (spec_read in spec.h reads all of
 * them). */
#ifndef COMMON_SPEC_SOURCE_H
#define COMMON_SPEC_SOURCE_H

#include <stdbool.h>

#include "common/error.h"

/* Whether the path is not a regular file. */
bool spec_is_stream(const char *path);

/* The folder for its relative paths: the file's, or the current one for a stream. Absolute; caller frees. */
int spec_folder(const char *path, char **ret_folder, struct error *error);

#endif
