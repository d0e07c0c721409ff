/* What Open MPI and Slurm print when a host of an allocation is lost. There is no lease whose end would show it. */
#ifndef DAEMON_SHIM_ALLOCATION_H
#define DAEMON_SHIM_ALLOCATION_H

#include <stdbool.h>
#include <stddef.h>

#include "common/exit_record.h"

/* False: the output names no lost host. */
bool allocation_lost(const char *text, size_t size, struct exit_verdict *ret);

#endif
