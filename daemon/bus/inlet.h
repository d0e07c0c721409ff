/*
 * Limits input before sd-bus, which would accept messages of 128 MB: an inlet reads the client's socket and passes on
 * messages of at most BERTD_MESSAGE_MAX. It parses only the lengths in a message's header.
 *
 *   The bytes of incomplete messages are reserved: BERTD_REQUESTS_OF_UID_MAX per user, BERTD_REQUESTS_MAX in total;
 * beyond that a connection is not read until others have finished. It is not read either while its client has unread
 * replies, for at most INLET_READER_USEC. A user whose calls take more than INLET_BUSY_USEC of a second, over more than
 * one connection within INLET_ALONE_USEC, waits: after each of its calls it is not read for twice the call's duration,
 * and such users take turns, whatever their number of connections. Root never waits. A message or authentication that
 * is not complete after INLET_PATIENCE_USEC ends the connection.
 */
#ifndef DAEMON_BUS_INLET_H
#define DAEMON_BUS_INLET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/loop.h"

#define INLET_BUSY_USEC 50000
#define INLET_ALONE_USEC 20000
#define INLET_PATIENCE_USEC 10000000
#define INLET_READER_USEC 30000000

struct inlet;

/* All inlets of a server. */
struct inlets {
        struct loop *loop;
        struct inlet *first;
        struct inlet_usage {
                uint64_t second, usec; /* usec: of this second, and half of what the second before had */
                struct inlet *talker;  /* the connection that was last looked at, since when no other was */
                uint64_t alone_since;
                uint64_t turn_usec; /* when one of its connections had the turn last */
        } usage[128];               /* indexed by uid % 128; colliding uids share a bucket */
        uint64_t busy_until;        /* no connection of a busy user is read before */
        struct timer turn;          /* armed while one waits for that */
        struct inlet *next;         /* whose turn it is now */
};

void inlets_init(struct inlets *inlets, struct loop *loop);
void inlets_free(struct inlets *inlets);

/* What an inlet asks of its owner. */
struct inlet_owner {
        bool (*has_unread)(void *userdata);                  /* replies that the client's socket does not hold yet */
        void (*refused)(void *userdata, const char *reason); /* called once: end the connection */
};

/* A call of this user has taken so long. */
void inlets_charge(struct inlets *inlets, uid_t uid, uint64_t usec);

/* Takes `client_fd`, borrows `owner`. `*ret_fd` is the end that sd-bus reads, the caller's. End of file is passed on as
 * such. */
int inlet_new(struct inlets *inlets, int client_fd, uid_t uid, const struct inlet_owner *owner, void *userdata,
              int *ret_fd, struct inlet **ret);
/* A further descriptor of the client's connection, for the caller to close last; −1: there is none. */
int inlet_client(const struct inlet *inlet);
void inlet_free(struct inlet *inlet);

/* Bytes of the message that was passed on last, which is the one that sd-bus dispatches. 0: none was, or there is no
 * inlet. */
size_t inlet_message_size(const struct inlet *inlet);

#endif
