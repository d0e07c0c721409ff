/*
 * Evidence of a hang: what every process of the attempt was doing. DIR/hang-N/{rank-R.pid-P,pid-P}.txt has its command
 * line, /proc/P/{status,wchan,syscall,stack} of the process and its threads, and the stacks from eu-stack or gdb.
 * Bounded in time, processes and bytes. Runs in a separate process, so that the shim keeps reading output and answering
 * bertd, and does not wait for a process that hangs in the kernel.
 */
#ifndef DAEMON_SHIM_STACKS_H
#define DAEMON_SHIM_STACKS_H

#include <sys/types.h>

#include "daemon/shim/tree.h"

#define EVIDENCE_LIMIT_SEC 60
#define EVIDENCE_NAME_MAX 16

/* Ranks are identified by their environment; reading it may block, so the collector does it. */
struct evidence_ranks {
        unsigned ranks, stopped;
        int rank; /* the stopped rank (SIGSTOP), if exactly one is */
};

/* Creates the folder hang-N in dir_fd and starts the collector for the processes. Returns its pid, which the caller
 * reaps, or kills after EVIDENCE_LIMIT_SEC; or −errno. `ret_name`: of the folder, "" if there is none. `ret_ranks_fd`:
 * non-blocking; delivers one struct evidence_ranks when known; the caller closes it. */
pid_t evidence_start(int dir_fd, const struct procs *procs, char ret_name[EVIDENCE_NAME_MAX], int *ret_ranks_fd);

#endif
