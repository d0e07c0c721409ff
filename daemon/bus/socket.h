/* The socket that bertd listens at: its file, and who may connect. */
#ifndef DAEMON_BUS_SOCKET_H
#define DAEMON_BUS_SOCKET_H

#include <sys/stat.h>

#include "common/error.h"

/* Creates the file and listens; creates a missing folder, replaces the file of a dead bertd. `before`: a previous file,
 * whose owner and mode it gets; NULL: none, root's socket is then for group bertd too. The fd is non-blocking.
 * −EADDRINUSE: another daemon listens there. */
int bus_socket_open(const char *path, const struct stat *before, int *ret, struct error *error);

#endif
