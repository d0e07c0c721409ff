/* See probe.h. Owns nothing between calls. */
#include "daemon/base/probe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"

static __attribute__((noreturn)) void child(probe_ask_t ask, const void *question, size_t size, int fd) {
        cleanup_free void *answer = calloc(1, size);
        sigset_t none;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        close_others(fd);
        if (!answer)
                _exit(1);
        ask(question, answer);
        _exit(write_all(fd, answer, size) < 0);
}

int probe_start(probe_ask_t ask, const void *question, size_t size, pid_t *ret_pid, int *ret_fd) {
        int fds[2];

        assert(size <= PROBE_ANSWER_MAX);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        cleanup_close int reader = fds[0], writer = fds[1];
        if (fcntl(reader, F_SETFL, O_NONBLOCK) < 0 || fcntl(writer, F_SETPIPE_SZ, (int) PROBE_ANSWER_MAX) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                child(ask, question, size, writer);
        *ret_pid = pid;
        *ret_fd = steal_fd(&reader);
        return 0;
}

int probe_read(int fd, void *answer, size_t size) {
        size_t done = 0;

        while (done < size) {
                ssize_t n = read(fd, (char *) answer + done, size - done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        /* The child is in the middle of its only write: the rest arrives at once. */
                        struct pollfd p = { .fd = fd, .events = POLLIN };
                        if (poll(&p, 1, 100) > 0)
                                continue;
                }
                if (n <= 0)
                        return n < 0 ? -errno : -EPIPE;
                done += (size_t) n;
        }
        return 0;
}

int probe(probe_ask_t ask, const void *question, uint64_t usec, void *answer, size_t size) {
        cleanup_close int fd = -1;
        pid_t pid;

        int r = probe_start(ask, question, size, &pid, &fd);
        if (r < 0)
                return r;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        uint64_t end = clock_boottime_usec() + usec, now;
        int n = 0;
        while ((now = clock_boottime_usec()) < end && (n = poll(&p, 1, (int) ((end - now) / 1000 + 1))) < 0 &&
               errno == EINTR)
                ;
        r = n > 0 ? probe_read(fd, answer, size) : -ETIMEDOUT;
        (void) kill(pid, SIGKILL);
        /* A child stuck in the kernel cannot be waited for; init reaps it later. */
        for (int i = 0; waitpid(pid, NULL, WNOHANG) == 0 && i < 50; i++)
                (void) poll(NULL, 0, 10);
        return r;
}
