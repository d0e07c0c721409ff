/* Scheduling policy and I/O priority of a process as text: "idle", "batch", "rr:10", "io-idle", "io-best-effort:7",
 * separated by a comma; empty: the default of both. */
#ifndef COMMON_SCHEDULING_H
#define COMMON_SCHEDULING_H

#include <stddef.h>

#include "bertd/limits.h"

#define SCHEDULING_MAX (BERTD_SCHEDULING_MAX + 1) /* bytes of the text */

struct scheduling {
        int policy, priority;   /* SCHED_OTHER, 0 */
        int io_class, io_level; /* 0 = derived from niceness */
};

/* 0 or −EINVAL. */
int scheduling_read(const char *text, struct scheduling *ret);

/* Returns the buffer of SCHEDULING_MAX bytes. */
const char *scheduling_write(const struct scheduling *scheduling, char *buffer);

/* Gets and sets those of the calling process. Values that cannot be read are defaults. Setting returns 0 or −errno, and
 * leaves defaults unchanged. */
void scheduling_get(struct scheduling *ret);
int scheduling_set(const struct scheduling *scheduling);

#endif
