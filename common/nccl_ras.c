/* See nccl_ras.h. Owns nothing. */
#include "common/nccl_ras.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

/* One line of the answer, which is not kept. Any process of this host may listen there, and answer as it likes. */
static int expect_line(int fd, const char *request, uint64_t deadline) {
        char c = '\0';

        if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t) strlen(request))
                return -errno;
        for (int i = 0; i < 256 && c != '\n'; i++)
                if (clock_monotonic_usec() >= deadline || recv(fd, &c, 1, 0) != 1)
                        return -EPROTO;
        return c == '\n' ? 0 : -EPROTO;
}

ssize_t nccl_ras_status(char *buffer, size_t size, uint16_t port, uint64_t limit_usec) {
        const struct sockaddr_in address = { .sin_family = AF_INET,
                                             .sin_port = htons(port),
                                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        const struct timeval limit = { .tv_sec = (time_t) (limit_usec / USEC_PER_SEC),
                                       .tv_usec = (suseconds_t) (limit_usec % USEC_PER_SEC) };
        uint64_t deadline = clock_monotonic_usec() + limit_usec;
        cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        size_t n = 0;

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
            connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        int r = expect_line(fd, "CLIENT PROTOCOL 2\n", deadline);
        if (r >= 0)
                r = expect_line(fd, "SET FORMAT json\n", deadline);
        if (r < 0)
                return r;
        if (send(fd, "STATUS\n", 7, MSG_NOSIGNAL) != 7)
                return -errno;
        for (ssize_t got;
             n < size && clock_monotonic_usec() < deadline && (got = recv(fd, buffer + n, size - n, 0)) > 0;)
                n += (size_t) got;
        return (ssize_t) n;
}
