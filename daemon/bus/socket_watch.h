/* Detects that a socket's file was removed, moved or covered, without wake-ups in between. */
#ifndef DAEMON_BUS_SOCKET_WATCH_H
#define DAEMON_BUS_SOCKET_WATCH_H

#include <stdbool.h>

#include "daemon/base/loop.h"

struct socket_watch;

/* Calls `restore` after a change of the file at `path` or its folder, to check it; if it returns false (missing and not
 * restored) it is called again later. Borrows `path`. A file that cannot be watched is only logged. */
int socket_watch_new(struct loop *loop, const char *path, bool (*restore)(void *userdata), void *userdata,
                     struct socket_watch **ret);
void socket_watch_free(struct socket_watch *watch);

#endif
