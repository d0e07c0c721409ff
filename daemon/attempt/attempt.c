/*
 * See attempt.h. Role: the beginning and the life of an attempt; report.c has what its shim reports, end.c its end.
 * Owns: job->run and everything in it. Invariants: nothing is launched before its intent row is durable; at most one shim of an
 * attempt is told to go.
 */
#include "daemon/attempt/attempt.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/utf8.h"
#include "daemon/attempt/end.h"
#include "daemon/launch/cgroup.h"
#include "daemon/attempt/command.h"
#include "daemon/attempt/folder.h"
#include "daemon/launch/launcher.h"
#include "daemon/rules/ledger.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/process.h"
#include "daemon/node/transition.h"

#define HELLO_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define ADOPT_PAUSE_USEC (5 * USEC_PER_SEC)
#define EXITED_TIMEOUT_USEC (3 * USEC_PER_SEC)
#define KILL_TIMEOUT_USEC (3 * USEC_PER_SEC) /* with the sweep's limit after it: less than 10 s for `cancel --now` */
#define STOP_SLACK_USEC (30 * USEC_PER_SEC)
#define STOP_EXTENSIONS 4
#define VERSION_SIZE 32
#define VERSION_CHARACTERS "0123456789.+~-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static const struct launcher *launcher_of(const struct attempt_run *run) {
        return run->node->launchers[run->job->launcher];
}

static void on_hello_timeout(void *userdata) {
        attempt_over(userdata, EXIT_CLASS_LAUNCH, "the shim was not heard within 60 s of its launch");
}

static void on_stop_timeout(void *userdata) {
        attempt_over(userdata, EXIT_CLASS_KILLED, "did not stop in time and was killed");
}

static void on_exited_timeout(void *userdata) {
        attempt_over(userdata, EXIT_CLASS_LOST, "the shim reported the end but did not exit");
}

static void on_unheard_shim_gone(void *userdata, int fd, uint32_t events) {
        attempt_over(userdata, EXIT_CLASS_LAUNCH,
                     "the shim died before it was heard (shim.log beside its log says why)");
}

static void on_shim_gone(void *userdata, int fd, uint32_t events) {
        attempt_over(userdata, EXIT_CLASS_LOST, "the shim died without an exit record");
}

/* ---- start ---- */

static int make_nonce(char nonce[NONCE_SIZE]) {
        uint64_t random[2];

        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return -errno;
        (void) snprintf(nonce, NONCE_SIZE, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
        return 0;
}

static struct attempt_run *new_run(struct node *node, struct job *job, enum attempt_phase phase) {
        struct attempt_run *run = calloc(1, sizeof(*run));

        if (run) {
                *run = (struct attempt_run) { .node = node, .job = job, .phase = phase };
                job->run = run;
        }
        return run;
}

void attempt_start(struct node *node, struct job *job, uint64_t gpu_mask) {
        char nonce[NONCE_SIZE];
        struct error error = {};

        if (store_load_ledger(node->store, job, &error) < 0) {
                log_error("job %" PRIu64 " cannot be started now: %s", job->id, error.text);
                return;
        }
        char *gpus = gpus_visible(&node->options.gpus, gpu_mask);
        struct attempt_run *run = gpus && make_nonce(nonce) >= 0 ? new_run(node, job, PHASE_COMMITTING) : NULL;
        if (!run) {
                free(gpus);
                log_error("job %" PRIu64 " cannot be started now: out of memory", job->id);
                return;
        }
        struct checkpoint *from = ledger_choose(job);
        const struct checkpoint *newest = job_newest_good(job);
        uint32_t number = job->attempt.number + 1;
        job_push_attempt(job);
        job->attempt = (struct attempt) {
                .number = number,
                .open = true,
                .gpus = gpus,
                .started = loop_realtime(),
                .resumed = from != NULL,
                .first_step = from ? from->step : 0,
                .step = from ? from->step : 0,
                .checkpoint_step = newest ? newest->step : 0,
                .exit_code = -1,
                .exit_class = -1,
                .rank = -1,
        };
        memcpy(job->attempt.nonce, nonce, sizeof(nonce));
        memcpy(job->attempt.boot_id, node->boot_id, sizeof(job->attempt.boot_id));
        if (from) {
                from->restored++;
                from->dirty = true;
        }
        job->step = job->attempt.step;
        goodput_start_attempt(job);
        job->wish = WISH_NONE;
        job_set_text(&job->status, NULL);
        job->not_before = 0;
        (void) node_move(node, job, EVENT_START, NULL);
        node_account(node);
}

/* Once armed an end can only come nearer: nothing that a client says or repeats moves it away. */
static void set_deadline(struct attempt_run *run, uint64_t usec, loop_handler_t handler) {
        uint64_t deadline = loop_boottime() + usec;

        if (timer_is_armed(&run->timer) && run->deadline_usec <= deadline)
                return;
        run->deadline_usec = deadline;
        loop_after(run->node->loop, &run->timer, usec, handler, run);
}

struct launch_parts {
        char *spec_path, *spec, *run_dir, *log, *scratch, *gpus, *command;
        size_t command_size;
        struct job_inputs inputs;
        struct strv argv, environment, shim_argv;
};

static void launch_parts_free(struct launch_parts *p) {
        free(p->spec_path);
        free(p->spec);
        free(p->run_dir);
        free(p->log);
        free(p->scratch);
        free(p->gpus);
        free(p->command);
        free(p->inputs.environment);
        strv_free(&p->argv);
        strv_free(&p->environment);
        strv_free(&p->shim_argv);
}

static int gather_paths(struct node *node, struct job *job, struct launch_parts *p, struct error *error) {
        const char *state = node->options.state_dir;
        cleanup_free char *job_dir = files_job_dir(state, job->id);

        p->spec_path = job_dir ? format_string("%s/spec.yaml", job_dir) : NULL;
        p->run_dir = files_run_dir(state, job);
        p->log = files_attempt_path(state, job, "log");
        if (job->kind != JOB_COMMAND && job->ranks > 1)
                p->scratch = files_scratch(job, node->launchers[job->launcher]->private_shm);
        if (node->options.gpus.n > 0)
                p->gpus = strdup(job->attempt.gpus ? job->attempt.gpus : "");
        if (!p->spec_path || !p->run_dir || !p->log)
                return error_errno(error, ENOMEM, "paths");
        int r = store_load_ledger(node->store, job, error);
        if (r >= 0)
                r = store_load_spec(node->store, job->id, &p->spec, error);
        if (r >= 0)
                r = store_load_command(node->store, job->id, &p->command, &p->command_size, error);
        return r < 0 ? r : store_load_inputs(node->store, job->id, &p->inputs, error);
}

static int gather_command(struct node *node, struct job *job, struct launch_parts *p, struct error *error) {
        const struct checkpoint *from = job->attempt.resumed ? job_checkpoint(job, job->attempt.first_step) : NULL;
        struct command_input input = {
                .job = job,
                .trainer = node->trainer,
                .spec = p->spec_path,
                .run_dir = p->run_dir,
                .resume = from ? from->path : "",
                .scratch = p->scratch,
                .private_shm = node->launchers[job->launcher]->private_shm,
                .visible_gpus = p->gpus,
                .environment = p->inputs.environment,
                .environment_size = p->inputs.environment_size,
                .command = p->command,
                .command_size = p->command_size,
        };
        cleanup_free char *dir = files_attempt_path(node->options.state_dir, job, "");

        int r = command_argv(&input, &p->argv, error);
        if (r >= 0)
                r = command_environment(&input, &p->environment, error);
        strv_add(&p->shim_argv, "bertd-shim");
        strv_add(&p->shim_argv, "--job");
        strv_format(&p->shim_argv, "%" PRIu64, job->id);
        strv_add(&p->shim_argv, "--attempt");
        strv_format(&p->shim_argv, "%u", job->attempt.number);
        strv_add(&p->shim_argv, "--socket");
        strv_add(&p->shim_argv, node->options.socket);
        strv_add(&p->shim_argv, "--dir");
        strv_take(&p->shim_argv, steal_pointer(&dir));
        return r < 0 ? r : p->shim_argv.failed ? error_errno(error, ENOMEM, "command") : 0;
}

/* Takes the pidfd. */
static int watch_pidfd(struct attempt_run *run, int pidfd, loop_ready_t handler) {
        run->pidfd = source_free(run->pidfd);
        return loop_watch(run->node->loop, pidfd, EPOLLIN, handler, run, &run->pidfd);
}

static void launch_failed(struct attempt_run *run, const char *text) {
        char reason[512];

        (void) snprintf(reason, sizeof(reason), "cannot be started: %.480s", text);
        attempt_over(run, EXIT_CLASS_LAUNCH, reason);
}

/* ---- what the launcher tells ---- */

/* Without a watch the hello's time limit is what ends a shim that is never heard. */
static void on_launched(void *userdata, pid_t shim) {
        struct attempt_run *run = userdata;
        int fd = shim > 0 ? process_pidfd(shim) : -1;

        if (fd < 0)
                return;
        if (watch_pidfd(run, fd, on_unheard_shim_gone) < 0)
                log_error("job %" PRIu64 ": the shim's launch cannot be watched", run->job->id);
        else /* what the launcher has to say about an exec that failed comes first */
                source_set_order(run->pidfd, LOOP_LAST);
}

static void on_launch_failed(void *userdata, const char *text) {
        struct attempt_run *run = userdata;

        if (run->phase == PHASE_LAUNCHING)
                launch_failed(run, text);
}

static void on_launch_refused(void *userdata, const char *text) { attempt_over(userdata, EXIT_CLASS_STOPPED, text); }

static const struct launch_events launch_events = { .launched = on_launched,
                                                    .failed = on_launch_failed,
                                                    .refused = on_launch_refused };

static int launch(struct attempt_run *run, struct error *error) {
        struct node *node = run->node;
        struct job *job = run->job;
        const struct launcher *launcher = launcher_of(run);
        cleanup(launch_parts_free) struct launch_parts p = {};

        if (!launcher)
                return error_set(error, ENOTSUP, "the job's launcher is not available to this daemon");
        int r = gather_paths(node, job, &p, error);
        if (r >= 0)
                r = gather_command(node, job, &p, error);
        if (r < 0)
                return r;
        struct files_attempt files = { .argv = &p.argv,
                                       .environment = &p.environment,
                                       .inputs = &p.inputs,
                                       .spec = p.spec,
                                       .socket = node->options.socket,
                                       .run_dir = p.run_dir,
                                       .log = p.log,
                                       .scratch = p.scratch };
        r = store_has_run(node->store, job, &files.ran, error);
        if (r >= 0)
                r = files_find_jobs(node, error);
        if (r >= 0)
                r = files_prepare(node->jobs_fd, job, &files, error);
        job_ledger_trim(job);
        if (r < 0)
                return r;
        cleanup_close int log = launcher->needs_log ? files_open_shim_log(node->jobs_fd, job) : -1;
        const struct launch_request request = { .node = node,
                                                .job = job,
                                                .shim = node->shim,
                                                .argv = &p.shim_argv,
                                                .environment = &p.environment,
                                                .inputs = &p.inputs,
                                                .log = log,
                                                .events = &launch_events,
                                                .userdata = run };
        return launcher->start(&request, &run->launch, error);
}

void attempt_launch(struct attempt_run *run) {
        struct error error = {};

        run->phase = PHASE_LAUNCHING;
        set_deadline(run, HELLO_TIMEOUT_USEC, on_hello_timeout);
        int r = launch(run, &error);
        if (r < 0)
                run->phase = PHASE_COMMITTING; /* nothing was begun that could live */
        if (r == -ENOSPC || r == -EDQUOT)
                attempt_over(run, EXIT_CLASS_DISK_FULL, error.text);
        else if (r < 0)
                launch_failed(run, error.text);
}

/* ---- adoption ---- */

static int watch_shim(struct attempt_run *run, int pidfd) {
        int r = watch_pidfd(run, pidfd, on_shim_gone);

        if (r >= 0)
                run->phase = PHASE_LIVE;
        return r;
}

/* Only the attempt's own: a hello may come from any process of the user, and what is noted here is killed as root. */
static void note_cgroup(struct attempt_run *run, pid_t pid) {
        if (run->job->launcher != LAUNCHER_SYSTEMD)
                return;
        cleanup_free char *unit = launcher_unit_name(run->node, run->job);
        char *cgroup = unit ? cgroup_of(pid, unit) : NULL;
        if (!cgroup)
                return;
        free(run->cgroup);
        run->cgroup = cgroup;
}

static void adopt(struct attempt_run *run);

static void on_adopt_again(void *userdata) { adopt(userdata); }

/* A shim that cannot be looked at for want of a descriptor is not for that dead. */
static void adopt(struct attempt_run *run) {
        struct node *node = run->node;
        struct job *job = run->job;
        struct attempt *a = &job->attempt;

        if (strcmp(a->boot_id, node->boot_id) != 0) {
                attempt_over(run, EXIT_CLASS_REBOOT, "the host was rebooted");
                return;
        }
        int pidfd = process_pidfd_checked(a->pid, a->pid_start);
        if (pidfd >= 0 && watch_shim(run, pidfd) >= 0) {
                log_info("job %" PRIu64 " attempt %u: adopted, pid %d", job->id, a->number, (int) a->pid);
                note_cgroup(run, a->pid);
                if (job->state == JOB_STOPPING)
                        attempt_stop(job);
        } else if (a->pid > 0 && pidfd < 0 && pidfd != -ESRCH) {
                log_error("job %" PRIu64 " attempt %u cannot be adopted yet: %s", job->id, a->number, strerror(-pidfd));
                set_deadline(run, ADOPT_PAUSE_USEC, on_adopt_again);
        } else if (a->pid == 0 && files_is_locked(node->jobs_fd, job)) {
                set_deadline(run, HELLO_TIMEOUT_USEC, on_hello_timeout);
        } else {
                attempt_over(run, EXIT_CLASS_LOST,
                             a->pid == 0 ? "bertd ended while the attempt was being started"
                                         : "the shim died without an exit record");
        }
}

void attempt_adopt(struct node *node, struct job *job) {
        struct attempt_run *run = new_run(node, job, PHASE_LAUNCHING);

        if (!run) {
                log_error("job %" PRIu64 " cannot be adopted: out of memory", job->id);
                return;
        }
        run->adopted = true;
        adopt(run);
}

/* ---- the shim's hello ---- */

struct job *attempt_find_open(struct node *node, uint64_t id, uint32_t number, const char *nonce) {
        struct job *job = store_find(node->store, id);

        if (!job || !job->run || !job->attempt.open || job->attempt.number != number ||
            strcmp(job->attempt.nonce, nonce) != 0)
                return NULL;
        return job->run->phase == PHASE_SWEEPING || job->run->phase == PHASE_COMMITTING ? NULL : job;
}

static int meet_shim(struct attempt_run *run, pid_t pid) {
        struct attempt *a = &run->job->attempt;
        uint64_t start;

        cleanup_close int fd = process_pidfd(pid);
        if (fd < 0)
                return fd;
        int r = process_start_time(pid, &start);
        if (r < 0)
                return r;
        a->pid = pid;
        a->pid_start = start;
        note_cgroup(run, pid);
        r = watch_shim(run, steal_fd(&fd));
        if (r < 0)
                return r;
        if (node_move(run->node, run->job, EVENT_HELLO, NULL) != STATE_MOVE) {
                store_mark(run->node->store, run->job);
                node_commit_soon(run->node);
        }
        return 0;
}

/* "0.1.0 2". The user may have said anything. */
static int read_version(const char *text, uint64_t *ret_protocol, char version[VERSION_SIZE]) {
        const char *space = strchr(text, ' ');
        size_t n = space ? (size_t) (space - text) : strlen(text);

        *ret_protocol = 1;
        if (n >= VERSION_SIZE || strspn(text, VERSION_CHARACTERS) < n ||
            (space && parse_u64(space + 1, 1, UINT32_MAX, ret_protocol) < 0))
                return -EINVAL;
        (void) snprintf(version, VERSION_SIZE, "%.*s", (int) n, text);
        return 0;
}

/* One that we have started is of the package that was installed meanwhile; nothing of it runs yet. */
static int meet_newer(struct attempt_run *run, const char *version, uint32_t *ret_answer) {
        char text[128];

        if (!run->adopted) {
                (void) snprintf(text, sizeof(text), "%s is of bertd %s, newer than this bertd %s: restart bertd",
                                strrchr(run->node->shim, '/') + 1, version, BERTD_VERSION);
                *ret_answer = BERTD_ATTEMPT_STOP;
                launch_failed(run, text);
                return 0;
        }
        if (!run->newer)
                log_error("job %" PRIu64
                          ": its shim is of bertd %s, newer than this bertd: it runs on, and is not followed",
                          run->job->id, version);
        free(run->newer);
        run->newer = strdup(version);
        if (run->job->state == JOB_STOPPING)
                attempt_stop(run->job);
        return run->newer ? -EPROTONOSUPPORT : -ENOMEM;
}

int attempt_hello(struct node *node, struct shim_link *link, uid_t uid, pid_t pid, uint64_t id, uint32_t number,
                  const char *nonce, const char *version, uint32_t *ret_answer) {
        char name[VERSION_SIZE];
        uint64_t protocol;
        struct job *job = store_find(node->store, id);

        if (job && uid != job->uid && uid != geteuid())
                return -EPERM;
        job = attempt_find_open(node, id, number, nonce);
        *ret_answer = BERTD_ATTEMPT_STOP;
        if (!job || (job->attempt.pid != 0 && job->attempt.pid != pid))
                return 0;
        struct attempt_run *run = job->run;
        if (read_version(version, &protocol, name) < 0)
                return -EINVAL;
        if (job->attempt.pid == 0 && job->state == JOB_STOPPING) {
                attempt_over(run, EXIT_CLASS_STOPPED, "stopped before it began");
                return 0;
        }
        if (job->attempt.pid == 0 || run->phase != PHASE_LIVE) {
                int r = meet_shim(run, pid);
                if (r < 0)
                        return r;
        }
        if (job->state != JOB_STOPPING)
                timer_disarm(&run->timer);
        if (run->link && run->link != link)
                run->link->calls->drop(run->link); /* one connection a shim */
        if (link->job != id)
                attempt_link_gone(node, link); /* one job a connection: it was another's shim before */
        run->link = link;
        link->job = id;
        if (protocol > BERTD_SHIM_PROTOCOL)
                return meet_newer(run, name, ret_answer);
        free(run->newer);
        run->newer = NULL;
        if (job->state == JOB_STOPPING)
                attempt_stop(job);
        *ret_answer = BERTD_ATTEMPT_GO;
        return 0;
}

void attempt_exited(struct attempt_run *run) { set_deadline(run, EXITED_TIMEOUT_USEC, on_exited_timeout); }

uint64_t attempt_eta_sec(const struct job *job) {
        const struct attempt_run *run = job->run;

        if (!run || run->clock.first_usec == 0 || job->step <= run->clock.first_step || job->steps <= job->step)
                return 0;
        double per_step =
                (double) (loop_boottime() - run->clock.first_usec) / (double) (job->step - run->clock.first_step);
        double sec = per_step * (double) (job->steps - job->step) / (double) USEC_PER_SEC;
        return sec <= BERTD_SECONDS_MAX ? (uint64_t) sec : 0;
}

double attempt_goodput(const struct job *job) {
        return goodput(job, job->run ? &job->run->clock : NULL, loop_realtime());
}

/* ---- stop ---- */

/* What a shim of any protocol takes for a stop, as it does of systemd. */
static void stop_by_signal(struct attempt_run *run) {
        if (!run->pidfd || pidfd_send_signal(source_fd(run->pidfd), SIGTERM, NULL, 0) < 0)
                log_error("job %" PRIu64 ": its shim cannot be asked to stop", run->job->id);
}

void attempt_stop(struct job *job) {
        struct attempt_run *run = job->run;
        uint64_t grace = job->grace_sec * USEC_PER_SEC;
        bool now = job->wish == WISH_CANCEL_NOW;

        if (!run || run->phase == PHASE_SWEEPING)
                return;
        if (run->phase == PHASE_COMMITTING) {
                attempt_over(run, EXIT_CLASS_STOPPED, "stopped before it began");
                return;
        }
        if (now && (!run->link || run->newer)) {
                attempt_over(run, EXIT_CLASS_KILLED, "killed on request");
                return;
        }
        set_deadline(run, now ? KILL_TIMEOUT_USEC : STOP_EXTENSIONS * grace + STOP_SLACK_USEC, on_stop_timeout);
        if (run->pidfd) /* somebody may have stopped it with its job */
                (void) pidfd_send_signal(source_fd(run->pidfd), SIGCONT, NULL, 0);
        if (run->newer)
                stop_by_signal(run);
        else if (run->link)
                run->link->calls->stop(run->link, now ? 0 : grace);
}

int attempt_checkpoint(struct job *job) {
        if (!job->run || !job->run->link || job->run->newer || job->run->phase != PHASE_LIVE)
                return -ENOTCONN;
        return job->run->link->calls->checkpoint(job->run->link);
}

void attempt_link_gone(struct node *node, struct shim_link *link) {
        struct job *job = store_find(node->store, link->job);

        if (job && job->run && job->run->link == link)
                job->run->link = NULL;
}

void attempt_run_free(struct attempt_run *run) {
        if (!run)
                return;
        (void) source_free(run->pidfd);
        timer_disarm(&run->timer);
        (void) source_free(run->sweeper);
        const struct launcher *launcher = launcher_of(run);
        if (launcher)
                launcher->forget(run->launch);
        free(run->cgroup);
        free(run->newer);
        run->job->run = NULL;
        free(run);
}
