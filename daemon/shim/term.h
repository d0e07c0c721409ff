/*
 * SIGTERM to a job, process by process (contract C6): to the main process, and through shells to their children. Once none of those that
 * were asked lives any more, to the topmost of what is left, through shells again, and so on downwards. Nobody is asked twice. A program
 * so ends its own workers, and a wrapper that dies of the signal takes nothing with it.
 *
 *   struct term term = {};
 *   term_look(&term, main, now)   begins; called again whenever a process may have ended, and at the time that it says
 *   term_free(&term)
 */
#ifndef DAEMON_SHIM_TERM_H
#define DAEMON_SHIM_TERM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/proc.h"

#define TERM_PAUSE_USEC UINT64_C(200000) /* between two rounds: what reads from a pipe has that long to end by itself */

struct term {
        struct procs asked;
        uint64_t next_usec; /* the next round's time; 0: some who were asked live */
};

/* Asks whose turn it is. `main`: the first process of the job, 0 once it has been reaped. Returns when to look again, 0: when a process has
 * ended; −errno: /proc cannot be read. */
int64_t term_look(struct term *term, pid_t main, uint64_t now_usec);

/* SIGCONT to whoever of the job is stopped: what it was sent before waits for that. 0 or −errno. */
int term_continue(pid_t main);

void term_free(struct term *term);

#endif
