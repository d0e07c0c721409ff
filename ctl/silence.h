/* The error if something listens at bertd's socket but does not answer like bertd: the process, and the cure. */
#ifndef CTL_SILENCE_H
#define CTL_SILENCE_H

#include <stdbool.h>

#include "common/error.h"

/* Whether the process that listens at the other end is a bertd that sleeps, waiting for calls. The check wakes no
 * process. */
bool silence_is_sleep(int fd);

/* After a time-out. fd: the connection, or −1 if none was accepted. `after`: further text in front of the cure, or "".
 * Returns −errno, the exit code is BERTCTL_EXIT_NO_DAEMON. */
int silence_error(struct error *error, const char *socket, int fd, const char *after);

/* Something else answered, or closed the connection before it had spoken as bertd does. */
int silence_stranger(struct error *error, const char *socket, int fd, int r);

#endif
