/* See methods.h. Role: methods that only read, from memory or, for ended jobs, from state.db. Owns nothing. */
#include "daemon/bus/methods.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/utf8.h"
#include "daemon/bus/jobview.h"
#include "daemon/bus/waits.h"

/* Charges the reply, which the client may leave unread. */
static int send_reply(struct call *call, sd_bus_message *reply, size_t size) {
        int r = sd_bus_send(NULL, reply, NULL);

        peer_note_reply(call->peer, size);
        return r;
}

int method_get_job(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
        struct jobview_command command = {};

        int r = act_command(&call->act, &command.words, &command.size);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_job(reply, call->act.node, call->act.job, call->act.owner, &command);
        free(command.words);
        return r < 0 ? r : send_reply(call, reply, (size_t) r);
}

/* A page is full if one more entry could exceed BERTD_PAGE_MAX. The client requests the next one. */
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

        return note_size(target,
                         jobview_job(target->reply, call->act.node, job, act_may_act_for(&call->act, job->uid), NULL));
}

int method_list_jobs(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
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
        r = act_jobs(&call->act, first, max, open, append_job, &target);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : send_reply(call, reply, target.size);
}

#define EVENT_FIXED_SIZE (4 * 8 + 5 * 8 + 8) /* four numbers, five strings without their characters, alignment */

static int append_event(void *userdata, const struct event_row *e) {
        struct list_target *target = userdata;
        const char *reason = jobview_event_reason(e, target->call->act.owner);
        cleanup_free char *clean = text_as_utf8(reason);
        reason = clean ? clean : reason;
        size_t size = EVENT_FIXED_SIZE + strlen(e->from) + strlen(e->to) + strlen(e->what) + strlen(reason) +
                      strlen(e->exit_class);

        int r = sd_bus_message_append(target->reply, "(ttssssstt)", e->id, e->time, e->from, e->to, e->what, reason,
                                      e->exit_class, e->step, e->lost);
        return note_size(target, r < 0 ? r : (int) size);
}

int method_get_events(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
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
        r = act_events(&call->act, after, max, append_event, &target);
        if (r < 0)
                return r;
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
        struct job *job = call->act.job;

        int r = act_ledger(&call->act);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_return(m, &reply);
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

int method_get_checkpoints(struct call *call, sd_bus_message *m) { return reply_checkpoints(call, m, UINT64_MAX); }

int method_list_checkpoints(struct call *call, sd_bus_message *m) {
        uint64_t before;

        int r = sd_bus_message_read(m, "t", &before);
        return r < 0 ? r : reply_checkpoints(call, m, before == 0 ? UINT64_MAX : before);
}

int method_get_spec(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
        cleanup_free char *text = NULL;

        int r = act_spec(&call->act, &text);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", text);
        return r < 0 ? r : send_reply(call, reply, strlen(text));
}

int method_get_daemon(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;

        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_daemon(reply, call->act.node);
        return r < 0 ? r : send_reply(call, reply, (size_t) r);
}

int method_wait_job(struct call *call, sd_bus_message *m) {
        /* What is not yet durable is answered by its commit. */
        if (act_rests(&call->act))
                return sd_bus_reply_method_return(m, "s", job_state_name(call->act.job->state));
        int r = wait_add(call->act.job, call->peer, m);
        if (r == -ENOBUFS)
                return sd_bus_error_setf(call->error, BERTD_ERROR_QUOTA,
                                         "too many unanswered Wait calls: at most %d per connection, %d per user, %d "
                                         "in total; wait for some of them first",
                                         BERTD_WAITS_OF_CLIENT_MAX, BERTD_WAITS_OF_UID_MAX, BERTD_WAITS_MAX);
        return r < 0 ? r : 1;
}

int method_wait_change(struct call *call, sd_bus_message *m) {
        uint64_t known;

        int r = sd_bus_message_read(m, "t", &known);
        if (r < 0)
                return r;
        if (known != call->act.node->serial)
                return sd_bus_reply_method_return(m, "t", call->act.node->serial);
        if (change_wait(call->peer, m) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_QUOTA,
                                        "this connection already waits for a change; call again after its answer");
        return 1;
}

int method_find_by_name(struct call *call, sd_bus_message *m) {
        const char *name;
        uint64_t id;

        int r = sd_bus_message_read(m, "s", &name);
        if (r >= 0)
                r = act_find_name(&call->act, name, &id);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(m, "t", id);
}
