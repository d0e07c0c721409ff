/*
 * bertctl run: a job with a private bertd, inside a batch system's allocation. Owns the private bertd and two
 * children, which are bertctl itself: `logs -f`, whose output is ours, and `wait`. Invariants: every signal is read in
 * one place; nothing of the job lives when this process has ended (its bertd sees to that, even after SIGKILL).
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/alive.h"
#include "ctl/inputs.h"
#include "ctl/past.h"
#include "ctl/private.h"
#include "ctl/slurm.h"
#include "ctl/submission.h"

#define SILENCE_SEC (ALIVE_SEC + 10)
#define SILENCE_USEC (SILENCE_SEC * USEC_PER_SEC)
#define LAST_OUTPUT_USEC (10 * USEC_PER_SEC)
#define TURN_NSEC 500000000 /* between tries to stop the job while its bertd does not answer */

struct run {
        struct ctl *ctl;
        struct private bertd;
        uint64_t id;
        pid_t follower, waiter; /* 0: not running */
        int stopped_by;         /* the signal; 0: none yet */
        bool stop_sent;
};

/* ---- children ---- */

static int start_self(struct run *run, const char *command, const char *option, pid_t *ret, struct error *error) {
        char id[32];

        (void) fflush(stdout);
        (void) snprintf(id, sizeof(id), "%" PRIu64, run->id);
        pid_t pid = fork();
        if (pid < 0)
                return error_errno(error, errno, "fork");
        if (pid == 0) {
                const char *const argv[] = { "bertctl", "--socket",           run->bertd.socket,
                                             command,   option ? option : id, option ? id : NULL,
                                             NULL };
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) setpgid(0, 0); /* a terminal's ^C is ours alone */
                if (!option && !freopen("/dev/null", "w", stderr))
                        _exit(BERTCTL_EXIT_FAILED);
                (void) execv("/proc/self/exe", (char *const *) argv);
                _exit(BERTCTL_EXIT_FAILED);
        }
        *ret = pid;
        return 0;
}

static bool has_ended(pid_t *pid) {
        if (*pid > 0 && waitpid(*pid, NULL, WNOHANG) == *pid)
                *pid = 0;
        return *pid == 0;
}

/* The follower ends by itself once it has printed all of a job that is at rest. */
static void await_output(struct run *run) {
        const uint64_t deadline = clock_monotonic_usec() + LAST_OUTPUT_USEC;

        while (!has_ended(&run->follower) && clock_monotonic_usec() < deadline)
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = 20000000 }, NULL);
}

static void end_child(pid_t *pid) {
        if (has_ended(pid))
                return;
        (void) kill(*pid, SIGKILL);
        (void) waitpid(*pid, NULL, 0);
        *pid = 0;
}

/* ---- the job ---- */

static int look_at(struct run *run, struct job_info *ret, struct error *error) {
        cleanup_client struct client *client = NULL;

        int r = client_connect(run->bertd.socket, &client, error);
        return r < 0 ? r : client_get_job(client, run->id, ret, error);
}

/* A checkpoint, then the end. A refusal means that the job has ended by itself. */
static void stop_job(struct run *run) {
        cleanup_client struct client *client = NULL;
        struct error error = {};

        int r = client_connect(run->bertd.socket, &client, &error);
        if (r == 0)
                r = client_call(client, "Pause", NULL, &error, "t", run->id);
        run->stop_sent = r == 0 || error.exit != BERTCTL_EXIT_NO_DAEMON;
}

static void note_signal(struct run *run, int signal) {
        if (run->stopped_by == 0)
                (void) fprintf(stderr, "bertctl: SIG%s: stopping the job after a checkpoint\n", sigabbrev_np(signal));
        run->stopped_by = run->stopped_by ? run->stopped_by : signal;
}

static void block_signals(sigset_t *ret) {
        static const int all[] = { SIGCHLD, SIGUSR1, SIGTERM, SIGINT, SIGHUP };

        (void) sigemptyset(ret);
        for (size_t i = 0; i < ELEMENTSOF(all); i++)
                (void) sigaddset(ret, all[i]);
        (void) sigprocmask(SIG_BLOCK, ret, NULL);
}

/* Until the job is at rest. */
static int watch(struct run *run, const sigset_t *signals, struct job_info *ret) {
        int r = 0;

        while (r == 0) {
                int signal = sigtimedwait(signals, NULL, &(struct timespec) { .tv_nsec = TURN_NSEC });
                if (signal > 0 && signal != SIGCHLD)
                        note_signal(run, signal);
                r = private_look(&run->bertd, &run->ctl->error);
                if (r == 0 && run->stopped_by && !run->stop_sent)
                        stop_job(run);
                (void) has_ended(&run->follower);
                if (r < 0 || !has_ended(&run->waiter))
                        continue;
                struct error ignored = {};
                if (look_at(run, ret, &ignored) == 0 && job_is_at_rest(ret))
                        return 0;
                job_info_clear(ret);
                *ret = (struct job_info) {};
                r = start_self(run, "wait", NULL, &run->waiter, &run->ctl->error);
        }
        return r;
}

/* ---- the end ---- */

/* 75 is the code of a stop alone. */
static int code_of(const struct job_info *job) {
        switch (job_state_from_name(text_of(job->state))) {
        case JOB_DONE:
                return BERTCTL_EXIT_OK;
        case JOB_PAUSED:
                return BERTD_EXIT_STOPPED;
        default:
                if (strcmp(text_of(job->exit_class), "host-lost") == 0) /* another allocation may continue it */
                        return BERTD_EXIT_STOPPED;
                return job->exit > 0 && job->exit < 256 && job->exit != BERTD_EXIT_STOPPED ? (int) job->exit
                                                                                           : BERTCTL_EXIT_FAILED;
        }
}

static void tell_end(struct run *run, const struct job_info *job, int code) {
        if (job_state_from_name(text_of(job->state)) == JOB_PAUSED)
                (void) fprintf(stderr, "bertctl: %s: stopped at step %" PRIu64 "\n", text_of(job->name), job->step);
        else if (code == BERTD_EXIT_STOPPED)
                (void) fprintf(stderr, "bertctl: %s: %s\n", text_of(job->name), text_of(job->reason));
        else if (code != BERTCTL_EXIT_OK)
                (void) error_input(&run->ctl->error, BERTCTL_EXIT_FAILED, "%s has %s: %s", text_of(job->name),
                                   text_of(job->state), text_of(job->reason));
}

/* A job that has ended starts its on_exit before it can be removed. */
static void finish(struct run *run) {
        cleanup_client struct client *client = NULL;
        struct error ignored = {};

        end_child(&run->waiter);
        end_child(&run->follower);
        if (run->id && run->bertd.socket && client_connect(run->bertd.socket, &client, &ignored) == 0)
                (void) client_call(client, "Remove", NULL, &ignored, "t", run->id);
        client_free(client);
        client = NULL;
        private_end(&run->bertd);
}

static int submit(struct run *run, const struct spec *spec, const struct past *past, struct error *error) {
        cleanup_client struct client *client = NULL;

        int r = client_connect(run->bertd.socket, &client, error);
        return r < 0 ? r : submission_send(client, spec, past, &run->id, error);
}

/* A node that is lost leaves a heartbeat until it is old, and perhaps a lock. 1: a signal came. */
static int await_silence(const char *run_dir, const sigset_t *signals, struct error *error) {
        const uint64_t deadline = clock_boottime_usec() + SILENCE_USEC;
        sigset_t stops = *signals;
        uint64_t ignored;

        (void) sigdelset(&stops, SIGCHLD);
        int r = alive_check(run_dir, &ignored, error);
        if (r == -EBUSY)
                (void) fprintf(stderr, "bertctl: %s; waiting at most %d s\n", error->text, SILENCE_SEC);
        while (r == -EBUSY && clock_boottime_usec() < deadline) {
                if (sigtimedwait(&stops, NULL, &(struct timespec) { .tv_sec = 1 }) > 0)
                        return 1;
                *error = (struct error) {};
                r = alive_check(run_dir, &ignored, error);
        }
        return r;
}

/* 1: a run of this name is continued, 0: none is; 2: a signal came. */
static int find_past(const struct spec *spec, const sigset_t *signals, struct past *ret, struct error *error) {
        cleanup_free char *path = spec->run_dir ? format_string("%s/" RUN_FILE, spec->run_dir) : NULL;

        if (!path || !file_is_there(path))
                return 0;
        int r = await_silence(spec->run_dir, signals, error);
        if (r != 0)
                return r < 0 ? r : 2;
        r = past_read(spec->run_dir, ret, error);
        if (r == 0 && strcmp(ret->file.name, spec->name) == 0)
                return 1;
        past_clear(ret);
        return r;
}

/* Returns the exit code. */
static int run_job(struct run *run, const struct spec *spec, const struct slurm *slurm) {
        const struct private_options options = { .slots = slurm->cpus[0] ? slurm->cpus : NULL,
                                                 .gpus = slurm->gpus[0] ? slurm->gpus : NULL };
        cleanup_job_info struct job_info job = {};
        cleanup_past struct past past = {};
        struct error *error = &run->ctl->error;
        sigset_t signals;
        int code;

        block_signals(&signals);
        int found = find_past(spec, &signals, &past, error);
        if (found == 2)
                return BERTD_EXIT_STOPPED;
        if (slurm->restarts == 0) /* the user's doing, as with `resume` */
                past.file.counters.deaths = past.file.counters.free_deaths = 0;
        int r = found < 0 ? found : private_start(&run->bertd, &options, error);
        if (r == 0)
                r = submit(run, spec, found ? &past : NULL, error);
        if (r == 0)
                r = start_self(run, "logs", "-f", &run->follower, error);
        if (r == 0)
                r = start_self(run, "wait", NULL, &run->waiter, error);
        if (r == 0)
                r = watch(run, &signals, &job);
        code = r < 0 ? command_exit(run->ctl, r) : code_of(&job);
        if (r == 0)
                await_output(run);
        finish(run);
        if (r == 0)
                tell_end(run, &job, code);
        return code;
}

/* ---- the command ---- */

static int load(const char *path, const struct option_list *set, struct spec **ret, struct error *error) {
        struct spec_setting settings[OPTION_LIST_MAX];
        cleanup_free char *text = NULL;
        size_t size;

        for (size_t i = 0; i < set->n; i++)
                settings[i] = (struct spec_setting) { .option = "set", .value = set->items[i] };
        int r = spec_read(path, &text, &size, error);
        if (r >= 0)
                r = spec_parse(path, text, size, settings, set->n, ret, error);
        if (r >= 0 && (r = inputs_check(*ret, error)) < 0)
                (void) error_prefix(error, "%s", path);
        if (r >= 0 && !(*ret)->run_dir && (*ret)->kind != JOB_COMMAND)
                r = error_input(error, BERTCTL_EXIT_USAGE,
                                "%s: run_dir: missing; `bertctl run` keeps nothing else: give a folder on a shared "
                                "file system, e.g. --set run_dir=runs/a",
                                path);
        if (r < 0)
                error->exit = BERTCTL_EXIT_USAGE;
        return r;
}

int command_run(struct ctl *ctl, int argc, char **argv) {
        bool requeue = false;
        struct option_list set = {};
        const struct option_spec options[] = {
                { .name = "requeue",
                  .kind = OPTION_FLAG,
                  .value = &requeue,
                  .help = "after a stop by a signal, requeue the Slurm job with `scontrol requeue`" },
                { .name = "set",
                  .kind = OPTION_LIST,
                  .value = &set,
                  .argument = "KEY=VALUE",
                  .help = "override a key of the file, e.g. train.seed=7; may be given several times" },
        };
        cleanup_spec struct spec *spec = NULL;
        struct arguments arguments;
        struct run run = { .ctl = ctl };
        struct slurm slurm;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = slurm_read(&slurm, &ctl->error);
        if (r >= 0 && requeue)
                r = slurm_check_requeue(&slurm, &ctl->error);
        if (r >= 0)
                r = load(arguments.words[0], &set, &spec, &ctl->error);
        if (r >= 0)
                r = slurm_take_spec(&slurm, spec, &ctl->error);
        if (r < 0)
                return command_exit(ctl, r);
        int code = run_job(&run, spec, &slurm);
        if (code == BERTD_EXIT_STOPPED && requeue)
                (void) slurm_requeue(&slurm, &ctl->error);
        return code;
}
