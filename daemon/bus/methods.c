/*
 * See methods.h. Role: the methods of org.bertd1.Manager (include/bertd/bus.h). Authority is data: each row gives the
 * allowed callers, and the dispatcher finds the job and checks the caller before the handler gets the message. A CHANGE
 * runs within the turn's commit (settle.h): its handler works in memory and sets the answer for when it is durable.
 * Owns the calls that wait for their commit. Invariants: the caller's identity comes from the kernel (struct peer),
 * never from the message; every handler replies, keeps the call as a wait, or is a change.
 */
#include "daemon/bus/methods.h"
#include "daemon/bus/submit.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/utf8.h"
#include "daemon/bus/inlet.h"
#include "daemon/bus/waits.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"

/* The contents, not the struct. */
static void call_clear(struct call *call) {
        act_clear(&call->act);
        (void) sd_bus_message_unref(call->message);
        if (call->submission)
                submission_free(call->submission);
        free(call->submission);
        free(call->user);
}

static void call_free(struct call *call) {
        call_clear(call);
        free(call);
}

int call_reply_nothing(sd_bus_message *m) { return sd_bus_reply_method_return(m, NULL); }

/* ---- dispatch ---- */

static const struct method {
        const char *name;
        enum authority authority;
        enum method_kind kind;
        handler_t handler;
} methods[] = {
#define ROW(name, in, out, authority, kind, handler) { name, authority, kind, method_##handler },
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
        return r < 0 ? r : act_find_job(&call->act, id, owner_only);
}

/* An error that quotes the caller may have been cut within a character, and could not be sent. */
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
        else if (authority == ADMIN)
                r = act_check_admin(&call->act);
        return r < 0 ? r : call->method->handler(call, m);
}

/* A refusal becomes the bus's error. */
static int run(struct call *call, sd_bus_message *m, handler_t handler) {
        struct refusal refusal = {};

        call->act.refusal = &refusal;
        int r = handler(call, m);
        call->act.refusal = NULL;
        if (r < 0 && refusal.name)
                r = sd_bus_error_set(call->error, refusal.name, refusal.text);
        if (r < 0)
                clean_error(call->error);
        return r;
}

/* ---- changes: see settle.h ---- */

static int apply_change(struct change *change) {
        struct call *call = (struct call *) change;
        sd_bus_error error = SD_BUS_ERROR_NULL;

        if (!call->apply)
                return 0;
        if (call->apply == run_method)
                (void) sd_bus_message_rewind(call->message, 1); /* it may have been applied before */
        call->error = &error;
        call->act.last = change->last;
        int r = run(call, call->message, call->apply);
        call->error = NULL;
        if (r < 0) {
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
                (void) call_reply_nothing(call->message);
        call_free(call);
}

static void undo_change(struct change *change, const char *why) {
        struct call *call = (struct call *) change;

        act_undo(&call->act);
        (void) sd_bus_reply_method_errorf(call->message, BERTD_ERROR_STORAGE, "%s: nothing was changed", why);
        call_free(call);
}

#define CALL_SIZE 1024 /* a call with its answer */

/* Memory of a call that waits for its commit: an unread message, or a submission. */
static size_t size_of(const struct call *call, bool unread) {
        return CALL_SIZE + (unread ? inlet_message_size(call->peer->inlet) : 0) +
               (call->submission ? submission_size(call->submission) : 0);
}

int call_queue(struct call *from, sd_bus_message *m, int (*apply)(struct call *call, sd_bus_message *m)) {
        size_t size = size_of(from, apply == run_method);

        if (!settle_has_room(from->act.node->settle, from->act.uid, size))
                return sd_bus_error_set(from->error, BERTD_ERROR_STORAGE,
                                        "too many calls wait for state.db or for on_exit programs: nothing was "
                                        "changed; try again");
        struct call *call = malloc(sizeof(*call));
        sd_bus_message *answered = NULL;

        /* A message that was read is not needed any more. */
        int r = !call ? -ENOMEM : apply == run_method ? 0 : call_to_answer(m, &answered);
        if (r < 0) {
                free(call);
                return r;
        }
        *call = *from;
        from->act.loaded = NULL;
        from->submission = NULL;
        from->user = NULL;
        call->change = (struct change) {
                .uid = from->act.uid, .size = size, .apply = apply_change, .keep = keep_change, .undo = undo_change
        };
        call->peer = NULL;
        call->error = NULL;
        call->act.refusal = NULL;
        call->apply = apply;
        call->message = answered ? answered : sd_bus_message_ref(m);
        settle_add(call->act.node->settle, &call->change);
        return 1;
}

static int run_at_once(struct call *call, sd_bus_message *m) {
        uint64_t begin = loop_boottime();
        int r = run(call, m, run_method);

        call_clear(call);
        bus_server_charge(call->act.node->server, call->act.uid, loop_boottime() - begin);
        return r;
}

static int dispatch(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct peer *peer = userdata;
        struct call call = { .act = { .node = peer->node, .uid = peer->uid, .pid = peer->pid },
                             .peer = peer,
                             .error = ret_error,
                             .method = find_method(sd_bus_message_get_member(m)) };
        int r;

        if (peer->doomed)
                return 1;
        if (!call.method)
                return -ENOSYS;
        r = call.method->kind == CHANGE ? call_queue(&call, m, run_method) : run_at_once(&call, m);
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

/* Answers of a message bus, for busctl and other bus clients. */
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
