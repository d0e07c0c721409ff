/*
 * See report.h. Role: progress, checkpoints, the end. Owns nothing. Invariant: reports are untrusted, so every number
 * has a bound and every path is below the job's folder.
 */
#include "daemon/attempt/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/hosts.h"
#include "common/pace.h"
#include "common/utf8.h"
#include "daemon/attempt/folder.h"
#include "daemon/attempt/live.h"
#include "daemon/rules/ledger.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"

#define NAME_BYTES 48 /* of a checkpoint below its job's folder */

/* The attempt starts from `step`, with the checkpoint `to` (NULL: none); `why` is the event's reason. */
static void begin_at(struct attempt_run *run, uint64_t step, struct checkpoint *to, const char *why) {
        struct job *job = run->job;
        struct attempt *a = &job->attempt;
        struct checkpoint *from = a->resumed ? job_checkpoint(job, a->first_step) : NULL;

        if (from && from->restored > 0) {
                from->restored--;
                from->dirty = true;
        }
        if (to) {
                to->restored++;
                to->dirty = true;
        }
        a->resumed = to != NULL;
        a->first_step = a->step = job->step = step;
        goodput_start_attempt(job);
        store_note(run->node->store, job, job->state, "begin", why);
        node_commit_soon(run->node);
}

/* A program may choose another checkpoint than BERTD_RESUME, or ignore it. */
static void take_first_step(struct attempt_run *run, uint64_t step) {
        const struct attempt *a = &run->job->attempt;
        char why[128];

        if (step >= a->first_step || run->job->kind != JOB_COMMAND)
                return;
        (void) snprintf(why, sizeof(why), "the program started from step %" PRIu64 " instead of %" PRIu64, step - 1,
                        a->first_step);
        begin_at(run, step - 1, NULL, why);
}

static void note_way_back(struct attempt_run *run, uint64_t step) {
        char why[128];

        (void) snprintf(why, sizeof(why), "from step %" PRIu64 " to %" PRIu64, run->job->attempt.step, step);
        store_note(run->node->store, run->job, run->job->state, "back", why);
        node_commit_soon(run->node);
}

static void take_step(struct attempt_run *run, uint64_t step) {
        struct job *job = run->job;

        /* A shim that knows no step yet reports 0. */
        if (step > 0 && run->clock.first_usec == 0)
                take_first_step(run, step);
        if (step <= job->attempt.first_step && run->clock.first_usec == 0)
                return;
        if (step < job->attempt.step)
                note_way_back(run, step);
        if (job->resume_abandon) {
                /* The trainer has moved newer checkpoints away before its first step. */
                job->resume_abandon = false;
                store_mark(run->node->store, job);
                node_commit_soon(run->node);
        }
        job->step = job->attempt.step = step;
        step_clock_note(&run->clock, step, loop_boottime());
}

/* The path comes from the job's user and is shown to others and used by the next attempt: it must be inside the folder.
 */
static bool may_hold(struct attempt_run *run, const struct attempt_report *report) {
        struct job *job = run->job;
        cleanup_free char *run_dir = files_run_dir(run->node->options.state_dir, job);

        if (run_dir && ledger_may_hold(job, run_dir, report->checkpoint_path))
                return true;
        if (!run->path_refused)
                log_error("job %" PRIu64 " attempt %u reported a checkpoint outside %s; not recorded", job->id,
                          job->attempt.number, run_dir ? run_dir : "its run folder");
        run->path_refused = true;
        return false;
}

static enum checkpoint_state state_of(const struct attempt_report *report) {
        return report->checkpoint_unconfirmed ? CHECKPOINT_UNCONFIRMED : CHECKPOINT_GOOD;
}

/* A repetition, e.g. from a shim without an answer. A demoted or abandoned row belongs to an older file of the same
 * step. */
static bool is_known(struct attempt_run *run, const struct attempt_report *report) {
        struct job *job = run->job;
        const struct checkpoint *newest = job_newest_good(job);
        struct error error = {};

        bool may_be_known = job->kind == JOB_COMMAND || (newest && report->checkpoint_step < newest->step);
        if (may_be_known && store_load_ledger(run->node->store, job, &error) < 0)
                log_error("job %" PRIu64 ": %s", job->id, error.text);
        const struct checkpoint *known = job_checkpoint(job, report->checkpoint_step);
        bool is = known && known->state == state_of(report) && strcmp(known->path, report->checkpoint_path) == 0;
        if (is && !job->dirty)
                job_ledger_trim(job);
        return is;
}

/* An uncommitted row stays in memory, where a user's share is limited. */
static bool has_room(struct attempt_run *run, size_t size) {
        struct job *job = run->job;
        bool has = store_has_room(run->node->store, job, size);

        if (!has && !run->told_full)
                log_error("job %" PRIu64 ": checkpoint not recorded: the jobs of uid %u have too many long paths",
                          job->id, (unsigned) job->uid);
        run->told_full |= !has;
        return has;
}

static void take_checkpoint(struct attempt_run *run, const struct attempt_report *report) {
        struct job *job = run->job;

        if (!may_hold(run, report) || is_known(run, report))
                return;
        if (!has_room(run, strlen(report->checkpoint_path) + 1))
                return;
        struct checkpoint row = { .step = report->checkpoint_step,
                                  .size = report->checkpoint_size,
                                  .created = loop_realtime(),
                                  .state = state_of(report),
                                  .attempt = job->attempt.number,
                                  .path = (char *) report->checkpoint_path,
                                  .dirty = true };
        if (job_checkpoint_add(job, &row) < 0) {
                log_error("job %" PRIu64 ": out of memory for a checkpoint's row", job->id);
                return;
        }
        ledger_overwritten(job, &row);
        if (job->kind == JOB_COMMAND)
                ledger_rolled_back(job, &row, report->has_at ? report->checkpoint_at : job->attempt.step);
        job->resume_abandon = false;
        job->attempt.checkpoint_step = report->checkpoint_step;
        char text[64];
        (void) snprintf(text, sizeof(text), "step %" PRIu64, report->checkpoint_step);
        store_note(run->node->store, job, job->state, "checkpoint", text);
        job_ledger_trim(job);
        node_commit_soon(run->node);
}

/* The shim's result. exit.json has the same and is read at the end; if it was removed only the report is left, which
 * must survive a restart of bertd. */
static void take_record(struct attempt_run *run, const char *record) {
        struct node *node = run->node;
        struct job *job = run->job;
        struct error error = {};
        cleanup_free char *run_dir = files_run_dir(node->options.state_dir, job);

        int r = run_dir ? store_load_ledger(node->store, job, &error) : error_errno(&error, ENOMEM, "run folder");
        if (r >= 0)
                r = files_use_record(record, strlen(record), job, run_dir, &run->asked, &error);
        if (r < 0) {
                if (!run->record_refused)
                        log_error("job %" PRIu64 " attempt %u: the shim's record: %s", job->id, job->attempt.number,
                                  error.text);
                run->record_refused = true;
        } else if (files_read_exit(node->jobs_fd, job, run_dir, &run->asked, &error) < 0) {
                store_mark(node->store, job);
                node_commit_soon(node);
        }
        if (!job->dirty)
                job_ledger_trim(job);
}

/* Reported numbers are untrusted: out of bounds means unknown. */
static double within(double value, double max) { return value >= 0 && value <= max ? value : (double) NAN; }

/* The shim started from another step than the ledger's: the newest file was missing, or there was a newer one. */
static void take_beginning(struct attempt_run *run, uint64_t step) {
        struct job *job = run->job;
        const struct attempt *a = &job->attempt;
        struct checkpoint *to = step > 0 ? job_checkpoint(job, step) : NULL;
        char why[128];

        if (run->began || a->step > a->first_step || (step > 0 && (!to || !checkpoint_is_usable(to))))
                return;
        run->began = true;
        if ((a->resumed ? a->first_step : 0) == step)
                return;
        (void) snprintf(why, sizeof(why), "from step %" PRIu64 "%s", step,
                        step < a->first_step ? ": newer checkpoints are missing" : "");
        begin_at(run, step, to, why);
}

/* The shim's listing of checkpoints, made as the job's user. */
static void take_news(struct attempt_run *run, const struct attempt_report *report) {
        struct node *node = run->node;
        struct job *job = run->job;
        cleanup_free char *run_dir = files_run_dir(node->options.state_dir, job);
        struct error error = {};

        struct ledger_news news = report->news;
        size_t n = news.n_found / 3;
        if (run_dir && n > 0 && !has_room(run, n * (strlen(run_dir) + NAME_BYTES)))
                news.n_found = 0; /* missing ones free memory, and the start step is valid anyway */
        if (!run_dir || store_load_ledger(node->store, job, &error) < 0) {
                log_error("job %" PRIu64 ": its checkpoints are not recorded: %s", job->id,
                          run_dir ? error.text : "out of memory");
                return;
        }
        if (ledger_take(job, run_dir, &news))
                store_mark(node->store, job);
        if (report->has_resumed)
                take_beginning(run, report->resumed_step);
        if (store_pending(node->store))
                node_commit_soon(node);
        else
                job_ledger_trim(job);
}

/* Spares may have taken the places of others. */
static void take_hosts(struct attempt_run *run, const char *names) {
        struct job *job = run->job;
        char name[BERTD_HOST_MAX + 1];
        uint32_t n = 0;

        if (job->hosts_in_use && strcmp(names, job->hosts_in_use) == 0)
                return;
        for (const char *at = names; hosts_next(&at, name); n++)
                if (n == job_n_hosts(job) || !hosts_contain(job->hosts, name))
                        return;
        if (n == 0 || n != hosts_count(names))
                return;
        char *copy = strdup(names); /* bounded by the job's own list */
        if (!copy)
                return;
        free(job->hosts_in_use);
        job->hosts_in_use = copy;
        store_mark(run->node->store, job);
        node_commit_soon(run->node);
}

/* The ratio changes often; the time is that of the rank's first report. */
static void take_slowest(struct attempt_run *run, const char *text) {
        struct pace now = {}, before = {};
        bool lags = pace_read(text, &now);
        bool same = lags && run->slowest && pace_read(run->slowest, &before) && before.rank == now.rank &&
                    host_is(before.host, now.host);

        if (!same)
                run->slowest_since = lags ? loop_realtime() : 0;
        free(run->slowest);
        run->slowest = lags ? strdup(text) : NULL;
}

int attempt_report(struct node *node, uid_t uid, const struct attempt_report *report) {
        struct job *job = store_find(node->store, report->job);

        if (job && uid != job->uid && uid != geteuid())
                return -EPERM;
        job = report->nonce ? attempt_find_open(node, report->job, report->attempt, report->nonce) : NULL;
        if (!job)
                return -ESTALE;
        struct attempt_run *run = job->run;
        if (report->status && text_is_utf8(report->status))
                job_set_text(&job->status, report->status);
        if (report->hosts_in_use && job_n_hosts(job) > 1)
                take_hosts(run, report->hosts_in_use);
        if (report->slowest)
                take_slowest(run, report->slowest);
        run->first_exit = report->first_exit;
        run->runs_on = report->runs_on;
        run->takes_checkpoints = report->takes_checkpoints > 0;
        if (report->has_steps)
                job->steps = MIN(report->steps, (uint64_t) BERTD_STEPS_MAX);
        if (report->has_loss)
                job->loss = report->loss;
        if (report->has_rate)
                job->rate = within(report->rate, BERTD_RATE_MAX);
        if (report->news.n_found > 0 || report->news.n_gone > 0 || report->has_resumed)
                take_news(run, report);
        if (report->has_step)
                take_step(run, MIN(report->step, (uint64_t) BERTD_STEPS_MAX));
        if (report->samples_last > 0 && report->samples_last >= report->samples_first &&
            report->samples_last <= BERTD_SAMPLES_MAX) {
                job->attempt.samples_first = report->samples_first;
                job->attempt.samples_last = report->samples_last;
        }
        if (report->has_stall)
                job->checkpoint_stall = within(report->checkpoint_stall, BERTD_SECONDS_MAX);
        if (report->has_write)
                job->checkpoint_write = within(report->checkpoint_write, BERTD_SECONDS_MAX);
        if (report->has_checkpoint && report->checkpoint_path && strlen(report->checkpoint_path) <= BERTD_PATH_MAX &&
            report->checkpoint_step <= BERTD_STEPS_MAX && report->checkpoint_size <= BERTD_SAMPLES_MAX)
                take_checkpoint(run, report);
        if (report->exited && report->record)
                take_record(run, report->record);
        if (report->exited)
                attempt_exited(run);
        return 0;
}
