/* Notices that a socket's file is removed, moved or covered, while nothing wakes bertd as long as it is not. */
#ifndef DAEMON_SOCKET_WATCH_H
#define DAEMON_SOCKET_WATCH_H

#include <stdbool.h>

#include "daemon/base/loop.h"

struct socket_watch;

/* `restore` is called when something has happened to the file at `path` or to its folder, and is to look; false: it is not there and could
 * not be made again, then it is called once more after a while. Borrows `path`. A file that cannot be watched is no error: it is logged. */
int socket_watch_new(struct loop *loop, const char *path, bool (*restore)(void *userdata), void *userdata,
                     struct socket_watch **ret);
void socket_watch_free(struct socket_watch *watch);

#endif
