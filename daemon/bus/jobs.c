/*
 * See methods.h. Role: messages of what changes jobs, into acts and back. Owns nothing. Invariant: what is decided is
 * decided in act.c.
 */
#include "daemon/bus/methods.h"
#include "daemon/bus/submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "daemon/bus/accounts.h"
#include "daemon/bus/waits.h"
#include "daemon/plan/schedule.h"
#include "daemon/plan/trash.h"

/* ---- submit ---- */

/* −EINPROGRESS: its user is being looked up, and the call, which is of so many bytes, is kept until then. */
static int find_account(struct call *call, sd_bus_message *m, size_t size, const struct account **ret) {
        unsigned uid = (unsigned) call->act.uid;

        int r = accounts_find(call->act.node->accounts, call->act.uid, ret);
        if (r == -ESRCH)
                return act_refuse(&call->act, BERTD_ERROR_ACCESS_DENIED, "uid %u has no account here", uid);
        if (r == -EINPROGRESS) {
                int parked = peer_park(call->peer, m, size);
                r = parked < 0 ? parked : r;
        }
        if (r < 0 && r != -EINPROGRESS)
                return act_refuse(&call->act, BERTD_ERROR_UNAVAILABLE,
                                  "cannot look up uid %u in the user database (%s); try again, and check "
                                  "`getent passwd %u`",
                                  uid, r == -ENOBUFS ? "too many calls wait for it" : strerror(-r), uid);
        return r;
}

static void submitted(struct call *call, sd_bus_message *m) {
        act_submitted(&call->act);
        (void) sd_bus_reply_method_return(m, "t", call->act.job->id);
}

static int insert(struct call *call, sd_bus_message *m) {
        call->done = submitted;
        return act_submit(&call->act, call->submission, call->gid, call->user);
}

static int lend(struct call *call, sd_bus_message *m) {
        call->done = submitted;
        return act_lend(&call->act, call->submission, call->gid, call->user);
}

static int read_submission(struct call *call, sd_bus_message *m, bool lease, struct submission *ret) {
        struct error error = {};

        submission_defaults(ret);
        int r = submission_read(ret, m, &error);
        if (r >= 0 && lease)
                r = submission_make_lease(ret, call->act.node->leash, &error);
        else if (r >= 0)
                r = submission_check_no_lease(ret, &error);
        if (r < 0)
                return act_refuse(&call->act, BERTD_ERROR_INVALID_SPEC, "%s", error.text);
        r = act_check_submission(&call->act, ret);
        if (r >= 0 && lease)
                submission_unlock_memory(ret);
        return r;
}

/* Reads and checks the submission at once and looks up its user; then it is a change like others. */
static int submit(struct call *call, sd_bus_message *m, bool lease) {
        const struct account *account;

        call->submission = calloc(1, sizeof(*call->submission));
        if (!call->submission)
                return -ENOMEM;
        int r = read_submission(call, m, lease, call->submission);
        if (r >= 0)
                r = find_account(call, m, submission_size(call->submission), &account);
        if (r < 0)
                return r == -EINPROGRESS ? 1 : r;
        call->gid = account->gid;
        call->user = strdup(account->name);
        if (!call->user || (account->home && submission_add_home(call->submission, account->home) < 0))
                return -ENOMEM;
        return call_queue(call, m, lease ? lend : insert);
}

int method_submit(struct call *call, sd_bus_message *m) {
        int r = act_may_submit(&call->act);

        return r < 0 ? r : submit(call, m, false);
}

int method_lease(struct call *call, sd_bus_message *m) {
        int r = act_may_lend(&call->act);

        return r < 0 ? r : submit(call, m, true);
}

/* ---- draining ---- */

static int read_drain(sd_bus_message *m, const char **ret_reason, bool *ret_move) {
        int move;

        int r = sd_bus_message_rewind(m, 1);
        if (r >= 0)
                r = sd_bus_message_read(m, "sb", ret_reason, &move);
        *ret_move = r >= 0 && move;
        return r;
}

static void drained(struct call *call, sd_bus_message *m) {
        const char *reason;
        bool move;

        if (read_drain(m, &reason, &move) >= 0)
                act_drained(&call->act, reason, move);
        (void) call_reply_nothing(m);
}

int method_drain(struct call *call, sd_bus_message *m) {
        const char *reason;
        bool move;

        int r = read_drain(m, &reason, &move);
        call->done = drained;
        return r < 0 ? r : act_drain(&call->act, reason, move);
}

static void undrained(struct call *call, sd_bus_message *m) {
        act_undrained(&call->act);
        (void) call_reply_nothing(m);
}

int method_undrain(struct call *call, sd_bus_message *m) {
        call->done = undrained;
        return act_undrain(&call->act);
}

/* ---- changing ---- */

int method_cancel(struct call *call, sd_bus_message *m) {
        int now;

        int r = sd_bus_message_read(m, "b", &now);
        return r < 0 ? r : act_cancel(&call->act, now);
}

int method_pause_job(struct call *call, sd_bus_message *m) { return act_pause(&call->act); }

static int read_resume_option(struct call *call, sd_bus_message *m, struct resume_options *o) {
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
        if (strcmp(key, "use") == 0) {
                o->has_use = true;
                return sd_bus_message_read(m, "v", "u", &o->use);
        }
        return act_refuse(&call->act, BERTD_ERROR_INVALID_SPEC, "unknown key \"%.64s\", expected ranks, from or use",
                          key);
}

static int read_resume(struct call *call, sd_bus_message *m, struct resume_options *o) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_resume_option(call, m, o);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int method_resume_job(struct call *call, sd_bus_message *m) {
        struct resume_options o = {};

        int r = read_resume(call, m, &o);
        return r < 0 ? r : act_resume(&call->act, &o);
}

int method_checkpoint_job(struct call *call, sd_bus_message *m) {
        int r = act_checkpoint(&call->act);

        return r < 0 ? r : call_reply_nothing(m);
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

        wait_fail(call->act.job, BERTD_ERROR_NO_SUCH_JOB, "the job was removed");
        int r = call_to_answer(m, &answered);
        if (r >= 0)
                r = trash_ask(call->act.node->trash, call->act.job->id, folder_gone, answered);
        if (r < 0) {
                (void) sd_bus_message_unref(answered);
                (void) sd_bus_reply_method_errno(m, r, NULL);
        }
}

int method_remove_job(struct call *call, sd_bus_message *m) {
        call->done = removed;
        return act_remove(&call->act);
}

int method_shutdown_daemon(struct call *call, sd_bus_message *m) {
        int jobs;

        int r = sd_bus_message_read(m, "b", &jobs);
        if (r >= 0)
                r = call_reply_nothing(m);
        if (r < 0)
                return r;
        (void) sd_bus_flush(call->peer->bus);
        act_shutdown(&call->act, jobs);
        return 1;
}
