/*
 * What is left of an attempt whose shim is gone, or has to go, where no cgroup holds it (fork launcher). Looked for first by ancestry:
 * what descends from the attempt's keeper or shim; then by the attempt's nonce in the environment, for what came to life through a
 * server that runs anyway (at, tmux), and what descends from that. All that is found is stopped, then killed.
 *
 * To read an environment may block for as long as its process hangs in the kernel: sweep_start gives a helper process, which the
 * caller reaps and kills when it is late.
 */
#ifndef DAEMON_SWEEP_H
#define DAEMON_SWEEP_H

#include "common/proc.h"

struct sweep {
        uid_t uid;                /* whose processes are looked at for the nonce */
        const char *nonce;        /* borrowed */
        struct proc keeper, shim; /* pid 0: none is known. pid and start time count */
        uint64_t limit_usec;
};

/* In a process that may block. Returns 0 where nothing is left, else a number of processes or −errno. */
ssize_t sweep_run(const struct sweep *sweep);

/* The pid of a helper that ends with 0 where nothing is left, else 1; or −errno. */
pid_t sweep_start(const struct sweep *sweep);

#endif
