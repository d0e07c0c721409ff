/*
 * See copy.h. The process writes why it failed into a pipe, or one NUL. It speaks to a receiver through two pipes:
 * `bertctl receive` on another host, or another process for a folder of this one. Both die with it.
 */
#include "daemon/shim/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/copies.h"
#include "common/file.h"
#include "common/ssh.h"

#define IO_CLASS_IDLE (3 << 13) /* of ioprio_set(2): when nobody else wants the disk */
#define IO_WHO_PROCESS 1
#define SSH_WORDS_MSEC 1000 /* for its last words */

/* ---- the receiver ---- */

struct receiver {
        int in, out, words; /* from it, to it, ssh's messages */
};

static __attribute__((noreturn)) void become_receiver(const struct copy_work *w, const char *host, int in, int out,
                                                      int words) {
        const char *argv[SSH_WORDS_MAX];
        sigset_t none;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) sigemptyset(&none);
        if (!host)
                _exit(copies_receive(in, out, NULL) < 0);
        (void) signal(SIGPIPE, SIG_DFL);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(words, STDERR_FILENO) < 0)
                _exit(1);
        close_others(-1);
        environ = w->environment;
        ssh_forget_login();
        ssh_words(host, "bertctl receive", argv);
        (void) execvp(argv[0], (char **) argv);
        (void) dprintf(STDERR_FILENO, "ssh: %s\n", strerror(errno));
        _exit(127);
}

static int start_receiver(const struct copy_work *w, const char *host, struct receiver *ret) {
        int down[2], up[2], said[2];

        if (pipe2(down, O_CLOEXEC) < 0 || pipe2(up, O_CLOEXEC) < 0 || pipe2(said, O_CLOEXEC) < 0)
                return -errno; /* the process ends: nothing is closed */
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                (void) close(down[1]);
                (void) close(up[0]);
                become_receiver(w, host, down[0], up[1], said[1]);
        }
        (void) close(down[0]);
        (void) close(up[1]);
        (void) close(said[1]);
        *ret = (struct receiver) { up[0], down[1], said[0] };
        return 0;
}

/* ssh's first words, if it did not come to an answer. */
static void take_words(const struct receiver *receiver, char *reason, size_t size) {
        struct pollfd p = { .fd = receiver->words, .events = POLLIN };
        char text[COPY_REASON_MAX];

        if (poll(&p, 1, SSH_WORDS_MSEC) <= 0)
                return;
        ssize_t n = read(receiver->words, text, sizeof(text) - 1);
        if (n <= 0)
                return;
        text[n] = '\0';
        text[strcspn(text, "\r\n")] = '\0';
        if (text[0])
                (void) snprintf(reason, size, "%s", text);
}

/* ---- the process ---- */

static int copy_files(const struct copy_work *w, const char *folder, const struct receiver *receiver,
                      struct error *error) {
        cleanup_free char *of = format_string("%s:%s", w->host, w->run_dir);
        cleanup_free char *rest = format_string("%s/bertd.json", w->run_dir);
        const char *paths[] = { w->path, rest };
        int r = of && rest ? 0 : error_errno(error, ENOMEM, "copy");

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(paths); i++) {
                struct copies_file file = { .path = paths[i], .folder = folder, .of = of, .keep = w->keep };
                r = copies_send(receiver->in, receiver->out, &file, error);
        }
        return r;
}

/* "HOST:DIR", else a folder. */
static char *host_of(const char *to, const char **ret_folder) {
        const char *colon = to[0] == '/' ? NULL : strchr(to, ':');

        *ret_folder = colon ? colon + 1 : to;
        return colon ? strndup(to, (size_t) (colon - to)) : NULL;
}

static void work_on(const struct copy_work *w, char *reason, size_t size) {
        struct receiver receiver = { -1, -1, -1 };
        struct error error = {};
        const char *to;
        cleanup_free char *host = host_of(w->to, &to);
        cleanup_free char *folder = path_absolute("/", to);

        int r = folder ? start_receiver(w, host, &receiver) : -ENOMEM;
        if (r < 0) {
                (void) snprintf(reason, size, "%s", strerror(-r));
                return;
        }
        if (copy_files(w, folder, &receiver, &error) >= 0)
                return;
        (void) snprintf(reason, size, "%.200s", error.text);
        if (host && error.code == EPIPE)
                take_words(&receiver, reason, size);
}

static void clean(char *text) {
        for (; *text; text++)
                if ((unsigned char) *text < ' ' || *text == 0x7f)
                        *text = '?';
}

static __attribute__((noreturn)) void copier(int fd, const struct copy_work *w) {
        char reason[COPY_REASON_MAX] = "";

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) signal(SIGPIPE, SIG_IGN);
        if (dup2(fd, STDIN_FILENO) < 0 || close_range(STDIN_FILENO + 1, ~0u, 0) < 0)
                _exit(1);
        int null = open("/dev/null", O_RDWR); /* 1, and 2 below: pipes stay above */
        if (null < 0 || dup(null) < 0)
                _exit(1);
        (void) umask(w->umask);
        (void) setpriority(PRIO_PROCESS, 0, 10);
        (void) syscall(SYS_ioprio_set, IO_WHO_PROCESS, 0, IO_CLASS_IDLE);
        work_on(w, reason, sizeof(reason));
        clean(reason);
        _exit(write_all(STDIN_FILENO, reason, strlen(reason) + 1) < 0);
}

/* ---- the shim's side ---- */

int copy_start(struct copy *copy, const struct copy_work *work) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        cleanup_close int reader = fds[0], writer = fds[1];
        if (fcntl(reader, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                copier(writer, work);
        copy->bytes = 0;
        copy->pidfd = pidfd_open(pid, 0);
        copy->fd = steal_fd(&reader);
        return 0;
}

int copy_read(struct copy *copy) {
        while (copy->bytes < sizeof(copy->reason)) {
                ssize_t n = read(copy->fd, copy->reason + copy->bytes, sizeof(copy->reason) - copy->bytes);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n <= 0)
                        break;
                copy->bytes += (size_t) n;
                if (copy->reason[copy->bytes - 1] == '\0')
                        break; /* ssh may have the pipe open yet */
        }
        if (copy->bytes == 0 || copy->reason[copy->bytes - 1] != '\0')
                (void) snprintf(copy->reason, sizeof(copy->reason), "the copying process was killed");
        return copy->reason[0] ? -1 : 1;
}

void copy_close(struct copy *copy) {
        if (copy->pidfd >= 0)
                (void) pidfd_send_signal(copy->pidfd, SIGKILL, NULL, 0);
        cleanup_close_p(&copy->pidfd);
        cleanup_close_p(&copy->fd);
        copy->fd = copy->pidfd = -1;
}
