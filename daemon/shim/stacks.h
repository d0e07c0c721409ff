/*
 * What every process of a hung attempt was doing, for a person to read: DIR/hang-N/{rank-R.pid-P,pid-P}.txt with its command line,
 * /proc/P/{status,wchan,syscall,stack} of the process and its threads, and the stacks that eu-stack or gdb can tell. Bounded in
 * time, processes and bytes. Runs in a process of its own, so that the shim goes on reading output and answering bertd, and waits for no
 * process that hangs in the kernel.
 */
#ifndef DAEMON_SHIM_EVIDENCE_H
#define DAEMON_SHIM_EVIDENCE_H

#include <sys/types.h>

#include "daemon/shim/tree.h"

#define EVIDENCE_LIMIT_SEC 60
#define EVIDENCE_NAME_MAX 16

/* Which of the processes are ranks is in their environment, which may block: the collector looks. */
struct evidence_ranks {
        unsigned ranks, stopped;
        int rank; /* that was stopped (SIGSTOP), where it is the only one */
};

/* Creates the folder hang-N in dir_fd and starts the collector on the processes. Returns its pid, which the caller waits for and kills
 * after EVIDENCE_LIMIT_SEC, or −errno. `ret_name`: the folder's, "" where there is none. `ret_ranks_fd`: one struct evidence_ranks comes
 * there as soon as it is known; does not block, the caller closes it. */
pid_t evidence_start(int dir_fd, const struct procs *procs, char ret_name[EVIDENCE_NAME_MAX], int *ret_ranks_fd);

#endif
