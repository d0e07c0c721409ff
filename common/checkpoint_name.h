/* The name of a training job's checkpoint, which the trainer writes and the daemon and its shim look for. */
#ifndef COMMON_CHECKPOINT_NAME_H
#define COMMON_CHECKPOINT_NAME_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#define CHECKPOINT_NAME "step-%09" PRIu64 ".ckpt" /* printf's format of the name, for a step */

/* The step of a name, if it is exactly as the format writes it. */
bool checkpoint_name_read(const char *name, uint64_t *ret_step);

#endif
