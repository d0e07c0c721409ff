/* See methods.h. Role: what clients read: from memory, or of ended jobs from state.db; nothing is changed. Owns nothing. */
#include "daemon/bus/methods.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/utf8.h"
#include "daemon/bus/jobview.h"
#include "daemon/bus/waits.h"

/* What it holds, the client may leave unread. */
static int send_reply(struct call *call, sd_bus_message *reply, size_t size) {
        int r = sd_bus_send(NULL, reply, NULL);

        peer_note_reply(call->peer, size);
        return r;
}

int method_get_job(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;
        struct jobview_command command = {};
        struct error error = {};

        if (call->owner &&
            store_load_command(call->node->store, call->job->id, &command.words, &command.size, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_job(reply, call->node, call->job, call->owner, &command);
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

        return note_size(target, jobview_job(target->reply, call->node, job, call_may_act_for(call, job->uid), NULL));
}

int method_list_jobs(struct call *call, sd_bus_message *m) {
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
        r = store_page(call->node->store, first, MIN(max, BERTD_LIST_PAGE_MAX), open, append_job, &target, &error);
        if (r < 0 && error.code)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : send_reply(call, reply, target.size);
}

#define EVENT_FIXED_SIZE (4 * 8 + 5 * 8 + 8) /* four numbers, five strings without their characters, alignment */

static int append_event(void *userdata, const struct event_row *e) {
        struct list_target *target = userdata;
        const char *reason = jobview_event_reason(e, target->call->owner);
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
        r = store_events(call->node->store, call->job->id, after, MIN(max, BERTD_LIST_PAGE_MAX), append_event, &target,
                         &error);
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

        if (store_load_ledger(call->node->store, job, &error) < 0)
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

int method_get_checkpoints(struct call *call, sd_bus_message *m) { return reply_checkpoints(call, m, UINT64_MAX); }

int method_list_checkpoints(struct call *call, sd_bus_message *m) {
        uint64_t before;

        int r = sd_bus_message_read(m, "t", &before);
        return r < 0 ? r : reply_checkpoints(call, m, before == 0 ? UINT64_MAX : before);
}

int method_get_spec(struct call *call, sd_bus_message *m) {
        cleanup_free char *text = NULL;
        struct error error = {};

        if (store_load_spec(call->node->store, call->job->id, &text, &error) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        cleanup_message sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "s", text);
        return r < 0 ? r : send_reply(call, reply, strlen(text));
}

int method_get_daemon(struct call *call, sd_bus_message *m) {
        cleanup_message sd_bus_message *reply = NULL;

        int r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = jobview_daemon(reply, call->node);
        return r < 0 ? r : send_reply(call, reply, (size_t) r);
}

int method_wait_job(struct call *call, sd_bus_message *m) {
        /* What is not yet durable is answered by its commit. */
        if ((state_has_ended(call->job->state) || call->job->state == JOB_PAUSED) && !call->job->dirty)
                return sd_bus_reply_method_return(m, "s", job_state_name(call->job->state));
        int r = wait_add(call->job, call->peer, m);
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
        if (known != call->node->serial)
                return sd_bus_reply_method_return(m, "t", call->node->serial);
        if (change_wait(call->peer, m) < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_QUOTA,
                                        "this connection already waits for a change; call again after its answer");
        return 1;
}

int method_find_by_name(struct call *call, sd_bus_message *m) {
        struct error error = {};
        const char *name;
        uint64_t id;

        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        r = store_find_name(call->node->store, name, call->uid, &id, &error);
        if (r < 0)
                return sd_bus_error_set(call->error, BERTD_ERROR_STORAGE, error.text);
        if (id == 0)
                return sd_bus_error_setf(call->error, BERTD_ERROR_NO_SUCH_JOB,
                                         "no job is named '%.128s'; `bertctl list` shows all", name);
        return sd_bus_reply_method_return(m, "t", id);
}
