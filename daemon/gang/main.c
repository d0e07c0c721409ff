/*
 * See gang.h: the program, its end. `bertd-gang --dir DIR` runs the gang of the plan DIR/gang.json; the other modes are
 * small programs that mpirun calls.
 */
#include "daemon/gang/gang.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/spec/host_inputs.h"
#include "common/inherited.h"
#include "common/utf8.h"

#define TICK_USEC (USEC_PER_SEC / 4)
#define MPIRUN_LOST_DAEMON 205
#define SUSPECT_USEC (5 * USEC_PER_SEC) /* for mpirun to end after a daemon of Open MPI has failed */

struct gang_verdict gang_verdict(enum exit_class exit_class, const char *host, const char *format, ...) {
        struct gang_verdict v = { .set = true, .exit_class = exit_class };
        va_list ap;

        int n = host ? snprintf(v.reason, sizeof(v.reason), "%.200s: ", host) : 0;
        va_start(ap, format);
        (void) vsnprintf(v.reason + n, sizeof(v.reason) - (size_t) n, format, ap);
        va_end(ap);
        (void) snprintf(v.host, sizeof(v.host), "%.*s", (int) sizeof(v.host) - 1, host ? host : "");
        return v;
}

void gang_end(struct gang *gang, const struct gang_verdict *verdict) {
        if (gang->phase == GANG_ENDING)
                return;
        gang->phase = GANG_ENDING;
        gang->ending_usec = clock_boottime_usec();
        if (gang->mpirun > 0)
                (void) kill(gang->mpirun, SIGKILL);
        if (verdict) {
                gang->verdict = *verdict;
                shim_link_verdict(gang, verdict);
        }
        for (size_t i = 0; i < gang->n_hosts; i++)
                host_leave(&gang->hosts[i]);
        (void) sd_event_source_set_time_relative(gang->tick, 0);
}

/* ---- the loop ---- */

static bool is_left(const struct gang *gang) {
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_LEAVING)
                        return true;
        return false;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        struct gang *gang = userdata;
        uint64_t now = clock_boottime_usec();

        for (size_t i = 0; i < gang->n_hosts; i++)
                host_look(&gang->hosts[i], now);
        host_look(&gang->self, now);
        if (gang->phase == GANG_RUNNING && gang->first_failure.set) {
                gang->suspect_usec = gang->suspect_usec ? gang->suspect_usec : now;
                if (now - gang->suspect_usec > SUSPECT_USEC)
                        gang_end(gang, &gang->first_failure);
        }
        gang_settle(gang);
        bool over = gang->phase == GANG_ENDING && gang->mpirun == 0 && !is_left(gang);
        if (over)
                return sd_event_exit(gang->event, 0);
        (void) sd_event_source_set_time_relative(source, gang->phase == GANG_ENDING ? TICK_USEC / 5 : TICK_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* The host where a command of mpirun still runs; NULL: none. */
static const struct gang_host *still_runs(const struct gang *gang) {
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].runs > 0)
                        return &gang->hosts[i];
        return NULL;
}

/* mpirun of Open MPI 5 ends with 0 if it has lost a daemon, too: only with the daemons' own good ends it is finished.
 */
void gang_settle(struct gang *gang) {
        const struct gang_host *host = still_runs(gang);
        uint64_t now = clock_boottime_usec();

        if (gang->phase != GANG_RUNNING || gang->doubt_usec == 0 || (host && now - gang->doubt_usec < SUSPECT_USEC))
                return;
        struct gang_verdict v = gang->first_failure;
        if (!v.set && host)
                v = gang_verdict(EXIT_CLASS_HOST_LOST, host->name, "mpirun has ended, Open MPI's daemon there has not");
        v.weak = false;
        gang_end(gang, v.set ? &v : NULL);
}

static void on_mpirun_ended(struct gang *gang, int status) {
        bool failed = WIFEXITED(status) && WEXITSTATUS(status) != 0 && gang->phase == GANG_RUNNING;

        gang->mpirun = 0;
        gang->mpirun_status = status;
        if (status == 0 && gang->phase == GANG_RUNNING && gang->mpi_major >= 5) {
                gang->doubt_usec = clock_boottime_usec();
                gang_settle(gang);
                return;
        }
        /* "unable to start one or more daemons" and 205 do not name the cause. */
        if (failed && WEXITSTATUS(status) == MPIRUN_LOST_DAEMON && !gang->first_failure.set) {
                gang->first_failure = gang_verdict(EXIT_CLASS_HOST_LOST, NULL,
                                                   "Open MPI has lost the connection to one of its daemons");
                gang->first_failure.weak = true;
        }
        gang_end(gang, failed && gang->first_failure.set ? &gang->first_failure : NULL);
}

static int on_child(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct gang *gang = userdata;
        int status;

        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
                if (pid == gang->mpirun)
                        on_mpirun_ended(gang, status);
                if (pid == gang->self.ssh)
                        host_reaped(&gang->self, status);
                for (size_t i = 0; i < gang->n_hosts; i++)
                        if (pid == gang->hosts[i].ssh)
                                host_reaped(&gang->hosts[i], status);
        }
        return 0;
}

static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct gang *gang = userdata;
        struct gang_verdict v = gang_verdict(EXIT_CLASS_KILLED, NULL, "bertd-gang got SIGTERM");

        gang_end(gang, &v);
        return 0;
}

static int watch(struct gang *gang) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigaddset(&set, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        int r = sd_event_add_signal(gang->event, &gang->child_source, SIGCHLD, on_child, gang);
        if (r >= 0) /* the last words of an ssh are read before its end */
                r = sd_event_source_set_priority(gang->child_source, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_add_signal(gang->event, &gang->term_source, SIGTERM, on_terminate, gang);
        if (r >= 0)
                r = sd_event_add_time_relative(gang->event, &gang->tick, CLOCK_BOOTTIME, TICK_USEC, TICK_USEC / 10,
                                               on_tick, gang);
        return r;
}

/* ---- the program ---- */

static void add_hosts(struct gang *gang, char *const *names) {
        for (; *names; names++)
                if (strcmp(*names, gang->plan.head) != 0)
                        gang->hosts[gang->n_hosts++] = (struct gang_host) {
                                .gang = gang, .name = *names, .error_fd = -1, .lines = { .in = -1, .out = -1 }
                        };
}

static int make_hosts(struct gang *gang) {
        size_t n = 0;

        for (char **p = gang->plan.hosts; *p; p++)
                n++;
        for (char **p = gang->plan.spares; *p; p++)
                n++;
        gang->self = (struct gang_host) {
                .gang = gang, .name = gang->plan.head, .error_fd = -1, .lines = { .in = -1, .out = -1 }
        };
        gang->hosts = calloc(n + 1, sizeof(*gang->hosts));
        if (!gang->hosts)
                return -ENOMEM;
        add_hosts(gang, gang->plan.hosts);
        gang->n_first = gang->n_hosts;
        add_hosts(gang, gang->plan.spares);
        return 0;
}

/* A spec that cannot be read has no inputs here: the trainer reports it. */
static int read_inputs(struct gang *gang) {
        struct spec *spec = NULL;
        struct error error = {};

        if (gang->plan.spec && gang->plan.kind != JOB_COMMAND)
                (void) spec_load(gang->plan.spec, &spec, &error);
        bool command = gang->plan.kind == JOB_COMMAND;
        gang->inputs = host_inputs_line(spec, command ? gang->cwd : NULL, command ? gang->plan.argv[0] : NULL,
                                        gang->plan.hosts);
        spec_free(spec);
        return gang->inputs ? 0 : -ENOMEM;
}

static int start(struct gang *gang, const char *dir, struct error *error) {
        cleanup_free char *path = format_string("%s/" GANG_FILE, dir);
        int r = path ? gang_file_read(path, &gang->plan, error) : error_errno(error, ENOMEM, "%s", dir);

        if (r >= 0 && !getcwd(gang->cwd, sizeof(gang->cwd)))
                r = error_errno(error, errno, "working directory");
        if (r < 0)
                return r;
        gang->mpi_major = mpirun_major();
        r = make_hosts(gang);
        if (r >= 0)
                r = read_inputs(gang);
        if (r >= 0)
                r = sd_event_new(&gang->event);
        if (r >= 0)
                r = watch(gang);
        if (r >= 0)
                r = shim_link_open(gang);
        if (r < 0)
                return error_errno(error, -r, "bertd-gang");
        r = agents_open(gang, error);
        if (r < 0)
                return r;
        host_call_self(&gang->self);
        start_continue(gang);
        return 0;
}

static int exit_code(const struct gang *gang) {
        int status = gang->mpirun_status;

        if (!gang->ran || (gang->verdict.set && !gang->verdict.weak))
                return GANG_EXIT;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void release(struct gang *gang) {
        for (size_t i = 0; i < gang->n_hosts; i++)
                host_free(&gang->hosts[i]);
        host_free(&gang->self);
        json_decref(gang->inputs);
        agents_close(gang);
        lines_close(&gang->shim);
        sd_event_source **const sources[] = { &gang->child_source, &gang->term_source, &gang->tick };
        for (size_t i = 0; i < ELEMENTSOF(sources); i++)
                *sources[i] = sd_event_source_disable_unref(*sources[i]);
        (void) sd_event_unref(gang->event);
        free(gang->hosts);
        gang_file_free(&gang->plan);
}

static int run(const char *dir) {
        struct gang gang = { .agent_fd = -1, .shim = { .in = -1, .out = -1 } };
        struct error error = {};

        int r = start(&gang, dir, &error);
        if (r >= 0)
                r = sd_event_loop(gang.event);
        int code = r >= 0 ? exit_code(&gang) : error_report(&error);
        release(&gang);
        return code;
}

int main(int argc, char **argv) {
        static const struct option options[] = { { "dir", required_argument, NULL, 'd' },
                                                 { "version", no_argument, NULL, 'v' },
                                                 {} };
        const char *dir = NULL;
        bool good = true;

        if (argc > 1 && strcmp(argv[1], "agent") == 0)
                return agent_main(argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "rank") == 0)
                return rank_main(argc - 1, argv + 1);
        inherited_begin_service();
        for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
                if (c == 'v')
                        return printf("bertd-gang %s\n", BERTD_VERSION) < 0;
                good = good && c == 'd' && (dir = optarg) != NULL;
        }
        if (!good || !dir || optind != argc) {
                (void) fprintf(stderr, "usage: bertd-gang --dir FOLDER (bertd-shim starts it)\n");
                return BERTD_EXIT_USAGE;
        }
        return run(dir);
}
