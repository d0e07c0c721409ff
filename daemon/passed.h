/* The socket that systemd listens at for bertd (a .socket unit), while no bertd runs too. */
#ifndef DAEMON_PASSED_H
#define DAEMON_PASSED_H

#include "common/error.h"

/* *ret_fd: the one socket that was passed to this process (sd_listen_fds(3)) and its path, which the caller frees; 0 and NULL: none.
 * Anything but one listening Unix stream socket with a path is refused. Every other descriptor above 2 is closed: what the shell that
 * started us held open must reach no job, nor keep its pipes from ending. */
int passed_take(int *ret_fd, char **ret_path, struct error *error);

#endif
