/*
 * See server.h. Role: listens, counts, keeps one struct peer a connection. Owns the listening socket, the peers, their buses.
 * Invariants: a peer is freed only from the deferred reaper, never below one of its own handlers; no message of it is waited for.
 */
#include "daemon/bus/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/attempt/live.h"
#include "daemon/bus/socket.h"
#include "daemon/bus/inlet.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/bus/socket_watch.h"

/* New connections of a user: BERTD_CLIENTS_OF_UID_MAX at once, then NEW_A_SECOND. To set one up costs much more than to refuse it. */
struct allowance {
        uint64_t usec;
        double left;
};

#define ALLOWANCES 128
#define NEW_A_SECOND 200

/* A call whose user is being looked up. */
struct parked {
        struct parked *next;
        struct peer *peer;
        sd_bus_message *message; /* a reference */
        size_t size;
};

struct bus_server {
        struct allowance allowances[ALLOWANCES]; /* by uid; users who share a place share what is left */
        struct node *node;
        char *path;
        struct stat file; /* the socket that we bound there */
        struct socket_watch *watch;
        struct source *listen; /* owns its fd */
        struct timer rest;     /* until then nobody is let in */
        struct source *reaper, *leaver;
        sd_id128_t id;
        struct peer *peers;
        struct parked *parked; /* oldest first */
        struct inlets inlets;
        unsigned clients_max;
        bool bound;         /* by us, not by systemd */
        bool lost;          /* the socket's file is gone, and was not made again yet */
        int spare_fd;       /* given up for a moment to turn a connection away when there are no more */
        uint64_t told_usec; /* when a refusal was last logged */
        unsigned untold;    /* refusals since */
};

#define TELL_USEC (10 * USEC_PER_SEC)
#define ACCEPTS_A_TURN 256
#define REST_USEC (USEC_PER_SEC / 5)
#define PARKED_MAX 32 /* submissions whose user is being looked up */
#define PARKED_OF_UID_MAX 8

/* A flood of refusals is one line in a while. */
static void tell_refusal(struct bus_server *server, uid_t uid, const char *reason) {
        uint64_t now = loop_boottime();

        server->untold++;
        if (server->told_usec > 0 && now - server->told_usec < TELL_USEC)
                return;
        log_error("a connection of uid %u is refused: %s (%u refused since the last such line)", (unsigned) uid, reason,
                  server->untold);
        server->told_usec = now;
        server->untold = 0;
}

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

/* Of the user and of all. */
static bool may_wait(const struct peer *peer) {
        unsigned all = 0, of_uid = 0;

        for (const struct peer *p = peer->node->server->peers; p; p = p->next) {
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

static void tell_change(struct bus_server *server, uint64_t serial) {
        for (struct peer *peer = server->peers; peer; peer = peer->next) {
                if (!peer->change)
                        continue;
                (void) sd_bus_reply_method_return(peer->change, "t", serial);
                peer->change = sd_bus_message_unref(peer->change);
                peer_note_reply(peer, 0);
        }
}

/* ---- parked calls ---- */

int peer_park(struct peer *peer, sd_bus_message *message, size_t size) {
        struct parked **at = &peer->node->server->parked;
        size_t all = size, of_uid = size;
        unsigned n = 0, n_of_uid = 0;

        for (; *at; at = &(*at)->next) {
                bool same = (*at)->peer->uid == peer->uid;
                all += (*at)->size;
                of_uid += same ? (*at)->size : 0;
                n++;
                n_of_uid += same;
        }
        /* A message may be larger than what was understood of it. */
        if (all > BERTD_REQUESTS_MAX || of_uid > BERTD_REQUESTS_OF_UID_MAX || n >= PARKED_MAX ||
            n_of_uid >= PARKED_OF_UID_MAX)
                return -ENOBUFS;
        *at = calloc(1, sizeof(**at));
        if (!*at)
                return -ENOMEM;
        **at = (struct parked) { .peer = peer, .message = sd_bus_message_ref(message), .size = size };
        return 0;
}

/* Takes out the first that is of the peer, or where `peer` is NULL of the user. */
static struct parked *take_parked(struct bus_server *server, const struct peer *peer, uid_t uid) {
        for (struct parked **at = &server->parked; *at; at = &(*at)->next) {
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

        /* All at first: one that is parked again is not for this time. */
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

/* ---- peers ---- */

static void peer_free(struct peer *peer) {
        attempt_link_gone(peer->node, &peer->link);
        forget_waits(peer);
        (void) sd_bus_message_unref(peer->change);
        forget_parked(peer);
        inlet_free(peer->inlet);
        if (peer->bus) {
                (void) sd_bus_detach_event(peer->bus);
                (void) sd_bus_close_unref(peer->bus);
        }
        free(peer);
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
}

/* At the loop's end sd-bus waits for each of its connections, also for one whose client has said too little or reads nothing. */
static void on_leave(void *userdata) {
        const struct bus_server *server = userdata;

        for (struct peer *peer = server->peers; peer; peer = peer->next)
                (void) sd_bus_detach_event(peer->bus);
}

void peer_doom(struct peer *peer) {
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

static int call_shim(struct peer *peer, const char *member, const char *types, uint64_t value) {
        sd_bus_message *m = NULL;

        int r = sd_bus_message_new_method_call(peer->bus, &m, NULL, BERTD_BUS_ATTEMPT_PATH, BERTD_BUS_ATTEMPT_INTERFACE,
                                               member);
        if (r >= 0 && types[0])
                r = sd_bus_message_append(m, types, value);
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

static int send_checkpoint(struct shim_link *link) { return call_shim((struct peer *) link, "Checkpoint", "", 0); }

static void drop_link(struct shim_link *link) { peer_doom((struct peer *) link); }

const struct shim_link_calls peer_shim_calls = { .stop = send_stop, .checkpoint = send_checkpoint, .drop = drop_link };

/* The shims of open attempts are bounded by the host's slots: they take no user's share. Others leave some to root. */
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

#define SMALL_REPLY 256          /* what one has beside its contents */
#define SOCKET_BYTES (16u << 10) /* what a client's socket holds, not counted one by one */
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

/* Who has not read for longest, of a user or (uid −1) of all; *ret_size: what is unread of these together. */
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
        tell_refusal(peer->node->server, peer->uid, "replies are not read");
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

        tell_refusal(peer->node->server, peer->uid, reason);
        peer_doom(peer);
}

static const struct inlet_owner inlet_owner = { .has_unread = has_unread, .refused = on_refused };

/* sd-bus writes to the client itself and reads what the inlet lets pass. */
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

static bool is_hasty(struct bus_server *server, uid_t uid) {
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

/* sd-bus has made it 8 MiB: of kernel memory that no bound of ours would see. */
static int shrink_socket(int fd) {
        int size = SOCKET_BYTES / 2; /* the kernel doubles it */

        return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0 ? -errno : 0;
}

static int start_bus(struct bus_server *server, struct peer *peer, int fd) {
        int r = connect_bus(server, peer, fd);

        if (r >= 0)
                r = sd_bus_set_server(peer->bus, 1, server->id);
        /* Who the client is was the kernel's word at accept: sd-bus sees but the inlet. */
        if (r >= 0)
                r = sd_bus_set_anonymous(peer->bus, 1);
        if (r >= 0)
                r = sd_bus_set_trusted(peer->bus, 1); /* authority is the method table's */
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

static void admit(struct bus_server *server, int connection) {
        cleanup_close int fd = connection;
        struct ucred ucred;
        socklen_t size = sizeof(ucred);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &size) < 0)
                return;
        if (is_full(server, ucred.uid) || (ucred.uid != geteuid() && is_hasty(server, ucred.uid))) {
                tell_refusal(server, ucred.uid, "too many");
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

        source_enable(server->listen, true);
}

/* Who waits in the queue would wake us for ever. */
static void rest(struct bus_server *server) {
        if (timer_is_armed(&server->rest))
                return;
        loop_after(server->node->loop, &server->rest, REST_USEC, on_rested, server);
        source_enable(server->listen, false);
}

/* Without a descriptor the connection would stay in the queue. */
static void turn_away(struct bus_server *server, int listen_fd) {
        if (server->spare_fd >= 0)
                (void) close(server->spare_fd);
        int connection = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (connection >= 0)
                (void) close(connection);
        else if (errno == EMFILE || errno == ENFILE)
                rest(server); /* the spare one has gone to somebody else, or is above a limit that was lowered */
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        tell_refusal(server, (uid_t) -1, "no free file descriptor");
}

/* Many in one turn: behind a flood of connections that are refused an honest one waits in the kernel's queue. */
static void on_connection(void *userdata, int fd, uint32_t events) {
        for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
                int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (connection >= 0) {
                        admit(userdata, connection);
                        continue;
                }
                if (errno == EMFILE || errno == ENFILE)
                        turn_away(userdata, fd);
                else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        log_error("accept: %m");
                return;
        }
}

/* ---- listening ---- */

/* Takes `fd`. */
static int start_listening(struct bus_server *server, int fd) {
        struct source *source;

        int r = loop_watch(server->node->loop, fd, EPOLLIN, on_connection, server, &source);
        if (r < 0)
                return r;
        (void) source_free(server->listen);
        server->listen = source;
        return lstat(server->path, &server->file) < 0 && errno != ENOENT ? -errno : 0;
}

/* Notes who may use it now: a group that an administrator has given it is given to its successor. */
static bool is_in_place(struct bus_server *server) {
        struct stat st;

        if (lstat(server->path, &st) < 0 || st.st_dev != server->file.st_dev || st.st_ino != server->file.st_ino)
                return false;
        server->file = st;
        return true;
}

/* Who has connected stays connected, also those who wait to be accepted. What somebody else has put there stays. */
static bool restore_socket(void *userdata) {
        struct bus_server *server = userdata;
        struct error error = {};
        int fd;

        if (is_in_place(server))
                return true;
        int r = bus_socket_open(server->path, &server->file, &fd, &error);
        if (r >= 0) {
                on_connection(server, source_fd(server->listen), EPOLLIN);
                server->bound = true;
                r = start_listening(server, fd);
                if (r < 0)
                        (void) error_errno(&error, -r, "%s", server->path);
        }
        if (r >= 0)
                log_error("%s was removed while bertd runs, and is made again", server->path);
        else if (!server->lost)
                log_error("%s was removed while bertd runs, and cannot be made again yet: %s; it is tried every 10 s, "
                          "and made by a restart of bertd, which jobs outlive",
                          server->path, error.text);
        server->lost = r < 0;
        return r >= 0;
}

/* Says to clients which protocol is spoken here, before their first call. */
static int make_id(sd_id128_t *ret) {
        int r = sd_id128_randomize(ret);

        memcpy(ret->bytes, BERTD_BUS_ID, strlen(BERTD_BUS_ID));
        ret->bytes[strlen(BERTD_BUS_ID)] = BERTD_PROTOCOL;
        return r;
}

/* systemd's has its group and mode from its unit. */
static int take_socket(const struct bus_server *server, int *ret, struct error *error) {
        if (server->bound)
                return bus_socket_open(server->path, NULL, ret, error);
        *ret = server->node->options.passed_socket;
        return fcntl(*ret, F_SETFL, O_NONBLOCK) < 0 ? error_errno(error, errno, "%s", server->path) : 0;
}

static void on_charge(void *userdata, uid_t uid, uint64_t usec) { bus_server_charge(userdata, uid, usec); }

static void on_change(void *userdata, uint64_t serial) { tell_change(userdata, serial); }

static void on_rest(struct job *job) { wait_answer(job); }

static const struct node_listener listener = { .charge = on_charge, .changed = on_change, .rests = on_rest };

int bus_server_new(struct node *node, const char *path, struct bus_server **ret, struct error *error) {
        int fd;
        struct bus_server *server = calloc(1, sizeof(*server));
        if (!server)
                return error_errno(error, ENOMEM, "%s", path);

        server->node = node;
        inlets_init(&server->inlets, node->loop);
        server->clients_max = node->files.clients;
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        server->path = strdup(path);
        server->bound = node->options.passed_socket == 0;
        int r = server->path ? take_socket(server, &fd, error) : error_errno(error, ENOMEM, "%s", path);
        if (r >= 0) {
                r = start_listening(server, fd);
                if (r >= 0)
                        r = make_id(&server->id);
                if (r >= 0)
                        r = socket_watch_new(node->loop, server->path, restore_socket, server, &server->watch);
                if (r >= 0)
                        r = loop_defer(node->loop, on_reap, server, &server->reaper);
                if (r >= 0)
                        r = loop_at_end(node->loop, on_leave, server, &server->leaver);
                if (r < 0)
                        (void) error_errno(error, -r, "%s", path);
        }
        if (r < 0) {
                bus_server_free(server);
                return r;
        }
        node->listener = &listener;
        node->listener_data = server;
        *ret = server;
        return 0;
}

void bus_server_free(struct bus_server *server) {
        if (!server)
                return;
        server->node->listener = NULL;
        socket_watch_free(server->watch);
        (void) source_free(server->listen);
        timer_disarm(&server->rest);
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
        if (server->bound && server->path && is_in_place(server))
                (void) unlink(server->path);
        free(server->path);
        free(server);
}
