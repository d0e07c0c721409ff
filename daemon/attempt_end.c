/*
 * See attempt_end.h. Role: closes attempts. Owns nothing: the run is attempt.c's until it is freed here.
 * Invariants: an attempt is closed only when no process of it lives (or after a bounded number of sweeps), and its tombstone is
 * written before the job may start again; the last good checkpoint is never demoted.
 */
#include "daemon/attempt_end.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/child.h"
#include "daemon/files.h"
#include "daemon/launcher.h"
#include "daemon/ledger.h"
#include "daemon/log.h"
#include "daemon/process.h"
#include "daemon/reasons.h"

#define SWEEP_INTERVAL_USEC 20000
#define SWEEPS_MAX 500 /* 10 s: what is left then hangs in the kernel */

/* Without it the newest good checkpoint alone is known: the job goes on from there. */
static void load_ledger(struct manager *manager, struct job *job) {
        struct error error = {};

        if (store_load_ledger(manager->store, job, &error) < 0)
                log_error("job %" PRIu64 ": %s", job->id, error.text);
}

static void read_record(struct attempt_run *run, enum exit_class exit_class, const char *text) {
        struct attempt *a = &run->job->attempt;
        struct error error = {};
        cleanup_free char *run_dir = files_run_dir(run->manager->options.state_dir, run->job);

        a->exit_class = (int) exit_class;
        job_set_text(&a->reason, text);
        if (exit_class == EXIT_CLASS_LAUNCH || !run_dir)
                return;
        load_ledger(run->manager, run->job);
        int r = files_read_exit(run->manager->jobs_fd, run->job, run_dir, &run->asked, &error);
        if (r < 0 && r != -ENOENT)
                log_error("job %" PRIu64 " attempt %u: %s", run->job->id, a->number, error.text);
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

struct outcome {
        enum job_event event;
        char reason[1024];
};

#define POLICY_TEXT_MAX 256

/* The next attempt begins at `step` and first moves newer files away: retention would count them as good ones. */
static void go_back(struct job *job, uint64_t step) {
        job->resume_from = step;
        job->resume_abandon = true;
}

static void apply_policy(struct manager *manager, struct job *job, struct policy_decision *ret,
                         char text[POLICY_TEXT_MAX]) {
        struct policy_config config = { .max_without_progress = job->max_without_progress,
                                        .backoff_min_sec = job->backoff_min_sec,
                                        .backoff_max_sec = job->backoff_max_sec,
                                        .nan_rollback = job->on_nan == ON_NAN_ROLLBACK };
        uint64_t good[LEDGER_MAX];
        uint32_t random = 0;

        (void) !getrandom(&random, sizeof(random), GRND_NONBLOCK);
        policy_decide(&config, job->history, job->n_history, good, ledger_good_steps(job, good, LEDGER_MAX), random,
                      ret);
        (void) reason_of_decision(ret, &config, text, POLICY_TEXT_MAX);
        struct checkpoint *bad = ret->demote ? job_checkpoint(job, ret->demote_step) : NULL;
        if (bad) {
                bad->state = CHECKPOINT_DEMOTED;
                bad->dirty = true;
                const struct checkpoint *older = job_newest_good(job);
                go_back(job, older ? older->step : 0);
                store_note(manager->store, job, job->state, "demote", text);
        }
        if (ret->rollback) {
                ledger_abandon_newer(job, ret->rollback_step);
                go_back(job, ret->rollback_step);
                store_note(manager->store, job, job->state, "rollback", text);
        }
        if (ret->action == POLICY_RETRY) {
                job->not_before = clock_realtime_usec() + ret->delay_usec;
                job->wake_boottime = clock_boottime_usec() + ret->delay_usec;
        }
}

static void judge(struct manager *manager, struct job *job, struct outcome *ret) {
        static const enum job_event events[] = { [POLICY_DONE] = EVENT_FINISHED,
                                                 [POLICY_REQUEUE] = EVENT_REQUEUE,
                                                 [POLICY_RETRY] = EVENT_RETRY,
                                                 [POLICY_FAIL] = EVENT_GAVE_UP };
        const struct attempt *a = &job->attempt;
        struct policy_death death = { .exit_class = (enum exit_class) a->exit_class,
                                      .resumed = a->resumed,
                                      .first_step = a->first_step,
                                      .step = a->step,
                                      .checkpoint_step = a->checkpoint_step };
        struct policy_decision decision;
        char text[POLICY_TEXT_MAX];

        if (job_history_add(job, &death) < 0) {
                /* Without memory for the history the policy cannot judge: the mildest assumption is a back-off. */
                job->not_before = clock_realtime_usec() + job->backoff_max_sec * USEC_PER_SEC;
                job->wake_boottime = clock_boottime_usec() + job->backoff_max_sec * USEC_PER_SEC;
                *ret = (struct outcome) { .event = EVENT_RETRY };
                return;
        }
        apply_policy(manager, job, &decision, text);
        ret->event = events[decision.action];
        if (decision.action == POLICY_DONE)
                return;
        char samples[64] = "";
        if (decision.cause == CAUSE_SAME_STEP && a->samples_last > 0)
                (void) snprintf(samples, sizeof(samples), " (samples %" PRIu64 " to %" PRIu64 ")", a->samples_first,
                                a->samples_last);
        int n = snprintf(ret->reason, sizeof(ret->reason), "%s%s%s%s", a->reason ? a->reason : "",
                         a->reason && text[0] ? "; " : "", text, samples);
        if (decision.action == POLICY_RETRY && n >= 0 && (size_t) n < sizeof(ret->reason))
                (void) snprintf(ret->reason + n, sizeof(ret->reason) - (size_t) n, "%sagain in %.1f s",
                                n > 0 ? "; " : "", (double) decision.delay_usec / (double) USEC_PER_SEC);
}

/* A wish decides over what the exit says, but finished work is finished, unless cancelled. A command that was `asked` to end may say 0
 * and not be finished. */
static void decide(struct manager *manager, struct job *job, bool asked, struct outcome *ret) {
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
                judge(manager, job, ret);
        }
}

static void drop_scratch(struct manager *manager, struct job *job) {
        if (job->kind == JOB_COMMAND || job->ranks <= 1)
                return;
        cleanup_free char *path =
                files_scratch(job, manager->launchers[job->launcher] && manager->launchers[job->launcher]->private_shm);
        if (path)
                (void) child_remove_tree(manager, job, path, NULL);
}

static void close_attempt(struct attempt_run *run) {
        struct manager *manager = run->manager;
        struct job *job = run->job;
        struct attempt *a = &job->attempt;
        struct error error = {};
        struct outcome outcome;
        struct step_clock clock = run->clock;
        bool asked = run->asked;

        attempt_run_free(run);
        if (files_close_attempt(manager->jobs_fd, job, &error) < 0)
                log_error("%s", error.text);
        drop_scratch(manager, job);
        load_ledger(manager, job);
        const struct checkpoint *newest = job_newest_good(job);
        a->checkpoint_step = newest ? newest->step : 0;
        a->open = false;
        a->ended = clock_realtime_usec();
        complete_reason(a);
        job_set_text(&job->status, NULL);
        job->exit_code = a->exit_code;
        job->exit_class = a->exit_class;
        job->step = a->step;
        goodput_close_attempt(job, &clock, a->exit_class == EXIT_CLASS_FINISHED);
        decide(manager, job, asked, &outcome);
        job->wish = WISH_NONE;
        log_info("job %" PRIu64 " attempt %u: %s%s%s", job->id, a->number, exit_class_name(a->exit_class),
                 a->reason ? ": " : "", a->reason ? a->reason : "");
        (void) manager_move(manager, job, outcome.event, outcome.reason);
        manager_account(manager);
        manager_arm_wake(manager);
        manager_plan_soon(manager);
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata);

static void sweep(struct attempt_run *run) {
        struct job *job = run->job;

        if (run->cgroup)
                process_kill_cgroup(run->cgroup);
        int found = process_sweep(job->uid, job->attempt.nonce);
        if (found != 0 && ++run->sweeps < SWEEPS_MAX) {
                run->timer = sd_event_source_disable_unref(run->timer);
                if (sd_event_add_time_relative(run->manager->loop, &run->timer, CLOCK_BOOTTIME, SWEEP_INTERVAL_USEC, 1,
                                               on_sweep, run) >= 0)
                        return;
        }
        if (found > 0)
                log_error("job %" PRIu64 " attempt %u: %d processes cannot be killed", job->id, job->attempt.number,
                          found);
        if (found < 0)
                log_error("job %" PRIu64 " attempt %u: leftovers cannot be looked for: %s", job->id,
                          job->attempt.number, strerror(-found));
        close_attempt(run);
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata) {
        sweep(userdata);
        return 0;
}

void attempt_over(struct attempt_run *run, enum exit_class exit_class, const char *text) {
        if (run->phase == PHASE_SWEEPING)
                return;
        run->phase = PHASE_SWEEPING;
        run->pidfd = sd_event_source_disable_unref(run->pidfd);
        run->timer = sd_event_source_disable_unref(run->timer);
        const struct launcher *launcher = run->manager->launchers[run->job->launcher];
        if (launcher) {
                launcher->forget(run);
                if (launcher->kill)
                        launcher->kill(run->manager, run->job);
        }
        read_record(run, exit_class, text);
        sweep(run);
}
