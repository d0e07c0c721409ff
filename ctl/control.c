/*
 * What changes a job or stops the daemon: cancel, pause, resume, checkpoint, rm, shutdown. Most take several jobs: each
 * is tried, each failure is printed on a separate line, the first failure's exit code is returned. A job's new state is
 * printed for a person only: if stdout is not a terminal, success is silent.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/proc_files.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/unit.h"

#define SHUTDOWN_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define SHUTDOWN_JOBS_TIMEOUT_USEC                                                         \
        (3600 * USEC_PER_SEC) /* each job may take four times its grace time to checkpoint \
                               */

/* What is asked of one job. */
struct request {
        const char *method;
        bool has_now, now; /* Cancel's second argument */
        bool removed;      /* there is no job to show afterwards */
};

static int send_request(struct client *client, uint64_t id, const struct request *request, struct error *error) {
        return request->has_now ? client_call(client, request->method, NULL, error, "tb", id, (int) request->now)
                                : client_call(client, request->method, NULL, error, "t", id);
}

/* One line: what became of the job. */
static void tell_state(struct ctl *ctl, struct client *client, uint64_t id) {
        cleanup_job_info struct job_info job = {};
        struct error ignored = {};

        if (!ctl->term.tty || client_get_job(client, id, &job, &ignored) < 0)
                return;
        (void) printf("job %" PRIu64 " is %s", id, text_of(job.state));
        if (text_of(job.reason)[0]) {
                (void) fputs(": ", stdout);
                (void) text_put(stdout, &ctl->term, job.reason, 0);
        }
        (void) putchar('\n');
}

static int request_one(struct ctl *ctl, struct client *client, const char *word, const struct request *request,
                       struct error *error) {
        uint64_t id;

        int r = client_find_job(client, word, &id, error);
        if (r == 0)
                r = send_request(client, id, request, error);
        if (r == 0 && !request->removed)
                tell_state(ctl, client, id);
        else if (r == 0 && ctl->term.tty)
                (void) printf("job %" PRIu64 " is removed\n", id);
        return r;
}

static int request_all(struct ctl *ctl, const struct arguments *arguments, const struct request *request) {
        cleanup_client struct client *client = NULL;
        int code = BERTCTL_EXIT_OK;

        int r = client_connect(ctl->socket, &client, &ctl->error);
        for (int i = 0; r == 0 && i < arguments->n; i++) {
                struct error error = {};
                if (request_one(ctl, client, arguments->words[i], request, &error) == 0)
                        continue;
                (void) fprintf(stderr, "bertctl: %s\n", error.text);
                if (code == BERTCTL_EXIT_OK)
                        code = error.exit;
                if (error.exit == BERTCTL_EXIT_NO_DAEMON)
                        break;
        }
        return r < 0 ? command_exit(ctl, r) : code;
}

static int plain_request(struct ctl *ctl, int argc, char **argv, const struct request *request) {
        struct arguments arguments;

        int r = command_begin(ctl, NULL, 0, argc, argv, 1, INT_MAX, &arguments);
        return r <= 0 ? command_exit(ctl, r) : request_all(ctl, &arguments, request);
}

int command_cancel(struct ctl *ctl, int argc, char **argv) {
        struct request request = { .method = "Cancel", .has_now = true };
        const struct option_spec options[] = {
                { .name = "now",
                  .kind = OPTION_FLAG,
                  .value = &request.now,
                  .help = "kill it at once: no checkpoint, no grace time" },
        };
        struct arguments arguments;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, INT_MAX, &arguments);
        return r <= 0 ? command_exit(ctl, r) : request_all(ctl, &arguments, &request);
}

int command_pause(struct ctl *ctl, int argc, char **argv) {
        return plain_request(ctl, argc, argv, &(struct request) { .method = "Pause" });
}

int command_checkpoint(struct ctl *ctl, int argc, char **argv) {
        return plain_request(ctl, argc, argv, &(struct request) { .method = "Checkpoint" });
}

int command_rm(struct ctl *ctl, int argc, char **argv) {
        return plain_request(ctl, argc, argv, &(struct request) { .method = "Remove", .removed = true });
}

/* 0 and, of a step, UINT64_MAX: not given. */
struct resume {
        uint64_t ranks, use, from;
};

static int send_resume(struct client *client, uint64_t id, const struct resume *resume, struct error *error) {
        cleanup_message sd_bus_message *message = NULL;

        int r = client_new_call(client, "Resume", &message, error);
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "t", id);
        if (r >= 0)
                r = sd_bus_message_open_container(message, 'a', "{sv}");
        if (r >= 0 && resume->ranks > 0)
                r = sd_bus_message_append(message, "{sv}", "ranks", "u", (uint32_t) resume->ranks);
        if (r >= 0 && resume->use > 0)
                r = sd_bus_message_append(message, "{sv}", "use", "u", (uint32_t) resume->use);
        if (r >= 0 && resume->from != UINT64_MAX)
                r = sd_bus_message_append(message, "{sv}", "from", "t", resume->from);
        if (r >= 0)
                r = sd_bus_message_close_container(message);
        return r < 0 ? client_bad_message(error, r, "Resume") : client_send(client, message, NULL, error);
}

/* The file may be gone since an attempt last saw it: better now than when the job starts. */
static int check_from(struct client *client, uint64_t id, uint64_t from, struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;

        /* Of the ledger, newest first, from that step on. */
        int r = client_call(client, "ListCheckpoints", &reply, error, "tt", id, from + 1);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "a{sv}");
        while (r >= 0) {
                struct checkpoint_info checkpoint;
                r = checkpoint_info_read(reply, &checkpoint);
                if (r > 0 && checkpoint.step == from)
                        checkpoint_info_look(&checkpoint);
                bool missing = r > 0 && strcmp(text_of(checkpoint.state), "missing") == 0;
                if (missing)
                        r = error_input(error, BERTCTL_EXIT_FAILED,
                                        "checkpoint of step %" PRIu64 ": %s is missing; choose another: bertctl "
                                        "checkpoints %" PRIu64,
                                        from, checkpoint.path, id);
                checkpoint_info_clear(&checkpoint);
                if (r == 0 || missing)
                        return r;
        }
        return client_bad_message(error, r, "ListCheckpoints");
}

int command_resume(struct ctl *ctl, int argc, char **argv) {
        struct resume resume = { .from = UINT64_MAX };
        uint64_t id;
        const struct option_spec options[] = {
                { .name = "ranks",
                  .kind = OPTION_U64,
                  .value = &resume.ranks,
                  .min = 1,
                  .max = BERTD_RANKS_MAX,
                  .argument = "N",
                  .help = "run with N ranks from now on" },
                { .name = "use",
                  .kind = OPTION_U64,
                  .value = &resume.use,
                  .min = 1,
                  .max = BERTD_HOSTS_MAX,
                  .argument = "N",
                  .help = "run on N of its hosts from now on" },
                { .name = "from",
                  .kind = OPTION_U64,
                  .value = &resume.from,
                  .min = 0,
                  .max = INT64_MAX,
                  .argument = "STEP",
                  .help = "resume from the checkpoint of STEP; `bertctl checkpoints` lists them" },
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_find_job(client, arguments.words[0], &id, &ctl->error);
        if (r == 0 && resume.from != UINT64_MAX)
                r = check_from(client, id, resume.from, &ctl->error);
        if (r == 0)
                r = send_resume(client, id, &resume, &ctl->error);
        if (r == 0)
                tell_state(ctl, client, id);
        return command_exit(ctl, r);
}

/* A pidfd of the bertd with this pid. −1: it cannot be watched, e.g. because the socket is forwarded from another host.
 */
static int open_daemon(uint64_t pid) {
        char name[PROC_NAME_SIZE] = "";

        cleanup_close int fd = pid > 0 && pid <= INT_MAX ? (int) syscall(SYS_pidfd_open, (pid_t) pid, 0) : -1;
        if (fd >= 0)
                proc_name((pid_t) pid, name);
        return strcmp(name, "bertd") == 0 ? steal_fd(&fd) : -1;
}

static int too_late(uint64_t pid, uint64_t timeout_usec, struct error *error) {
        return error_input(error, BERTCTL_EXIT_FAILED,
                           "bertd (pid %" PRIu64 ") has not exited within %" PRIu64
                           " s; see `bertctl list` for jobs that are still "
                           "stopping, and bertd's log",
                           pid, timeout_usec / USEC_PER_SEC);
}

/* It closes its connections as it ends. */
static bool wait_for_close(struct client *client, uint64_t deadline) {
        for (uint64_t now; (now = clock_monotonic_usec()) < deadline;) {
                int r = sd_bus_process(client_bus(client), NULL);
                if (r < 0 || !sd_bus_is_open(client_bus(client)))
                        return true;
                if (r == 0)
                        (void) sd_bus_wait(client_bus(client), deadline - now);
        }
        return false;
}

/* After that it gives up its locks: one that is started next must not meet them. */
static bool wait_for_exit(int pidfd, uint64_t deadline) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        for (uint64_t now; (now = clock_monotonic_usec()) < deadline;)
                if (poll(&p, 1, (int) ((deadline - now) / 1000 + 1)) > 0)
                        return true;
        return false;
}

static int shut_down(struct ctl *ctl, struct client *client, bool jobs) {
        const uint64_t timeout = jobs ? SHUTDOWN_JOBS_TIMEOUT_USEC : SHUTDOWN_TIMEOUT_USEC,
                       deadline = clock_monotonic_usec() + timeout;
        cleanup_daemon_info struct daemon_info daemon = {};

        int r = client_get_daemon(client, &daemon, &ctl->error);
        if (r < 0)
                return r;
        cleanup_close int pidfd = open_daemon(daemon.pid);
        r = client_call(client, "Shutdown", NULL, &ctl->error, "b", (int) jobs);
        if (r < 0)
                return r;
        if (jobs && ctl->term.tty)
                (void) fprintf(stderr,
                               "bertctl: waiting for jobs to save and stop, and for bertd (pid %" PRIu64 ") to exit\n",
                               daemon.pid);
        if (!wait_for_close(client, deadline) || (pidfd >= 0 && !wait_for_exit(pidfd, deadline)))
                return too_late(daemon.pid, timeout, &ctl->error);
        return 0;
}

int command_shutdown(struct ctl *ctl, int argc, char **argv) {
        bool jobs = false;
        const struct option_spec options[] = {
                { .name = "jobs",
                  .kind = OPTION_FLAG,
                  .value = &jobs,
                  .help = "stop the jobs first, with a checkpoint, and queue them again" },
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 0, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        /* Before anything else, or its next client would start bertd again. */
        r = geteuid() == 0 && client_is_for_system(ctl->socket) ? unit_stop_socket(&ctl->error) : 0;
        if (r == 0)
                r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = shut_down(ctl, client, jobs);
        if (r == 0 && ctl->term.tty)
                (void) printf("bertd has stopped%s\n", jobs ? "" : "; running jobs continue");
        return command_exit(ctl, r);
}
