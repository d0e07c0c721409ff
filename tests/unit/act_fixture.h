/* A node without a socket, on a loop whose clock the test turns; its launcher and its shim are the test's. */
#ifndef TESTS_UNIT_ACT_FIXTURE_H
#define TESTS_UNIT_ACT_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/report.h"
#include "daemon/bus/act.h"
#include "daemon/gpu/watch.h"
#include "daemon/launch/launcher.h"
#include "daemon/manager.h"
#include "daemon/plan/schedule.h"
#include "daemon/plan/settle.h"
#include "daemon/plan/trash.h"
#include "tests/loop_turned.h"
#include "tests/unit/folder.h"

#define DAY (24 * 3600 * USEC_PER_SEC)
#define SLOTS 4

struct fixture {
        char *folder, *state_dir;
        struct node *node;
        struct refusal refusal;
        struct shim_link link;
        pid_t shim;
        unsigned stops, moves;
};

static unsigned starts;

static int start(const struct launch_request *request, struct launch **ret, struct error *error) {
        starts++;
        *ret = NULL;
        return 0;
}

static void forget(struct launch *launch) {}

static const struct launcher launcher = { .name = "test", .start = start, .forget = forget };

static void on_stop(struct shim_link *link, uint64_t grace_usec) {
        ((struct fixture *) ((char *) link - offsetof(struct fixture, link)))->stops++;
}
static int on_checkpoint(struct shim_link *link) { return 0; }
static void on_move(struct shim_link *link, const char *reason) {
        ((struct fixture *) ((char *) link - offsetof(struct fixture, link)))->moves++;
}
static void on_drop(struct shim_link *link) {}
static const struct shim_link_calls link_calls = {
        .stop = on_stop, .checkpoint = on_checkpoint, .move = on_move, .drop = on_drop
};

static inline void on_gpus(void *userdata) {}

static inline int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error error = {};

        assert_non_null(f);
        starts = 0;
        f->folder = make_folder();
        f->state_dir = format_string("%s/state", f->folder);
        f->link.calls = &link_calls;
        struct node_options options = { .state_dir = f->state_dir, .socket = "", .slots = SLOTS };
        if (manager_new(&options, &f->node, &error) < 0)
                fail_msg("%s", error.text);
        f->node->launchers[LAUNCHER_FORK] = &launcher;
        assert_true(schedule_new(f->node) >= 0 && trash_new(f->node, &f->node->trash) >= 0);
        assert_true(gpu_watch_new(f->node->loop, &f->node->options.gpus, on_gpus, NULL, &f->node->gpu_watch) >= 0);
        *state = f;
        return 0;
}

static inline int teardown(void **state) {
        struct fixture *f = *state;

        assert_null(f->node->server);
        manager_free(f->node);
        remove_folder(f->folder);
        free(f->state_dir);
        free(f);
        return 0;
}

/* ---- a client ---- */

static inline struct act of_user(struct fixture *f, uid_t uid) {
        f->refusal = (struct refusal) {};
        return (struct act) { .node = f->node, .uid = uid, .pid = getpid(), .refusal = &f->refusal };
}

static inline struct act about(struct fixture *f, uid_t uid, uint64_t id) {
        struct act a = of_user(f, uid);

        assert_int_equal(act_find_job(&a, id, true), 0);
        return a;
}

/* It is durable, and what follows a commit has happened. */
static inline void commit(struct fixture *f, struct act *a) {
        assert_true(settle_now(f->node->settle));
        act_clear(a);
        turned_go(f->node->loop, 0);
}

static inline struct submission *submission_of(uint32_t ranks) {
        static char *command[] = { (char *) "/bin/true", NULL };
        static struct submission s;

        submission_defaults(&s);
        s.name = (char *) "name";
        s.kind = JOB_COMMAND;
        s.cwd = (char *) "/";
        s.spec = (char *) "the spec";
        s.command = command;
        s.ranks = ranks;
        s.max_without_progress = 0;
        return &s;
}

static inline uint64_t submit(struct fixture *f, uint32_t ranks) {
        struct act a = of_user(f, geteuid());
        struct submission *s = submission_of(ranks);

        if (act_may_submit(&a) < 0 || act_check_submission(&a, s) < 0 || act_submit(&a, s, getegid(), "me") < 0)
                fail_msg("%s", f->refusal.text);
        uint64_t id = a.job->id;
        assert_true(settle_now(f->node->settle));
        act_submitted(&a);
        commit(f, &a);
        return id;
}

static inline struct job *job_of(struct fixture *f, uint64_t id) { return store_find(f->node->store, id); }

/* Behind one that has all slots. */
static inline uint64_t submit_queued(struct fixture *f) {
        (void) submit(f, SLOTS);
        return submit(f, 1);
}

static inline void run_until_start(struct fixture *f, unsigned n) {
        for (uint64_t end = loop_boottime() + DAY; starts < n;) {
                assert_true(loop_boottime() < end);
                (void) loop_turn(f->node->loop, end - loop_boottime());
        }
}

static inline void say_hello(struct fixture *f, const struct job *job) {
        uint32_t answer;

        f->shim = fork();
        if (f->shim == 0)
                for (;;)
                        (void) pause();
        assert_int_equal(attempt_hello(f->node, &f->link, geteuid(), f->shim, job->id, job->attempt.number,
                                       job->attempt.nonce, "0.1.0 2", &answer),
                         0);
        turned_go(f->node->loop, 0);
}

/* The program of the attempt exits with 7. */
static inline void fails(struct fixture *f, struct job *job) {
        struct attempt_report r = {
                .job = job->id, .attempt = job->attempt.number, .nonce = job->attempt.nonce, .exited = true
        };
        cleanup_free char *record =
                format_string("{\"version\":1,\"job\":%lu,\"attempt\":%u,\"nonce\":\"%s\",\"exit_code\":7,"
                              "\"signal\":0,\"reason\":\"r\",\"class\":\"failed\"}",
                              (unsigned long) job->id, job->attempt.number, job->attempt.nonce);
        uint64_t id = job->id;

        r.record = record;
        assert_int_equal(attempt_report(f->node, geteuid(), &r), 0);
        assert_true(kill(f->shim, SIGKILL) == 0 && waitpid(f->shim, NULL, 0) == f->shim);
        while (job_of(f, id) && job_of(f, id)->run)
                (void) loop_turn(f->node->loop, 1);
        turned_go(f->node->loop, 0);
}

#define assert_refused(f, r, error, words)                                             \
        do {                                                                           \
                assert_true((r) < 0);                                                  \
                if (!(f)->refusal.name || strcmp((f)->refusal.name, error) != 0)       \
                        fail_msg("%s: %s", (f)->refusal.name, (f)->refusal.text);      \
                if (!strstr((f)->refusal.text, words))                                 \
                        fail_msg("\"%s\" is not in \"%s\"", words, (f)->refusal.text); \
        } while (false)

#endif
