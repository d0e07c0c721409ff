/*
 * See methods.h. Role: submit, and what changes a job. Owns nothing. Invariant: what a CHANGE alters it has saved first, or inserted, so
 * that it can be undone.
 */
#include "daemon/bus/methods.h"
#include "daemon/bus/submit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/bus/accounts.h"
#include "daemon/bus/waits.h"
#include "daemon/attempt/live.h"
#include "daemon/rules/ledger.h"
#include "daemon/base/log.h"
#include "daemon/base/process.h"
#include "daemon/base/reserve.h"
#include "daemon/plan/trash.h"
#include "daemon/node/transition.h"
#include "daemon/plan/schedule.h"

/* ---- submit ---- */

static int check_submitter(struct call *call) {
        if (call->node->draining)
                return sd_bus_error_set(call->error, BERTD_ERROR_STOPPING, "the daemon is shutting down");
        /* Without privileges every job runs as we do. */
        if (geteuid() != 0 && call->uid != geteuid())
                return sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED,
                                        "this daemon runs jobs of its own user only");
        return 0;
}

/* −EINPROGRESS: its user is being looked up, and the call, which is of so many bytes, is kept until then. */
static int find_account(struct call *call, sd_bus_message *m, size_t size, const struct account **ret) {
        unsigned uid = (unsigned) call->uid;

        int r = accounts_find(call->node->accounts, call->uid, ret);
        if (r == -ESRCH)
                return sd_bus_error_setf(call->error, BERTD_ERROR_ACCESS_DENIED, "uid %u has no account here", uid);
        if (r == -EINPROGRESS) {
                int parked = peer_park(call->peer, m, size);
                r = parked < 0 ? parked : r;
        }
        if (r < 0 && r != -EINPROGRESS)
                return sd_bus_error_setf(
                        call->error, BERTD_ERROR_UNAVAILABLE,
                        "cannot look up uid %u in the user database (%s); try again, and check `getent passwd %u`", uid,
                        r == -ENOBUFS ? "too many calls wait for it" : strerror(-r), uid);
        return r;
}

/* Root's daemon may set any limit; for a user it sets none above those of the calling process. */
static int take_limits(const struct call *call, struct submission *submission, struct error *error) {
        struct rlimit own[RLIM_NLIMITS];

        if (geteuid() != 0 || call->uid == 0)
                return 0;
        int r = process_limits(call->pid, call->uid, own);
        if (r < 0)
                return error_errno(error, -r, "the limits of the calling process cannot be read");
        submission_clamp_limits(submission, own);
        return 0;
}

/* Two trainers would take each other's checkpoints for their own. Another user's job keeps no one out: the folder's permissions and the
 * trainer's own lock there decide. */
static const struct job *other_trainer_in(const struct node *node, const struct submission *s, uid_t uid) {
        bool trains = s->kind != JOB_COMMAND;

        for (size_t i = 0; s->run_dir && trains && i < store_count(node->store); i++) {
                const struct job *job = store_at(node->store, i);
                if (job->kind != JOB_COMMAND && job->run_dir && job->uid == uid && !state_has_ended(job->state) &&
                    strcmp(job->run_dir, s->run_dir) == 0)
                        return job;
        }
        return NULL;
}

static void submitted(struct call *call, sd_bus_message *m) {
        schedule_add(call->node, call->job);
        (void) sd_bus_reply_method_return(m, "t", call->job->id);
}

static int insert(struct call *call, sd_bus_message *m) {
        struct node *node = call->node;
        const struct submission *s = call->submission;
        struct error error = {};

        const struct job *other = other_trainer_in(node, s, call->uid);
        if (other)
                return sd_bus_error_setf(call->error, BERTD_ERROR_INVALID_SPEC,
                                         "run_dir: in use by job %" PRIu64 " (%s); give another folder", other->id,
                                         job_state_name(other->state));
        int r = store_insert(node->store, s, call->uid, call->gid, call->user, node->options.launcher, &call->job,
                             &error);
        if (r < 0)
                return r == -EDQUOT ? sd_bus_error_set(call->error, BERTD_ERROR_QUOTA, error.text)
                                    : sd_bus_error_setf(call->error, BERTD_ERROR_STORAGE, "%s: nothing was changed",
                                                        error.text);
        call->inserted = true;
        call->done = submitted;
        return 0;
}

static int read_submission(struct call *call, sd_bus_message *m, struct submission *ret) {
        const struct node_options *options = &call->node->options;
        struct submit_host host = { .slots = options->slots,
                                    .gpus = options->gpus.n,
                                    .limits = options->launcher == LAUNCHER_SYSTEMD };
        struct error error = {};
        bool too_large = false;

        submission_defaults(ret);
        int r = submission_read(ret, m, &error);
        if (r >= 0)
                r = submission_check(ret, &host, &too_large, &error);
        if (r >= 0)
                r = take_limits(call, ret, &error);
        return r < 0 ? sd_bus_error_set(call->error, too_large ? BERTD_ERROR_TOO_LARGE : BERTD_ERROR_INVALID_SPEC,
                                        error.text)
                     : 0;
}

/* What it says is read and checked at once, and its user looked up; then it is a change as others are. */
int method_submit(struct call *call, sd_bus_message *m) {
        const struct account *account;

        int r = check_submitter(call);
        if (r < 0)
                return r;
        call->submission = calloc(1, sizeof(*call->submission));
        if (!call->submission)
                return -ENOMEM;
        r = read_submission(call, m, call->submission);
        if (r >= 0)
                r = find_account(call, m, submission_size(call->submission), &account);
        if (r < 0)
                return r == -EINPROGRESS ? 1 : r;
        call->gid = account->gid;
        call->user = strdup(account->name);
        if (!call->user || (account->home && submission_add_home(call->submission, account->home) < 0))
                return -ENOMEM;
        return call_queue(call, m, insert);
}

/* ---- changing ---- */

/* Before the first thing that a change alters. */
static int save(struct call *call) {
        int r = job_save(call->job, &call->saved);

        call->has_saved = r >= 0;
        return r;
}

/* Its on_exit is started first, which has to wait for others' now and then. 1: not yet. */
static int wait_for_exit(struct call *call) {
        if (call->job->exit_owed == EXIT_OWED_NONE)
                return 0;
        if (!call->change.last)
                return 1;
        return sd_bus_error_setf(call->error, BERTD_ERROR_WRONG_STATE,
                                 "job %" PRIu64 ": its on_exit has not been started yet: at most %d per user and %d in "
                                 "total run at a time; try again when others have ended",
                                 call->job->id, BERTD_ON_EXIT_OF_UID_MAX, BERTD_ON_EXIT_MAX);
}

/* Pause, cancel: from a state without an attempt it is done at once, else the shim is asked. */
static int stop_job(struct call *call, enum job_event event, enum stop_reason reason, const char *what) {
        struct job *job = call->job;
        struct transition t = state_after(job->state, event);

        if (t.verdict == STATE_REFUSE ||
            (job->state == JOB_STOPPING && job->stop_reason > reason && reason == STOP_PAUSE))
                return call_wrong_state(call, what);
        int r = save(call);
        if (r < 0)
                return r;
        if (state_holds_resources(job->state) && reason > job->stop_reason)
                job->stop_reason = reason;
        if (node_move(call->node, job, event, what) != STATE_MOVE && job->state == JOB_STOPPING)
                store_note(call->node->store, job, job->state, job_event_name(event), "");
        job->stop_due = job->state == JOB_STOPPING;
        node_plan_soon(call->node);
        return 0;
}

int method_cancel(struct call *call, sd_bus_message *m) {
        int now;

        int r = sd_bus_message_read(m, "b", &now);
        return r < 0 ? r : stop_job(call, EVENT_CANCEL, now ? STOP_CANCEL_NOW : STOP_CANCEL, "cancel");
}

int method_pause_job(struct call *call, sd_bus_message *m) { return stop_job(call, EVENT_PAUSE, STOP_PAUSE, "pause"); }

struct resume_options {
        bool has_ranks, has_from;
        uint32_t ranks;
        uint64_t from;
};

static int read_resume_option(sd_bus_message *m, struct resume_options *o, sd_bus_error *error) {
        const char *key;

        int r = sd_bus_message_read(m, "s", &key);
        if (r < 0)
                return r;
        if (strcmp(key, "ranks") == 0) {
                o->has_ranks = true;
                return sd_bus_message_read(m, "v", "u", &o->ranks);
        }
        if (strcmp(key, "from") == 0) {
                o->has_from = true;
                return sd_bus_message_read(m, "v", "t", &o->from);
        }
        return sd_bus_error_setf(error, BERTD_ERROR_INVALID_SPEC, "unknown key \"%.64s\", expected ranks or from", key);
}

static int read_resume(sd_bus_message *m, struct resume_options *o, sd_bus_error *error) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_resume_option(m, o, error);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int check_resume(struct call *call, const struct resume_options *o) {
        const struct job *job = call->job;
        uint64_t slots = (uint64_t) o->ranks * job->threads, host = call->node->options.slots;

        if (o->has_ranks && (o->ranks < 1 || o->ranks > BERTD_RANKS_MAX))
                return sd_bus_error_setf(call->error, BERTD_ERROR_INVALID_SPEC, "ranks: is %u, expected 1 to %d",
                                         o->ranks, BERTD_RANKS_MAX);
        if (o->has_ranks && slots > host)
                return sd_bus_error_setf(call->error, BERTD_ERROR_TOO_LARGE,
                                         "ranks × threads: %u × %u = %" PRIu64 " slots, this host has %" PRIu64,
                                         o->ranks, job->threads, slots, host);
        if (!o->has_from)
                return 0;
        const struct checkpoint *c = job_checkpoint(job, o->from);
        if (!c || (c->state != CHECKPOINT_GOOD && c->state != CHECKPOINT_DEMOTED))
                return sd_bus_error_setf(call->error, BERTD_ERROR_NO_SUCH_CHECKPOINT,
                                         "job %" PRIu64 " has no checkpoint of step %" PRIu64, job->id, o->from);
        return 0;
}

int method_resume_job(struct call *call, sd_bus_message *m) {
        struct job *job = call->job;
        struct resume_options o = {};
        struct error error = {};

        int r = read_resume(m, &o, call->error);
        if (r < 0)
                return r;
        if (state_after(job->state, EVENT_RESUME).verdict != STATE_MOVE)
                return call_wrong_state(call, "resume");
        r = wait_for_exit(call);
        if (r != 0)
                return r;
        if (o.has_from && store_load_ledger(call->node->store, job, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        r = check_resume(call, &o);
        if (r >= 0 && call->loaded && store_check_share(call->node->store, job, &error) < 0)
                r = sd_bus_error_set(call->error, BERTD_ERROR_QUOTA, error.text);
        if (r >= 0)
                r = save(call);
        /* Where it is undone the job has ended again, and leaves memory as those do. */
        if (r >= 0 && call->loaded)
                r = store_adopt(call->node->store, job);
        if (r < 0)
                return r;
        call->loaded = NULL;
        if (o.has_ranks)
                job->ranks = o.ranks;
        if (o.has_from) {
                struct checkpoint *c = job_checkpoint(job, o.from);
                c->state = CHECKPOINT_GOOD;
                c->dirty = true;
                ledger_abandon_newer(job, o.from);
                job->resume_from = o.from;
                job->resume_abandon = true;
        }
        job->n_history = 0;
        job_set_counters(job, (struct policy_counters) {});
        job->history_from = job->attempt.number;
        job->exit_code = job->exit_class = -1;
        job->wait = (struct queue_entry) {};
        (void) node_move(call->node, job, EVENT_RESUME, NULL);
        node_plan_soon(call->node);
        return 0;
}

int method_checkpoint_job(struct call *call, sd_bus_message *m) {
        if (call->job->kind == JOB_COMMAND)
                return sd_bus_error_setf(call->error, BERTD_ERROR_WRONG_STATE,
                                         "job %" PRIu64 " is a command: it cannot take a checkpoint on request",
                                         call->job->id);
        if (call->job->state != JOB_RUNNING)
                return call_wrong_state(call, "take a checkpoint of");
        if (attempt_checkpoint(call->job) < 0)
                return sd_bus_error_setf(call->error, BERTD_ERROR_WRONG_STATE,
                                         "job %" PRIu64 ": its shim is not connected; try again", call->job->id);
        return call_reply_nothing(m);
}

static void folder_gone(void *userdata, enum trash_end end, const char *folder) {
        sd_bus_message *m = userdata;

        if (end == TRASH_LEFT)
                (void) sd_bus_reply_method_errorf(m, BERTD_ERROR_STORAGE,
                                                  "job removed, but some files in %s could not be deleted", folder);
        else if (end == TRASH_GONE)
                (void) sd_bus_reply_method_return(m, "");
        (void) sd_bus_message_unref(m);
}

static void removed(struct call *call, sd_bus_message *m) {
        sd_bus_message *answered = NULL;

        wait_fail(call->job, BERTD_ERROR_NO_SUCH_JOB, "the job was removed");
        int r = call_to_answer(m, &answered);
        if (r >= 0)
                r = trash_ask(call->node->trash, call->job->id, folder_gone, answered);
        if (r < 0) {
                (void) sd_bus_message_unref(answered);
                (void) sd_bus_reply_method_errno(m, r, NULL);
        }
}

int method_remove_job(struct call *call, sd_bus_message *m) {
        if (state_after(call->job->state, EVENT_REMOVE).verdict != STATE_STAY)
                return call_wrong_state(call, "remove");
        int r = wait_for_exit(call);
        if (r != 0)
                return r;
        call->done = removed;
        reserve_spend(call->node->reserve_fd);
        return store_remove(call->node->store, call->job);
}

int method_shutdown_daemon(struct call *call, sd_bus_message *m) {
        int jobs;

        int r = sd_bus_message_read(m, "b", &jobs);
        if (r >= 0)
                r = call_reply_nothing(m);
        if (r < 0)
                return r;
        log_info("shutdown requested by uid %u%s", (unsigned) call->uid, jobs ? ", jobs first" : "");
        (void) sd_bus_flush(call->peer->bus);
        schedule_shutdown(call->node, jobs);
        return 1;
}
