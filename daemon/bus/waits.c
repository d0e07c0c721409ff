/*
 * See waits.h. Owns the waiters, which are linked to their jobs, and the parked calls. Invariant: none of them outlives
 * its peer.
 */
#include "daemon/bus/waits.h"

#include <errno.h>
#include <stdlib.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "daemon/bus/server.h"
#include "daemon/store/store.h"

#define PARKED_MAX 32 /* submissions that wait for a user lookup */
#define PARKED_OF_UID_MAX 8

/* An unanswered Wait. */
struct waiter {
        struct peer *peer;
        sd_bus_message *message; /* a reference */
        struct waiter *next;
};

/* A call that waits for a user lookup. */
struct parked {
        struct parked *next;
        struct peer *peer;
        sd_bus_message *message; /* a reference */
        size_t size;
};

/* ---- waits ---- */

int call_to_answer(sd_bus_message *call, sd_bus_message **ret) {
        sd_bus_message *m = NULL;
        uint64_t cookie;

        int r = sd_bus_message_get_cookie(call, &cookie);
        if (r >= 0)
                r = sd_bus_message_new_method_call(sd_bus_message_get_bus(call), &m, NULL,
                                                   sd_bus_message_get_path(call), NULL,
                                                   sd_bus_message_get_member(call));
        if (r >= 0 && sd_bus_message_get_sender(call))
                r = sd_bus_message_set_sender(m, sd_bus_message_get_sender(call));
        if (r >= 0 && sd_bus_message_get_expect_reply(call) == 0)
                r = sd_bus_message_set_expect_reply(m, 0);
        if (r >= 0)
                r = sd_bus_message_seal(m, cookie, 0);
        if (r < 0) {
                (void) sd_bus_message_unref(m);
                return r;
        }
        *ret = m;
        return 0;
}

/* Counts of the user and in total. */
static bool may_wait(const struct peer *peer) {
        unsigned all = 0, of_uid = 0;

        for (const struct peer *p = bus_server_peers(peer->node->server); p; p = p->next) {
                all += p->waits;
                of_uid += p->uid == peer->uid ? p->waits : 0;
        }
        return peer->waits < BERTD_WAITS_OF_CLIENT_MAX && of_uid < BERTD_WAITS_OF_UID_MAX && all < BERTD_WAITS_MAX;
}

int wait_add(struct job *job, struct peer *peer, sd_bus_message *message) {
        if (!may_wait(peer))
                return -ENOBUFS;
        struct waiter *w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (struct waiter) { .peer = peer, .next = job->waiters };
        int r = call_to_answer(message, &w->message);
        if (r < 0) {
                free(w);
                return r;
        }
        job->waiters = w;
        peer->waits++;
        return 0;
}

static void waiter_free(struct waiter *w) {
        w->peer->waits--;
        (void) sd_bus_message_unref(w->message);
        free(w);
}

void wait_answer(struct job *job) {
        while (job->waiters) {
                struct waiter *w = job->waiters;
                job->waiters = w->next;
                (void) sd_bus_reply_method_return(w->message, "s", job_state_name(job->state));
                peer_note_reply(w->peer, 0);
                waiter_free(w);
        }
}

void wait_fail(struct job *job, const char *name, const char *text) {
        while (job->waiters) {
                struct waiter *w = job->waiters;
                job->waiters = w->next;
                (void) sd_bus_reply_method_errorf(w->message, name, "%s", text);
                waiter_free(w);
        }
}

static void forget_waits(struct peer *peer) {
        const struct store *store = peer->node->store;

        for (size_t i = 0; peer->waits > 0 && i < store_count(store); i++)
                for (struct waiter **at = &store_at(store, i)->waiters; *at;) {
                        struct waiter *w = *at;
                        if (w->peer != peer) {
                                at = &w->next;
                                continue;
                        }
                        *at = w->next;
                        waiter_free(w);
                }
}

int change_wait(struct peer *peer, sd_bus_message *message) {
        if (peer->change)
                return -EBUSY;
        return call_to_answer(message, &peer->change);
}

void change_tell(struct bus_server *server, uint64_t serial) {
        for (struct peer *peer = bus_server_peers(server); peer; peer = peer->next) {
                if (!peer->change)
                        continue;
                (void) sd_bus_reply_method_return(peer->change, "t", serial);
                peer->change = sd_bus_message_unref(peer->change);
                peer_note_reply(peer, 0);
        }
}

/* ---- parked calls ---- */

int peer_park(struct peer *peer, sd_bus_message *message, size_t size) {
        struct parked **at = bus_server_parked(peer->node->server);
        size_t all = size, of_uid = size;
        unsigned n = 0, n_of_uid = 0;

        for (; *at; at = &(*at)->next) {
                bool same = (*at)->peer->uid == peer->uid;
                all += (*at)->size;
                of_uid += same ? (*at)->size : 0;
                n++;
                n_of_uid += same;
        }
        /* The message may be larger than its parsed contents. */
        if (all > BERTD_REQUESTS_MAX || of_uid > BERTD_REQUESTS_OF_UID_MAX || n >= PARKED_MAX ||
            n_of_uid >= PARKED_OF_UID_MAX)
                return -ENOBUFS;
        *at = calloc(1, sizeof(**at));
        if (!*at)
                return -ENOMEM;
        **at = (struct parked) { .peer = peer, .message = sd_bus_message_ref(message), .size = size };
        return 0;
}

/* Removes the first of the peer, or of the user if `peer` is NULL. */
static struct parked *take_parked(struct bus_server *server, const struct peer *peer, uid_t uid) {
        for (struct parked **at = bus_server_parked(server); *at; at = &(*at)->next) {
                struct parked *parked = *at;
                if (peer ? parked->peer != peer : parked->peer->uid != uid)
                        continue;
                *at = parked->next;
                return parked;
        }
        return NULL;
}

static void parked_free(struct parked *parked) {
        (void) sd_bus_message_unref(parked->message);
        free(parked);
}

static void forget_parked(struct peer *peer) {
        struct bus_server *server = peer->node->server;

        for (struct parked *parked; server && (parked = take_parked(server, peer, 0));)
                parked_free(parked);
}

void bus_server_resume(struct bus_server *server, uid_t uid) {
        struct parked *list = NULL, **end = &list;

        /* Takes all first: calls that are parked again are not dispatched twice. */
        for (struct parked *parked; (parked = take_parked(server, NULL, uid)); end = &parked->next) {
                *end = parked;
                parked->next = NULL;
        }
        while (list) {
                struct parked *parked = list;
                list = parked->next;
                if (!parked->peer->doomed)
                        methods_dispatch_again(parked->peer, parked->message);
                parked_free(parked);
        }
}

void waits_forget(struct peer *peer) {
        forget_waits(peer);
        (void) sd_bus_message_unref(peer->change);
        forget_parked(peer);
}
