/*
 * What a client sends, on its way to sd-bus, which would take a message of 128 MB: an inlet reads the client's socket and passes on at
 * most BERTD_MESSAGE_MAX a message. It looks at the lengths in a message's header and at nothing else.
 *
 *   The bytes of messages that are under way are reserved: INLET_UID_MAX a user, INLET_MAX in all; beyond, a connection is not read
 *   until others have finished. A user whose calls take more than INLET_BUSY_USEC of a second, over more than one connection within
 *   INLET_ALONE_USEC, waits: the loop is others' for twice as long as each of those calls took. A connection that has to wait is
 *   looked at again at once: that costs processor time, but only while somebody asks for too much. A message or an authentication
 *   that is not complete after INLET_PATIENCE_USEC ends the connection.
 */
#ifndef DAEMON_INLET_H
#define DAEMON_INLET_H

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define INLET_UID_MAX (8u << 20)
#define INLET_MAX (24u << 20)
#define INLET_BUSY_USEC 50000
#define INLET_ALONE_USEC 20000
#define INLET_PATIENCE_USEC 10000000

struct inlet;

/* All inlets of a server. */
struct inlets {
        struct inlet *first;
        struct inlet_usage {
                uint64_t second, usec; /* usec: of this second, and half of what the second before had */
                struct inlet *speaker; /* the connection that was last looked at, since when no other was */
                uint64_t alone_since;
        } usage[128];        /* by uid; users who share a place share what they used */
        uint64_t busy_until; /* no connection of a busy user is read before */
};

/* A call of this user has taken so long. */
void inlets_charge(struct inlets *inlets, uid_t uid, uint64_t usec);

/* Takes `client_fd`. `*ret_fd` is the end that sd-bus reads, the caller's. `refused` (once, with a reason) tells that the connection is
 * to be ended; end of file is passed on as such. */
int inlet_new(struct inlets *inlets, sd_event *loop, int client_fd, uid_t uid,
              void (*refused)(void *userdata, const char *reason), void *userdata, int *ret_fd, struct inlet **ret);
void inlet_free(struct inlet *inlet);

#endif
