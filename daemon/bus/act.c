/*
 * See act.h. Role: submit, what changes a job, and what is read of one. Owns nothing. Invariants: what an act alters it
 * has saved first, or inserted, so that it can be undone; nothing here knows a bus or a message.
 */
#include "daemon/bus/act.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/hosts.h"
#include "daemon/attempt/live.h"
#include "daemon/base/log.h"
#include "daemon/base/process.h"
#include "daemon/base/reserve.h"
#include "daemon/bus/submit.h"
#include "daemon/node/transition.h"
#include "daemon/plan/schedule.h"
#include "daemon/rules/ledger.h"
#include "daemon/rules/past.h"

void act_clear(struct act *a) {
        job_free(a->loaded);
        if (a->has_saved)
                job_saved_free(&a->saved);
        a->loaded = NULL;
        a->has_saved = false;
}

void act_undo(struct act *a) {
        if (a->has_saved) {
                job_restore(a->job, &a->saved);
                job_ledger_trim(a->job);
                a->has_saved = false;
        } else if (a->inserted) {
                store_drop(a->node->store, a->job);
        }
}

int act_refuse(struct act *a, const char *name, const char *format, ...) {
        va_list args;

        a->refusal->name = name;
        va_start(args, format);
        (void) vsnprintf(a->refusal->text, sizeof(a->refusal->text), format, args);
        va_end(args);
        return -EREMOTEIO;
}

bool act_may_act_for(const struct act *a, uid_t uid) { return a->uid == 0 || a->uid == uid || a->uid == geteuid(); }

int act_check_admin(struct act *a) {
        if (act_may_act_for(a, geteuid()))
                return 0;
        return act_refuse(a, BERTD_ERROR_ACCESS_DENIED, "only root or the daemon's user may do this");
}

int act_find_job(struct act *a, uint64_t id, bool owner_only) {
        struct error error = {};
        int r = 0;

        act_clear(a); /* it may have been asked before */
        a->job = store_find(a->node->store, id);
        if (store_is_removed(a->node->store, id)) {
                a->job = NULL;
        } else if (!a->job) {
                r = store_load(a->node->store, id, &a->loaded, &error);
                a->job = a->loaded;
        }
        if (r < 0 && r != -ENOENT)
                return act_refuse(a, BERTD_ERROR_STORAGE, "%s", error.text);
        if (!a->job)
                return act_refuse(a, BERTD_ERROR_NO_SUCH_JOB, "no job %" PRIu64, id);
        a->owner = act_may_act_for(a, a->job->uid);
        if (owner_only && !a->owner)
                return act_refuse(a, BERTD_ERROR_ACCESS_DENIED, "job %" PRIu64 " belongs to %s", id, a->job->user);
        return 0;
}

/* ---- submit ---- */

int act_may_submit(struct act *a) {
        if (a->node->draining)
                return act_refuse(a, BERTD_ERROR_STOPPING, "the daemon is shutting down");
        /* Without privileges every job runs as we do. */
        if (geteuid() != 0 && a->uid != geteuid())
                return act_refuse(a, BERTD_ERROR_ACCESS_DENIED,
                                  "this daemon only runs jobs of the user who started it");
        return 0;
}

/* Root's daemon may set any limit; for a user it sets none above those of the calling process. */
static int take_limits(const struct act *a, struct submission *submission, struct error *error) {
        struct rlimit own[RLIM_NLIMITS];

        if (geteuid() != 0 || a->uid == 0)
                return 0;
        int r = process_limits(a->pid, a->uid, own);
        if (r < 0)
                return error_errno(error, -r, "the limits of the calling process cannot be read");
        submission_clamp_limits(submission, own);
        return 0;
}

/* Two trainers would take each other's checkpoints for their own. Another user's job keeps no one out: the folder's
 * permissions and the trainer's own lock there decide. */
static const struct job *other_trainer_in(const struct node *node, const struct submission *s, uid_t uid) {
        bool trains = s->kind != JOB_COMMAND || s->continues;

        for (size_t i = 0; s->run_dir && trains && i < store_count(node->store); i++) {
                const struct job *job = store_at(node->store, i);
                if ((job->kind != JOB_COMMAND || s->continues) && job->run_dir && job->uid == uid &&
                    !state_has_ended(job->state) && strcmp(job->run_dir, s->run_dir) == 0)
                        return job;
        }
        return NULL;
}

int act_check_submission(struct act *a, struct submission *submission) {
        const struct node_options *options = &a->node->options;
        struct submit_host host = { .slots = options->slots,
                                    .gpus = options->gpus.n,
                                    .limits = options->launcher == LAUNCHER_SYSTEMD };
        struct error error = {};
        bool too_large = false;

        int r = submission_check(submission, &host, &too_large, &error);
        if (r >= 0)
                r = take_limits(a, submission, &error);
        if (r < 0)
                return act_refuse(a, too_large ? BERTD_ERROR_TOO_LARGE : BERTD_ERROR_INVALID_SPEC, "%s", error.text);
        return 0;
}

int act_submit(struct act *a, const struct submission *submission, gid_t gid, const char *user) {
        struct node *node = a->node;
        struct error error = {};

        const struct job *other = other_trainer_in(node, submission, a->uid);
        if (other)
                return act_refuse(a, BERTD_ERROR_INVALID_SPEC,
                                  "run_dir: in use by job %" PRIu64 " (%s); give another folder", other->id,
                                  job_state_name(other->state));
        int r = store_insert(node->store, submission, a->uid, gid, user, node->options.launcher, &a->job, &error);
        if (r == -EDQUOT)
                return act_refuse(a, BERTD_ERROR_QUOTA, "%s", error.text);
        if (r < 0)
                return act_refuse(a, BERTD_ERROR_STORAGE, "%s: nothing was changed", error.text);
        a->inserted = true;
        if (submission->continues) {
                past_take(a->job, submission);
                store_mark(node->store, a->job);
        }
        return 0;
}

void act_submitted(struct act *a) { schedule_add(a->node, a->job); }

/* ---- changing ---- */

static int wrong_state(struct act *a, const char *what) {
        enum job_state state = a->job->state;
        bool removes = strcmp(what, "remove") == 0, later = removes || strcmp(what, "resume") == 0;
        const char *command = later && state == JOB_STOPPING ? "wait" : removes ? "cancel" : NULL;
        char cure[128] = "";

        if (command)
                (void) snprintf(cure, sizeof(cure), "; `bertctl %s %" PRIu64 "` %s, after which it can be %sd", command,
                                a->job->id, state == JOB_STOPPING ? "waits until it has ended" : "ends it", what);
        return act_refuse(a, BERTD_ERROR_WRONG_STATE, "job %" PRIu64 " is %s: cannot %s it%s", a->job->id,
                          job_state_name(state), what, cure);
}

static int refuse_lease(struct act *a, const char *what) {
        return act_refuse(a, BERTD_ERROR_WRONG_STATE,
                          "job %" PRIu64 " is a lease of %s: cannot %s it; `bertctl cancel %" PRIu64 "` ends it",
                          a->job->id, a->job->lease_of, what, a->job->id);
}

/* Before the first thing that a change alters. */
static int save(struct act *a) {
        int r = job_save(a->job, &a->saved);

        a->has_saved = r >= 0;
        return r;
}

/* Its on_exit is started first, which has to wait for others' now and then. 1: not yet. */
static int wait_for_exit(struct act *a) {
        if (a->job->exit_owed == EXIT_OWED_NONE)
                return 0;
        if (!a->last)
                return 1;
        return act_refuse(a, BERTD_ERROR_WRONG_STATE,
                          "job %" PRIu64 ": its on_exit has not been started yet: at most %d per user and %d in "
                          "total run at a time; try again when others have ended",
                          a->job->id, BERTD_ON_EXIT_OF_UID_MAX, BERTD_ON_EXIT_MAX);
}

/* Pause, cancel: from a state without an attempt it is done at once, else the shim is asked. */
static int stop_job(struct act *a, enum job_event event, enum stop_reason reason, const char *what) {
        struct job *job = a->job;
        struct transition t = state_after(job->state, event);

        if (t.verdict == STATE_REFUSE ||
            (job->state == JOB_STOPPING && job->stop_reason > reason && reason == STOP_PAUSE))
                return wrong_state(a, what);
        int r = save(a);
        if (r < 0)
                return r;
        if (state_holds_resources(job->state) && reason > job->stop_reason)
                job->stop_reason = reason;
        if (node_move(a->node, job, event, what) != STATE_MOVE && job->state == JOB_STOPPING)
                store_note(a->node->store, job, job->state, job_event_name(event), "");
        job->stop_due = job->state == JOB_STOPPING;
        node_plan_soon(a->node);
        return 0;
}

int act_cancel(struct act *a, bool now) {
        return stop_job(a, EVENT_CANCEL, now ? STOP_CANCEL_NOW : STOP_CANCEL, "cancel");
}

int act_pause(struct act *a) {
        return job_is_lease(a->job) ? refuse_lease(a, "pause") : stop_job(a, EVENT_PAUSE, STOP_PAUSE, "pause");
}

static int check_resume(struct act *a, const struct resume_options *o) {
        const struct job *job = a->job;
        uint64_t slots = (uint64_t) o->ranks * job->threads, host = a->node->options.slots;

        if (o->has_ranks && (o->ranks < 1 || o->ranks > BERTD_RANKS_MAX))
                return act_refuse(a, BERTD_ERROR_INVALID_SPEC, "ranks: is %u, expected 1 to %d", o->ranks,
                                  BERTD_RANKS_MAX);
        if (o->has_ranks && slots > host)
                return act_refuse(a, BERTD_ERROR_TOO_LARGE,
                                  "ranks × threads: %u × %u = %" PRIu64 " slots, this host has %" PRIu64, o->ranks,
                                  job->threads, slots, host);
        if (o->has_use && (o->use < 1 || o->use > MAX(hosts_count(job->hosts), 1u)))
                return act_refuse(a, BERTD_ERROR_INVALID_SPEC, "use: is %u, but job %" PRIu64 " has %u hosts", o->use,
                                  job->id, MAX(hosts_count(job->hosts), 1u));
        if (!o->has_from)
                return 0;
        const struct checkpoint *c = job_checkpoint(job, o->from);
        if (!c || (!checkpoint_is_usable(c) && c->state != CHECKPOINT_DEMOTED))
                return act_refuse(a, BERTD_ERROR_NO_SUCH_CHECKPOINT,
                                  "job %" PRIu64 " has no checkpoint of step %" PRIu64, job->id, o->from);
        return 0;
}

/* An ended job comes into memory; undone, it has ended again and leaves memory as those do. */
static int bring_back(struct act *a) {
        struct error error = {};

        if (a->loaded && store_check_share(a->node->store, a->job, &error) < 0)
                return act_refuse(a, BERTD_ERROR_QUOTA, "%s", error.text);
        int r = save(a);
        if (r >= 0 && a->loaded)
                r = store_adopt(a->node->store, a->job);
        if (r >= 0)
                a->loaded = NULL;
        return r;
}

static void resume_from(struct job *job, uint64_t step) {
        struct checkpoint *c = job_checkpoint(job, step);

        c->state = CHECKPOINT_GOOD;
        c->dirty = true;
        ledger_abandon_newer(job, step);
        job->resume_from = step;
        job->resume_abandon = true;
}

int act_resume(struct act *a, const struct resume_options *o) {
        struct job *job = a->job;

        if (job_is_lease(job))
                return act_refuse(a, BERTD_ERROR_WRONG_STATE, "job %" PRIu64 " was a lease of %s: cannot resume it",
                                  job->id, job->lease_of);
        if (state_after(job->state, EVENT_RESUME).verdict != STATE_MOVE)
                return wrong_state(a, "resume");
        int r = wait_for_exit(a);
        if (r != 0)
                return r;
        if (o->has_from)
                r = act_ledger(a);
        if (r >= 0)
                r = check_resume(a, o);
        if (r >= 0)
                r = bring_back(a);
        if (r < 0)
                return r;
        if (o->has_ranks)
                job->ranks = o->ranks;
        if (o->has_use)
                job->use = o->use;
        if (o->has_from)
                resume_from(job, o->from);
        job->n_history = 0;
        job_set_counters(job, (struct policy_counters) {});
        job->history_from = job->attempt.number;
        free(steal_pointer(&job->host_state)); /* a host that cooled down may be used at once, too */
        job->exit_code = job->exit_class = -1;
        job->wait = (struct queue_entry) {};
        (void) node_move(a->node, job, EVENT_RESUME, NULL);
        node_plan_soon(a->node);
        return 0;
}

int act_checkpoint(struct act *a) {
        if (job_is_lease(a->job))
                return refuse_lease(a, "take a checkpoint of");
        if (a->job->state != JOB_RUNNING)
                return wrong_state(a, "take a checkpoint of");
        if (a->job->kind == JOB_COMMAND && !attempt_takes_checkpoints(a->job))
                return act_refuse(a, BERTD_ERROR_WRONG_STATE,
                                  "job %" PRIu64 ": its program has not declared a checkpoint signal; "
                                  "see X_BERTD_SIGNALS in bertd-job(5)",
                                  a->job->id);
        if (attempt_checkpoint(a->job) < 0)
                return act_refuse(a, BERTD_ERROR_WRONG_STATE, "job %" PRIu64 ": its shim is not connected; try again",
                                  a->job->id);
        return 0;
}

int act_remove(struct act *a) {
        if (state_after(a->job->state, EVENT_REMOVE).verdict != STATE_STAY)
                return wrong_state(a, "remove");
        int r = wait_for_exit(a);
        if (r != 0)
                return r;
        reserve_spend(a->node->reserve_fd);
        return store_remove(a->node->store, a->job);
}

void act_shutdown(struct act *a, bool jobs) {
        log_info("shutdown requested by uid %u%s", (unsigned) a->uid, jobs ? ", jobs first" : "");
        schedule_shutdown(a->node, jobs);
}

/* ---- reading ---- */

bool act_rests(const struct act *a) {
        return (state_has_ended(a->job->state) || a->job->state == JOB_PAUSED) && !a->job->dirty;
}

/* A read of state.db that failed. */
static int refuse_storage(struct act *a, const struct error *error) {
        return act_refuse(a, BERTD_ERROR_STORAGE, "%s", error->code ? error->text : "state.db: cannot be read");
}

int act_command(struct act *a, char **ret, size_t *ret_size) {
        struct error error = {};

        if (!a->owner || store_load_command(a->node->store, a->job->id, ret, ret_size, &error) >= 0)
                return 0;
        return refuse_storage(a, &error);
}

int act_spec(struct act *a, char **ret) {
        struct error error = {};

        return store_load_spec(a->node->store, a->job->id, ret, &error) < 0 ? refuse_storage(a, &error) : 0;
}

int act_ledger(struct act *a) {
        struct error error = {};

        return store_load_ledger(a->node->store, a->job, &error) < 0 ? refuse_storage(a, &error) : 0;
}

int act_find_name(struct act *a, const char *name, uint64_t *ret_id) {
        struct error error = {};

        if (store_find_name(a->node->store, name, a->uid, ret_id, &error) < 0)
                return refuse_storage(a, &error);
        if (*ret_id == 0)
                return act_refuse(a, BERTD_ERROR_NO_SUCH_JOB, "no job is named '%.128s'; `bertctl list` shows all",
                                  name);
        return 0;
}

int act_jobs(struct act *a, uint64_t first, uint32_t max, bool open, int (*row)(void *userdata, const struct job *job),
             void *userdata) {
        struct error error = {};

        int r = store_page(a->node->store, first, MIN(max, BERTD_LIST_PAGE_MAX), open, row, userdata, &error);
        return r < 0 && error.code ? refuse_storage(a, &error) : r;
}

int act_events(struct act *a, uint64_t after, uint32_t max, int (*row)(void *userdata, const struct event_row *event),
               void *userdata) {
        struct error error = {};

        int r = store_events(a->node->store, a->job->id, after, MIN(max, BERTD_LIST_PAGE_MAX), row, userdata, &error);
        return r < 0 ? refuse_storage(a, &error) : r;
}
