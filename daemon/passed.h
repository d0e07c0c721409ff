/* The socket passed by systemd (a .socket unit), which also listens while no bertd runs. */
#ifndef DAEMON_PASSED_H
#define DAEMON_PASSED_H

#include "common/error.h"

/* *ret_fd: the one socket that was passed to this process (sd_listen_fds(3)) and its path, which the caller frees; 0
 * and NULL: none. Refuses anything except one listening Unix stream socket with a path. Closes every other descriptor
 * above 2: jobs must not inherit what the parent shell had open, nor keep its pipes open. */
int passed_take(int *ret_fd, char **ret_path, struct error *error);

#endif
