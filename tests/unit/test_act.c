/*
 * What clients ask for, without a bus: acts are called with plain values on a node that has no socket, whose clock the
 * test turns. Its launcher and its shim are the test's.
 */
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
        unsigned stops;
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
static void on_drop(struct shim_link *link) {}
static const struct shim_link_calls link_calls = { .stop = on_stop, .checkpoint = on_checkpoint, .drop = on_drop };

static void on_gpus(void *userdata) {}

static int setup(void **state) {
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

static int teardown(void **state) {
        struct fixture *f = *state;

        assert_null(f->node->server);
        manager_free(f->node);
        remove_folder(f->folder);
        free(f->state_dir);
        free(f);
        return 0;
}

/* ---- a client ---- */

static struct act of_user(struct fixture *f, uid_t uid) {
        f->refusal = (struct refusal) {};
        return (struct act) { .node = f->node, .uid = uid, .pid = getpid(), .refusal = &f->refusal };
}

static struct act about(struct fixture *f, uid_t uid, uint64_t id) {
        struct act a = of_user(f, uid);

        assert_int_equal(act_find_job(&a, id, true), 0);
        return a;
}

/* It is durable, and what follows a commit has happened. */
static void commit(struct fixture *f, struct act *a) {
        assert_true(settle_now(f->node->settle));
        act_clear(a);
        turned_go(f->node->loop, 0);
}

static struct submission *submission_of(uint32_t ranks) {
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

static uint64_t submit(struct fixture *f, uint32_t ranks) {
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

static struct job *job_of(struct fixture *f, uint64_t id) { return store_find(f->node->store, id); }

/* Behind one that has all slots. */
static uint64_t submit_queued(struct fixture *f) {
        (void) submit(f, SLOTS);
        return submit(f, 1);
}

static void run_until_start(struct fixture *f, unsigned n) {
        for (uint64_t end = loop_boottime() + DAY; starts < n;) {
                assert_true(loop_boottime() < end);
                (void) loop_turn(f->node->loop, end - loop_boottime());
        }
}

static void say_hello(struct fixture *f, const struct job *job) {
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
static void fails(struct fixture *f, struct job *job) {
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

/* ---- the acts ---- */

static void test_changes(void **state) {
        struct fixture *f = *state;
        uint64_t first = submit(f, SLOTS), second = submit(f, 1);

        run_until_start(f, 1);
        assert_int_equal(job_of(f, first)->state, JOB_STARTING);
        say_hello(f, job_of(f, first));
        assert_int_equal(job_of(f, first)->state, JOB_RUNNING);
        assert_int_equal(job_of(f, second)->state, JOB_QUEUED);

        struct act a = about(f, geteuid(), second);
        assert_int_equal(act_pause(&a), 0);
        commit(f, &a);
        assert_int_equal(job_of(f, second)->state, JOB_PAUSED);
        a = about(f, geteuid(), second);
        assert_true(act_rests(&a));
        assert_int_equal(act_resume(&a, &(struct resume_options) { .has_ranks = true, .ranks = 2 }), 0);
        commit(f, &a);
        assert_true(job_of(f, second)->state == JOB_QUEUED && job_of(f, second)->ranks == 2);

        a = about(f, 0, first); /* root may, too */
        assert_int_equal(act_cancel(&a, false), 0);
        assert_int_equal(f->stops, 0);
        commit(f, &a);
        assert_true(job_of(f, first)->state == JOB_STOPPING && f->stops == 1);
        fails(f, job_of(f, first));
        assert_null(job_of(f, first)); /* it has ended and is on disk alone */
        run_until_start(f, 2);
        assert_int_equal(job_of(f, second)->state, JOB_STARTING);
        a = about(f, geteuid(), first);
        assert_true(act_rests(&a) && a.job->state == JOB_CANCELLED);
        assert_int_equal(act_remove(&a), 0);
        commit(f, &a);
        a = of_user(f, geteuid());
        assert_refused(f, act_find_job(&a, first, false), BERTD_ERROR_NO_SUCH_JOB, "no job 1");
}

static void test_refusals(void **state) {
        struct fixture *f = *state;
        uint64_t id = submit_queued(f), found;
        struct act a = of_user(f, geteuid() + 1);

        assert_int_equal(act_find_job(&a, id, false), 0); /* anybody may look */
        assert_false(a.owner);
        assert_refused(f, act_find_job(&a, id, true), BERTD_ERROR_ACCESS_DENIED, "belongs to me");
        assert_refused(f, act_check_admin(&a), BERTD_ERROR_ACCESS_DENIED, "only root");
        assert_refused(f, act_find_name(&a, "other", &found), BERTD_ERROR_NO_SUCH_JOB, "'other'");
        a = about(f, geteuid(), id);
        assert_refused(f, act_resume(&a, &(struct resume_options) {}), BERTD_ERROR_WRONG_STATE, "cannot resume it");
        assert_refused(f, act_remove(&a), BERTD_ERROR_WRONG_STATE, "bertctl cancel");
        enum job_state before = a.job->state;
        a.job->state = JOB_STOPPING;
        assert_refused(f, act_resume(&a, &(struct resume_options) {}), BERTD_ERROR_WRONG_STATE, "can be resumed");
        assert_refused(f, act_remove(&a), BERTD_ERROR_WRONG_STATE, "bertctl wait");
        a.job->state = before;
        assert_refused(f, act_checkpoint(&a), BERTD_ERROR_WRONG_STATE, "cannot take a checkpoint of it");
        assert_int_equal(act_pause(&a), 0);
        commit(f, &a);
        a = about(f, geteuid(), id);
        assert_refused(f, act_resume(&a, &(struct resume_options) { .has_ranks = true, .ranks = SLOTS + 1 }),
                       BERTD_ERROR_TOO_LARGE, "this host has 4");
        assert_refused(f, act_resume(&a, &(struct resume_options) { .has_from = true, .from = 10 }),
                       BERTD_ERROR_NO_SUCH_CHECKPOINT, "step 10");
        a.job->exit_owed = EXIT_OWED_START;
        assert_int_equal(act_resume(&a, &(struct resume_options) {}), 1);
        a.last = true;
        assert_refused(f, act_resume(&a, &(struct resume_options) {}), BERTD_ERROR_WRONG_STATE, "on_exit");
        a.job->exit_owed = EXIT_OWED_NONE;
        assert_refused(f, act_check_submission(&a, submission_of(SLOTS + 1)), BERTD_ERROR_TOO_LARGE, "4");
        assert_refused(f, act_check_submission(&a, submission_of(0)), BERTD_ERROR_INVALID_SPEC, "ranks");
        f->node->draining = true;
        assert_refused(f, act_may_submit(&a), BERTD_ERROR_STOPPING, "shutting down");
        f->node->draining = false;
        assert_int_equal(job_of(f, id)->state, JOB_PAUSED);
}

/* As before the act. */
static void test_undone(void **state) {
        struct fixture *f = *state;
        uint64_t id = submit_queued(f);
        struct act a = about(f, geteuid(), id);

        assert_int_equal(act_cancel(&a, true), 0);
        assert_int_equal(a.job->state, JOB_CANCELLED);
        act_undo(&a);
        assert_int_equal(job_of(f, id)->state, JOB_QUEUED);
        act_clear(&a);
        a = of_user(f, geteuid());
        assert_int_equal(act_submit(&a, submission_of(1), getegid(), "me"), 0);
        assert_int_equal(store_count(f->node->store), 3);
        act_undo(&a);
        assert_int_equal(store_count(f->node->store), 2);
}

static int count_job(void *userdata, const struct job *job) {
        ++*(unsigned *) userdata;
        return 0;
}
static int count_event(void *userdata, const struct event_row *event) {
        ++*(unsigned *) userdata;
        return 0;
}

/* A job fails; a month later its owner finds it by its name, reads what happened, and resumes it. */
static void test_a_month_later(void **state) {
        struct fixture *f = *state;
        uint64_t id = submit(f, 1), found;
        cleanup_free char *spec = NULL, *command = NULL, *nothing = NULL;
        unsigned jobs = 0, events = 0;
        size_t size = 0;

        run_until_start(f, 1);
        say_hello(f, job_of(f, id));
        fails(f, job_of(f, id));
        turned_go(f->node->loop, 30 * DAY);
        assert_int_equal(starts, 1);
        assert_null(job_of(f, id));

        struct act a = of_user(f, geteuid());
        assert_int_equal(act_find_name(&a, "name", &found), 0);
        assert_int_equal(found, id);
        assert_int_equal(act_jobs(&a, 0, 10, false, count_job, &jobs), 0);
        a = about(f, geteuid(), id);
        assert_true(a.loaded && a.job->state == JOB_FAILED);
        assert_int_equal(act_events(&a, 0, 10, count_event, &events), 0);
        assert_true(jobs == 1 && events == 4);
        assert_int_equal(act_spec(&a, &spec), 0);
        assert_string_equal(spec, "the spec");
        assert_true(act_command(&a, &command, &size) == 0 && strcmp(command, "/bin/true") == 0);
        a.owner = false;
        assert_true(act_command(&a, &nothing, &size) == 0 && !nothing);
        assert_int_equal(act_resume(&a, &(struct resume_options) {}), 0);
        commit(f, &a);
        run_until_start(f, 2);
        assert_int_equal(job_of(f, id)->attempt.number, 2);
        a = of_user(f, 0);
        act_shutdown(&a, true);
        assert_true(f->node->draining);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
                cmocka_unit_test_setup_teardown(test_undone, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_month_later, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
