/* The names of include/bertd/job.h's words, which users, scripts, state.db and the shim see. */
#ifndef COMMON_NAMES_H
#define COMMON_NAMES_H

#include "bertd/job.h"

const char *job_state_name(enum job_state state);
const char *job_kind_name(enum job_kind kind);
const char *exit_class_name(int exit_class); /* "" for none (−1) */

/* −EINVAL: not such a name. */
int job_state_from_name(const char *name);
int job_kind_from_name(const char *name);
int exit_class_from_name(const char *name);

#endif
