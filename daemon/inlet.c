/*
 * See inlet.h. Owns the client's descriptor and the writing end towards sd-bus. Descriptors that a client passes along are dropped by
 * read(). Invariants: nothing is read before what was read last has left for sd-bus, so no byte is ever kept here; `reserved` is the
 * size of the message under way, 0 between messages.
 */
#include "daemon/inlet.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"

#define READ_MAX (64u << 10)
#define READ_AHEAD 256
#define FORWARDED_USEC 1000
#define AUTH_MAX 4096 /* bytes before BEGIN */
#define HEADER_SIZE 16
#define SMALL_MAX READ_MAX /* messages up to here need no reservation: one read holds them */

static const char begin_line[] = "\r\nBEGIN\r\n";

struct inlet {
        struct inlets *inlets;
        struct inlet *next;
        uid_t uid;
        int bus_fd;
        sd_event_source *client; /* owns its fd */
        sd_event_source *timer;  /* armed while something is incomplete */
        bool authenticated, held, refused;
        unsigned auth_size, auth_matched; /* bytes so far; of begin_line */
        unsigned char header[HEADER_SIZE];
        unsigned header_size;
        uint64_t rest;     /* bytes of the message that are still to come */
        uint64_t reserved; /* see above */
        void (*on_refused)(void *userdata, const char *reason);
        void *userdata;
};

static void refuse(struct inlet *inlet, const char *reason) {
        (void) sd_event_source_set_enabled(inlet->client, SD_EVENT_OFF);
        if (!inlet->refused)
                inlet->on_refused(inlet->userdata, reason);
        inlet->refused = true;
}

static int on_impatient(sd_event_source *source, uint64_t usec, void *userdata) {
        struct inlet *inlet = userdata;

        /* One that waits for others' reservations is not at fault. */
        if (inlet->held)
                return sd_event_source_set_time_relative(source, INLET_PATIENCE_USEC) < 0
                               ? 0
                               : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        refuse(inlet, inlet->authenticated ? "a message is not completed" : "the authentication is not completed");
        return 0;
}

static bool may_reserve(const struct inlet *inlet, uint64_t size) {
        uint64_t all = size, of_uid = size;

        for (const struct inlet *i = inlet->inlets->first; i; i = i->next) {
                all += i->reserved;
                of_uid += i->uid == inlet->uid ? i->reserved : 0;
        }
        return all <= INLET_MAX && of_uid <= INLET_UID_MAX;
}

/* Length of the whole message by its fixed header: byte order, body length, header fields' length (D-Bus specification). */
static uint64_t message_size(const unsigned char *header) {
        uint32_t body, fields;

        memcpy(&body, header + 4, sizeof(body));
        memcpy(&fields, header + 12, sizeof(fields));
        bool big = header[0] == 'B';
        body = big ? be32toh(body) : le32toh(body);
        fields = big ? be32toh(fields) : le32toh(fields);
        return HEADER_SIZE + ((uint64_t) fields + 7) / 8 * 8 + body;
}

/* True where the byte ends the authentication. */
static bool match_begin(unsigned *matched, unsigned char byte) {
        *matched = byte == (unsigned char) begin_line[*matched] ? *matched + 1 : byte == '\r' ? 1 : 0;
        return *matched == sizeof(begin_line) - 1;
}

/* Follows the bytes; false: the connection is refused. */
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
                        inlet->rest = whole - HEADER_SIZE;
                        inlet->reserved = whole > SMALL_MAX ? whole : 0;
                } else {
                        size_t n = MIN(size, inlet->rest);
                        inlet->rest -= n;
                        data += n;
                        size -= n;
                }
                if (inlet->header_size == HEADER_SIZE && inlet->rest == 0) {
                        inlet->header_size = 0;
                        inlet->reserved = 0;
                }
        }
        return true;
}

static struct inlet_usage *usage_of(struct inlets *inlets, uid_t uid) {
        struct inlet_usage *usage = &inlets->usage[uid % ELEMENTSOF(inlets->usage)];
        uint64_t second = clock_boottime_usec() / USEC_PER_SEC;

        /* Halved, not forgotten: else all connections of a busy user would be read at once when a second begins. */
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
                inlets->busy_until = clock_boottime_usec() + 2 * usec;
}

/* Of all busy users' connections one at a time is read, and the loop is others' for twice as long as its call took. A user who speaks
 * over one connection waits for each answer anyway, and others wait for one call at most. */
static bool must_stand_back(struct inlet *inlet) {
        uint64_t now = clock_boottime_usec();
        struct inlet_usage *usage = usage_of(inlet->inlets, inlet->uid);

        if (usage->speaker != inlet) {
                usage->speaker = inlet;
                usage->alone_since = now;
        }
        if (usage->usec <= INLET_BUSY_USEC || now - usage->alone_since >= INLET_ALONE_USEC)
                return false;
        if (now < inlet->inlets->busy_until)
                return true;
        inlet->inlets->busy_until = now + FORWARDED_USEC; /* until its call is charged */
        return false;
}

static void watch_patience(struct inlet *inlet) {
        bool complete = inlet->authenticated && inlet->header_size == 0;
        int enabled = SD_EVENT_OFF;

        (void) sd_event_source_get_enabled(inlet->timer, &enabled);
        if (complete && enabled != SD_EVENT_OFF)
                (void) sd_event_source_set_enabled(inlet->timer, SD_EVENT_OFF);
        if (!complete && enabled == SD_EVENT_OFF) {
                (void) sd_event_source_set_time_relative(inlet->timer, INLET_PATIENCE_USEC);
                (void) sd_event_source_set_enabled(inlet->timer, SD_EVENT_ONESHOT);
        }
}

/* The message under way has a header that reserves more than there is: no further byte of it is read for now. */
static bool must_wait(struct inlet *inlet) {
        uint64_t own = inlet->reserved;

        inlet->reserved = 0;
        inlet->held = own > 0 && !may_reserve(inlet, own);
        inlet->reserved = inlet->held ? 0 : own;
        return inlet->held;
}

/* At most to the end of the authentication, as sd-bus would leave a call that comes together with it until the next byte comes; then
 * to the end of one message, so that a pipeline of calls does not pass as one. */
static size_t to_read(const struct inlet *inlet, int fd) {
        unsigned char ahead[READ_AHEAD];
        unsigned matched = inlet->auth_matched;

        if (inlet->header_size == HEADER_SIZE)
                return MIN(inlet->rest, (uint64_t) READ_MAX);
        if (inlet->header_size > 0)
                return HEADER_SIZE - inlet->header_size;
        ssize_t n = recv(fd, ahead, inlet->authenticated ? HEADER_SIZE : sizeof(ahead), MSG_PEEK);
        if (inlet->authenticated)
                return n < HEADER_SIZE ? HEADER_SIZE : MIN(message_size(ahead), (uint64_t) READ_MAX);
        for (ssize_t i = 0; i < n; i++)
                if (match_begin(&matched, ahead[i]))
                        return (size_t) i + 1;
        return sizeof(ahead);
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        static unsigned char buffer[READ_MAX];
        struct inlet *inlet = userdata;
        int queued = 0;

        if (inlet->held)
                inlet->reserved = inlet->rest + HEADER_SIZE;
        if (must_wait(inlet) || must_stand_back(inlet))
                return 0;
        /* First sd-bus takes what it was given; the loop gives both their turns. */
        if (ioctl(inlet->bus_fd, SIOCOUTQ, &queued) < 0 || queued > 0)
                return 0;
        ssize_t n = read(fd, buffer, to_read(inlet, fd));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
                (void) shutdown(inlet->bus_fd, SHUT_WR);
                return 0;
        }
        if (!follow(inlet, buffer, (size_t) n))
                return 0;
        if (write_all(inlet->bus_fd, buffer, (size_t) n) < 0) {
                refuse(inlet, "sd-bus does not take what it sends");
                return 0;
        }
        watch_patience(inlet);
        (void) must_wait(inlet);
        return 0;
}

static int open_sources(struct inlet *inlet, sd_event *loop, int *client_fd) {
        int r = sd_event_add_io(loop, &inlet->client, *client_fd, EPOLLIN, on_client, inlet);

        if (r < 0)
                return r;
        (void) sd_event_source_set_io_fd_own(inlet->client, 1);
        (void) steal_fd(client_fd);
        return sd_event_add_time_relative(loop, &inlet->timer, CLOCK_BOOTTIME, INLET_PATIENCE_USEC, 0, on_impatient,
                                          inlet);
}

int inlet_new(struct inlets *inlets, sd_event *loop, int client_fd, uid_t uid,
              void (*refused)(void *userdata, const char *reason), void *userdata, int *ret_fd, struct inlet **ret) {
        cleanup_close int client = client_fd;
        int fds[2];
        struct inlet *inlet = calloc(1, sizeof(*inlet));

        if (!inlet)
                return -ENOMEM;
        *inlet = (struct inlet) {
                .inlets = inlets, .uid = uid, .bus_fd = -1, .on_refused = refused, .userdata = userdata
        };
        inlet->next = inlets->first;
        inlets->first = inlet;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
                int r = -errno;
                inlet_free(inlet);
                return r;
        }
        cleanup_close int bus_end = fds[1];
        inlet->bus_fd = fds[0];
        int r = open_sources(inlet, loop, &client);
        if (r < 0) {
                inlet_free(inlet);
                return r;
        }
        *ret_fd = steal_fd(&bus_end);
        *ret = inlet;
        return 0;
}

void inlet_free(struct inlet *inlet) {
        if (!inlet)
                return;
        for (struct inlet **at = &inlet->inlets->first; *at; at = &(*at)->next)
                if (*at == inlet) {
                        *at = inlet->next;
                        break;
                }
        struct inlet_usage *usage = usage_of(inlet->inlets, inlet->uid);
        if (usage->speaker == inlet)
                usage->speaker = NULL;
        (void) sd_event_source_disable_unref(inlet->client);
        (void) sd_event_source_disable_unref(inlet->timer);
        if (inlet->bus_fd >= 0)
                (void) close(inlet->bus_fd);
        free(inlet);
}
