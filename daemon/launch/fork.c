/*
 * Role: starts a shim by double fork and setsid, without systemd. The child reports a failed exec through a
 * close-on-exec pipe; end of file means success. Between init and the shim stays the keeper, a process of bertd's user:
 * as a subreaper it adopts the orphans of a killed shim, so that its descendants are the attempt's processes, whatever
 * their environment or session. The shim's pid comes through a second pipe, so that a death before its hello is noticed
 * at once. Owns: the first pipe's event source, in the launch. Invariant: only async-signal-safe work and the user
 * database between fork and exec (bertd has one thread).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/inherited.h"
#include "daemon/launch/become.h"
#include "daemon/launch/keeper.h"
#include "daemon/launch/launcher.h"
#include "daemon/base/log.h"

static __attribute__((noreturn)) void child_fail(int report, const char *what, int code) {
        char text[256];
        int n = snprintf(text, sizeof(text), "%s: %s", what, strerror(code));

        (void) write_all(report, text, n < 0 ? 0 : (size_t) n);
        _exit(127);
}

static __attribute__((noreturn)) void child(const struct launch_request *request, int report) {
        const char *what;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        inherited_drop_signals();
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
            dup2(request->log >= 0 ? request->log : null, STDERR_FILENO) < 0)
                child_fail(report, "/dev/null", errno);
        close_others(report);
        int r = launcher_become(request->job, request->inputs, &what);
        if (r < 0)
                child_fail(report, what, -r);
        /* The shim changes to the job's folder itself and reports a failure. */
        if (chdir("/") < 0)
                child_fail(report, "/", errno);
        (void) execve(request->shim, request->argv->words, request->environment->words);
        child_fail(report, request->shim, errno);
}

struct launch {
        const struct launch_events *events;
        void *userdata;
        struct source *report; /* owns its fd */
};

static void forget(struct launch *launch) {
        if (!launch)
                return;
        (void) source_free(launch->report);
        free(launch);
}

static void on_report(void *userdata, int fd, uint32_t events) {
        struct launch *launch = userdata;
        char text[256];

        ssize_t n = read(fd, text, sizeof(text) - 1);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        launch->report = source_free(launch->report);
        if (n > 0) {
                text[n] = '\0';
                launch->events->failed(launch->userdata, text);
        }
}

/* Takes the fd. Without it a failed exec is only noticed by the shim's death. */
static struct launch *watch_report(const struct launch_request *request, int reader) {
        cleanup_close int fd = reader;
        struct launch *launch = calloc(1, sizeof(*launch));

        if (launch)
                *launch = (struct launch) { .events = request->events, .userdata = request->userdata };
        int r = launch ? loop_watch(request->node->loop, steal_fd(&fd), EPOLLIN, on_report, launch, &launch->report)
                       : -ENOMEM;
        if (r >= 0)
                return launch;
        log_error("job %" PRIu64 ": cannot watch the launch of bertd-shim: %s", request->job->id, strerror(-r));
        forget(launch);
        return NULL;
}

/* Executes the shim's program, to be small; it only waits for its children and exits with the last. It has the shim's
 * arguments, for readers of ps. */
static __attribute__((noreturn)) void become_keeper(const struct launch_request *request, int report, int lock) {
        static const int ignored[] = { SIGHUP, SIGINT, SIGTERM };
        char *const environment[] = { NULL };
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        struct strv argv = {};

        strv_add(&argv, request->argv->words[0]);
        strv_add(&argv, "--keep");
        for (size_t i = 1; i < request->argv->n; i++)
                strv_add(&argv, request->argv->words[i]);
        inherited_drop_signals();
        for (size_t i = 0; i < ELEMENTSOF(ignored); i++)
                (void) signal(ignored[i], SIG_IGN);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
            dup2(null, STDERR_FILENO) < 0 || fcntl(lock, F_SETFD, 0) < 0 || chdir("/") < 0)
                child_fail(report, "keeper", errno);
        if (argv.failed)
                child_fail(report, "keeper", ENOMEM);
        (void) execve(request->shim, argv.words, environment);
        child_fail(report, request->shim, errno);
}

static __attribute__((noreturn)) void keep(const struct launch_request *request, int report, int writer) {
        int lock = keeper_hold(request->node->jobs_fd, request->job);

        if (lock < 0)
                child_fail(report, "keepers", -lock);
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                child_fail(report, "keeper", errno);
        pid_t shim = fork();
        if (shim < 0)
                child_fail(report, "fork", errno);
        if (shim == 0) {
                (void) close(writer);
                child(request, report);
        }
        (void) write_all(writer, &shim, sizeof(shim));
        become_keeper(request, report, lock);
}

/* Returns the shim's pid, 0 if it was not started: then the report has the reason. */
static int fork_twice(const struct launch_request *request, int report) {
        int fds[2];
        pid_t shim = 0;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        cleanup_close int reader = fds[0], writer = fds[1];
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                if (setsid() < 0)
                        child_fail(report, "setsid", errno);
                pid_t keeper = fork();
                if (keeper < 0)
                        child_fail(report, "fork", errno);
                if (keeper == 0)
                        keep(request, report, writer);
                _exit(0);
        }
        (void) close(steal_fd(&writer));
        /* They only fork, so this does not wait for the shim. */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return read(reader, &shim, sizeof(shim)) == sizeof(shim) ? shim : 0;
}

static int start(const struct launch_request *request, struct launch **ret, struct error *error) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_errno(error, errno, "pipe");
        cleanup_close int reader = fds[0], writer = fds[1];
        (void) fcntl(reader, F_SETFL, O_NONBLOCK);
        int shim = fork_twice(request, writer);
        if (shim < 0)
                return error_errno(error, -shim, "fork");
        request->events->launched(request->userdata, shim);
        *ret = watch_report(request, steal_fd(&reader));
        return 0;
}

const struct launcher launcher_fork = { .name = "fork", .needs_log = true, .start = start, .forget = forget };
