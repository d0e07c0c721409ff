/* See lease_pairs.h. Owns its sockets within a call. Invariant: each wait has a limit. */
#include "ctl/lease_pairs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/json_read.h"
#include "common/leash.h"

#define ASK_USEC (15 * USEC_PER_SEC)  /* until the head has heard of all hosts */
#define WAIT_USEC (15 * USEC_PER_SEC) /* until the others have tried */
#define TRY_USEC (3 * USEC_PER_SEC)

/* With `address` NULL: any. */
static struct sockaddr_in socket_address(const char *address, uint16_t port) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

        if (address && inet_pton(AF_INET, address, &a.sin_addr) != 1)
                a.sin_family = AF_UNSPEC;
        return a;
}

int lease_pairs_listen(json_t *host) {
        const char *address = json_text_at(json_object_get(host, "network"), "address");
        struct sockaddr_in a = socket_address(address, 0);
        socklen_t size = sizeof(a);
        cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0 || listen(fd, BERTD_HOSTS_MAX) < 0 ||
            getsockname(fd, (struct sockaddr *) &a, &size) < 0)
                return -errno;
        if (json_object_set_new(host, "listen", json_integer(ntohs(a.sin_port))) < 0)
                return -ENOMEM;
        return steal_fd(&fd);
}

/* ---- one line ---- */

static json_t *read_line(uint64_t limit_usec) {
        uint64_t deadline = clock_boottime_usec() + limit_usec, now;
        struct leash_reader reader = {};
        json_t *line = NULL;
        int r = 0;

        while (r == 0 && (now = clock_boottime_usec()) < deadline) {
                struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
                if (poll(&p, 1, (int) ((deadline - now) / 1000) + 1) <= 0)
                        continue;
                if (leash_reader_fill(&reader, STDIN_FILENO) == 0)
                        break;
                r = leash_reader_next(&reader, &line);
        }
        leash_reader_free(&reader);
        return r > 0 ? line : NULL;
}

/* ---- connecting ---- */

struct attempt {
        int fd;
        int code; /* errno, 0: it is connected, EINPROGRESS */
};

static void begin(const json_t *to, struct attempt *ret) {
        json_int_t port = json_integer_value(json_object_get(to, "port"));
        const char *address = json_text_at(to, "address");
        struct sockaddr_in a = socket_address(address, (uint16_t) port);

        *ret = (struct attempt) { .fd = -1, .code = EINVAL };
        if (!address || a.sin_family != AF_INET || port < 1 || port > 65535)
                return;
        ret->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        ret->code = ret->fd < 0 || connect(ret->fd, (struct sockaddr *) &a, sizeof(a)) < 0 ? errno : 0;
}

static int code_of(int fd) {
        int code = 0;
        socklen_t size = sizeof(code);

        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0 ? errno : code;
}

static void finish(struct attempt *attempts, size_t n) {
        uint64_t deadline = clock_boottime_usec() + TRY_USEC, now;
        struct pollfd p[BERTD_HOSTS_MAX];
        size_t left = n;

        while (left > 0 && (now = clock_boottime_usec()) < deadline) {
                left = 0;
                for (size_t i = 0; i < n; i++) {
                        bool open = attempts[i].code == EINPROGRESS;
                        p[i] = (struct pollfd) { .fd = open ? attempts[i].fd : -1, .events = POLLOUT };
                        left += open;
                }
                if (left == 0 || poll(p, n, (int) ((deadline - now) / 1000) + 1) <= 0)
                        continue;
                for (size_t i = 0; i < n; i++)
                        if (p[i].revents)
                                attempts[i].code = code_of(attempts[i].fd);
        }
}

json_t *lease_pairs_connect(void) {
        json_t *line = read_line(ASK_USEC), *to = json_object_get(line, "to"), *failed = json_array();
        const char *type = json_text_at(line, "type");
        struct attempt attempts[BERTD_HOSTS_MAX];
        size_t n = MIN(json_array_size(to), (size_t) BERTD_HOSTS_MAX);

        if (!type || strcmp(type, "connect") != 0 || !failed) {
                json_decref(line);
                json_decref(failed);
                return NULL;
        }
        for (size_t i = 0; i < n; i++)
                begin(json_array_get(to, i), &attempts[i]);
        finish(attempts, n);
        for (size_t i = 0; i < n; i++) {
                const json_t *one = json_array_get(to, i);
                const char *host = json_text_at(one, "host"), *address = json_text_at(one, "address");
                int code = attempts[i].code == EINPROGRESS ? ETIMEDOUT : attempts[i].code;
                if (code != 0)
                        (void) json_array_append_new(failed,
                                                     json_pack("{s:s,s:s,s:s}", "host", host ? host : "", "address",
                                                               address ? address : "", "reason", strerror(code)));
                if (attempts[i].fd >= 0)
                        (void) close(attempts[i].fd);
        }
        json_decref(line);
        return json_pack("{s:s,s:o}", "type", "connected", "failed", failed);
}

void lease_pairs_wait(void) {
        uint64_t deadline = clock_boottime_usec() + WAIT_USEC, now;
        char buffer[256];

        while ((now = clock_boottime_usec()) < deadline) {
                struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
                if (poll(&p, 1, (int) ((deadline - now) / 1000) + 1) > 0 &&
                    read(STDIN_FILENO, buffer, sizeof(buffer)) <= 0)
                        break;
        }
}
