/*
 * Two descriptors of one process become another's, which bertd starts: bertctl lease gives its ssh channel to
 * bertd-leash. They never pass through bertd, where a descriptor of a user could block. bertctl listens on an abstract
 * socket of a random name, sends only the name to bertd, which passes it on as an argument. Both sides require that the
 * other has the same user id. The connection stays open: bertctl sees from its end that the other has exited.
 *
 *   bertctl:      handover_listen, (name to bertd), handover_give, poll the connection for its end
 *   bertd-leash:  handover_take, keep the connection
 */
#ifndef COMMON_HANDOVER_H
#define COMMON_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/hex.h"

#define HANDOVER_NAME_MAX (HEX_128_SIZE - 1) /* hex digits: 128 random bits */

/* A listening descriptor, or −errno. */
int handover_listen(char ret_name[static HANDOVER_NAME_MAX + 1], struct error *error);

bool handover_name_is_valid(const char *name);

/* Waits until one of this user's processes connects, or `deadline_usec` (clock_boottime_usec), or until `other` (−1:
 * none) is readable (−ECANCELED). Returns the connection. */
int handover_give(int listener, const int fds[static 2], int other, uint64_t deadline_usec, struct error *error);

/* Returns the connection, and two descriptors that the caller closes. Waits at most `limit_usec`. */
int handover_take(const char *name, uint64_t limit_usec, int ret_fds[static 2], struct error *error);

#endif
