/*
 * See end.h. Role: closes attempts. Owns nothing; frees the run, which run.c owns until then.
 * Invariants: an attempt is closed only when no process of it lives (or when the sweep's time is over), and its
 * tombstone is written before the job may start again. Never waits for a process: a helper does reads that may block
 * (sweep.h). Does not decide the job's next state: see rules/outcome.h.
 */
#include "daemon/attempt/end.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/launch/cgroup.h"
#include "daemon/launch/user_task.h"
#include "daemon/attempt/folder.h"
#include "daemon/attempt/hosts.h"
#include "daemon/launch/keeper.h"
#include "daemon/launch/launcher.h"
#include "daemon/rules/ledger.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/rules/outcome.h"
#include "daemon/launch/sweep.h"
#include "daemon/node/transition.h"

#define SWEEP_LIMIT_USEC (10 * USEC_PER_SEC)    /* processes left then hang in the kernel */
#define SWEEP_LIMIT_NOW_USEC (5 * USEC_PER_SEC) /* for `cancel --now`, after which no attempt follows */
#define SWEEPER_SLACK_USEC USEC_PER_SEC         /* the helper's limit is this much earlier than bertd's */
#define SWEEP_PAUSE_MIN_USEC UINT64_C(20000)
#define SWEEP_PAUSE_MAX_USEC 500000
#define SWEEPERS_MAX 32
#define SWEEPERS_OF_UID_MAX 4

/* Without it only the newest good checkpoint is known: the job continues from there. */
static void load_ledger(struct node *node, struct job *job) {
        struct error error = {};

        if (store_load_ledger(node->store, job, &error) < 0)
                log_error("job %" PRIu64 ": %s", job->id, error.text);
}

/* The shim's record or report (report.c) takes precedence over what bertd observes. */
static void read_record(struct attempt_run *run, enum exit_class exit_class, const char *text) {
        struct attempt *a = &run->job->attempt;
        struct error error = {};
        bool reported = a->exit_class >= 0;
        cleanup_free char *run_dir = files_run_dir(run->node->options.state_dir, run->job);

        if (!reported) {
                a->exit_class = (int) exit_class;
                attempt_set_reason(a, text, NULL);
        }
        if (!run_dir)
                return;
        load_ledger(run->node, run->job);
        int r = files_read_exit(run->node->jobs_fd, run->job, run_dir, &run->asked, &error);
        if (r < 0 && (r != -ENOENT || reported))
                log_error("job %" PRIu64 " attempt %u: %s%s", run->job->id, a->number, error.text,
                          reported ? "; result as reported by its shim" : "");
}

/* If it cannot be read the job counts as one that has run: it waits for its program instead of failing. */
static bool has_run(struct node *node, const struct job *job) {
        struct error error = {};
        bool ran = true;

        if (store_has_run(node->store, job, &ran, &error) < 0)
                log_error("job %" PRIu64 ": %s", job->id, error.text);
        return ran;
}

/* If they cannot be read only the back-off delays the job. */
static uint64_t starts_wait(struct node *node, const struct job *job, uint64_t now) {
        struct error error = {};
        uint64_t oldest = now;
        uint32_t n = 0;

        if (store_starts(node->store, job, now - POLICY_STARTS_SEC * USEC_PER_SEC, now, &n, &oldest, &error) < 0)
                log_error("%s", error.text);
        return policy_starts_wait(n, oldest, now);
}

/* The ledger is whole. `good` is what the ending borrows. */
static struct ending gather(struct node *node, const struct job *job, bool asked, uint64_t good[LEDGER_MAX],
                            const struct hosts_choice *hosts) {
        uint64_t now = loop_realtime();
        struct ending e = { .attempt = &job->attempt,
                            .stop_reason = job->stop_reason,
                            .asked = asked,
                            .command = job->kind == JOB_COMMAND,
                            .allocation = node->options.allocation,
                            .lease = job_is_lease(job),
                            .stepped = job_has_stepped(job),
                            .ran = has_run(node, job),
                            .config = { .max_without_progress = job->max_without_progress,
                                        .backoff_min_sec = job->backoff_min_sec,
                                        .backoff_max_sec = job->backoff_max_sec,
                                        .nan_rollback = job->on_nan == ON_NAN_ROLLBACK,
                                        .reports = job_reports(job) },
                            .history = job->history,
                            .n_history = job->n_history,
                            .counters = job_counters(job),
                            .good = good,
                            .n_good = ledger_good_steps(job, good, LEDGER_MAX),
                            .starts_wait_usec = starts_wait(node, job, now),
                            .hosts_wait_usec = hosts->wait_usec,
                            .waits_for = hosts->waits_for,
                            .now_usec = now };

        (void) !getrandom(&e.random, sizeof(e.random), GRND_NONBLOCK);
        return e;
}

static void change_ledger(struct node *node, struct job *job, const struct outcome *o) {
        if (o->change == LEDGER_KEPT)
                return;
        struct checkpoint *bad = o->change == LEDGER_DEMOTED ? job_checkpoint(job, o->changed_step) : NULL;
        if (bad) {
                bad->state = CHECKPOINT_DEMOTED;
                bad->dirty = true;
        }
        if (o->change == LEDGER_GONE_BACK)
                ledger_abandon_newer(job, o->changed_step);
        job->resume_from = o->from_step;
        job->resume_abandon = true;
        store_note(node->store, job, job->state, o->change == LEDGER_DEMOTED ? "demote" : "rollback", o->change_reason);
}

static void count(struct job *job, const struct outcome *o) {
        job_set_counters(job, o->counters);
        /* Nothing died while it waited for hosts, however often: the deaths before stay in the history. */
        if (o->counted && o->last_death.exit_class != EXIT_CLASS_WAIT && job_history_add(job, &o->last_death) < 0)
                log_error("job %" PRIu64 ": out of memory for its history of deaths; this one is skipped", job->id);
}

static void close_books(struct job *job, const struct step_clock *clock, const struct outcome *o) {
        struct attempt *a = &job->attempt;

        a->exit_class = (int) o->exit_class;
        if (o->death[0])
                job_set_text(&a->reason, o->death);
        job_set_text(&job->status, NULL);
        job->exit_code = a->exit_code;
        job->exit_class = a->exit_class;
        job->step = a->step;
        job->stop_reason = STOP_NONE;
        goodput_close_attempt(job, clock, o->exit_class == EXIT_CLASS_FINISHED);
        goodput_note_lost(job);
}

static void apply(struct node *node, struct job *job, const struct step_clock *clock, const struct outcome *o) {
        const struct attempt *a = &job->attempt;

        close_books(job, clock, o);
        count(job, o);
        change_ledger(node, job, o);
        if (o->event == EVENT_RETRY) {
                job->not_before = loop_realtime() + o->delay_usec;
                job->wake_boottime = loop_boottime() + o->delay_usec;
        }
        log_info("job %" PRIu64 " attempt %u: %s%s%s", job->id, a->number, exit_class_name(a->exit_class),
                 a->reason ? ": " : "", a->reason ? a->reason : "");
        (void) node_move_privately(node, job, o->event, o->reason, o->private[0] ? o->private : NULL);
        node_account(node);
        node_plan_soon(node);
}

static void drop_scratch(struct node *node, struct job *job) {
        if (!job_uses_mpirun(job))
                return;
        cleanup_free char *path =
                files_scratch(job, node->launchers[job->launcher] && node->launchers[job->launcher]->private_shm);
        cleanup_strv struct strv paths = {};

        if (!path || !files_is_folder(path))
                return;
        strv_add(&paths, path);
        if (user_task_remove_paths(node, job, "rm", &paths, NULL, NULL) < 0)
                log_error("job %" PRIu64 ": %s is left", job->id, path);
}

static void close_attempt(struct attempt_run *run) {
        struct node *node = run->node;
        struct job *job = run->job;
        struct error error = {};
        struct step_clock clock = run->clock;
        uint64_t good[LEDGER_MAX];
        cleanup(hosts_choice_clear) struct hosts_choice hosts = {};
        struct outcome o;
        bool asked = run->asked;

        if (run->link)
                run->link->calls->drop(run->link); /* its holder is no longer a shim: it would count for no user */
        attempt_run_free(run);
        if (files_close_attempt(node->jobs_fd, job, &error) < 0)
                log_error("%s", error.text);
        drop_scratch(node, job);
        load_ledger(node, job);
        const struct checkpoint *newest = job_newest_good(job);
        job->attempt.checkpoint_step = newest ? newest->step : 0;
        job->attempt.open = false;
        job->attempt.ended = loop_realtime();
        if (!node->options.allocation)
                attempt_judge_hosts(job, job->attempt.ended, &hosts);
        const struct ending ending = gather(node, job, asked, good, &hosts);
        outcome(&ending, &o);
        apply(node, job, &clock, &o);
}

/* ---- the sweep ---- */

static void begin_waiting(struct node *node);

static void swept(struct attempt_run *run, const char *problem) {
        struct node *node = run->node;

        if (problem)
                log_error("job %" PRIu64 " attempt %u: %s", run->job->id, run->job->attempt.number, problem);
        close_attempt(run);
        begin_waiting(node);
}

static uint64_t limit_of(const struct attempt_run *run) {
        return run->job->stop_reason == STOP_CANCEL_NOW ? SWEEP_LIMIT_NOW_USEC : SWEEP_LIMIT_USEC;
}

static uint64_t pause_of(unsigned sweeps) {
        return MIN(SWEEP_PAUSE_MIN_USEC << MIN(sweeps, 10u), (uint64_t) SWEEP_PAUSE_MAX_USEC);
}

/* False: too late. */
static bool sweep_again(struct attempt_run *run, loop_handler_t handler) {
        if (loop_boottime() >= run->deadline_usec)
                return false;
        loop_after(run->node->loop, &run->timer, pause_of(run->sweeps++), handler, run);
        return true;
}

/* Opens the cgroup of the attempt's unit, else the one where the shim was found. Sets run->cgroup, NULL: unknown. */
static int open_cgroup(struct attempt_run *run) {
        cleanup_free char *unit = launcher_unit_name(run->node, run->job);
        cleanup_free char *expected = unit ? cgroup_expected(LAUNCHER_SLICE, unit) : NULL;

        int fd = expected ? cgroup_open(expected) : -ENOENT;
        if (fd == -ENOENT)
                return run->cgroup ? cgroup_open(run->cgroup) : -ENOENT;
        free(run->cgroup);
        run->cgroup = steal_pointer(&expected);
        return fd;
}

static void begin_sweeper(struct attempt_run *run);
static void on_sweep(void *userdata);
static void on_turn(void *userdata);

static void sweep_cgroup(struct attempt_run *run) {
        cleanup_close int cgroup = open_cgroup(run);
        bool populated = cgroup != -ENOENT; /* unknown if it exists and cannot be opened */

        if (!run->cgroup) {
                begin_sweeper(run); /* no cgroup of the attempt is known */
                return;
        }
        if (cgroup >= 0) {
                cgroup_kill(cgroup, run->cgroup);
                populated = cgroup_is_populated(cgroup);
        }
        if (!populated)
                swept(run, NULL);
        else if (!sweep_again(run, on_sweep))
                swept(run, "some of its processes could not be killed");
}

static void on_sweep(void *userdata) { sweep_cgroup(userdata); }

static void on_sweeper(void *userdata, const siginfo_t *si) {
        struct attempt_run *run = userdata;
        bool clean = si->si_code == CLD_EXITED && si->si_status == 0;

        run->sweeper = source_free(run->sweeper);
        if (si->si_code != CLD_EXITED && sweep_again(run, on_turn)) /* it was killed: starts another */
                return;
        swept(run, clean ? NULL : "some of its processes could not be killed");
}

/* The helper hangs with the process that it reads. The loop reaps it later. */
static void on_sweeper_late(void *userdata) {
        struct attempt_run *run = userdata;

        (void) kill(run->sweeper_pid, SIGKILL);
        source_leave(run->sweeper);
        run->sweeper = NULL;
        swept(run, "not all of its processes could be found: one hangs in the kernel");
}

static void on_turn(void *userdata) { begin_sweeper(userdata); }

/* The number of helpers is limited, in total and per user, so that a user whose processes hang does not use all. */
static bool is_its_turn(const struct attempt_run *run) {
        unsigned all = 0, of_uid = 0;

        for (size_t i = 0; i < store_count(run->node->store); i++) {
                const struct job *job = store_at(run->node->store, i);
                bool sweeps = job->run && job->run->sweeper;
                all += sweeps;
                of_uid += sweeps && job->uid == run->job->uid;
        }
        return all < SWEEPERS_MAX && of_uid < SWEEPERS_OF_UID_MAX;
}

static int start_sweeper(struct attempt_run *run, uint64_t limit_usec) {
        const struct attempt *a = &run->job->attempt;
        struct sweep s = { .uid = run->job->uid,
                           .nonce = a->nonce,
                           .shim = { .pid = a->pid, .start = a->pid_start },
                           .limit_usec = limit_usec - SWEEPER_SLACK_USEC };
        pid_t keeper = keeper_find(run->node->jobs_fd, run->job);

        /* Opens it first, then checks that it still holds its lock: so the pid cannot be reused in between. */
        int known = keeper > 0 ? proc_stat(keeper, &s.keeper) : -ESRCH;
        if (known < 0 && known != -ESRCH)
                return known;
        if (known < 0 || keeper_find(run->node->jobs_fd, run->job) != keeper)
                s.keeper.pid = 0;
        pid_t pid = sweep_start(&s);
        if (pid < 0)
                return pid;
        run->sweeper_pid = pid;
        int r = loop_watch_child(run->node->loop, pid, on_sweeper, run, &run->sweeper);
        if (r >= 0) {
                loop_after(run->node->loop, &run->timer, limit_usec, on_sweeper_late, run);
                return 0;
        }
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);
        return r;
}

static void begin_sweeper(struct attempt_run *run) {
        run->waits = !is_its_turn(run);
        int r = run->waits ? 0 : start_sweeper(run, limit_of(run));
        if (r < 0 && run->job->stop_reason == STOP_NONE)
                run->deadline_usec = loop_boottime() + limit_of(run); /* the next attempt needs a process as well */
        if (r < 0 && !sweep_again(run, on_turn))
                swept(run, "cannot search for its remaining processes: no helper process");
}

static void begin_waiting(struct node *node) {
        for (size_t i = 0; i < store_count(node->store); i++) {
                struct attempt_run *run = store_at(node->store, i)->run;
                if (run && run->waits)
                        begin_sweeper(run);
        }
}

void attempt_over(struct attempt_run *run, enum exit_class exit_class, const char *text) {
        bool may_live = run->phase != PHASE_COMMITTING && strcmp(run->job->attempt.boot_id, run->node->boot_id) == 0;

        if (run->phase == PHASE_SWEEPING)
                return;
        run->phase = PHASE_SWEEPING;
        run->deadline_usec = loop_boottime() + limit_of(run);
        run->pidfd = source_free(run->pidfd);
        timer_disarm(&run->timer);
        const struct launcher *launcher = run->node->launchers[run->job->launcher];
        if (launcher) {
                launcher->forget(run->launch);
                run->launch = NULL;
                if (launcher->kill)
                        launcher->kill(run->node, run->job);
        }
        read_record(run, exit_class, text);
        if (!may_live)
                swept(run, NULL);
        else if (run->job->launcher == LAUNCHER_SYSTEMD)
                sweep_cgroup(run);
        else
                begin_sweeper(run);
}

void attempt_not_started(struct attempt_run *run, const char *text) {
        char reason[512];

        (void) snprintf(reason, sizeof(reason), "cannot be started: %.480s", text);
        attempt_over(run, EXIT_CLASS_LAUNCH, reason);
}
