/* bertd --detach (contract C1): a session of its own that outlives the terminal. */
#ifndef DAEMON_DETACH_H
#define DAEMON_DETACH_H

#include "common/error.h"

/* Forks. In the parent it does not return: it waits until the child is ready, prints its pid and socket and exits, or exits with
 * the child's code. In the child it returns the fd for detach_ready, and the child outlives the login session: in a user's session
 * it goes under the user's systemd manager where the user lingers (it tries to enable that), else it stays as it is where logind
 * kills no user processes (and without XDG_RUNTIME_DIR, which ends with the session), else it refuses and names the cure. */
int detach(int *ret_ready_fd, struct error *error);

/* The child is up: lets the parent go; from here stderr leads to `log` (append) and the current folder is the root. */
int detach_ready(int ready_fd, const char *socket, const char *log, struct error *error);

#endif
