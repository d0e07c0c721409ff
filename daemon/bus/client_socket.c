/* See client_socket.h. Owns nothing. */
#include "daemon/bus/client_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A look ahead duplicates descriptors for its duration, so they stay where they are. */
ssize_t client_socket_read(int fd, void *buffer, size_t size) {
        struct iovec bytes = { .iov_base = buffer, .iov_len = size };
        struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };

        ssize_t n = recvmsg(fd, &message, MSG_PEEK);
        if (n > 0 && message.msg_flags & MSG_CTRUNC)
                return -EPROTO;
        n = n > 0 ? read(fd, buffer, (size_t) n) : n;
        return n < 0 ? -errno : n;
}

/* Has the connection as its only one, and ends when the parent has closed its own: nothing lingers for its end. */
static void outlive(int fd, int parent) {
        char end;

        if (dup2(parent, STDIN_FILENO) >= 0 && dup2(fd, STDOUT_FILENO) >= 0 && close_range(STDERR_FILENO, ~0U, 0) >= 0)
                (void) read(STDIN_FILENO, &end, 1);
        _exit(0);
}

static void close_in_another(int fd) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return; /* it stays open */
        pid_t pid = fork();
        if (pid == 0) {
                if (fork() == 0)
                        outlive(fd, ends[0]);
                _exit(0);
        }
        if (pid > 0) {
                (void) close(fd);
                (void) waitpid(pid, NULL, 0);
        }
        (void) close(ends[0]);
        (void) close(ends[1]);
}

void client_socket_close(int fd) {
        int unread = 0;

        if (fd < 0)
                return;
        (void) shutdown(fd, SHUT_RDWR);
        if (ioctl(fd, SIOCINQ, &unread) == 0 && unread == 0)
                (void) close(fd);
        else
                close_in_another(fd);
}
