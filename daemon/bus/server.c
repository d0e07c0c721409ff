/*
 * See server.h. Role: counts connections, keeps one struct peer for each. Owns the peers, their buses.
 * Invariants: a peer is freed only from the deferred reaper, never inside one of its handlers; never waits for a peer's
 * message.
 */
#include "daemon/bus/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/attempt/live.h"
#include "daemon/bus/client_socket.h"
#include "daemon/bus/inlet.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/bus/listening.h"
#include "daemon/bus/waits.h"

/* New connections of a user: BERTD_CLIENTS_OF_UID_MAX at once, then NEW_A_SECOND. Accepting one costs much more than
 * refusing it. */
struct allowance {
        uint64_t usec;
        double left;
};

#define ALLOWANCES 128
#define NEW_A_SECOND 200

struct bus_server {
        struct allowance allowances[ALLOWANCES]; /* indexed by uid % 128; colliding uids share a bucket */
        struct node *node;
        char *path;
        struct listening *listening;
        struct timer rest;  /* until then no connection is accepted */
        struct timer leave; /* ends the loop */
        struct source *reaper, *leaver;
        sd_id128_t id;
        struct peer *peers;
        struct parked *parked; /* oldest first */
        struct inlets inlets;
        unsigned clients_max;
        int spare_fd;         /* closed for a moment to reject a connection when no descriptor is free */
        uint64_t logged_usec; /* time of the last logged refusal */
        unsigned unlogged;    /* refusals since */
};

#define LOG_INTERVAL_USEC (10 * USEC_PER_SEC)
#define ACCEPTS_A_TURN 256
#define REST_USEC (USEC_PER_SEC / 5)
#define LEAVE_USEC (2 * USEC_PER_SEC)

/* Rate-limits the log. */
static void log_refusal(struct bus_server *server, uid_t uid, const char *reason) {
        uint64_t now = loop_boottime();

        server->unlogged++;
        if (server->logged_usec > 0 && now - server->logged_usec < LOG_INTERVAL_USEC)
                return;
        log_error("refused a connection of uid %u: %s (%u refused since the last such message)", (unsigned) uid, reason,
                  server->unlogged);
        server->logged_usec = now;
        server->unlogged = 0;
}

struct peer *bus_server_peers(const struct bus_server *server) {
        return server->peers;
}
struct parked **bus_server_parked(struct bus_server *server) {
        return &server->parked;
}

/* ---- peers ---- */

static void peer_free(struct peer *peer) {
        attempt_link_gone(peer->node, &peer->link);
        waits_forget(peer);
        int client = inlet_client(peer->inlet);
        inlet_free(peer->inlet);
        if (peer->bus) {
                (void) sd_bus_detach_event(peer->bus);
                (void) sd_bus_close_unref(peer->bus);
        }
        client_socket_close(client);
        free(peer);
}

static void on_left(void *userdata) {
        const struct bus_server *server = userdata;

        loop_end(server->node->loop, 0);
}

/* Somebody has connected and is neither a shim nor one who waits: he is about to ask, or to be answered. */
static bool is_asked(const struct bus_server *server) {
        for (const struct peer *p = server->peers; p; p = p->next)
                if (p->link.job == 0 && p->waits == 0 && !p->change)
                        return true;
        return false;
}

static void on_reap(void *userdata) {
        struct bus_server *server = userdata;

        for (struct peer **at = &server->peers; *at;) {
                struct peer *peer = *at;
                if (!peer->doomed) {
                        at = &peer->next;
                        continue;
                }
                *at = peer->next;
                peer_free(peer);
        }
        if (timer_is_armed(&server->leave) && !is_asked(server))
                on_left(server);
}

/* When the loop ends, sd-bus would wait for each connection, also for an incomplete one or one that reads nothing. */
static void on_leave(void *userdata) {
        const struct bus_server *server = userdata;

        for (struct peer *peer = server->peers; peer; peer = peer->next)
                (void) sd_bus_detach_event(peer->bus);
}

static void peer_doom(struct peer *peer) {
        peer->doomed = true;
        source_soon(peer->node->server->reaper);
}

void bus_server_charge(struct bus_server *server, uid_t uid, uint64_t usec) {
        inlets_charge(&server->inlets, uid, usec);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        peer_doom(userdata);
        return 0;
}

static int call_shim(struct peer *peer, const char *member, const char *types, ...) {
        sd_bus_message *m = NULL;
        va_list values;

        int r = sd_bus_message_new_method_call(peer->bus, &m, NULL, BERTD_BUS_ATTEMPT_PATH, BERTD_BUS_ATTEMPT_INTERFACE,
                                               member);
        va_start(values, types);
        if (r >= 0)
                r = sd_bus_message_appendv(m, types, values);
        va_end(values);
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(m, 0);
        if (r >= 0)
                r = sd_bus_send(peer->bus, m, NULL);
        (void) sd_bus_message_unref(m);
        return r < 0 ? r : 0;
}

static void send_stop(struct shim_link *link, uint64_t grace_usec) {
        int r = call_shim((struct peer *) link, "Stop", "t", grace_usec);
        if (r < 0)
                log_error("job %" PRIu64 ": Stop cannot be sent: %s", link->job, strerror(-r));
}

static int send_checkpoint(struct shim_link *link) { return call_shim((struct peer *) link, "Checkpoint", ""); }

static void send_move(struct shim_link *link, const char *reason) {
        int r = call_shim((struct peer *) link, "Move", "s", reason);
        if (r < 0)
                log_error("job %" PRIu64 ": Move cannot be sent: %s", link->job, strerror(-r));
}

static void drop_link(struct shim_link *link) { peer_doom((struct peer *) link); }

const struct shim_link_calls peer_shim_calls = {
        .stop = send_stop, .checkpoint = send_checkpoint, .move = send_move, .drop = drop_link
};

/* Shims of open attempts are bounded by the host's slots and do not count for their user. Some connections are reserved
 * for root. */
static bool is_full(const struct bus_server *server, uid_t uid) {
        unsigned all = 0, of_uid = 0;

        for (const struct peer *p = server->peers; p; p = p->next) {
                if (p->link.job != 0)
                        continue;
                all++;
                of_uid += p->uid == uid;
        }
        unsigned most = uid == 0 ? server->clients_max : server->clients_max - BERTD_CLIENTS_OF_ROOT;
        return all >= most || of_uid >= BERTD_CLIENTS_OF_UID_MAX;
}

/* ---- unread replies ---- */

#define SMALL_REPLY 256          /* overhead of a reply */
#define SOCKET_BYTES (16u << 10) /* capacity of a client's socket, not counted */
#define OF_UID_MAX (BERTD_UNREAD_OF_UID_MAX - BERTD_CLIENTS_OF_UID_MAX * SOCKET_BYTES)
#define OF_ALL_MAX (BERTD_UNREAD_MAX - BERTD_CLIENTS_MAX * SOCKET_BYTES)
static_assert(OF_UID_MAX >= 2 * BERTD_PAGE_MAX && OF_ALL_MAX >= 2 * OF_UID_MAX, "one user leaves room for another");

static bool has_unread(void *userdata) {
        struct peer *peer = userdata;
        uint64_t queued = 0;

        (void) sd_bus_get_n_queued_write(peer->bus, &queued);
        if (queued == 0)
                peer->unread = 0;
        return queued > 0;
}

/* The peer that has not read for longest, of a user or (uid −1) of all; *ret_size: their unread bytes in total. */
static struct peer *slowest_reader(struct bus_server *server, uid_t uid, size_t *ret_size) {
        struct peer *slowest = NULL;

        *ret_size = 0;
        for (struct peer *p = server->peers; p; p = p->next) {
                if (p->doomed || p->unread == 0 || (uid != (uid_t) -1 && p->uid != uid) || !has_unread(p))
                        continue;
                *ret_size += p->unread;
                if (!slowest || p->unread_since < slowest->unread_since)
                        slowest = p;
        }
        return slowest;
}

static void drop_reader(struct peer *peer) {
        log_refusal(peer->node->server, peer->uid, "replies are not read");
        peer_doom(peer);
}

void peer_note_reply(struct peer *peer, size_t size) {
        struct bus_server *server = peer->node->server;
        size_t of_uid, all;

        if (!has_unread(peer))
                return;
        if (peer->unread == 0)
                peer->unread_since = loop_boottime();
        peer->unread += size + SMALL_REPLY;
        if (peer->unread > BERTD_UNREAD_OF_CLIENT_MAX)
                drop_reader(peer);
        struct peer *slowest = slowest_reader(server, peer->uid, &of_uid);
        if (slowest && of_uid > OF_UID_MAX)
                drop_reader(slowest);
        slowest = slowest_reader(server, (uid_t) -1, &all);
        if (slowest && all > OF_ALL_MAX)
                drop_reader(slowest);
}

static void on_refused(void *userdata, const char *reason) {
        struct peer *peer = userdata;

        log_refusal(peer->node->server, peer->uid, reason);
        peer_doom(peer);
}

static const struct inlet_owner inlet_owner = { .has_unread = has_unread, .refused = on_refused };

/* sd-bus writes to the client directly and reads from the inlet. */
static int connect_bus(struct bus_server *server, struct peer *peer, int client) {
        cleanup_close int out = client, in = -1;
        int copy = fcntl(out, F_DUPFD_CLOEXEC, 3);

        if (copy < 0)
                return -errno;
        int r = inlet_new(&server->inlets, copy, peer->uid, &inlet_owner, peer, &in, &peer->inlet);
        if (r >= 0)
                r = sd_bus_new(&peer->bus);
        if (r >= 0)
                r = sd_bus_set_fd(peer->bus, in, out);
        if (r < 0)
                return r;
        (void) steal_fd(&in);
        (void) steal_fd(&out);
        return 0;
}

static bool is_over_rate(struct bus_server *server, uid_t uid) {
        struct allowance *a = &server->allowances[uid % ALLOWANCES];
        uint64_t now = loop_boottime();

        double refill = a->usec == 0 ? BERTD_CLIENTS_OF_UID_MAX
                                     : (double) (now - a->usec) * NEW_A_SECOND / (double) USEC_PER_SEC;
        a->left = MIN(a->left + refill, (double) BERTD_CLIENTS_OF_UID_MAX);
        a->usec = now;
        if (a->left < 1)
                return true;
        a->left--;
        return false;
}

/* sd-bus has set it to 8 MiB of kernel memory, which bertd's bounds would not count. */
static int shrink_socket(int fd) {
        int size = SOCKET_BYTES / 2; /* the kernel doubles it */

        return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0 ? -errno : 0;
}

static int start_bus(struct bus_server *server, struct peer *peer, int fd) {
        int r = connect_bus(server, peer, fd);

        if (r >= 0)
                r = sd_bus_set_server(peer->bus, 1, server->id);
        /* The kernel gave the client's uid at accept; sd-bus only sees the inlet's socketpair. */
        if (r >= 0)
                r = sd_bus_set_anonymous(peer->bus, 1);
        if (r >= 0)
                r = sd_bus_set_trusted(peer->bus, 1); /* the method table checks authority */
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(peer->bus, 0);
        if (r >= 0)
                r = methods_add(peer);
        if (r >= 0)
                r = sd_bus_match_signal(peer->bus, NULL, "org.freedesktop.DBus.Local", "/org/freedesktop/DBus/Local",
                                        "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, peer);
        if (r >= 0)
                r = sd_bus_start(peer->bus);
        if (r >= 0)
                r = shrink_socket(fd);
        if (r >= 0)
                r = loop_attach_bus(server->node->loop, peer->bus);
        return r;
}

static void close_refused(const int *fd) { client_socket_close(*fd); }

static void admit(struct bus_server *server, int connection) {
        cleanup(close_refused) int fd = connection;
        struct ucred ucred;
        socklen_t size = sizeof(ucred);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &size) < 0)
                return;
        if (is_full(server, ucred.uid) || (ucred.uid != geteuid() && is_over_rate(server, ucred.uid))) {
                log_refusal(server, ucred.uid, "too many");
                return;
        }
        struct peer *peer = calloc(1, sizeof(*peer));
        if (!peer)
                return;
        *peer = (struct peer) {
                .link.calls = &peer_shim_calls, .node = server->node, .uid = ucred.uid, .pid = ucred.pid
        };
        int r = start_bus(server, peer, steal_fd(&fd));
        if (r < 0) {
                log_error("a connection of uid %u failed: %s", (unsigned) ucred.uid, strerror(-r));
                peer_free(peer);
                return;
        }
        peer->next = server->peers;
        server->peers = peer;
}

static void on_rested(void *userdata) {
        const struct bus_server *server = userdata;

        if (timer_is_armed(&server->leave))
                return;
        listening_enable(server->listening, true);
}

/* A waiting connection would wake the loop again and again. */
static void rest(struct bus_server *server) {
        if (timer_is_armed(&server->rest))
                return;
        loop_after(server->node->loop, &server->rest, REST_USEC, on_rested, server);
        listening_enable(server->listening, false);
}

/* Without a free descriptor the connection would stay in the queue. */
static void reject_connection(struct bus_server *server, int listen_fd) {
        if (server->spare_fd >= 0)
                (void) close(server->spare_fd);
        int connection = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (connection >= 0)
                client_socket_close(connection);
        else if (errno == EMFILE || errno == ENFILE)
                rest(server); /* the spare one is in use elsewhere, or above a lowered limit */
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        log_refusal(server, (uid_t) -1, "no free file descriptor");
}

/* Many per turn: an honest connection may be queued after a flood of refused ones. */
static void on_connection(void *userdata, int fd, uint32_t events) {
        for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
                int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (connection >= 0) {
                        admit(userdata, connection);
                        continue;
                }
                if (errno == EMFILE || errno == ENFILE)
                        reject_connection(userdata, fd);
                else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        log_error("accept: %m");
                return;
        }
}

/* ---- the server ---- */

/* Gives clients the protocol before their first call. */
static int make_id(sd_id128_t *ret) {
        int r = sd_id128_randomize(ret);

        memcpy(ret->bytes, BERTD_BUS_ID, strlen(BERTD_BUS_ID));
        ret->bytes[strlen(BERTD_BUS_ID)] = BERTD_PROTOCOL;
        return r;
}

static void on_charge(void *userdata, uid_t uid, uint64_t usec) { bus_server_charge(userdata, uid, usec); }

static void on_change(void *userdata, uint64_t serial) { change_tell(userdata, serial); }

static void on_rest(struct job *job) { wait_answer(job); }

static const struct node_listener listener = { .charge = on_charge, .changed = on_change, .rests = on_rest };

int bus_server_new(struct node *node, const char *path, struct bus_server **ret, struct error *error) {
        struct bus_server *server = calloc(1, sizeof(*server));
        if (!server)
                return error_errno(error, ENOMEM, "%s", path);

        server->node = node;
        inlets_init(&server->inlets, node->loop);
        server->clients_max = node->files.clients;
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        server->path = strdup(path);
        int r = server->path ? make_id(&server->id) : -ENOMEM;
        if (r >= 0)
                r = loop_defer(node->loop, on_reap, server, &server->reaper);
        if (r >= 0)
                r = loop_at_end(node->loop, on_leave, server, &server->leaver);
        if (r < 0)
                (void) error_errno(error, -r, "%s", path);
        else
                r = listening_new(node->loop, server->path, node->options.passed_socket, on_connection, server,
                                  &server->listening, error);
        if (r < 0) {
                bus_server_free(server);
                return r;
        }
        node->listener = &listener;
        node->listener_data = server;
        *ret = server;
        return 0;
}

void bus_server_leave(struct bus_server *server) {
        if (server->node->options.passed_socket == 0 || timer_is_armed(&server->leave) || !is_asked(server)) {
                on_left(server);
                return;
        }
        listening_enable(server->listening, false);
        loop_after(server->node->loop, &server->leave, LEAVE_USEC, on_left, server);
}

void bus_server_free(struct bus_server *server) {
        if (!server)
                return;
        server->node->listener = NULL;
        timer_disarm(&server->rest);
        timer_disarm(&server->leave);
        (void) source_free(server->reaper);
        (void) source_free(server->leaver);
        while (server->peers) {
                struct peer *peer = server->peers;
                server->peers = peer->next;
                peer_free(peer);
        }
        inlets_free(&server->inlets);
        if (server->spare_fd >= 0)
                (void) close(server->spare_fd);
        listening_free(server->listening);
        free(server->path);
        free(server);
}
