/*
 * The processes of an attempt: all descendants of the shim (a subreaper keeps every orphan below itself). bertd finds
 * processes started in another way, e.g. through a running server, when it closes the attempt.
 *
 *   struct procs procs = {};
 *   tree_read(&procs) ... procs_free(&procs)
 */
#ifndef DAEMON_SHIM_TREE_H
#define DAEMON_SHIM_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/proc.h"

/* The living processes of the attempt, without the shim, by pid. 0 or −errno: /proc cannot be read (no free
 * descriptor). */
int tree_read(struct procs *procs);

/* Only those of the job, without the shim's helpers. `main`: its first process, 0 once reaped. */
int tree_read_job(pid_t main, struct procs *procs);

/* Reaps an exited child. Returns its pid, 0: none. `ret_helper`: it was a helper of the shim. */
pid_t tree_reap(int *ret_status, bool *ret_helper);

/* SIGKILL to the main child and to the whole tree, repeated until no process is found. Reaps children; the main child's
 * status goes into *main_status (−1 if it did not die here). `main`: 0 if it was reaped before. Returns the number of
 * processes left after `limit_usec`. */
unsigned tree_kill(pid_t main, uint64_t limit_usec, int *main_status);

/* Whether any process of the job is alive. True if /proc cannot be read because no descriptor is free. */
bool tree_lives(pid_t main);

#endif
