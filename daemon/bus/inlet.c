/*
 * See inlet.h. Owns a descriptor of the client's connection and the writing end towards sd-bus. Invariants: nothing is
 * read before the last read was passed to sd-bus, so no byte is kept here; no byte of a message larger than SMALL_MAX
 * is read before its whole size is reserved; a waiting connection costs no turn of the loop.
 */
#include "daemon/bus/inlet.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/base/loop.h"
#include "daemon/bus/client_socket.h"

#define READ_MAX (64u << 10)
#define READ_AHEAD 256
#define FORWARDED_USEC 1000
#define AUTH_MAX 4096 /* bytes before BEGIN */
#define HEADER_SIZE 16
#define FIELDS_MAX 2048       /* of a header: sd-bus searches an object path once per component */
#define MESSAGE_USEC 50       /* minimum charge, also for one that sd-bus answers itself */
#define SMALL_MAX (16u << 10) /* messages up to this size need no reservation: each connection may have one */
#define OF_UID_MAX (BERTD_REQUESTS_OF_UID_MAX - BERTD_CLIENTS_OF_UID_MAX * SMALL_MAX)
#define OF_ALL_MAX (BERTD_REQUESTS_MAX - BERTD_CLIENTS_MAX * SMALL_MAX)
static_assert(OF_UID_MAX >= BERTD_MESSAGE_MAX && OF_ALL_MAX >= 2 * OF_UID_MAX, "one user leaves room for another");

static const char begin_line[] = "\r\nBEGIN\r\n";

/* What the next read waits for. */
enum waiting {
        FOR_CLIENT, /* to send */
        FOR_READER, /* to read its replies */
        FOR_ROOM,   /* others' reservations */
        FOR_TURN,   /* others' turn */
};

struct inlet {
        struct inlets *inlets;
        struct inlet *next;
        uid_t uid;
        int bus_fd;
        struct source *client; /* owns its fd */
        struct timer timer;    /* armed while something is incomplete or unread */
        enum waiting waiting;
        uint64_t waits_since; /* FOR_TURN */
        bool authenticated, refused;
        unsigned auth_size, auth_matched; /* bytes so far; of begin_line */
        unsigned char header[HEADER_SIZE];
        unsigned header_size;
        uint64_t whole, rest; /* bytes of the current message, and its missing part */
        uint64_t reserved;    /* 0, or `whole` */
        const struct inlet_owner *owner;
        void *userdata;
};

static void refuse(struct inlet *inlet, const char *reason) {
        source_enable(inlet->client, false);
        if (!inlet->refused)
                inlet->owner->refused(inlet->userdata, reason);
        inlet->refused = true;
}

static void wait_for(struct inlet *inlet, enum waiting waiting) {
        inlet->waiting = waiting;
        source_set_events(inlet->client, waiting == FOR_CLIENT ? EPOLLIN : waiting == FOR_READER ? EPOLLOUT : 0);
}

static void on_impatient(void *userdata) {
        struct inlet *inlet = userdata;

        /* A connection that waits for others is not at fault. */
        if (inlet->waiting == FOR_ROOM || inlet->waiting == FOR_TURN)
                loop_after(inlet->inlets->loop, &inlet->timer, INLET_PATIENCE_USEC, on_impatient, inlet);
        else
                refuse(inlet, inlet->waiting == FOR_READER ? "replies are not read"
                              : inlet->authenticated       ? "a message is not completed"
                                                           : "the authentication is not completed");
}

/* ---- reservations ---- */

static bool may_reserve(const struct inlet *inlet, uint64_t size) {
        uint64_t all = size, of_uid = size;

        for (const struct inlet *i = inlet->inlets->first; i; i = i->next) {
                all += i->reserved;
                of_uid += i->uid == inlet->uid ? i->reserved : 0;
        }
        return all <= OF_ALL_MAX && of_uid <= OF_UID_MAX;
}

static void release(struct inlet *inlet) {
        if (inlet->reserved == 0)
                return;
        inlet->reserved = 0;
        for (struct inlet *i = inlet->inlets->first; i; i = i->next)
                if (i->waiting == FOR_ROOM)
                        wait_for(i, FOR_CLIENT);
}

/* False: no space for the message now. follow() refuses one that is too large. */
static bool reserve(struct inlet *inlet, uint64_t size) {
        if (size <= SMALL_MAX || size > BERTD_MESSAGE_MAX || inlet->reserved > 0)
                return true;
        if (!may_reserve(inlet, size))
                return false;
        inlet->reserved = size;
        return true;
}

/* ---- framing ---- */

/* A number of the fixed header, which starts with the byte order (D-Bus specification). */
static uint32_t number_at(const unsigned char *header, size_t offset) {
        uint32_t number;

        memcpy(&number, header + offset, sizeof(number));
        return header[0] == 'B' ? be32toh(number) : le32toh(number);
}

static uint32_t fields_size(const unsigned char *header) { return number_at(header, 12); }

/* Length of the whole message. */
static uint64_t message_size(const unsigned char *header) {
        return HEADER_SIZE + ((uint64_t) fields_size(header) + 7) / 8 * 8 + number_at(header, 4);
}

/* True if the byte ends the authentication. */
static bool match_begin(unsigned *matched, unsigned char byte) {
        *matched = byte == (unsigned char) begin_line[*matched] ? *matched + 1 : byte == '\r' ? 1 : 0;
        return *matched == sizeof(begin_line) - 1;
}

/* Tracks message borders in the bytes; false: the connection is refused. */
static bool follow(struct inlet *inlet, const unsigned char *data, size_t size) {
        while (size > 0) {
                if (!inlet->authenticated) {
                        inlet->authenticated = match_begin(&inlet->auth_matched, *data);
                        if (++inlet->auth_size > AUTH_MAX)
                                return refuse(inlet, "the authentication is too long"), false;
                        data++, size--;
                } else if (inlet->header_size < HEADER_SIZE) {
                        inlet->header[inlet->header_size++] = *data++;
                        size--;
                        if (inlet->header_size < HEADER_SIZE)
                                continue;
                        uint64_t whole = message_size(inlet->header);
                        if (whole > BERTD_MESSAGE_MAX)
                                return refuse(inlet, "a message is too large"), false;
                        if (fields_size(inlet->header) > FIELDS_MAX)
                                return refuse(inlet, "a message's header is too large"), false;
                        inlet->whole = whole;
                        inlet->rest = whole - HEADER_SIZE;
                } else {
                        size_t n = MIN(size, inlet->rest);
                        inlet->rest -= n;
                        data += n;
                        size -= n;
                }
                if (inlet->header_size == HEADER_SIZE && inlet->rest == 0) {
                        inlet->header_size = 0;
                        release(inlet);
                }
        }
        return true;
}

/* ---- turns ---- */

static struct inlet_usage *usage_of(struct inlets *inlets, uid_t uid) {
        struct inlet_usage *usage = &inlets->usage[uid % ELEMENTSOF(inlets->usage)];
        uint64_t second = loop_boottime() / USEC_PER_SEC;

        /* Halved, not reset: else all connections of a busy user would be read at once at each new second. */
        if (usage->second != second) {
                usage->usec = second - usage->second < 32 ? usage->usec >> (second - usage->second) : 0;
                usage->second = second;
        }
        return usage;
}

void inlets_charge(struct inlets *inlets, uid_t uid, uint64_t usec) {
        struct inlet_usage *usage = usage_of(inlets, uid);

        usage->usec += usec;
        if (usage->usec > INLET_BUSY_USEC)
                inlets->busy_until = loop_boottime() + 2 * usec;
}

static bool others_wait(const struct inlets *inlets) { return timer_is_armed(&inlets->turn); }

/* Only one of all busy users' connections is read at a time, then none of them for twice the duration of its call. A
 * user with one connection waits for each answer anyway, and delays others by at most one call. */
static bool must_stand_back(struct inlet *inlet, bool called) {
        uint64_t now = loop_boottime();
        struct inlet_usage *usage = usage_of(inlet->inlets, inlet->uid);

        if (usage->talker != inlet) {
                usage->talker = inlet;
                usage->alone_since = now;
        }
        /* Root never waits: it must be able to inspect a busy host. */
        if (inlet->uid == 0 || usage->usec <= INLET_BUSY_USEC || now - usage->alone_since >= INLET_ALONE_USEC)
                return false;
        if (!called && (now < inlet->inlets->busy_until || others_wait(inlet->inlets)))
                return true;
        usage->turn_usec = now;
        inlet->inlets->busy_until = now + FORWARDED_USEC; /* until its call is charged */
        return false;
}

/* The next turn is for the user who has waited longest, with its longest waiting connection; the others follow when its
 * call was charged. */
static bool comes_before(const struct inlet *a, const struct inlet *b) {
        uint64_t x = usage_of(a->inlets, a->uid)->turn_usec, y = usage_of(b->inlets, b->uid)->turn_usec;

        return x != y ? x < y : a->waits_since < b->waits_since;
}

static void on_turn(void *userdata) {
        struct inlets *inlets = userdata;
        uint64_t now = loop_boottime();
        struct inlet *next = NULL;
        unsigned waiting = 0;

        for (struct inlet *i = inlets->first; i; i = i->next)
                if (i->waiting == FOR_TURN) {
                        waiting++;
                        if (!next || comes_before(i, next))
                                next = i;
                }
        if (next && !inlets->next && now >= inlets->busy_until) {
                wait_for(next, FOR_CLIENT);
                inlets->next = next;
                waiting--;
        }
        if (waiting > 0)
                loop_at(inlets->loop, &inlets->turn, MAX(inlets->busy_until, now + FORWARDED_USEC), on_turn, inlets);
}

static void stand_back(struct inlet *inlet) {
        inlet->waits_since = loop_boottime();
        wait_for(inlet, FOR_TURN);
        if (!others_wait(inlet->inlets))
                loop_at(inlet->inlets->loop, &inlet->inlets->turn, inlet->inlets->busy_until, on_turn, inlet->inlets);
}

/* ---- reading ---- */

static void arm_patience(struct inlet *inlet, uint64_t usec) {
        if (!timer_is_armed(&inlet->timer))
                loop_after(inlet->inlets->loop, &inlet->timer, usec, on_impatient, inlet);
}

static void watch_patience(struct inlet *inlet) {
        if (inlet->authenticated && inlet->header_size == 0)
                timer_disarm(&inlet->timer);
        else
                arm_patience(inlet, INLET_PATIENCE_USEC);
}

/* Size of the current or next message; 0: not known yet. */
static uint64_t size_to_come(const struct inlet *inlet, int fd) {
        unsigned char header[HEADER_SIZE];

        if (inlet->header_size == HEADER_SIZE)
                return inlet->whole;
        if (!inlet->authenticated || inlet->header_size > 0 ||
            recv(fd, header, sizeof(header), MSG_PEEK) < (ssize_t) sizeof(header))
                return 0;
        return message_size(header);
}

/* Only to the end of the authentication: sd-bus would leave a call that comes with it until the next byte. */
static size_t authentication_to_read(const struct inlet *inlet, int fd) {
        unsigned char ahead[READ_AHEAD];
        unsigned matched = inlet->auth_matched;

        ssize_t n = recv(fd, ahead, sizeof(ahead), MSG_PEEK);
        for (ssize_t i = 0; i < n; i++)
                if (match_begin(&matched, ahead[i]))
                        return (size_t) i + 1;
        return sizeof(ahead);
}

/* At most to the end of one message, so that pipelined calls are passed one by one. */
static size_t to_read(const struct inlet *inlet, int fd, uint64_t size) {
        if (!inlet->authenticated)
                return authentication_to_read(inlet, fd);
        if (inlet->header_size == HEADER_SIZE)
                return MIN(inlet->rest, (uint64_t) READ_MAX);
        return size > 0 ? MIN(size, (uint64_t) READ_MAX) : HEADER_SIZE - inlet->header_size;
}

/* Not before the client has read its reply, so that there is at most one unread reply per connection. */
static bool must_wait(struct inlet *inlet, int fd, uint32_t revents, uint64_t *ret_size) {
        bool called = inlet->inlets->next == inlet;

        /* Gives up an unusable turn. */
        if (called)
                inlet->inlets->next = NULL;
        if (!(revents & (EPOLLHUP | EPOLLERR)) && inlet->owner->has_unread(inlet->userdata)) {
                if (inlet->waiting != FOR_READER)
                        arm_patience(inlet, INLET_READER_USEC);
                wait_for(inlet, FOR_READER);
                return true;
        }
        if (inlet->waiting != FOR_CLIENT) {
                wait_for(inlet, FOR_CLIENT);
                watch_patience(inlet);
        }
        if (must_stand_back(inlet, called)) {
                stand_back(inlet);
                return true;
        }
        *ret_size = size_to_come(inlet, fd);
        if (!reserve(inlet, *ret_size)) {
                wait_for(inlet, FOR_ROOM);
                return true;
        }
        return false;
}

static void end(struct inlet *inlet) {
        source_enable(inlet->client, false);
        (void) shutdown(inlet->bus_fd, SHUT_WR);
}

static void on_client(void *userdata, int fd, uint32_t events) {
        static unsigned char buffer[READ_MAX];
        struct inlet *inlet = userdata;
        uint64_t size = 0;
        int queued = 0;

        /* Drops waiting input of a client that has disconnected. */
        if (inlet->waiting == FOR_ROOM || inlet->waiting == FOR_TURN) {
                end(inlet);
                return;
        }
        /* sd-bus first processes the last bytes; the loop runs both. */
        if (ioctl(inlet->bus_fd, SIOCOUTQ, &queued) < 0 || queued > 0 || must_wait(inlet, fd, events, &size))
                return;
        ssize_t n = client_socket_read(fd, buffer, to_read(inlet, fd, size));
        if (n == -EAGAIN || n == -EINTR)
                return;
        if (n == -EPROTO) {
                refuse(inlet, "it sends descriptors");
                return;
        }
        if (n <= 0) {
                end(inlet);
                return;
        }
        if (!follow(inlet, buffer, (size_t) n))
                return;
        if (write_all(inlet->bus_fd, buffer, (size_t) n) < 0) {
                refuse(inlet, "sd-bus does not take what it sends");
                return;
        }
        if (inlet->authenticated && inlet->header_size == 0)
                usage_of(inlet->inlets, inlet->uid)->usec += MESSAGE_USEC;
        watch_patience(inlet);
}

void inlets_init(struct inlets *inlets, struct loop *loop) { inlets->loop = loop; }

void inlets_free(struct inlets *inlets) { timer_disarm(&inlets->turn); }

int inlet_new(struct inlets *inlets, int client_fd, uid_t uid, const struct inlet_owner *owner, void *userdata,
              int *ret_fd, struct inlet **ret) {
        cleanup_close int client = client_fd;
        int fds[2];
        struct inlet *inlet = calloc(1, sizeof(*inlet));

        if (!inlet)
                return -ENOMEM;
        *inlet = (struct inlet) { .inlets = inlets, .uid = uid, .bus_fd = -1, .owner = owner, .userdata = userdata };
        inlet->next = inlets->first;
        inlets->first = inlet;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
                int r = -errno;
                inlet_free(inlet);
                return r;
        }
        cleanup_close int bus_end = fds[1];
        inlet->bus_fd = fds[0];
        int r = loop_watch(inlets->loop, steal_fd(&client), EPOLLIN, on_client, inlet, &inlet->client);
        if (r < 0) {
                inlet_free(inlet);
                return r;
        }
        arm_patience(inlet, INLET_PATIENCE_USEC);
        *ret_fd = steal_fd(&bus_end);
        *ret = inlet;
        return 0;
}

int inlet_client(const struct inlet *inlet) {
        return inlet && inlet->client ? fcntl(source_fd(inlet->client), F_DUPFD_CLOEXEC, 3) : -1;
}

void inlet_free(struct inlet *inlet) {
        if (!inlet)
                return;
        for (struct inlet **at = &inlet->inlets->first; *at; at = &(*at)->next)
                if (*at == inlet) {
                        *at = inlet->next;
                        break;
                }
        release(inlet);
        struct inlet_usage *usage = usage_of(inlet->inlets, inlet->uid);
        if (usage->talker == inlet)
                usage->talker = NULL;
        if (inlet->inlets->next == inlet)
                inlet->inlets->next = NULL;
        (void) source_free(inlet->client);
        timer_disarm(&inlet->timer);
        if (inlet->bus_fd >= 0)
                (void) close(inlet->bus_fd);
        free(inlet);
}

size_t inlet_message_size(const struct inlet *inlet) { return inlet ? (size_t) inlet->whole : 0; }
