/* The socket that bertd listens at: its file, and who may connect. */
#ifndef DAEMON_BUS_SOCKET_H
#define DAEMON_BUS_SOCKET_H

#include <sys/stat.h>

#include "common/error.h"

/* Makes the file and listens; its folder is made where it is missing, a file that a dead bertd left is replaced. `before`: the file that
 * it stands in for and whose owner and mode it takes, NULL: none, root's is for group bertd too. The fd does not block. −EADDRINUSE:
 * another daemon listens there. */
int bus_socket_open(const char *path, const struct stat *before, int *ret, struct error *error);

#endif
