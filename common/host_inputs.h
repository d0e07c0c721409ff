/*
 * The data that every host of a job must have at the same path: prepared corpora and files of texts. Rank 0, on the
 * head, reads all else. The head sends their names (the `inputs` line of a probe), each host looks at its files, and
 * host_verdict.h compares.
 */
#ifndef COMMON_HOST_INPUTS_H
#define COMMON_HOST_INPUTS_H

#include <jansson.h>

#include "common/spec/spec.h"

#define HOST_INPUTS_MAX 4096                    /* names in one line */
#define HOST_INPUTS_WHOLE ((uint64_t) 64 << 20) /* larger files are hashed in part */

/* {"type":"inputs","paths":[...],"hosts":[...]}: a new reference, NULL without memory. `spec` NULL, or of a command:
 * no paths. */
json_t *host_inputs_line(const struct spec *spec, char *const *hosts);

/* What this host has of them: [{"path","state":"ok|missing|unreadable","hash","bytes","files":[...]}], a new reference.
 * Paths that are not absolute texts are left out. Reads at most HOST_INPUTS_WHOLE bytes of a file; may block on a mount
 * that hangs. */
json_t *host_inputs_look(const json_t *paths);

#endif
