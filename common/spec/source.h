/* Where a spec comes from: a file in a folder, or standard input, a pipe, a device (spec_read of spec.h reads either). */
#ifndef COMMON_SPEC_SOURCE_H
#define COMMON_SPEC_SOURCE_H

#include <stdbool.h>

#include "common/error.h"

/* Whether it is not a file in a folder. */
bool spec_is_stream(const char *path);

/* From where its relative paths are taken: the file's own folder, a stream's the current one. Absolute; caller frees. */
int spec_folder(const char *path, char **ret_folder, struct error *error);

#endif
