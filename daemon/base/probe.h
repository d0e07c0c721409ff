/*
 * A question whose answer may never come: what is asked (a driver, a directory server) can block its caller for ever, so a child asks
 * and bertd only waits:
 *
 *   probe_start   forks the child; its answer comes through the pipe, whole or not at all
 *   probe_read    once the pipe can be read
 *   the caller reaps the child, and kills it where the answer does not come in time
 */
#ifndef DAEMON_PROBE_H
#define DAEMON_PROBE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROBE_ANSWER_MAX (1u << 16) /* bytes; an answer fits into a pipe, and so is read at once */

/* Runs in the child; `answer` is `size` zero bytes. */
typedef void (*probe_ask_t)(const void *question, void *answer);

/* Returns 0 or −errno. The caller closes the fd (non-blocking). */
int probe_start(probe_ask_t ask, const void *question, size_t size, pid_t *ret_pid, int *ret_fd);
/* The answer. −EPIPE: the child ended without one. */
int probe_read(int fd, void *answer, size_t size);

/* Both of them and the wait between, at most `usec`. −ETIMEDOUT: no answer. */
int probe(probe_ask_t ask, const void *question, uint64_t usec, void *answer, size_t size);

#endif
