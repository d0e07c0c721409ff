/* bertd --detach (contract C1): its own session, which outlives the terminal. */
#ifndef DAEMON_DETACH_H
#define DAEMON_DETACH_H

#include "common/error.h"

/* Forks. In the parent it does not return: it waits until the child is ready, prints its pid and socket and exits, or
 * exits with the child's code. In the child it returns the fd for detach_ready, and the child outlives the login
 * session: in a user's session it moves under the user's systemd manager if the user lingers (it tries to enable that);
 * else it stays a plain process if logind kills no user processes (without XDG_RUNTIME_DIR, which is removed with the
 * session); else it refuses and prints the cure. */
int detach(int *ret_ready_fd, struct error *error);

/* The child is ready: releases the parent, redirects stderr to `log` (append) and changes to the root folder. */
int detach_ready(int ready_fd, const char *socket, const char *log, struct error *error);

#endif
