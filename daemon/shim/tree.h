/*
 * The processes of an attempt: all descendants of the shim (a subreaper keeps every orphan below itself). What came to life by another
 * way, through a server that runs anyway, bertd finds when it closes the attempt.
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

/* The living processes of the attempt, without the shim, by pid. 0 or −errno: /proc cannot be read (no descriptor is free). */
int tree_read(struct procs *procs);

/* Those of the job alone: the shim's own helpers are left out. `main`: its first process, 0 once it has been reaped. */
int tree_read_job(pid_t main, struct procs *procs);

/* Reaps a child that has ended. Returns its pid, 0: there is none. `ret_helper`: it was the shim's own. */
pid_t tree_reap(int *ret_status, bool *ret_helper);

/* SIGKILL to the main child and to all of the tree, repeated until none is found. Reaps as it goes; the main child's status is
 * put into *main_status (−1 where it did not die here). `main`: 0 where it was reaped before. Returns the number of processes still there after `limit_usec`. */
unsigned tree_kill(pid_t main, uint64_t limit_usec, int *main_status);

/* Does anything of the job live? Where /proc cannot be read for want of a descriptor it may. */
bool tree_lives(pid_t main);

/* A file below /proc/PID, at most `max` bytes and a NUL; −1: gone or not ours to read. Caller frees. What shows the process's memory
 * (cmdline, environ) may block for as long as the process hangs in the kernel. */
ssize_t tree_read_proc(pid_t pid, const char *name, size_t max, char **ret);

/* Where a link below /proc/PID leads, as "exe" or "fd/0"; "" where that cannot be read. Never blocks. */
void tree_read_link(pid_t pid, const char *name, char *buffer, size_t size);

/* Its number among the ranks as Open MPI, PMIx, Slurm or torchrun gave it; −1: it is no rank. May block as above. */
int tree_rank(pid_t pid);

#endif
