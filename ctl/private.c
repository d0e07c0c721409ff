/*
 * See private.h. Owns the child process and, until bertd removes it, the folder. Invariant: the child is in its own
 * session, so that a terminal's ^C reaches this process alone.
 */
#include "ctl/private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/utf8.h"
#include "ctl/client.h"

#define FOLDER "bertd-run-XXXXXX" /* bertd removes no other (daemon/owner.h) */
#define READY_USEC (20 * USEC_PER_SEC)
#define END_USEC (90 * USEC_PER_SEC) /* on_exit programs may take up to 60 s */
#define PAUSE_NSEC 20000000
#define STARTS_MAX 10

static void nap(void) {
        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = PAUSE_NSEC }, NULL);
}

static bool try_folder(const char *parent, struct private *private) {
        const size_t room = sizeof(((struct sockaddr_un *) NULL)->sun_path);

        if (!parent || parent[0] != '/' || strlen(parent) + strlen("/" FOLDER "/s") >= room || !text_is_utf8(parent))
                return false;
        cleanup_free char *folder = format_string("%s/" FOLDER, parent);
        if (!folder || !mkdtemp(folder))
                return false;
        private->socket = format_string("%s/s", folder);
        private->folder = steal_pointer(&folder);
        return private->socket != NULL;
}

static int make_folder(struct private *private, struct error *error) {
        const char *const parents[] = { getenv("SLURM_TMPDIR"), getenv("TMPDIR"), "/tmp" };

        for (size_t i = 0; i < ELEMENTSOF(parents); i++)
                if (try_folder(parents[i], private))
                        return 0;
        return error_input(error, BERTCTL_EXIT_FAILED, "no folder can be made in SLURM_TMPDIR, TMPDIR or /tmp: %s",
                           strerror(errno));
}

static __attribute__((noreturn)) void execute(const struct private *private, int log) {
        static const char *const dropped[] = { "BERTD_SOCKET", "BERTD_STATE_DIR", "NOTIFY_SOCKET", "LISTEN_FDS" };
        const struct private_options *o = &private->options;
        char owner[32], *argv[16];
        int null = open("/dev/null", O_RDWR | O_CLOEXEC), n = 0;

        (void) snprintf(owner, sizeof(owner), "%d", (int) getppid());
        const char *const words[] = { "bertd",         "--owner",
                                      owner,           "--state-dir",
                                      private->folder, "--socket",
                                      private->socket, "--launcher",
                                      "fork",          o->slots ? "--slots" : NULL,
                                      o->slots,        o->gpus ? "--gpus" : NULL,
                                      o->gpus };
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (words[i])
                        argv[n++] = (char *) words[i];
        argv[n] = NULL;
        for (size_t i = 0; i < ELEMENTSOF(dropped); i++)
                (void) unsetenv(dropped[i]);
        (void) setsid();
        if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
                _exit(127);
        (void) execv(private->program, argv);
        (void) fprintf(stderr, "%s: %s\n", private->program, strerror(errno));
        _exit(127);
}

static int spawn(struct private *private, struct error *error) {
        cleanup_free char *path = format_string("%s/bertd.log", private->folder);
        cleanup_close int log = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

        if (log < 0)
                return error_errno(error, errno, "%s/bertd.log", private->folder);
        pid_t pid = fork();
        if (pid < 0)
                return error_errno(error, errno, "fork");
        if (pid == 0)
                execute(private, log);
        private->pid = pid;
        private->starts++;
        return 0;
}

/* Reaps it if it has ended. */
static bool has_ended(struct private *private) {
        if (private->pid > 0 && waitpid(private->pid, NULL, WNOHANG) == private->pid)
        private->pid = 0;
        return private->pid == 0;
}

/* The last line of its log. */
static int refused(const struct private *private, struct error *error) {
        cleanup_free char *path = format_string("%s/bertd.log", private->folder), *text = NULL;
        struct error ignored = {};
        size_t size = 0;

        if (path && file_read(path, 1 << 20, &text, &size, &ignored) == 0)
                while (size > 0 && text[size - 1] == '\n')
                        text[--size] = '\0';
        const char *line = text && strrchr(text, '\n') ? strrchr(text, '\n') + 1 : text;
        cleanup_free char *clean = line ? text_as_utf8(line) : NULL;
        return error_input(error, BERTCTL_EXIT_FAILED, "%s did not start: %s", private->program,
                           clean             ? clean
                           : line && line[0] ? line
                                             : "see its messages");
}

static int await(struct private *private, struct error *error) {
        const uint64_t deadline = clock_monotonic_usec() + READY_USEC;

        for (;;) {
                cleanup_client struct client *client = NULL;
                struct error own = {};
                if (client_connect(private->socket, &client, &own) == 0)
                        return 0;
                if (has_ended(private))
                        return refused(private, error);
                if (own.exit != BERTCTL_EXIT_NO_DAEMON || clock_monotonic_usec() >= deadline) {
                        *error = own;
                        return -EIO;
                }
                nap();
        }
}

int private_start(struct private *private, const struct private_options *options, struct error *error) {
        *private = (struct private) { .options = *options,
                                      .program = executable_beside("../daemon/bertd", BERTD_SBINDIR "/bertd") };

        int r = private->program ? make_folder(private, error) : error_errno(error, ENOMEM, "bertd");
        if (r == 0)
                r = spawn(private, error);
        return r < 0 ? r : await(private, error);
}

int private_look(struct private *private, struct error *error) {
        if (!has_ended(private))
                return 0;
        if (private->starts >= STARTS_MAX)
                return error_input(error, BERTCTL_EXIT_FAILED, "bertd has died %u times; not started again",
                                   private->starts);
        int r = spawn(private, error);
        return r < 0 ? r : await(private, error);
}

static void ask_to_end(const struct private *private) {
        cleanup_client struct client *client = NULL;
        struct error ignored = {};

        if (client_connect(private->socket, &client, &ignored) == 0)
                (void) client_call(client, "Shutdown", NULL, &ignored, "b", 1);
}

void private_end(struct private *private) {
        const uint64_t deadline = clock_monotonic_usec() + END_USEC;

        if (!has_ended(private))
                ask_to_end(private);
        while (!has_ended(private) && clock_monotonic_usec() < deadline)
                nap();
        if (private->pid > 0) {
                (void) kill(private->pid, SIGKILL);
                (void) waitpid(private->pid, NULL, 0);
        }
        /* It is empty if bertd never started. */
        cleanup_free char *log = private->folder ? format_string("%s/bertd.log", private->folder) : NULL;
        if (log && unlink(log) == 0)
                (void) rmdir(private->folder);
        free(private->program);
        free(private->folder);
        free(private->socket);
        *private = (struct private) {};
}
