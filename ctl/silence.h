/* What is said where something listens at bertd's socket and does not answer as bertd does: who that is, and the cure. */
#ifndef CTL_SILENCE_H
#define CTL_SILENCE_H

#include <stdbool.h>

#include "common/error.h"

/* Is who listens at the other end a bertd that sleeps, as one does that waits for calls? To look wakes nobody. */
bool silence_is_sleep(int fd);

/* After a time-out. fd: the connection, or −1 where none was accepted. `after`: further text in front of the cure, or "". Returns −errno,
 * the exit code is BERTCTL_EXIT_NO_DAEMON. */
int silence_error(struct error *error, const char *socket, int fd, const char *after);

/* Something else answered, or closed the connection before it had spoken as bertd does. */
int silence_stranger(struct error *error, const char *socket, int fd, int r);

#endif
