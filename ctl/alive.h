/* Whether a run's folder is in use, here or on another host. */
#ifndef CTL_ALIVE_H
#define CTL_ALIVE_H

#include <stdint.h>

#include "common/error.h"

#define ALIVE_SEC 120 /* a heartbeat that is older is of a host that is gone */

/* 0: nobody uses it, or it does not exist. −EBUSY: its lock is held, or its heartbeat is fresh; the error names host,
 * job, age and cure. *ret_wait_usec: with a fresh heartbeat, until it is old; else 0. */
int alive_check(const char *run_dir, uint64_t *ret_wait_usec, struct error *error);

/* Warns on standard error if the folder has copies that another host's run, the file's, made within ALIVE_SEC: they
 * show neither that it lives nor that it does not. */
struct run_file;
void alive_warn_of_copies(const char *run_dir, const struct run_file *file);

#endif
