/* A manager whose methods a test calls over one connection, as the user that it chooses. Nothing is started. */
#ifndef TESTS_UNIT_METHODS_FIXTURE_H
#define TESTS_UNIT_METHODS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/bus/accounts.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/report.h"
#include "daemon/bus/server.h"
#include "daemon/manager.h"
#include "daemon/plan/settle.h"
#include "tests/unit/folder.h"

#define TURNS_MAX 1000 /* of both ends, for an answer */
#define SLOTS 4
#define DENIED BERTD_ERROR_ACCESS_DENIED
#define WRONG BERTD_ERROR_WRONG_STATE
#define DONE "" /* no error */

struct fixture {
        char *folder, *state_dir, *socket;
        struct node *node;
        struct peer peer;
        sd_bus *client;
        sd_bus_message *reply;
        char error[64]; /* of the last call; empty: it was answered */
        bool full;      /* state.db cannot be written */
};

/* Neither root nor the daemon's user. */
static inline uid_t owner_uid(void) { return geteuid() + 1; }
static inline uid_t stranger_uid(void) { return geteuid() + 2; }

static inline int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error error = {};
        sd_id128_t id;
        int fds[2];

        assert_non_null(f);
        f->folder = make_folder();
        f->state_dir = format_string("%s/state", f->folder);
        f->socket = format_string("%s/socket", f->folder);
        struct node_options options = {
                .state_dir = f->state_dir, .socket = f->socket, .slots = SLOTS, .launcher = LAUNCHER_FORK
        };
        if (manager_new(&options, &f->node, &error) < 0 || manager_start(f->node, &error) < 0)
                fail_msg("%s", error.text);
        /* What the user database would answer later. */
        assert_int_equal(accounts_note(f->node->accounts, geteuid(), &(struct nss_user) { .name = "me" }), 0);
        f->peer.link.calls = &peer_shim_calls;
        f->peer.node = f->node;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        assert_true(sd_id128_randomize(&id) >= 0);
        assert_true(sd_bus_new(&f->peer.bus) >= 0 && sd_bus_set_fd(f->peer.bus, fds[0], fds[0]) >= 0);
        assert_true(sd_bus_set_server(f->peer.bus, 1, id) >= 0 && sd_bus_set_anonymous(f->peer.bus, 1) >= 0);
        assert_true(sd_bus_set_trusted(f->peer.bus, 1) >= 0 && methods_add(&f->peer) >= 0);
        assert_true(sd_bus_new(&f->client) >= 0 && sd_bus_set_fd(f->client, fds[1], fds[1]) >= 0);
        assert_true(sd_bus_start(f->peer.bus) >= 0 && sd_bus_start(f->client) >= 0);
        *state = f;
        return 0;
}

static inline int teardown(void **state) {
        struct fixture *f = *state;

        (void) sd_bus_message_unref(f->reply);
        (void) sd_bus_close_unref(f->client);
        (void) sd_bus_close_unref(f->peer.bus);
        manager_free(f->node);
        remove_folder(f->folder);
        free(f->state_dir);
        free(f->socket);
        free(f);
        return 0;
}

static inline struct job *new_job(struct fixture *f, const char *kind, enum job_state in_state) {
        char *command[] = { (char *) "secret-command", NULL };
        struct submission s = {};
        struct job *job = NULL;
        struct error error = {};

        submission_defaults(&s);
        s.name = (char *) "a";
        s.kind = (enum job_kind) job_kind_from_name(kind);
        s.cwd = (char *) "/tmp";
        s.spec = (char *) "secret-spec";
        s.command = command;
        if (store_insert(f->node->store, &s, owner_uid(), 1, "alice", LAUNCHER_FORK, &job, &error) < 0)
                fail_msg("%s", error.text);
        if (store_flush(f->node->store, &error) < 0)
                fail_msg("%s", error.text);
        job->state = in_state;
        return job;
}

static inline int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct fixture *f = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);

        f->reply = sd_bus_message_ref(m);
        (void) snprintf(f->error, sizeof(f->error), "%s", error ? error->name : DONE);
        return 1;
}

/* Sends the call, which it takes, as that user; f->error and f->reply are the answer. */
static inline void call(struct fixture *f, uid_t uid, sd_bus_message *m) {
        f->peer.uid = uid;
        f->reply = sd_bus_message_unref(f->reply);
        assert_true(sd_bus_call_async(f->client, NULL, m, on_answer, f, 0) >= 0);
        (void) sd_bus_message_unref(m);
        for (int i = 0; i < TURNS_MAX && !f->reply; i++)
                assert_true(sd_bus_process(f->client, NULL) >= 0 && sd_bus_process(f->peer.bus, NULL) >= 0 &&
                            (settle_now(f->node->settle) || f->full));
        assert_non_null(f->reply);
}

static inline sd_bus_message *new_call(struct fixture *f, const char *member) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(f->client, &m, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE, member) >=
                    0);
        return m;
}

/* A method whose first argument is a job; `in` is its signature in bus.h. */
static inline const char *call_job(struct fixture *f, uid_t uid, const char *member, const char *in, uint64_t id) {
        sd_bus_message *m = new_call(f, member);
        int r = sd_bus_message_append(m, "t", id);

        if (strcmp(in, "tb") == 0)
                r = sd_bus_message_append(m, "b", 0);
        else if (strcmp(in, "ta{sv}") == 0)
                r = sd_bus_message_append(m, "a{sv}", 0);
        else if (strcmp(in, "tt") == 0)
                r = sd_bus_message_append(m, "t", UINT64_C(0));
        else if (strcmp(in, "ttu") == 0)
                r = sd_bus_message_append(m, "tu", UINT64_C(0), 10u);
        assert_true(r >= 0);
        call(f, uid, m);
        return f->error;
}

static inline const char *resume(struct fixture *f, uint64_t id, const char *key, const char *type, uint64_t value) {
        sd_bus_message *m = new_call(f, "Resume");
        int r = sd_bus_message_append(m, "t", id);

        if (strcmp(type, "u") == 0)
                r = r < 0 ? r : sd_bus_message_append(m, "a{sv}", 1, key, "u", (uint32_t) value);
        else
                r = r < 0 ? r : sd_bus_message_append(m, "a{sv}", 1, key, "t", value);
        assert_true(r >= 0);
        call(f, owner_uid(), m);
        return f->error;
}

#endif
