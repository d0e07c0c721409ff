/* bertd --detach (contract C1): a session of its own that outlives the terminal. */
#ifndef DAEMON_DETACH_H
#define DAEMON_DETACH_H

#include "common/error.h"

/* May this user's process live on after logout? Refuses with the cure where logind would kill it. */
int detach_check(struct error *error);

/* Forks. In the parent it does not return: it waits until the child is ready, prints its pid and socket and exits, or exits with
 * the child's code. In the child it returns the fd for detach_ready. */
int detach(int *ret_ready_fd, struct error *error);

/* The child is up: lets the parent go; from here stderr leads to `log` (append). */
int detach_ready(int ready_fd, const char *socket, const char *log, struct error *error);

#endif
