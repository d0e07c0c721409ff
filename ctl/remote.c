/* See remote.h. Each ssh has its own session and is killed at the end whatever it does. */
#include "ctl/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/host_verdict.h"
#include "common/inherited.h"
#include "common/ssh.h"
#include "ctl/this_host.h"

#define INPUT_MAX ((size_t) 64 << 10) /* a pipe holds as much */
#define READ_BYTES ((size_t) 64 << 10)
#define SHELL_NOT_FOUND 127

/* By a shell, as there; this very bertctl. */
static __attribute__((noreturn)) void run_here(const char *command) {
        char self[4096];
        const char *path = getenv("PATH");

        executable_self(self, sizeof(self));
        char *slash = strrchr(self, '/');
        if (slash)
                *slash = '\0';
        cleanup_free char *all = format_string("%s:%s", self, path ? path : "/usr/bin:/bin");
        if (all)
                (void) setenv("PATH", all, 1);
        (void) execl("/bin/sh", "sh", "-c", command, (char *) NULL);
        _exit(SHELL_NOT_FOUND);
}

static __attribute__((noreturn)) void become_ssh(const char *host, const char *command, int in, int out, int err,
                                                 pid_t parent) {
        const char *argv[SSH_WORDS_MAX];

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(255);
        (void) setsid();
        inherited_drop_signals();
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
                _exit(255);
        if (this_host_is(host))
                run_here(command);
        ssh_forget_login();
        ssh_words(host, command, argv);
        (void) execvp(argv[0], (char *const *) argv);
        (void) dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
        _exit(255);
}

/* A pipe that has the input, closed at its other end. */
static int input_pipe(const char *input, size_t size) {
        int ends[2];

        if (!input)
                return open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (size > INPUT_MAX || pipe2(ends, O_CLOEXEC) < 0)
                return -1;
        (void) fcntl(ends[1], F_SETFL, O_NONBLOCK);
        (void) !write(ends[1], input, size);
        (void) close(ends[1]);
        return ends[0];
}

static void start(struct remote *h, const char *command, const char *input, size_t input_size) {
        int out[2] = { -1, -1 }, err[2] = { -1, -1 };
        pid_t parent = getpid();

        h->pid = -1;
        h->out = h->err = -1;
        h->status = 255 << 8;
        cleanup_close int in = input_pipe(input, input_size);
        if (in < 0 || pipe2(out, O_CLOEXEC) < 0)
                return;
        cleanup_close int out_read = out[0], out_write = out[1];
        if (pipe2(err, O_CLOEXEC) < 0)
                return;
        cleanup_close int err_read = err[0], err_write = err[1];
        h->pid = fork();
        if (h->pid == 0)
                become_ssh(h->host, command, in, out_write, err_write, parent);
        h->out = steal_fd(&out_read);
        h->err = steal_fd(&err_read);
        (void) fcntl(h->out, F_SETFL, O_NONBLOCK);
        (void) fcntl(h->err, F_SETFL, O_NONBLOCK);
}

static void close_stream(int *fd) {
        cleanup_close_p(fd);
        *fd = -1;
}

static void keep_output(struct remote *h, const char *data, size_t n) {
        if (h->size + n > REMOTE_BYTES_MAX || array_resize(&h->output, h->size + n + 1, 1) < 0) {
                h->full = true;
                return;
        }
        memcpy(h->output + h->size, data, n);
        h->size += n;
        h->output[h->size] = '\0';
}

/* The end: ssh's own words come last. */
static void keep_said(struct remote *h, const char *data, size_t n) {
        if (n >= REMOTE_SAID_MAX) {
                data += n - (REMOTE_SAID_MAX - 1);
                n = REMOTE_SAID_MAX - 1;
        }
        size_t drop = h->n_said + n >= REMOTE_SAID_MAX ? h->n_said + n - (REMOTE_SAID_MAX - 1) : 0;
        memmove(h->said, h->said + drop, h->n_said - drop);
        h->n_said -= drop;
        memcpy(h->said + h->n_said, data, n);
        h->n_said += n;
        h->said[h->n_said] = '\0';
}

static void read_stream(struct remote *h, int *fd, void (*keep)(struct remote *h, const char *data, size_t n)) {
        char buffer[READ_BYTES];

        ssize_t n = read(*fd, buffer, sizeof(buffer));
        if (n > 0)
                keep(h, buffer, (size_t) n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                close_stream(fd);
        if (h->full)
                close_stream(fd);
}

static void wait_for(struct remote *h) {
        if (h->pid <= 0)
                return;
        if (h->late || h->full)
                (void) kill(-h->pid, SIGKILL);
        while (waitpid(h->pid, &h->status, 0) < 0 && errno == EINTR)
                ;
}

/* False: nothing is left to read. */
static bool read_some(struct remote *hosts, size_t n, struct pollfd *polls, uint64_t deadline) {
        bool open = false;

        for (size_t i = 0; i < n; i++) {
                polls[2 * i] = (struct pollfd) { .fd = hosts[i].out, .events = POLLIN };
                polls[2 * i + 1] = (struct pollfd) { .fd = hosts[i].err, .events = POLLIN };
                open = open || hosts[i].out >= 0 || hosts[i].err >= 0;
        }
        uint64_t now = clock_boottime_usec();
        if (!open || now >= deadline || poll(polls, 2 * n, (int) ((deadline - now) / 1000) + 1) < 0)
                return open && now < deadline;
        for (size_t i = 0; i < n; i++) {
                if (polls[2 * i].revents)
                        read_stream(&hosts[i], &hosts[i].out, keep_output);
                if (polls[2 * i + 1].revents)
                        read_stream(&hosts[i], &hosts[i].err, keep_said);
        }
        return true;
}

void remote_run(struct remote *hosts, size_t n, const char *command, const char *input, size_t input_size,
                uint64_t limit_usec) {
        uint64_t deadline = clock_boottime_usec() + limit_usec;
        cleanup_free struct pollfd *polls = calloc(2 * n + 1, sizeof(*polls));

        for (size_t i = 0; i < n; i++)
                start(&hosts[i], command, input, input_size);
        while (polls && read_some(hosts, n, polls, deadline))
                ;
        for (size_t i = 0; i < n; i++) {
                hosts[i].late = hosts[i].out >= 0 || hosts[i].err >= 0;
                wait_for(&hosts[i]);
                close_stream(&hosts[i].out);
                close_stream(&hosts[i].err);
        }
}

/* What ssh could not do, with its cure. */
static const char *problem_of_ssh(const struct remote *h, char *buffer, size_t size) {
        const struct host_end end = { .said = h->said, .status = h->status };
        struct host_verdict verdict;

        host_judge_end(h->host, &end, &verdict);
        (void) snprintf(buffer, size, "%s", verdict.text + strlen(h->host) + strlen(": "));
        return buffer;
}

/* The last line of its standard error. */
const char *remote_problem(const struct remote *h, char *buffer, size_t size) {
        static const char own[] = "bertctl: "; /* as its caller prints already */
        size_t end = strlen(h->said);

        while (end > 0 && (h->said[end - 1] == '\n' || h->said[end - 1] == '\r'))
                end--;
        size_t begin = end;
        while (begin > 0 && h->said[begin - 1] != '\n')
                begin--;
        begin += strncmp(h->said + begin, own, strlen(own)) == 0 ? strlen(own) : 0;
        if (h->late)
                (void) snprintf(buffer, size, "no answer in time");
        else if (h->full)
                (void) snprintf(buffer, size, "its answer is longer than %zu MiB", REMOTE_BYTES_MAX >> 20);
        else if (WIFEXITED(h->status) && WEXITSTATUS(h->status) == 0 && h->size > 0)
                buffer[0] = '\0';
        else if (!WIFEXITED(h->status) || WEXITSTATUS(h->status) >= SHELL_NOT_FOUND || end == begin)
                return problem_of_ssh(h, buffer, size);
        else
                (void) snprintf(buffer, size, "%.*s", (int) (end - begin), h->said + begin);
        return buffer;
}

void remote_clear(struct remote *h) {
        free(h->output);
        h->output = NULL;
}
