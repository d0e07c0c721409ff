/*
 * Role: the methods of org.bertd1.Manager (include/bertd/bus.h). Authority is data: each row says who may call, and the one
 * dispatcher finds the job and checks the caller before a handler sees the message.
 * Owns nothing. Invariants: who the caller is comes from the kernel (struct peer), never from the message; every handler replies or
 * keeps the call as a wait.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/attempt.h"
#include "daemon/bus_server.h"
#include "daemon/child.h"
#include "daemon/files.h"
#include "daemon/jobview.h"
#include "daemon/ledger.h"
#include "daemon/log.h"
#include "daemon/process.h"

#define NEWS_MAX (3 * LEDGER_MAX) /* numbers of a list of AttemptReport */

struct call {
        struct manager *manager;
        struct peer *peer;
        struct job *job;    /* JOB_ANYONE and JOB_OWNER: the job that the first argument names */
        struct job *loaded; /* the same where it has ended and is not in memory: freed after the call, unless adopted */
        bool owner;         /* the caller is its user or root */
        sd_bus_error *error;
};

enum authority {
        ANYONE,     /* who may connect */
        JOB_ANYONE, /* the first argument is a job's id; anyone */
        JOB_OWNER,  /* the same; the job's user or root */
        ADMIN,      /* root or the daemon's own user */
};

typedef int (*handler_t)(struct call *call, sd_bus_message *m);

static bool may_act_for(const struct peer *peer, uid_t uid) {
        return peer->uid == 0 || peer->uid == uid || peer->uid == geteuid();
}

static void cleanup_message_p(sd_bus_message **m) { (void) sd_bus_message_unref(*m); }
#define cleanup_message cleanup(cleanup_message_p)

static int reply_nothing(sd_bus_message *m) { return sd_bus_reply_method_return(m, NULL); }

static int wrong_state(struct call *call, const char *what) {
        return sd_bus_error_setf(call->error, BERTD_ERROR_WRONG_STATE, "job %" PRIu64 " is %s: cannot %s it",
                                 call->job->id, job_state_name(call->job->state), what);
}

/* ---- submit ---- */

static int find_user(uid_t uid, gid_t *ret_gid, char *name, size_t size) {
        const struct passwd *pw = getpwuid(uid);

        if (!pw && uid != geteuid())
                return -ESRCH;
        *ret_gid = pw ? pw->pw_gid : getegid();
        (void) snprintf(name, size, "%.*s", (int) size - 1, pw ? pw->pw_name : "unknown");
        return 0;
}

static int check_submitter(struct call *call, gid_t *gid, char *user, size_t size) {
        if (call->manager->draining)
                return sd_bus_error_set(call->error, BERTD_ERROR_STOPPING, "the daemon is shutting down");
        if (find_user(call->peer->uid, gid, user, size) < 0)
                return sd_bus_error_setf(call->error, BERTD_ERROR_ACCESS_DENIED, "uid %u has no account here",
                                         (unsigned) call->peer->uid);
        /* Without privileges every job runs as we do. */
        if (geteuid() != 0 && call->peer->uid != geteuid())
                return sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED,
                                        "this daemon runs jobs of its own user only");
        return 0;
}

/* Root's daemon may set any limit; for a user it sets none above those of the calling process. */
static int take_limits(const struct call *call, struct submission *submission, struct error *error) {
        struct rlimit own[RLIM_NLIMITS];

        if (geteuid() != 0 || call->peer->uid == 0)
                return 0;
        int r = process_limits(call->peer->pid, call->peer->uid, own);
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

static int submit(struct call *call, sd_bus_message *m) {
        struct manager *manager = call->manager;
        struct submit_host host = { .slots = manager->options.slots, .gpus = manager->options.gpus.n };
        cleanup_submission struct submission submission = {};
        struct error error = {};
        struct job *job;
        char user[256];
        bool too_large = false;
        gid_t gid = 0;

        int r = check_submitter(call, &gid, user, sizeof(user));
        if (r < 0)
                return r;
        submission_defaults(&submission);
        r = submission_read(&submission, m, &error);
        if (r >= 0)
                r = submission_check(&submission, &host, &too_large, &error);
        if (r >= 0)
                r = take_limits(call, &submission, &error);
        if (r < 0)
                return sd_bus_error_set(call->error, too_large ? BERTD_ERROR_TOO_LARGE : BERTD_ERROR_INVALID_SPEC,
                                        error.text);
        const struct job *other = other_trainer_in(manager, &submission, call->peer->uid);
        if (other)
                return sd_bus_error_setf(call->error, BERTD_ERROR_INVALID_SPEC,
                                         "run_dir: job %" PRIu64 " (%s) trains there: expected a folder of its own",
                                         other->id, job_state_name(other->state));
        r = store_insert(manager->store, &submission, call->peer->uid, gid, user, manager->options.launcher, &job,
                         &error);
        if (r < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        manager_enqueue(manager, job);
        return sd_bus_reply_method_return(m, "t", job->id);
}

/* ---- reading ---- */

static int get_job(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;

        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_job(reply, call->manager, call->job, call->owner);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

struct list_target {
        struct call *call;
        sd_bus_message *reply;
};

static int append_job(void *userdata, const struct job *job) {
        const struct list_target *target = userdata;
        const struct call *call = target->call;

        return jobview_job(target->reply, call->manager, job, may_act_for(call->peer, job->uid));
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
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

struct event_target {
        sd_bus_message *reply;
        bool owner;
};

static int append_event(void *userdata, const struct event_row *e) {
        const struct event_target *target = userdata;

        return sd_bus_message_append(target->reply, "(ttssssstt)", e->id, e->time, e->from, e->to, e->what,
                                     target->owner ? e->reason : "", e->exit_class, e->step, e->lost);
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
        struct event_target target = { .reply = reply, .owner = call->owner };
        r = store_events(call->manager->store, call->job->id, after, MIN(max, BERTD_LIST_PAGE_MAX), append_event,
                         &target, &error);
        if (r < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE,
                                        error.code ? error.text : "events cannot be read");
        r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int get_checkpoints(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
        struct job *job = call->job;
        struct error error = {};

        if (store_load_ledger(call->manager->store, job, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = job->n_ledger; r >= 0 && i-- > 0;)
                r = jobview_checkpoint(reply, &job->ledger[i]);
        job_ledger_trim(job);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int get_spec(struct call *call, sd_bus_message *m) {
        cleanup_free char *text = NULL;
        struct error error = {};

        if (store_load_spec(call->manager->store, call->job->id, &text, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        return sd_bus_reply_method_return(m, "s", text);
}

static int get_daemon(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;

        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_daemon(reply, call->manager);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int wait_job(struct call *call, sd_bus_message *m) {
        if (state_has_ended(call->job->state) || call->job->state == JOB_PAUSED)
                return sd_bus_reply_method_return(m, "s", job_state_name(call->job->state));
        int r = wait_add(call->job, call->peer, m);
        return r < 0 ? r : 1;
}

/* ---- changing ---- */

/* Pause, cancel: from a state without an attempt it is done at once, else the shim is asked. */
static int stop_job(struct call *call, sd_bus_message *m, enum job_event event, enum stop_wish wish, const char *what) {
        struct job *job = call->job;
        struct transition t = state_after(job->state, event);

        if (t.verdict == STATE_REFUSE || (job->state == JOB_STOPPING && job->wish > wish && wish == WISH_PAUSE))
                return wrong_state(call, what);
        if (state_holds_resources(job->state) && wish > job->wish)
                job->wish = wish;
        if (manager_move(call->manager, job, event, what) != STATE_MOVE && job->state == JOB_STOPPING) {
                store_note(call->manager->store, job, job->state, job_event_name(event), "");
                (void) manager_commit(call->manager);
        }
        if (job->state == JOB_STOPPING)
                attempt_stop(job);
        manager_plan_soon(call->manager);
        return reply_nothing(m);
}

static int cancel(struct call *call, sd_bus_message *m) {
        int now;

        int r = sd_bus_message_read(m, "b", &now);
        return r < 0 ? r : stop_job(call, m, EVENT_CANCEL, now ? WISH_CANCEL_NOW : WISH_CANCEL, "cancel");
}

static int pause_job(struct call *call, sd_bus_message *m) {
        return stop_job(call, m, EVENT_PAUSE, WISH_PAUSE, "pause");
}

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
        job->history_from = job->attempt.number;
        job->exit_code = job->exit_class = -1;
        job->wait = (struct queue_entry) {};
        (void) manager_move(call->manager, job, EVENT_RESUME, NULL);
        manager_plan_soon(call->manager);
        return reply_nothing(m);
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

static int remove_job(struct call *call, sd_bus_message *m) {
        struct job *job = call->job;
        struct error error = {};

        if (state_after(job->state, EVENT_REMOVE).verdict != STATE_STAY)
                return wrong_state(call, "remove");
        cleanup_free char *folder = files_job_dir(call->manager->options.state_dir, job->id);
        struct job copy = *job; /* for its user's ids: the store may free the job */
        cleanup_free char *user = strdup(job->user);
        copy.user = user;
        wait_fail(job, BERTD_ERROR_NO_SUCH_JOB, "the job was removed");
        if (!user || !folder)
                return -ENOMEM;
        if (store_remove(call->manager->store, job, &error) < 0) {
                /* On a full disk its files are what is in the way. */
                (void) child_remove_tree(call->manager, &copy, folder, NULL);
                return sd_bus_error_setf(call->error, BERTD_ERROR_STORAGE,
                                         "%s: the job's files are being removed, ask again for the rest", error.text);
        }
        int r = child_remove_tree(call->manager, &copy, folder, m);
        return r < 0 ? r : 1;
}

static int shutdown_daemon(struct call *call, sd_bus_message *m) {
        int jobs;

        int r = sd_bus_message_read(m, "b", &jobs);
        if (r >= 0)
                r = reply_nothing(m);
        if (r < 0)
                return r;
        log_info("shutdown asked for by uid %u%s", (unsigned) call->peer->uid, jobs ? ", jobs first" : "");
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
                r = attempt_hello(call->manager, call->peer, call->peer->uid, call->peer->pid, job, number, nonce,
                                  &answer);
        if (r == -EPERM)
                return sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED, "not the job's user");
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
                r = attempt_report(call->manager, call->peer->uid, &in);
        if (r == -EPERM)
                return sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED, "not the job's user");
        if (r == -ESTALE)
                return sd_bus_error_set(call->error, BERTD_ERROR_WRONG_STATE, "not an attempt that runs");
        return r < 0 ? r : reply_nothing(m);
}

/* ---- dispatch ---- */

#define METHODS(X)                                                      \
        X("Submit", "a{sv}", "t", ANYONE, submit)                       \
        X("GetJob", "t", "a{sv}", JOB_ANYONE, get_job)                  \
        X("ListJobs", "tub", "aa{sv}", ANYONE, list_jobs)               \
        X("GetEvents", "ttu", "a(ttssssstt)", JOB_ANYONE, get_events)   \
        X("GetCheckpoints", "t", "aa{sv}", JOB_ANYONE, get_checkpoints) \
        X("GetSpec", "t", "s", JOB_OWNER, get_spec)                     \
        X("Cancel", "tb", "", JOB_OWNER, cancel)                        \
        X("Pause", "t", "", JOB_OWNER, pause_job)                       \
        X("Resume", "ta{sv}", "", JOB_OWNER, resume_job)                \
        X("Checkpoint", "t", "", JOB_OWNER, checkpoint_job)             \
        X("Remove", "t", "", JOB_OWNER, remove_job)                     \
        X("Wait", "t", "s", JOB_ANYONE, wait_job)                       \
        X("GetDaemon", "", "a{sv}", ANYONE, get_daemon)                 \
        X("Shutdown", "b", "", ADMIN, shutdown_daemon)                  \
        X("AttemptHello", "tuss", "u", ANYONE, hello)                   \
        X("AttemptReport", "a{sv}", "", ANYONE, report)

static const struct method {
        const char *name;
        enum authority authority;
        handler_t handler;
} methods[] = {
#define ROW(name, in, out, authority, handler) { name, authority, handler },
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
        if (!call->job) {
                r = store_load(call->manager->store, id, &call->loaded, &error);
                call->job = call->loaded;
        }
        if (r < 0 && r != -ENOENT)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        if (!call->job)
                return sd_bus_error_setf(call->error, BERTD_ERROR_NO_SUCH_JOB, "no job %" PRIu64, id);
        call->owner = may_act_for(call->peer, call->job->uid);
        if (owner_only && !call->owner)
                return sd_bus_error_setf(call->error, BERTD_ERROR_ACCESS_DENIED, "job %" PRIu64 " belongs to %s", id,
                                         call->job->user);
        return 0;
}

static int run_method(struct call *call, const struct method *method, sd_bus_message *m) {
        int r = 0;

        if (method->authority == JOB_ANYONE || method->authority == JOB_OWNER)
                r = find_job(call, m, method->authority == JOB_OWNER);
        else if (method->authority == ADMIN && !may_act_for(call->peer, geteuid()))
                r = sd_bus_error_set(call->error, BERTD_ERROR_ACCESS_DENIED,
                                     "only root or the daemon's user may do this");
        if (r >= 0)
                r = method->handler(call, m);
        job_free(call->loaded);
        return r;
}

static int dispatch(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct peer *peer = userdata;
        struct call call = { .manager = peer->manager, .peer = peer, .error = ret_error };
        const struct method *method = find_method(sd_bus_message_get_member(m));
        uint64_t queued = 0;

        if (peer->doomed)
                return 1;
        uint64_t begin = clock_boottime_usec();
        int r = method ? run_method(&call, method, m) : -ENOSYS;
        peer_charge(peer, clock_boottime_usec() - begin);
        (void) sd_bus_get_n_queued_write(peer->bus, &queued);
        if (queued > PEER_QUEUE_MAX) {
                log_error("uid %u leaves %" PRIu64 " replies unread: connection dropped", (unsigned) peer->uid, queued);
                peer_doom(peer);
        }
        return r;
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
#define ROW(name, in, out, authority, handler) SD_BUS_METHOD(name, in, out, dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
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
