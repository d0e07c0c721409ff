/*
 * A client's connection. A client may send descriptors along, and where bertd's is the last reference to one, closing
 * it lasts as long as the client likes: a socket lingers, a file system of the client's own does not answer. So none is
 * ever taken, and none is dropped in this process.
 */
#ifndef DAEMON_BUS_CLIENT_SOCKET_H
#define DAEMON_BUS_CLIENT_SOCKET_H

#include <sys/types.h>

/* As read(2) of a non-blocking socket; −errno, −EPROTO: descriptors come next, and nothing was read. */
ssize_t client_socket_read(int fd, void *buffer, size_t size);

/* Closes the last descriptor of a connection; <0 is fine. */
void client_socket_close(int fd);

#endif
