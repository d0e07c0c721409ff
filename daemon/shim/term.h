/*
 * SIGTERM to a job, process by process (contract C6): to the main process, and through shells to their children. When
 * all of these have exited, to the topmost of the remaining processes, again through shells, and so on downwards. No
 * process gets it twice. So a program stops its own workers, and a wrapper that dies of the signal does not kill
 * others.
 *
 *   struct term term = {};
 *   term_look(&term, main, now)   starts; call it again when a process may have exited, and at the returned time
 *   term_free(&term)
 */
#ifndef DAEMON_SHIM_TERM_H
#define DAEMON_SHIM_TERM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/proc.h"

#define TERM_PAUSE_USEC UINT64_C(200000) /* between two rounds: time for readers of a pipe to exit by themselves */

struct term {
        struct procs asked;
        uint64_t next_usec; /* time of the next round; 0: processes of this round are alive */
};

/* Sends SIGTERM to the next processes. `main`: the first process of the job, 0 once reaped. Returns the time of the
 * next call, 0: when a process has exited; −errno: /proc cannot be read. */
int64_t term_look(struct term *term, pid_t main, uint64_t now_usec);

/* Signals those that run a gang's ranks on this host that a stop comes; see gang/rank.c. */
void term_mark_stop(pid_t main);

/* SIGCONT to the stopped processes of the job, for which pending signals wait. 0 or −errno. */
int term_continue(pid_t main);

void term_free(struct term *term);

#endif
