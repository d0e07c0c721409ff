/*
 * Kills the remaining processes of an attempt without a cgroup (fork launcher), whose shim is gone or must be killed.
 * Finds them by ancestry: descendants of the keeper or shim; then by the attempt's nonce in the environment, for
 * processes started through a running server (at, tmux), and their descendants. Stops all of them, then kills them.
 *
 * Reading an environment may block as long as its process hangs in the kernel: sweep_start forks a helper, which the
 * caller reaps, or kills after a limit.
 */
#ifndef DAEMON_LAUNCH_SWEEP_H
#define DAEMON_LAUNCH_SWEEP_H

#include "common/proc.h"

struct sweep {
        uid_t uid;                /* user whose processes are checked for the nonce */
        const char *nonce;        /* borrowed */
        struct proc keeper, shim; /* pid 0: unknown. Only pid and start time are used */
        uint64_t limit_usec;
};

/* Call in a process that may block. Returns 0 if no process is left, else their number or −errno. */
ssize_t sweep_run(const struct sweep *sweep);

/* The pid of a helper that exits with 0 if no process is left, else 1; or −errno. */
pid_t sweep_start(const struct sweep *sweep);

#endif
