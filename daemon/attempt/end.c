/*
 * See end.h. Role: closes attempts. Owns nothing: the run is attempt.c's until it is freed here.
 * Invariants: an attempt is closed only when no process of it lives (or when the sweep's time is over), and its tombstone is written
 * before the job may start again; the last good checkpoint is never demoted. Nothing here waits for a process: what may block a helper
 * reads (sweep.h).
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

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/launch/cgroup.h"
#include "daemon/launch/user_task.h"
#include "daemon/attempt/folder.h"
#include "daemon/launch/keeper.h"
#include "daemon/launch/launcher.h"
#include "daemon/rules/ledger.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/rules/reasons.h"
#include "daemon/launch/sweep.h"
#include "daemon/node/transition.h"

#define SWEEP_LIMIT_USEC (10 * USEC_PER_SEC)    /* what is left then hangs in the kernel */
#define SWEEP_LIMIT_NOW_USEC (5 * USEC_PER_SEC) /* of `cancel --now`, after which no next attempt begins */
#define SWEEPER_SLACK_USEC USEC_PER_SEC         /* the helper's own limit is so much earlier than ours */
#define SWEEP_PAUSE_MIN_USEC UINT64_C(20000)
#define SWEEP_PAUSE_MAX_USEC 500000
#define SWEEPERS_MAX 32
#define SWEEPERS_OF_UID_MAX 4
#define EXIT_NOT_EXECUTABLE 126 /* as shells have it */
#define EXIT_NOT_FOUND 127
#define SOON_USEC (60 * USEC_PER_SEC)

/* Without it the newest good checkpoint alone is known: the job goes on from there. */
static void load_ledger(struct node *node, struct job *job) {
        struct error error = {};

        if (store_load_ledger(node->store, job, &error) < 0)
                log_error("job %" PRIu64 ": %s", job->id, error.text);
}

/* What the shim wrote or reported (attempt.c) goes before what is seen from here. */
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
                          reported ? "; ended as its shim reported" : "");
}

/* What the exit record left unsaid. */
static void complete_reason(struct attempt *a) {
        if (a->reason)
                return;
        if (a->signal != 0)
                a->reason = format_string("killed by signal %d (%s)", a->signal, strsignal(a->signal));
        else if (a->exit_code > 0)
                a->reason = format_string("exit code %d", a->exit_code);
}

/* A clock that was set back meanwhile makes nothing late. */
static bool soon(const struct attempt *a) { return a->step <= a->first_step && a->ended < a->started + SOON_USEC; }

/* The program could not be started, or a shell says so of its own. */
static bool was_not_started(const struct attempt *a) {
        bool code = a->exit_code == EXIT_NOT_EXECUTABLE || a->exit_code == EXIT_NOT_FOUND;

        return (a->exit_class == EXIT_CLASS_LAUNCH && a->exit_code >= 0) ||
               (a->exit_class == EXIT_CLASS_USER_ERROR && code) ||
               (a->exit_class == EXIT_CLASS_FAILED && code && soon(a));
}

/* An interpreter's word of what it is to run: "python3 train.py" ends so, "sh train.sh" with fewer words. The same usage was right before. */
static bool lacks_file(const struct attempt *a) {
        static const char *const words[] = { "No such file", "can't cd to", "Stale file handle",
                                             "Transport endpoint is not connected", "Input/output error" };
        const char *text = attempt_private(a);

        if (a->exit_class != EXIT_CLASS_USER_ERROR || a->exit_code != BERTD_EXIT_USAGE || !soon(a) || !text)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strstr(text, words[i]))
                        return true;
        return false;
}

/* What a job lacks that has had it before may come back: a file system that is mounted late, a program that is being installed. In a
 * first attempt it is the user's mistake. */
static bool is_missing(struct node *node, const struct job *job) {
        const struct attempt *a = &job->attempt;
        struct error error = {};
        bool ran = true;

        if (a->exit_class == EXIT_CLASS_USER_ERROR && a->exit_code == BERTD_EXIT_INPUT)
                return job_has_stepped(job);
        if (!was_not_started(a) && !lacks_file(a))
                return false;
        if (store_has_run(node->store, job, &ran, &error) < 0)
                log_error("job %" PRIu64 ": %s", job->id, error.text);
        return ran;
}

struct outcome {
        enum job_event event;
        char reason[1024], private[1024]; /* private: "" = reason */
};

#define POLICY_TEXT_MAX 256

/* The next attempt begins at `step` and first moves newer files away: retention would count them as good ones. */
static void go_back(struct job *job, uint64_t step) {
        job->resume_from = step;
        job->resume_abandon = true;
}

static void wait_until(struct job *job, uint64_t usec) {
        job->not_before = loop_realtime() + usec;
        job->wake_boottime = loop_boottime() + usec;
}

/* Where they cannot be read the back-off alone holds the job. */
static uint64_t starts_wait(struct node *node, const struct job *job) {
        struct error error = {};
        uint64_t now = loop_realtime(), oldest = now;
        uint32_t n = 0;

        if (store_starts(node->store, job, now - POLICY_STARTS_SEC * USEC_PER_SEC, now, &n, &oldest, &error) < 0)
                log_error("%s", error.text);
        return policy_starts_wait(n, oldest, now);
}

static void apply_policy(struct node *node, struct job *job, bool unasked, struct policy_decision *ret,
                         char text[POLICY_TEXT_MAX]) {
        struct policy_config config = { .max_without_progress = job->max_without_progress,
                                        .backoff_min_sec = job->backoff_min_sec,
                                        .backoff_max_sec = job->backoff_max_sec,
                                        .nan_rollback = job->on_nan == ON_NAN_ROLLBACK,
                                        .reports = job_reports(job) };
        uint64_t good[LEDGER_MAX];
        struct policy_case c = { .history = job->history,
                                 .n = job->n_history,
                                 .counters = job_counters(job),
                                 .good = good,
                                 .n_good = ledger_good_steps(job, good, LEDGER_MAX),
                                 .starts_wait_usec = starts_wait(node, job),
                                 .unasked = unasked };

        (void) !getrandom(&c.random, sizeof(c.random), GRND_NONBLOCK);
        policy_decide(&config, &c, ret);
        (void) reason_of_decision(ret, &config, text, POLICY_TEXT_MAX);
        struct checkpoint *bad = ret->demote ? job_checkpoint(job, ret->demote_step) : NULL;
        if (bad) {
                bad->state = CHECKPOINT_DEMOTED;
                bad->dirty = true;
                const struct checkpoint *older = job_newest_good(job);
                go_back(job, older ? older->step : 0);
                store_note(node->store, job, job->state, "demote", text);
        }
        if (ret->rollback) {
                ledger_abandon_newer(job, ret->rollback_step);
                go_back(job, ret->rollback_step);
                store_note(node->store, job, job->state, "rollback", text);
        }
        if (ret->action == POLICY_RETRY)
                wait_until(job, ret->delay_usec);
}

/* The death, what the policy makes of it (`parts`: its words, the samples, the delay). */
static void put_reason(char *buffer, size_t size, const char *death, const char *const parts[3]) {
        const char *text = parts[0], *samples = parts[1], *delay = parts[2];
        bool said = death && death[0], more = said || text[0] || samples[0];

        (void) snprintf(buffer, size, "%s%s%s%s%s%s", said ? death : "", said && text[0] ? "; " : "", text, samples,
                        more && delay[0] ? "; " : "", delay);
}

static void judge(struct node *node, struct job *job, bool asked, struct outcome *ret) {
        static const enum job_event events[] = {
                [POLICY_DONE] = EVENT_FINISHED, [POLICY_RETRY] = EVENT_RETRY, [POLICY_FAIL] = EVENT_GAVE_UP
        };
        const struct attempt *a = &job->attempt;
        bool unasked = !asked && a->exit_class == EXIT_CLASS_STOPPED && a->exit_code == BERTD_EXIT_STOPPED;
        struct policy_death death = job_death(a);
        struct policy_decision decision;
        char text[POLICY_TEXT_MAX];

        if (job_history_add(job, &death) < 0) {
                /* Without memory for the history the policy cannot judge: the mildest assumption is a back-off. */
                wait_until(job, MAX(job->backoff_max_sec, 1) * USEC_PER_SEC);
                *ret = (struct outcome) { .event = EVENT_RETRY };
                return;
        }
        struct policy_counters deaths = job_counters(job);
        policy_count(&deaths, job->history, job->n_history);
        job_set_counters(job, deaths);
        apply_policy(node, job, unasked, &decision, text);
        ret->event = events[decision.action];
        if (decision.action == POLICY_DONE)
                return;
        char samples[64] = "";
        if (decision.cause == CAUSE_SAME_STEP && a->samples_last > 0)
                (void) snprintf(samples, sizeof(samples), " (samples %" PRIu64 " to %" PRIu64 ")", a->samples_first,
                                a->samples_last);
        char delay[POLICY_TEXT_MAX] = "";
        if (decision.action == POLICY_RETRY)
                (void) reason_of_delay(&decision, job->not_before, delay, sizeof(delay));
        const char *const parts[] = { text, samples, delay };
        put_reason(ret->reason, sizeof(ret->reason), a->reason, parts);
        if (a->private)
                put_reason(ret->private, sizeof(ret->private), a->private, parts);
}

static void add_more(char *buffer, size_t size, const char *whole, const char *more) {
        size_t n = strlen(buffer);

        (void) snprintf(buffer + n, size - n, "%s%s", n > 0 ? "; " : "", n == 0 && whole ? whole : more);
}

/* A job that is done, or ended as it was asked to, needs no reason of its attempt's, unless that says more. */
static void say_more(const struct attempt *a, struct outcome *ret) {
        if (!a->more)
                return;
        (void) snprintf(ret->private, sizeof(ret->private), "%s", ret->reason);
        add_more(ret->private, sizeof(ret->private), attempt_private(a), a->more_private ? a->more_private : a->more);
        add_more(ret->reason, sizeof(ret->reason), a->reason, a->more);
}

/* A wish decides over what the exit says, but finished work is finished, unless cancelled. A command that was `asked` to end may say 0
 * and not be finished. */
static void decide(struct node *node, struct job *job, bool asked, struct outcome *ret) {
        bool finished = job->attempt.exit_class == EXIT_CLASS_FINISHED && !(asked && job->kind == JOB_COMMAND);

        *ret = (struct outcome) {};
        switch (job->wish) {
        case WISH_CANCEL:
        case WISH_CANCEL_NOW:
                ret->event = EVENT_CANCELLED;
                (void) snprintf(ret->reason, sizeof(ret->reason), "cancelled");
                break;
        case WISH_PAUSE:
                ret->event = finished ? EVENT_FINISHED : EVENT_PAUSED;
                (void) snprintf(ret->reason, sizeof(ret->reason), "%s", finished ? "" : "paused");
                break;
        case WISH_SHUTDOWN:
                ret->event = finished ? EVENT_FINISHED : EVENT_REQUEUE;
                (void) snprintf(ret->reason, sizeof(ret->reason), "%s", finished ? "" : "stopped with the daemon");
                break;
        default:
                judge(node, job, asked, ret);
        }
        if (ret->event != EVENT_RETRY && ret->event != EVENT_GAVE_UP)
                say_more(&job->attempt, ret);
}

static void drop_scratch(struct node *node, struct job *job) {
        if (job->kind == JOB_COMMAND || job->ranks <= 1)
                return;
        cleanup_free char *path =
                files_scratch(job, node->launchers[job->launcher] && node->launchers[job->launcher]->private_shm);
        cleanup_strv struct strv paths = {};

        if (!path || !files_is_folder(path))
                return;
        strv_add(&paths, path);
        if (child_remove_paths(node, job, "rm", &paths, NULL, NULL) < 0)
                log_error("job %" PRIu64 ": %s is left", job->id, path);
}

static void close_attempt(struct attempt_run *run) {
        struct node *node = run->node;
        struct job *job = run->job;
        struct attempt *a = &job->attempt;
        struct error error = {};
        struct outcome outcome;
        struct step_clock clock = run->clock;
        bool asked = run->asked;

        if (run->link)
                run->link->calls->drop(
                        run->link); /* whoever holds it now is no shim: it would be counted as nobody's */
        attempt_run_free(run);
        if (files_close_attempt(node->jobs_fd, job, &error) < 0)
                log_error("%s", error.text);
        drop_scratch(node, job);
        load_ledger(node, job);
        const struct checkpoint *newest = job_newest_good(job);
        a->checkpoint_step = newest ? newest->step : 0;
        a->open = false;
        a->ended = loop_realtime();
        complete_reason(a);
        if (is_missing(node, job))
                a->exit_class = EXIT_CLASS_MISSING;
        job_set_text(&job->status, NULL);
        job->exit_code = a->exit_code;
        job->exit_class = a->exit_class;
        job->step = a->step;
        goodput_close_attempt(job, &clock, a->exit_class == EXIT_CLASS_FINISHED);
        goodput_note_lost(job);
        decide(node, job, asked, &outcome);
        job->wish = WISH_NONE;
        log_info("job %" PRIu64 " attempt %u: %s%s%s", job->id, a->number, exit_class_name(a->exit_class),
                 a->reason ? ": " : "", a->reason ? a->reason : "");
        (void) node_move_privately(node, job, outcome.event, outcome.reason,
                                   outcome.private[0] ? outcome.private : NULL);
        node_account(node);
        node_plan_soon(node);
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
        return run->job->wish == WISH_CANCEL_NOW ? SWEEP_LIMIT_NOW_USEC : SWEEP_LIMIT_USEC;
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

/* Where systemd put the attempt's unit, else where the shim was seen. The path is in run->cgroup, NULL: none is known. */
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
        bool populated = cgroup != -ENOENT; /* not known, where it is there and cannot be opened */

        if (!run->cgroup) {
                begin_sweeper(run); /* of the attempt none has been seen */
                return;
        }
        if (cgroup >= 0) {
                cgroup_kill(cgroup, run->cgroup);
                populated = cgroup_is_populated(cgroup);
        }
        if (!populated)
                swept(run, NULL);
        else if (!sweep_again(run, on_sweep))
                swept(run, "processes of it cannot be killed and live on");
}

static void on_sweep(void *userdata) { sweep_cgroup(userdata); }

static void on_sweeper(void *userdata, const siginfo_t *si) {
        struct attempt_run *run = userdata;
        bool clean = si->si_code == CLD_EXITED && si->si_status == 0;

        run->sweeper = source_free(run->sweeper);
        if (si->si_code != CLD_EXITED && sweep_again(run, on_turn)) /* it was killed: another is begun */
                return;
        swept(run, clean ? NULL : "processes of it cannot be killed and live on");
}

/* The helper hangs with the process that it looks at. It is left to the loop, which reaps it one day. */
static void on_sweeper_late(void *userdata) {
        struct attempt_run *run = userdata;

        (void) kill(run->sweeper_pid, SIGKILL);
        source_leave(run->sweeper);
        run->sweeper = NULL;
        swept(run, "not all of its processes could be looked for: one hangs in the kernel");
}

static void on_turn(void *userdata) { begin_sweeper(userdata); }

/* Helpers are few, and of one user's attempts fewer, so that a user whose processes hang does not take all. */
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

        /* First who it is, then whether it still holds its lock: so the number cannot change hands in between. */
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
        if (r < 0 && run->job->wish == WISH_NONE)
                run->deadline_usec = loop_boottime() + limit_of(run); /* the next attempt needs a process, too */
        if (r < 0 && !sweep_again(run, on_turn))
                swept(run, "what is left of it cannot be looked for: no helper process");
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
