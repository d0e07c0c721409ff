/*
 * What every host of a job must have at the same path: prepared corpora and files of texts, and of a command its
 * program and the folder it was submitted from. Rank 0, on the head, reads all else. The head sends their names to a
 * probe, each host looks at its own (input_hash.h), and host_verdict.h compares.
 */
#ifndef COMMON_SPEC_HOST_INPUTS_H
#define COMMON_SPEC_HOST_INPUTS_H

#include <jansson.h>

#include "common/spec/spec.h"

#define HOST_INPUTS_MAX 1024 /* names in one line */

/* {"type":"inputs","paths":[...],"hosts":[...],"program":{"name":...,"search":...}}: a new reference, NULL without
 * memory. `spec` NULL, or of a command: no data. `folder`, `program`: of a command; NULL: none. A program without a
 * slash is looked for in this process' PATH, which travels with a job. */
json_t *host_inputs_line(const struct spec *spec, const char *folder, const char *program, char *const *hosts);

#endif
