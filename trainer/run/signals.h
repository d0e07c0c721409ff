/*
 * What signals ask for (contract C6). Handlers only set flags; the step loop looks between micro-batches.
 *   SIGUSR1 (not under mpirun SIGTERM, SIGINT and SIGHUP, too)   checkpoint the last completed update, stop with exit 75; SIGINT
 *                                              a second time ends it at once
 *   SIGUSR2                                    checkpoint and continue
 */
#ifndef TRAINER_RUN_SIGNALS_H
#define TRAINER_RUN_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum { SIGNALS_STOP = 1 << 0, SIGNALS_CHECKPOINT = 1 << 1 };

/* First thing of a run: until then, each of these ends the process. */
void signals_install(bool alone);

/* SIGUSR1 and SIGUSR2 again, once a library that takes signals for itself is at work: NCCL's threads did. */
void signals_take_back(void);

/* NCCL_PROXY_DUMP_SIGNAL gives NCCL a signal of ours, as its threads begin: refused (exit 78). */
int signals_check_nccl(struct error *error);

uint64_t signals_wanted(void);     /* SIGNALS_* bits */
void signals_clear(uint64_t bits); /* before they are acted on, so that a later one counts again */

#endif
