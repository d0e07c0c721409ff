/*
 * The socket and its peers (contract C2). A connection is counted before sd-bus sees a byte of it:
 * BERTD_CLIENTS_OF_UID_MAX per user, BERTD_CLIENTS_MAX in total, without the shims of open attempts (one each). A
 * peer's messages come through an inlet (inlet.h), which passes nothing on while the peer has more unread replies than
 * its socket holds, so these are few. Their bytes are counted per peer, per user and in total (BERTD_UNREAD_*); beyond
 * a bound the peer that has not read for longest is dropped.
 */
#ifndef DAEMON_BUS_SERVER_H
#define DAEMON_BUS_SERVER_H

#include <systemd/sd-bus.h>

#include "daemon/attempt/shim_link.h"
#include "daemon/node/node.h"

struct peer {
        struct shim_link link; /* first: a shim's peer is its link */
        struct node *node;
        sd_bus *bus;
        struct inlet *inlet;
        uid_t uid; /* from the kernel */
        pid_t pid;
        unsigned waits;         /* unanswered Wait calls */
        sd_bus_message *change; /* its WaitChange, NULL = none */
        size_t unread;          /* bytes of replies since sd-bus had last written all */
        uint64_t unread_since;
        bool doomed; /* dropped at the end of this iteration */
        struct peer *next;
};

int bus_server_new(struct node *node, const char *path, struct bus_server **ret, struct error *error);
void bus_server_free(struct bus_server *server);

/* Ends the loop; if systemd keeps the socket for the next bertd, only after connected clients have had time for their
 * calls. A second call does not wait. */
void bus_server_leave(struct bus_server *server);

struct parked;
struct peer *bus_server_peers(const struct bus_server *server); /* newest first, by `next` */
struct parked **bus_server_parked(struct bus_server *server);   /* the list's head, waits.c's */

/* Charges the duration of a call to the user. */
void bus_server_charge(struct bus_server *server, uid_t uid, uint64_t usec);

/* Calls to a shim through the peer's link: Stop and Checkpoint of org.bertd1.Attempt. */
extern const struct shim_link_calls peer_shim_calls;

/* Adds bytes that were, or may have been, sent to its bus. A peer that reads too little dropped at the end of this
 * iteration. */
void peer_note_reply(struct peer *peer, size_t size);

/* methods.c: dispatches a kept call from the start. */
void methods_dispatch_again(struct peer *peer, sd_bus_message *message);

/* methods.c: adds the object to a new peer's bus. */
int methods_add(struct peer *peer);

#endif
