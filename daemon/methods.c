/*
 * Role: the methods of org.bertd1.Manager (include/bertd/bus.h). Authority is data: each row says who may call, and the one
 * dispatcher finds the job and checks the caller before a handler sees the message. A row of a CHANGE is run within the turn's
 * commit (settle.h): its handler works in memory and says what is answered when it is durable.
 * Owns the calls that wait for their commit. Invariants: who the caller is comes from the kernel (struct peer), never from the
 * message; every handler replies, keeps the call as a wait, or is a change.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/utf8.h"
#include "daemon/accounts.h"
#include "daemon/attempt.h"
#include "daemon/bus_server.h"
#include "daemon/child.h"
#include "daemon/files.h"
#include "daemon/jobview.h"
#include "daemon/ledger.h"
#include "daemon/log.h"
#include "daemon/process.h"
#include "daemon/reserve.h"
#include "daemon/settle.h"

#define NEWS_MAX (3 * LEDGER_MAX) /* numbers of a list of AttemptReport */

struct call {
        struct change change; /* of a CHANGE only: then the call is on the heap */
        struct manager *manager;
        struct peer *peer; /* NULL in a CHANGE: the client may be gone by then */
        uid_t uid;         /* who calls, by the kernel's word */
        pid_t pid;
        struct job *job;    /* JOB_ANYONE and JOB_OWNER: the job that the first argument names */
        struct job *loaded; /* the same where it has ended and is not in memory: freed after the call, unless adopted */
        bool owner;         /* the caller is its user or root */
        sd_bus_error *error;
        const struct method *method;
        sd_bus_message *message; /* the CHANGE's own reference */
        struct job_saved saved;  /* as the job was, to be put back; where `has_saved` */
        bool has_saved;
        int (*apply)(struct call *call,
                     sd_bus_message *m); /* as a handler, within the commit; NULL: done, its answer waits */
        void (*done)(struct call *call, sd_bus_message *m); /* it is durable: answers. NULL: with nothing */
        struct submission *submission;                      /* Submit */
        gid_t gid;
        char *user;
        bool inserted; /* `job` is new */
        char *folder;  /* Remove: the job's */
};

/* The contents, not the struct. */
static void call_clear(struct call *call) {
        job_free(call->loaded);
        if (call->has_saved)
                job_saved_free(&call->saved);
        (void) sd_bus_message_unref(call->message);
        if (call->submission)
                submission_free(call->submission);
        free(call->submission);
        free(call->user);
        free(call->folder);
}

static void call_free(struct call *call) {
        call_clear(call);
        free(call);
}

/* A change: `apply` is run within this turn's commit. Takes the contents of the call. */
static int queue_change(struct call *from, sd_bus_message *m, int (*apply)(struct call *call, sd_bus_message *m));

enum authority {
        ANYONE,     /* who may connect */
        JOB_ANYONE, /* the first argument is a job's id; anyone */
        JOB_OWNER,  /* the same; the job's user or root */
        ADMIN,      /* root or the daemon's own user */
};

enum method_kind { AT_ONCE, CHANGE };

typedef int (*handler_t)(struct call *call, sd_bus_message *m);

static bool may_act_for(const struct call *call, uid_t uid) {
        return call->uid == 0 || call->uid == uid || call->uid == geteuid();
}

static void cleanup_message_p(sd_bus_message **m) { (void) sd_bus_message_unref(*m); }
#define cleanup_message cleanup(cleanup_message_p)

static int reply_nothing(sd_bus_message *m) { return sd_bus_reply_method_return(m, NULL); }

static int wrong_state(struct call *call, const char *what) {
        return sd_bus_error_setf(call->error, BERTD_ERROR_WRONG_STATE, "job %" PRIu64 " is %s: cannot %s it",
                                 call->job->id, job_state_name(call->job->state), what);
}

/* ---- submit ---- */

static int check_submitter(struct call *call) {
        if (call->manager->draining)
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

        int r = accounts_find(call->manager->accounts, call->uid, ret);
        if (r == -ESRCH)
                return sd_bus_error_setf(call->error, BERTD_ERROR_ACCESS_DENIED, "uid %u has no account here", uid);
        if (r == -EINPROGRESS) {
                int parked = peer_park(call->peer, m, size);
                r = parked < 0 ? parked : r;
        }
        if (r < 0 && r != -EINPROGRESS)
                return sd_bus_error_setf(call->error, BERTD_ERROR_UNAVAILABLE,
                                         "uid %u cannot be looked up in the user database now (%s); try again, and see "
                                         "`getent passwd %u`",
                                         uid, r == -ENOBUFS ? "too many calls wait for that" : strerror(-r), uid);
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
static const struct job *other_trainer_in(const struct manager *manager, const struct submission *s, uid_t uid) {
        bool trains = job_kind_from_name(s->kind) != JOB_COMMAND;

        for (size_t i = 0; s->run_dir && trains && i < store_count(manager->store); i++) {
                const struct job *job = store_at(manager->store, i);
                if (job->kind != JOB_COMMAND && job->run_dir && job->uid == uid && !state_has_ended(job->state) &&
                    strcmp(job->run_dir, s->run_dir) == 0)
                        return job;
        }
        return NULL;
}

static void submitted(struct call *call, sd_bus_message *m) {
        manager_enqueue(call->manager, call->job);
        (void) sd_bus_reply_method_return(m, "t", call->job->id);
}

static int insert(struct call *call, sd_bus_message *m) {
        struct manager *manager = call->manager;
        const struct submission *s = call->submission;
        struct error error = {};

        const struct job *other = other_trainer_in(manager, s, call->uid);
        if (other)
                return sd_bus_error_setf(call->error, BERTD_ERROR_INVALID_SPEC,
                                         "run_dir: job %" PRIu64 " (%s) trains there: expected a folder of its own",
                                         other->id, job_state_name(other->state));
        int r = store_insert(manager->store, s, call->uid, call->gid, call->user, manager->options.launcher, &call->job,
                             &error);
        if (r < 0)
                return sd_bus_error_set(call->error, r == -EDQUOT ? BERTD_ERROR_QUOTA : BERTD_ERROR_STORAGE,
                                        error.text);
        call->inserted = true;
        call->done = submitted;
        return 0;
}

static int read_submission(struct call *call, sd_bus_message *m, struct submission *ret) {
        const struct manager_options *options = &call->manager->options;
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
static int submit(struct call *call, sd_bus_message *m) {
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
        return queue_change(call, m, insert);
}

/* ---- reading ---- */

/* What it holds, the client may leave unread. */
static int send_reply(struct call *call, sd_bus_message *reply, size_t size) {
        int r = sd_bus_send(NULL, reply, NULL);

        peer_note_reply(call->peer, size);
        return r;
}

static int get_job(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
        struct jobview_command command = {};
        struct error error = {};

        if (call->owner &&
            store_load_command(call->manager->store, call->job->id, &command.words, &command.size, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_job(reply, call->manager, call->job, call->owner, &command);
        free(command.words);
        return r < 0 ? r : send_reply(call, reply, (size_t) r);
}

/* A page: it is full where one more could pass BERTD_PAGE_MAX. The client asks for the next one. */
struct list_target {
        struct call *call;
        sd_bus_message *reply;
        size_t size;
};

static int note_size(struct list_target *target, int r) {
        if (r < 0)
                return r;
        target->size += (size_t) r;
        return target->size + JOBVIEW_MAX > BERTD_PAGE_MAX;
}

static int append_job(void *userdata, const struct job *job) {
        struct list_target *target = userdata;
        const struct call *call = target->call;

        return note_size(target, jobview_job(target->reply, call->manager, job, may_act_for(call, job->uid), NULL));
}

static int list_jobs(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
        struct error error = {};
        uint64_t first;
        uint32_t max;
        int open;

        int r = sd_bus_message_read(m, "tub", &first, &max, &open);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        if (r < 0)
                return r;
        struct list_target target = { .call = call, .reply = reply };
        r = store_page(call->manager->store, first, MIN(max, BERTD_LIST_PAGE_MAX), open, append_job, &target, &error);
        if (r < 0 && error.code)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : send_reply(call, reply, target.size);
}

#define EVENT_FIXED_SIZE (4 * 8 + 5 * 8 + 8) /* four numbers, five strings without their characters, alignment */

static int append_event(void *userdata, const struct event_row *e) {
        struct list_target *target = userdata;
        cleanup_free char *clean = text_as_utf8(e->reason);
        const char *reason = !target->call->owner ? "" : clean ? clean : e->reason;
        size_t size = EVENT_FIXED_SIZE + strlen(e->from) + strlen(e->to) + strlen(e->what) + strlen(reason) +
                      strlen(e->exit_class);

        int r = sd_bus_message_append(target->reply, "(ttssssstt)", e->id, e->time, e->from, e->to, e->what, reason,
                                      e->exit_class, e->step, e->lost);
        return note_size(target, r < 0 ? r : (int) size);
}

static int get_events(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
        struct error error = {};
        uint64_t after;
        uint32_t max;

        int r = sd_bus_message_read(m, "tu", &after, &max);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ttssssstt)");
        if (r < 0)
                return r;
        struct list_target target = { .call = call, .reply = reply };
        r = store_events(call->manager->store, call->job->id, after, MIN(max, BERTD_LIST_PAGE_MAX), append_event,
                         &target, &error);
        if (r < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE,
                                        error.code ? error.text : "events cannot be read");
        r = sd_bus_message_close_container(reply);
        return r < 0 ? r : send_reply(call, reply, target.size);
}

/* Rows of steps below `before`, newest first. */
static int append_checkpoints(struct list_target *target, const struct job *job, uint64_t before) {
        int r = 0;

        for (size_t i = job->n_ledger; r == 0 && i-- > 0;)
                if (job->ledger[i].step < before)
                        r = note_size(target, jobview_checkpoint(target->reply, &job->ledger[i]));
        return r;
}

static int reply_checkpoints(struct call *call, sd_bus_message *m, uint64_t before) {
        cleanup_message sd_bus_message *reply = NULL;
        struct job *job = call->job;
        struct error error = {};

        if (store_load_ledger(call->manager->store, job, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        struct list_target target = { .call = call, .reply = reply };
        if (r >= 0)
                r = append_checkpoints(&target, job, before);
        job_ledger_trim(job);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : send_reply(call, reply, target.size);
}

static int get_checkpoints(struct call *call, sd_bus_message *m) { return reply_checkpoints(call, m, UINT64_MAX); }

static int list_checkpoints(struct call *call, sd_bus_message *m) {
        uint64_t before;

        int r = sd_bus_message_read(m, "t", &before);
        return r < 0 ? r : reply_checkpoints(call, m, before == 0 ? UINT64_MAX : before);
}

static int get_spec(struct call *call, sd_bus_message *m) {
        cleanup_free char *text = NULL;
        struct error error = {};

        if (store_load_spec(call->manager->store, call->job->id, &text, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        cleanup_message sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", text);
        return r < 0 ? r : send_reply(call, reply, strlen(text));
}

static int get_daemon(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;

        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_daemon(reply, call->manager);
        return r < 0 ? r : send_reply(call, reply, (size_t) r);
}

static int wait_job(struct call *call, sd_bus_message *m) {
        /* What is not yet durable is answered by its commit. */
        if ((state_has_ended(call->job->state) || call->job->state == JOB_PAUSED) && !call->job->dirty)
                return sd_bus_reply_method_return(m, "s", job_state_name(call->job->state));
        int r = wait_add(call->job, call->peer, m);
        return r < 0 ? r : 1;
}

static int wait_change(struct call *call, sd_bus_message *m) {
        uint64_t known;

        int r = sd_bus_message_read(m, "t", &known);
        if (r < 0)
                return r;
        if (known != call->manager->serial)
                return sd_bus_reply_method_return(m, "t", call->manager->serial);
        if (change_wait(call->peer, m) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_QUOTA,
                                        "this connection waits for a change already; call again after its answer");
        return 1;
}

static int find_by_name(struct call *call, sd_bus_message *m) {
        struct error error = {};
        const char *name;
        uint64_t id;

        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        r = store_find_name(call->manager->store, name, call->uid, &id, &error);
        if (r < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        if (id == 0)
                return sd_bus_error_setf(call->error, BERTD_ERROR_NO_SUCH_JOB,
                                         "no job is called '%.128s' (`bertctl list` shows all)", name);
        return sd_bus_reply_method_return(m, "t", id);
}

/* ---- changing ---- */

/* Before the first thing that a change alters. */
static int save(struct call *call) {
        int r = job_save(call->job, &call->saved);

        call->has_saved = r >= 0;
        return r;
}

/* Pause, cancel: from a state without an attempt it is done at once, else the shim is asked. */
static int stop_job(struct call *call, enum job_event event, enum stop_wish wish, const char *what) {
        struct job *job = call->job;
        struct transition t = state_after(job->state, event);

        if (t.verdict == STATE_REFUSE || (job->state == JOB_STOPPING && job->wish > wish && wish == WISH_PAUSE))
                return wrong_state(call, what);
        int r = save(call);
        if (r < 0)
                return r;
        if (state_holds_resources(job->state) && wish > job->wish)
                job->wish = wish;
        if (manager_move(call->manager, job, event, what) != STATE_MOVE && job->state == JOB_STOPPING)
                store_note(call->manager->store, job, job->state, job_event_name(event), "");
        job->stop_due = job->state == JOB_STOPPING;
        manager_plan_soon(call->manager);
        return 0;
}

static int cancel(struct call *call, sd_bus_message *m) {
        int now;

        int r = sd_bus_message_read(m, "b", &now);
        return r < 0 ? r : stop_job(call, EVENT_CANCEL, now ? WISH_CANCEL_NOW : WISH_CANCEL, "cancel");
}

static int pause_job(struct call *call, sd_bus_message *m) { return stop_job(call, EVENT_PAUSE, WISH_PAUSE, "pause"); }

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
        uint64_t slots = (uint64_t) o->ranks * job->threads, host = call->manager->options.slots;

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

static int resume_job(struct call *call, sd_bus_message *m) {
        struct job *job = call->job;
        struct resume_options o = {};
        struct error error = {};

        int r = read_resume(m, &o, call->error);
        if (r < 0)
                return r;
        if (state_after(job->state, EVENT_RESUME).verdict != STATE_MOVE)
                return wrong_state(call, "resume");
        if (o.has_from && store_load_ledger(call->manager->store, job, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        r = check_resume(call, &o);
        if (r >= 0 && call->loaded && store_check_share(call->manager->store, job, &error) < 0)
                r = sd_bus_error_set(call->error, BERTD_ERROR_QUOTA, error.text);
        if (r >= 0)
                r = save(call);
        /* Where it is undone the job has ended again, and leaves memory as those do. */
        if (r >= 0 && call->loaded)
                r = store_adopt(call->manager->store, job);
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
        job->deaths = (struct policy_counters) {};
        job->history_from = job->attempt.number;
        job->exit_code = job->exit_class = -1;
        job->wait = (struct queue_entry) {};
        (void) manager_move(call->manager, job, EVENT_RESUME, NULL);
        manager_plan_soon(call->manager);
        return 0;
}

static int checkpoint_job(struct call *call, sd_bus_message *m) {
        if (call->job->kind == JOB_COMMAND)
                return sd_bus_error_setf(call->error, BERTD_ERROR_WRONG_STATE,
                                         "job %" PRIu64 " is a command: it cannot be asked for a checkpoint",
                                         call->job->id);
        if (call->job->state != JOB_RUNNING)
                return wrong_state(call, "take a checkpoint of");
        if (attempt_checkpoint(call->job) < 0)
                return sd_bus_error_setf(call->error, BERTD_ERROR_WRONG_STATE,
                                         "job %" PRIu64 ": its shim is not connected, try again", call->job->id);
        return reply_nothing(m);
}

static void removed(struct call *call, sd_bus_message *m) {
        wait_fail(call->job, BERTD_ERROR_NO_SUCH_JOB, "the job was removed");
        if (child_remove_tree(call->manager, call->job, call->folder, m) < 0)
                (void) sd_bus_reply_method_errno(m, ENOMEM, NULL);
}

static int remove_job(struct call *call, sd_bus_message *m) {
        if (state_after(call->job->state, EVENT_REMOVE).verdict != STATE_STAY)
                return wrong_state(call, "remove");
        call->folder = files_job_dir(call->manager->options.state_dir, call->job->id);
        call->done = removed;
        reserve_spend(call->manager->reserve_fd);
        return call->folder ? store_remove(call->manager->store, call->job) : -ENOMEM;
}

static int shutdown_daemon(struct call *call, sd_bus_message *m) {
        int jobs;

        int r = sd_bus_message_read(m, "b", &jobs);
        if (r >= 0)
                r = reply_nothing(m);
        if (r < 0)
                return r;
        log_info("shutdown asked for by uid %u%s", (unsigned) call->uid, jobs ? ", jobs first" : "");
        (void) sd_bus_flush(call->peer->bus);
        manager_shutdown(call->manager, jobs);
        return 1;
}

/* ---- the shim ---- */

static int hello(struct call *call, sd_bus_message *m) {
        uint64_t job;
        uint32_t number, answer;
        const char *nonce, *version;

        int r = sd_bus_message_read(m, "tuss", &job, &number, &nonce, &version);
        if (r >= 0)
                r = attempt_hello(call->manager, call->peer, call->uid, call->pid, job, number, nonce, version,
                                  &answer);
        if (r == -EPERM)
                return sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED, "not the job's user");
        if (r == -EPROTONOSUPPORT)
                return sd_bus_error_set(call->error, BERTD_ERROR_VERSION,
                                        "bertd " BERTD_VERSION " is older than this shim, and leaves it alone");
        return r < 0 ? r : sd_bus_reply_method_return(m, "u", answer);
}

static const struct report_field {
        const char *key;
        char type;
        size_t offset, has; /* has: offset of the flag, 0 = none (the struct does not begin with a flag) */
} report_fields[] = {
#define AT(member) offsetof(struct attempt_report, member)
        { "job", 't', AT(job), 0 },
        { "attempt", 'u', AT(attempt), 0 },
        { "nonce", 's', AT(nonce), 0 },
        { "status", 's', AT(status), 0 },
        { "step", 't', AT(step), AT(has_step) },
        { "steps", 't', AT(steps), AT(has_steps) },
        { "loss", 'd', AT(loss), AT(has_loss) },
        { "rate", 'd', AT(rate), AT(has_rate) },
        { "checkpoint_step", 't', AT(checkpoint_step), AT(has_checkpoint) },
        { "checkpoint_path", 's', AT(checkpoint_path), 0 },
        { "checkpoint_size", 't', AT(checkpoint_size), 0 },
        { "checkpoint_stall", 'd', AT(checkpoint_stall), AT(has_stall) },
        { "checkpoint_write", 'd', AT(checkpoint_write), AT(has_write) },
        { "samples_first", 't', AT(samples_first), 0 },
        { "samples_last", 't', AT(samples_last), 0 },
        { "record", 's', AT(record), 0 },
        { "resumed_step", 't', AT(resumed_step), AT(has_resumed) },
#undef AT
};

/* "found" and "gone": numbers, which stay the message's. */
static int read_news(sd_bus_message *m, const uint64_t **ret, size_t *ret_n) {
        const void *numbers;
        size_t size;

        int r = sd_bus_message_enter_container(m, 'v', "at");
        if (r >= 0)
                r = sd_bus_message_read_array(m, 't', &numbers, &size);
        if (r < 0)
                return r;
        *ret = numbers;
        *ret_n = MIN(size / sizeof(uint64_t), (size_t) NEWS_MAX);
        return sd_bus_message_exit_container(m);
}

/* A key that this daemon does not know, of a newer shim, is passed over. */
static int read_report_field(sd_bus_message *m, struct attempt_report *report) {
        const char *key, *contents;
        int flag;

        int r = sd_bus_message_read(m, "s", &key);
        if (r >= 0)
                r = sd_bus_message_peek_type(m, NULL, &contents);
        if (r < 0)
                return r;
        if (strcmp(key, "exited") == 0 && strcmp(contents, "b") == 0) {
                r = sd_bus_message_read(m, "v", "b", &flag);
                report->exited = r >= 0 && flag;
                return r;
        }
        if (strcmp(key, "found") == 0 && strcmp(contents, "at") == 0)
                return read_news(m, &report->news.found, &report->news.n_found);
        if (strcmp(key, "gone") == 0 && strcmp(contents, "at") == 0)
                return read_news(m, &report->news.gone, &report->news.n_gone);
        for (size_t i = 0; i < ELEMENTSOF(report_fields); i++) {
                const struct report_field *f = &report_fields[i];
                char type[2] = { f->type, '\0' };
                if (strcmp(f->key, key) != 0 || strcmp(type, contents) != 0)
                        continue;
                if (f->has)
                        *(bool *) ((char *) report + f->has) = true;
                r = sd_bus_message_enter_container(m, 'v', type);
                if (r >= 0)
                        r = sd_bus_message_read_basic(m, f->type, (char *) report + f->offset);
                return r < 0 ? r : sd_bus_message_exit_container(m);
        }
        return sd_bus_message_skip(m, "v");
}

static int report(struct call *call, sd_bus_message *m) {
        struct attempt_report in = {};

        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_report_field(m, &in);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0)
                r = attempt_report(call->manager, call->uid, &in);
        if (r == -EPERM)
                return sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED, "not the job's user");
        if (r == -ESTALE)
                return sd_bus_error_set(call->error, BERTD_ERROR_WRONG_STATE, "not an attempt that runs");
        /* The shim forgets a checkpoint, or ends, when it is answered: by then the rows are durable. */
        if (r >= 0 && (in.has_checkpoint || in.record || in.news.n_found > 0))
                return queue_change(call, m, NULL);
        return r < 0 ? r : reply_nothing(m);
}

/* ---- dispatch ---- */

#define METHODS(X)                                                                  \
        X("Submit", "a{sv}", "t", ANYONE, AT_ONCE, submit)                          \
        X("GetJob", "t", "a{sv}", JOB_ANYONE, AT_ONCE, get_job)                     \
        X("ListJobs", "tub", "aa{sv}", ANYONE, AT_ONCE, list_jobs)                  \
        X("FindJob", "s", "t", ANYONE, AT_ONCE, find_by_name)                       \
        X("GetEvents", "ttu", "a(ttssssstt)", JOB_ANYONE, AT_ONCE, get_events)      \
        X("GetCheckpoints", "t", "aa{sv}", JOB_ANYONE, AT_ONCE, get_checkpoints)    \
        X("ListCheckpoints", "tt", "aa{sv}", JOB_ANYONE, AT_ONCE, list_checkpoints) \
        X("GetSpec", "t", "s", JOB_OWNER, AT_ONCE, get_spec)                        \
        X("Cancel", "tb", "", JOB_OWNER, CHANGE, cancel)                            \
        X("Pause", "t", "", JOB_OWNER, CHANGE, pause_job)                           \
        X("Resume", "ta{sv}", "", JOB_OWNER, CHANGE, resume_job)                    \
        X("Checkpoint", "t", "", JOB_OWNER, AT_ONCE, checkpoint_job)                \
        X("Remove", "t", "", JOB_OWNER, CHANGE, remove_job)                         \
        X("Wait", "t", "s", JOB_ANYONE, AT_ONCE, wait_job)                          \
        X("WaitChange", "t", "t", ANYONE, AT_ONCE, wait_change)                     \
        X("GetDaemon", "", "a{sv}", ANYONE, AT_ONCE, get_daemon)                    \
        X("Shutdown", "b", "", ADMIN, AT_ONCE, shutdown_daemon)                     \
        X("AttemptHello", "tuss", "u", ANYONE, AT_ONCE, hello)                      \
        X("AttemptReport", "a{sv}", "", ANYONE, AT_ONCE, report)

static const struct method {
        const char *name;
        enum authority authority;
        enum method_kind kind;
        handler_t handler;
} methods[] = {
#define ROW(name, in, out, authority, kind, handler) { name, authority, kind, handler },
        METHODS(ROW)
#undef ROW
};

static const struct method *find_method(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(methods); i++)
                if (strcmp(methods[i].name, name) == 0)
                        return &methods[i];
        return NULL;
}

static int find_job(struct call *call, sd_bus_message *m, bool owner_only) {
        uint64_t id;

        int r = sd_bus_message_read(m, "t", &id);
        if (r < 0)
                return r;
        struct error error = {};
        call->job = store_find(call->manager->store, id);
        if (store_is_removed(call->manager->store, id)) {
                call->job = NULL;
        } else if (!call->job) {
                r = store_load(call->manager->store, id, &call->loaded, &error);
                call->job = call->loaded;
        }
        if (r < 0 && r != -ENOENT)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        if (!call->job)
                return sd_bus_error_setf(call->error, BERTD_ERROR_NO_SUCH_JOB, "no job %" PRIu64, id);
        call->owner = may_act_for(call, call->job->uid);
        if (owner_only && !call->owner)
                return sd_bus_error_setf(call->error, BERTD_ERROR_ACCESS_DENIED, "job %" PRIu64 " belongs to %s", id,
                                         call->job->user);
        return 0;
}

/* An error that quotes what the caller sent may have been cut within a character, and would not be sent. */
static void clean_error(sd_bus_error *error) {
        cleanup_free char *clean = text_as_utf8(error->message), *name = clean ? strdup(error->name) : NULL;

        if (!name)
                return;
        sd_bus_error_free(error);
        (void) sd_bus_error_set(error, name, clean);
}

static int run_method(struct call *call, sd_bus_message *m) {
        const enum authority authority = call->method->authority;
        int r = 0;

        if (authority == JOB_ANYONE || authority == JOB_OWNER)
                r = find_job(call, m, authority == JOB_OWNER);
        else if (authority == ADMIN && !may_act_for(call, geteuid()))
                r = sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED,
                                     "only root or the daemon's user may do this");
        return r < 0 ? r : call->method->handler(call, m);
}

/* ---- changes: see settle.h ---- */

static int apply_change(struct change *change) {
        struct call *call = (struct call *) change;
        sd_bus_error error = SD_BUS_ERROR_NULL;

        if (!call->apply)
                return 0;
        call->error = &error;
        int r = call->apply(call, call->message);
        call->error = NULL;
        if (r < 0) {
                clean_error(&error);
                (void) sd_bus_reply_method_errno(call->message, r, &error);
                call_free(call);
        }
        sd_bus_error_free(&error);
        return r;
}

static void keep_change(struct change *change) {
        struct call *call = (struct call *) change;

        if (call->done)
                call->done(call, call->message);
        else
                (void) reply_nothing(call->message);
        call_free(call);
}

static void undo_change(struct change *change, const char *why) {
        struct call *call = (struct call *) change;

        if (call->has_saved) {
                job_restore(call->job, &call->saved);
                job_ledger_trim(call->job);
                call->has_saved = false;
        } else if (call->inserted) {
                store_drop(call->manager->store, call->job);
        }
        (void) sd_bus_reply_method_errorf(call->message, BERTD_ERROR_STORAGE, "%s: nothing was changed", why);
        call_free(call);
}

static int queue_change(struct call *from, sd_bus_message *m, int (*apply)(struct call *call, sd_bus_message *m)) {
        struct call *call = malloc(sizeof(*call));

        if (!call)
                return -ENOMEM;
        *call = *from;
        from->loaded = NULL;
        from->submission = NULL;
        from->user = NULL;
        call->change =
                (struct change) { .uid = from->uid, .apply = apply_change, .keep = keep_change, .undo = undo_change };
        call->peer = NULL;
        call->error = NULL;
        call->apply = apply;
        call->message = sd_bus_message_ref(m);
        settle_add(call->manager->settle, &call->change);
        return 1;
}

static int run_at_once(struct call *call, sd_bus_message *m) {
        uint64_t begin = clock_boottime_usec();
        int r = run_method(call, m);

        if (r < 0)
                clean_error(call->error);
        call_clear(call);
        bus_server_charge(call->manager->server, call->uid, clock_boottime_usec() - begin);
        return r;
}

static int dispatch(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct peer *peer = userdata;
        struct call call = { .manager = peer->manager,
                             .peer = peer,
                             .uid = peer->uid,
                             .pid = peer->pid,
                             .error = ret_error,
                             .method = find_method(sd_bus_message_get_member(m)) };
        int r;

        if (peer->doomed)
                return 1;
        if (!call.method)
                return -ENOSYS;
        r = call.method->kind == CHANGE ? queue_change(&call, m, run_method) : run_at_once(&call, m);
        peer_note_reply(peer, 0);
        return r;
}

void methods_dispatch_again(struct peer *peer, sd_bus_message *m) {
        sd_bus_error error = SD_BUS_ERROR_NULL;

        int r = sd_bus_message_rewind(m, 1);
        if (r >= 0)
                r = dispatch(m, peer, &error);
        if (r < 0)
                (void) sd_bus_reply_method_errno(m, r, &error);
        sd_bus_error_free(&error);
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
#define ROW(name, in, out, authority, kind, handler) SD_BUS_METHOD(name, in, out, dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        METHODS(ROW)
#undef ROW
                SD_BUS_VTABLE_END,
};
static_assert(ELEMENTSOF(manager_vtable) == ELEMENTSOF(methods) + 2, "a method without a row");

/* What a bus would answer to its client, so that busctl and other bus clients can talk to us. */
static int bus_hello(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        return sd_bus_reply_method_return(m, "s", ":1.0");
}

static const sd_bus_vtable bus_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Hello", "", "s", bus_hello, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

int methods_add(struct peer *peer) {
        int r = sd_bus_add_object_vtable(peer->bus, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE, manager_vtable, peer);

        return r < 0 ? r
                     : sd_bus_add_object_vtable(peer->bus, NULL, "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                                bus_vtable, peer);
}
