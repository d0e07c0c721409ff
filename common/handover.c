/* See handover.h. The message is one byte with both descriptors; a peer of another user is closed and not answered. */
#include "common/handover.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/hex.h"

#define BACKLOG 8
#define DESCRIPTORS 2

bool handover_name_is_valid(const char *name) {
        return strlen(name) == HANDOVER_NAME_MAX && strspn(name, "0123456789abcdef") == HANDOVER_NAME_MAX;
}

static socklen_t make_address(const char *name, struct sockaddr_un *ret) {
        *ret = (struct sockaddr_un) { .sun_family = AF_UNIX };
        int n = snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "bertd-lease-%s", name);
        return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + (size_t) n);
}

static bool is_ours(int fd) {
        struct ucred peer;
        socklen_t size = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

int handover_listen(char ret_name[static HANDOVER_NAME_MAX + 1], struct error *error) {
        uint64_t random[2];
        struct sockaddr_un address;

        if (getrandom(random, sizeof(random), 0) != (ssize_t) sizeof(random))
                return error_errno(error, errno, "random bytes");
        hex_128(random[0], random[1], ret_name);
        socklen_t size = make_address(ret_name, &address);
        cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, size) < 0 || listen(fd, BACKLOG) < 0)
                return error_errno(error, errno, "handover socket");
        return steal_fd(&fd);
}

static int send_descriptors(int fd, const int fds[static DESCRIPTORS]) {
        char byte = 0;
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
        } control = {};
        struct iovec data = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };

        control.header = (struct cmsghdr) { .cmsg_len = CMSG_LEN(DESCRIPTORS * sizeof(int)),
                                            .cmsg_level = SOL_SOCKET,
                                            .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.header), fds, DESCRIPTORS * sizeof(int));
        return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

static int poll_until(struct pollfd *polls, nfds_t n, uint64_t deadline) {
        uint64_t now = clock_boottime_usec();

        if (now >= deadline) /* also if others connect without end */
                return -ETIMEDOUT;
        int r = poll(polls, n, (int) MIN((deadline - now) / 1000 + 1, 60000u));
        return r < 0 && errno != EINTR ? -errno : 0;
}

int handover_give(int listener, const int fds[static 2], int other, uint64_t deadline, struct error *error) {
        for (;;) {
                struct pollfd polls[] = { { .fd = listener, .events = POLLIN }, { .fd = other, .events = POLLIN } };
                int r = poll_until(polls, ELEMENTSOF(polls), deadline);
                if (r < 0)
                        return error_errno(error, -r, "handover: the lease does not take the connection");
                if (polls[1].revents)
                        return error_set(error, ECANCELED, "handover: cancelled");
                cleanup_close int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0 && is_ours(fd) && (r = send_descriptors(fd, fds)) == 0)
                        return steal_fd(&fd);
        }
}

/* All descriptors of a message; of more or fewer than two, none. */
static int receive_descriptors(int fd, int ret[static DESCRIPTORS]) {
        char byte;
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
        } control;
        struct iovec data = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
        if (n < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;

        const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (n != 1 || !header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
                return -EBADMSG;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(ret, CMSG_DATA(header), MIN(count, (size_t) DESCRIPTORS) * sizeof(int));
        if (count == DESCRIPTORS && !(message.msg_flags & MSG_CTRUNC))
                return 0;
        for (size_t i = 0; i < MIN(count, (size_t) DESCRIPTORS); i++)
                (void) close(ret[i]);
        return -EBADMSG;
}

int handover_take(const char *name, uint64_t limit_usec, int ret_fds[static 2], struct error *error) {
        struct timeval limit = { .tv_sec = (time_t) (limit_usec / 1000000),
                                 .tv_usec = (suseconds_t) (limit_usec % 1000000) };
        struct sockaddr_un address;
        socklen_t size = make_address(name, &address);
        cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
            connect(fd, (struct sockaddr *) &address, size) < 0)
                return error_errno(error, errno, "handover: bertctl lease does not listen");
        if (!is_ours(fd))
                return error_set(error, EPERM, "handover: bertctl lease is another user's process");
        int r = receive_descriptors(fd, ret_fds);
        if (r < 0)
                return error_errno(error, -r, "handover: bertctl lease sends no descriptors");
        return steal_fd(&fd);
}
