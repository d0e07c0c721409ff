/* Whether a run's folder is in use, here or on another host. */
#ifndef CTL_ALIVE_H
#define CTL_ALIVE_H

#include <stdint.h>

#include "common/error.h"

#define ALIVE_SEC 120 /* a heartbeat that is older is of a host that is gone */

/* 0: nobody uses it, or it does not exist. −EBUSY: its lock is held, or its heartbeat is fresh; the error names host,
 * job, age and cure. *ret_wait_usec: with a fresh heartbeat, until it is old; else 0. */
int alive_check(const char *run_dir, uint64_t *ret_wait_usec, struct error *error);

#endif
