/*
 * A query that may never return: a driver or a directory server can block its caller forever, so a child makes the call
 * and bertd waits for its answer:
 *
 *   probe_start   forks the child; it writes its whole answer to the pipe, or nothing
 *   probe_read    when the pipe is readable
 *   the caller reaps the child, and kills it if the answer is late
 */
#ifndef DAEMON_BASE_PROBE_H
#define DAEMON_BASE_PROBE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROBE_ANSWER_MAX (1u << 16) /* bytes; fits into a pipe, so one read is enough */

/* Runs in the child; `answer` is `size` zero bytes. */
typedef void (*probe_ask_t)(const void *question, void *answer);

/* Returns 0 or −errno. The caller closes the fd (non-blocking). */
int probe_start(probe_ask_t ask, const void *question, size_t size, pid_t *ret_pid, int *ret_fd);
/* Reads the answer. −EPIPE: the child exited without one. */
int probe_read(int fd, void *answer, size_t size);

/* Starts, waits at most `usec`, reads. −ETIMEDOUT: no answer. */
int probe(probe_ask_t ask, const void *question, uint64_t usec, void *answer, size_t size);

#endif
