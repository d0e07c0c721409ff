/*
 * Days of a daemon's life, with its own objects and a clock that the test turns (tests/loop_turned.h): what it waits
 * for, how long, and what it gives up after. Shims are this test's: processes that do nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/launch/user_task.h"
#include "daemon/rules/policy.h"
#include "tests/unit/days_fixture.h"

/* ---- back-off and budget ---- */

/* Each pause is the double of the one before, less a quarter at most, up to the longest; after the budget there is no
 * more. */
static void test_backoff(void **state) {
        static const uint64_t pauses[] = { 5, 10, 20, 40, 80, 100, 100 };
        struct fixture *f = *state;
        const struct job *job = submit(f, ELEMENTSOF(pauses), 5, 100);

        for (size_t i = 0; i <= ELEMENTSOF(pauses); i++) {
                uint64_t ended = loop_boottime();
                await_start(f, job);
                if (i > 0)
                        assert_about(starts[i] - ended, pauses[i - 1] * SEC * 3 / 4 - 1, pauses[i - 1] * SEC + SEC);
                run_once(f, job, "failed", 7);
                assert_int_equal(job->state, i < ELEMENTSOF(pauses) ? JOB_BACKOFF : JOB_FAILED);
        }
        turned_go(f->node->loop, 7 * DAY);
        assert_int_equal(n_starts, ELEMENTSOF(pauses) + 1);
}

/* A budget that is longer than what is remembered of its deaths; the hour's starts come in between. */
static void test_long_budget(void **state) {
        struct fixture *f = *state;
        const struct job *job = submit(f, 70, 0, 0);

        for (unsigned i = 1; i <= 71; i++) {
                await_start(f, job);
                run_once(f, job, "failed", 1);
                assert_int_equal(job->state, i < 71 ? JOB_BACKOFF : JOB_FAILED);
                if (i <= 60)
                        assert_int_equal(strstr(job->reason, "restarted 60 times in the last hour") != NULL, i == 60);
        }
        assert_about(starts[60] - starts[0], HOUR, HOUR + 2 * SEC);
        assert_non_null(strstr(job->reason, "failed 71 times"));
}

/* A job that makes progress is never given up; yet it starts 60 times an hour at most, and its oldest and newest
 * attempts are kept. */
static void test_progress(void **state) {
        struct fixture *f = *state;
        struct job *job = submit(f, 0, 0, 0);
        cleanup_free char *run_dir = format_string("%s/run", f->folder);

        job->run_dir = strdup(run_dir);
        for (uint64_t i = 0; i < 2 * POLICY_STARTS_MAX; i++) {
                cleanup_free char *path = format_string("%s/step-%lu.ckpt", run_dir, (unsigned long) i + 1);
                await_start(f, job);
                if (i > 0 && i < POLICY_STARTS_MAX)
                        assert_about(starts[i] - starts[i - 1], SEC, 2 * SEC);
                if (i >= POLICY_STARTS_MAX)
                        assert_about(starts[i] - starts[i - POLICY_STARTS_MAX], HOUR, HOUR + 3 * SEC);
                say_hello(f, job);
                report(f, job,
                       &(struct attempt_report) { .has_step = true,
                                                  .step = i + 1,
                                                  .has_checkpoint = true,
                                                  .checkpoint_step = i + 1,
                                                  .checkpoint_path = path,
                                                  .checkpoint_size = 1 });
                end(f, job, "failed", 7);
                assert_int_equal(job->state, JOB_BACKOFF);
        }
        turned_go(f->node->loop, 100 * MSEC);
        assert_int_equal(count(f, "SELECT count(*) FROM attempt"), BERTD_ATTEMPTS_HEAD + BERTD_ATTEMPTS_TAIL);
        for (unsigned i = 1; i <= job->attempt.number; i++) {
                cleanup_free char *folder = format_string("%s/jobs/1/attempt-%u", f->state_dir, i);
                bool kept = i <= BERTD_ATTEMPTS_HEAD || i > job->attempt.number - BERTD_ATTEMPTS_TAIL;
                assert_int_equal(access(folder, F_OK) == 0, kept);
        }
}

/* Deaths that are not the job's doing cost no budget, for days; its pauses become the longest and stay so. */
static void test_free_deaths(void **state) {
        struct fixture *f = *state;
        const struct job *job = submit(f, 1, 60, 7200);
        uint64_t begin = loop_boottime();

        while (loop_boottime() < begin + 3 * DAY) {
                await_start(f, job);
                say_hello(f, job);
                lose_shim(f);
                await_end(f, job);
                assert_int_equal(job->state, JOB_BACKOFF);
                assert_int_equal(job->attempt.exit_class, EXIT_CLASS_LOST);
        }
        assert_about(starts[n_starts - 1] - starts[n_starts - 2], 5400 * SEC, 7201 * SEC);
        assert_int_equal(job->deaths, 0);
        assert_int_equal(job->free_deaths, n_starts);
}

/* ---- clocks ---- */

/* Whoever sets the wall clock makes no pause longer or shorter. */
static void test_wall_clock(void **state) {
        static const int64_t jumps[] = { -(int64_t) DAY, DAY };
        struct fixture *f = *state;
        const struct job *job = submit(f, 5, 600, 600);

        await_start(f, job);
        for (size_t i = 0; i < ELEMENTSOF(jumps); i++) {
                uint64_t ended = loop_boottime();
                run_once(f, job, "failed", 7);
                turned_set_wall(jumps[i]);
                await_start(f, job);
                assert_about(starts[i + 1] - ended, 450 * SEC - 1, 601 * SEC);
        }
}

/* Nor does it while bertd is away: it begins no pause anew that is longer than it was. */
static void test_restart(void **state) {
        struct fixture *f = *state;
        struct job *job = submit(f, 5, 600, 600);

        await_start(f, job);
        run_once(f, job, "failed", 7);
        turned_go(f->node->loop, 300 * SEC);
        manager_free(f->node);
        uint64_t began = loop_boottime();
        turned_set_wall(-(int64_t) DAY);
        start_daemon(f);
        job = store_find(f->node->store, 1);
        assert_int_equal(job->state, JOB_BACKOFF);
        await_start(f, job);
        assert_about(starts[1] - began, 449 * SEC, 601 * SEC);
        run_once(f, job, "failed", 7);
        manager_free(f->node);
        loop_sleep(DAY);
        start_daemon(f);
        job = store_find(f->node->store, 1);
        began = loop_boottime();
        await_start(f, job);
        assert_about(starts[2] - began, 0, SEC);
}

/* ---- limits ---- */

/* A shim that is never heard is given up after a minute. */
static void test_hello(void **state) {
        struct fixture *f = *state;
        const struct job *job = submit(f, 0, 5, 600);

        await_start(f, job);
        turned_go(f->node->loop, 60 * SEC - MSEC);
        assert_int_equal(job->run->phase, PHASE_LAUNCHING);
        turned_go(f->node->loop, 2 * MSEC);
        assert_null(job->run);
        assert_int_equal(job->state, JOB_BACKOFF); /* the host's doing */
        assert_int_equal(job->attempt.exit_class, EXIT_CLASS_LAUNCH);
}

/* Of one that has ended, and left memory. */
static enum job_state kept_state(struct fixture *f, uint64_t id) {
        struct error error = {};
        struct job *job = NULL;

        if (store_load(f->node->store, id, &job, &error) < 0)
                fail_msg("%s", error.text);
        enum job_state state = job->state;
        job_free(job);
        return state;
}

static void ask_to_stop(struct fixture *f, struct job *job, enum stop_reason reason) {
        job->stop_reason = reason;
        assert_int_equal(node_move(f->node, job, EVENT_CANCEL, "cancelled"), STATE_MOVE);
        job->stop_due = true;
        turned_go(f->node->loop, 0);
        assert_int_equal(job->state, JOB_STOPPING);
}

/* Whoever does not stop has four times its grace and half a minute; repeated, it has no more. */
static void test_grace(void **state) {
        struct fixture *f = *state;
        struct job *job = submit(f, 5, 5, 600);
        uint64_t limit = (4 * BERTD_GRACE_DEFAULT + 30) * SEC;

        await_start(f, job);
        say_hello(f, job);
        turned_go(f->node->loop, 5 * DAY);
        assert_int_equal(job->state, JOB_RUNNING);
        ask_to_stop(f, job, STOP_CANCEL);
        assert_true(f->stops == 1 && f->told == BERTD_GRACE_DEFAULT * SEC);
        turned_go(f->node->loop, limit / 2);
        attempt_stop(job);
        turned_go(f->node->loop, limit / 2 - MSEC);
        assert_true(f->stops == 2 && job->run && job->run->phase == PHASE_LIVE);
        turned_go(f->node->loop, 2 * MSEC);
        assert_int_equal(kept_state(f, 1), JOB_CANCELLED);
        assert_int_equal(waitpid(f->shim, NULL, 0), f->shim); /* by the sweep */
        f->shim = 0;
}

/* 3 s where it is to be at once; and for a shim that says that it ends. */
static void test_at_once(void **state) {
        struct fixture *f = *state;
        struct job *job = submit(f, 5, 5, 600);

        await_start(f, job);
        say_hello(f, job);
        for (int i = 0; i < 29; i++) {
                report(f, job, &(struct attempt_report) { .exited = true });
                turned_go(f->node->loop, SEC / 10);
        }
        assert_int_equal(job->run->phase, PHASE_LIVE);
        turned_go(f->node->loop, SEC / 10 + MSEC);
        assert_true(!job->run && job->attempt.exit_class == EXIT_CLASS_LOST);
        assert_int_equal(waitpid(f->shim, NULL, 0), f->shim);
        await_start(f, job);
        say_hello(f, job);
        ask_to_stop(f, job, STOP_CANCEL_NOW);
        assert_int_equal(f->told, 0);
        turned_go(f->node->loop, 3 * SEC - MSEC);
        assert_int_equal(job->run->phase, PHASE_LIVE);
        turned_go(f->node->loop, 2 * MSEC);
        assert_int_equal(kept_state(f, 1), JOB_CANCELLED);
        assert_int_equal(waitpid(f->shim, NULL, 0), f->shim);
        f->shim = 0;
}

/* A helper that hangs with what it looks at is left after 10 s. */
static void test_sweeper(void **state) {
        struct fixture *f = *state;
        const struct job *job = submit(f, 5, 5, 600);

        await_start(f, job);
        say_hello(f, job);
        children_hang = true;
        lose_shim(f);
        while (!job->run->sweeper)
                (void) loop_turn(f->node->loop, 0);
        children_hang = false;
        pid_t helper = job->run->sweeper_pid;
        turned_set_patience(0);
        turned_go(f->node->loop, 10 * SEC - MSEC);
        assert_non_null(job->run);
        turned_go(f->node->loop, 2 * MSEC);
        assert_null(job->run);
        turned_set_patience(10000);
        /* It was killed, and is reaped. */
        for (int i = 0; i < 1000 && kill(helper, 0) == 0; i++) {
                turned_go(f->node->loop, 0);
                (void) usleep(1000);
        }
        assert_int_equal(kill(helper, 0), -1);
}

/* ---- a host that has no process left ---- */

/* What an attempt left is looked for until it can be, however long that takes; of one that was cancelled for a while.
 */
static void test_no_sweeper(void **state) {
        struct fixture *f = *state;
        struct job *job = submit(f, 5, 5, 600);

        await_start(f, job);
        say_hello(f, job);
        lose_shim(f);
        no_processes = true;
        turned_go(f->node->loop, HOUR);
        assert_true(job->run && job->run->phase == PHASE_SWEEPING);
        no_processes = false;
        turned_go(f->node->loop, SEC);
        assert_int_equal(job->state, JOB_BACKOFF);
        await_start(f, job);
        say_hello(f, job);
        ask_to_stop(f, job, STOP_CANCEL);
        lose_shim(f);
        no_processes = true;
        turned_go(f->node->loop, 9 * SEC);
        assert_int_equal(kept_state(f, 1), JOB_STOPPING);
        turned_go(f->node->loop, 2 * SEC);
        no_processes = false;
        assert_int_equal(kept_state(f, 1), JOB_CANCELLED);
}

/* on_exit is tried after 10, 20, 40 ... 600 s, folders are removed after 10 s each. */
static void test_no_helpers(void **state) {
        struct fixture *f = *state;
        struct job *job = submit(f, 0, 5, 600);

        job->on_exit = strdup("/bin/true");
        await_start(f, job);
        run_once(f, job, "failed", 7);
        forks_failed = 0;
        no_processes = true;
        turned_go(f->node->loop, HOUR);
        assert_in_range(forks_failed, 1 + 6 + 4, 1 + 6 + 5);
        no_processes = false;
        turned_go(f->node->loop, 600 * SEC);
        assert_int_equal(count(f, "SELECT exit_owed FROM job"), EXIT_OWED_NONE);

        cleanup_free char *folder = format_string("%s/jobs/1", f->state_dir);
        job = submit(f, 0, 5, 600);
        await_start(f, job);
        run_once(f, job, "failed", 7);
        forks_failed = 0;
        no_processes = true;
        store_keep_ended(f->node->store, 1);
        node_commit_soon(f->node);
        turned_go(f->node->loop, 10 * 60 * SEC);
        assert_in_range(forks_failed, 59, 62);
        assert_int_equal(access(folder, F_OK), 0);
        no_processes = false;
        turned_go(f->node->loop, 11 * SEC);
        assert_int_equal(access(folder, F_OK), -1);
}

/* ---- GPUs ---- */

static const uint64_t gib = UINT64_C(1) << 30;

/* The driver is asked twice a minute, every 2 s while a GPU cannot be given; one that is clean again is given at once.
 */
static void test_gpus(void **state) {
        struct fixture *f = *state;

        turned_go(f->node->loop, 10 * 60 * SEC);
        assert_in_range(asked, 19, 22);
        use_gpu(0, 4321, 8 * gib);
        use_gpu(1, 4322, 8 * gib);
        turned_go(f->node->loop, 30 * SEC);
        struct job *job = submit(f, 5, 5, 5);
        job->gpus = 1;
        asked = 0;
        turned_go(f->node->loop, 2 * 60 * SEC);
        assert_in_range(asked, 58, 62);
        assert_int_equal(n_starts, 0);
        uint64_t clean = loop_boottime();
        use_gpu(1, 0, 0);
        await_start(f, job);
        assert_about(starts[0] - clean, 0, 2 * SEC + MSEC);
        assert_string_equal(job->attempt.gpus, "1");
        /* What it leaves there keeps the next attempt from it. */
        use_gpu(1, 0, 4 * gib);
        run_once(f, job, "failed", 7);
        turned_go(f->node->loop, 2 * 60 * SEC);
        assert_int_equal(n_starts, 1);
        assert_string_equal(gpu_watch_note(f->node->gpu_watch, 1), "quarantined: job 1 left 4.0 GiB");
        clean = loop_boottime();
        use_gpu(1, 0, 0);
        await_start(f, job);
        assert_about(starts[1] - clean, 0, 2 * SEC + MSEC);
}

/* A driver that does not answer has its time; then no GPU of its is given, until it answers. */
static void test_driver(void **state) {
        struct fixture *f = *state;

        turned_go(f->node->loop, SEC);
        driver_hangs = true;
        turned_set_patience(0);
        turned_go(f->node->loop, 60 * SEC);
        turned_set_patience(10000);
        assert_string_equal(gpu_watch_note(f->node->gpu_watch, 0), "unknown: the driver does not answer");
        struct job *job = submit(f, 5, 5, 5);
        job->gpus = 1;
        driver_hangs = false;
        await_start(f, job);
        assert_string_equal(job->attempt.gpus, "0");
}

/* ---- what is not kept ---- */

static void test_pruning(void **state) {
        struct fixture *f = *state;

        store_keep_ended(f->node->store, 3);
        for (unsigned i = 1; i <= 10; i++) {
                const struct job *job = submit(f, 0, 5, 600);
                await_start(f, job);
                run_once(f, job, i % 2 ? "finished" : "failed", i % 2 ? 0 : 7);
                turned_go(f->node->loop, DAY);
        }
        assert_int_equal(count(f, "SELECT count(*) FROM job"), 3);
        assert_int_equal(count(f, "SELECT min(id) FROM job"), 8);
        assert_int_equal(count(f, "SELECT count(*) FROM trash"), 0);
        for (unsigned i = 1; i <= 10; i++) {
                cleanup_free char *folder = format_string("%s/jobs/%u", f->state_dir, i);
                assert_int_equal(access(folder, F_OK) == 0, i > 7);
        }
}

/* ---- on_exit ---- */

static unsigned count_exits(const struct fixture *f) {
        unsigned all = 0, of_uid = 0;

        user_task_count_exits(f->node, geteuid(), &all, &of_uid);
        return all;
}

/* A program that does not end has a minute. */
static void test_on_exit(void **state) {
        struct fixture *f = *state;
        struct job *job = submit(f, 0, 5, 600);
        cleanup_free char *hook = format_string("%s/hook", f->folder), *began = format_string("%s/began", f->folder);
        cleanup_free char *text = format_string("#!/bin/sh\n>%s\nexec sleep 1000\n", began);
        FILE *file = fopen(hook, "w");

        assert_true(file && fputs(text, file) >= 0 && fclose(file) == 0 && chmod(hook, 0755) == 0);
        job->on_exit = strdup(hook);
        await_start(f, job);
        run_once(f, job, "failed", 7);
        turned_set_patience(0);
        for (int i = 0; i < 10000 && access(began, F_OK) < 0; i++) {
                turned_go(f->node->loop, 0);
                (void) usleep(1000);
        }
        turned_go(f->node->loop, 60 * SEC - MSEC);
        (void) usleep(50000); /* of a mistake it would die now */
        turned_go(f->node->loop, 0);
        assert_int_equal(count_exits(f), 1);
        turned_go(f->node->loop, 2 * MSEC);
        turned_set_patience(10000);
        turned_go(f->node->loop, SEC);
        assert_int_equal(count_exits(f), 0);
}

/* ---- while state.db cannot be written ---- */

/* It is tried again after 1, 2, 4 ... 60 s; what has happened is kept in memory. */
static void test_disk(void **state) {
        struct fixture *f = *state;
        const struct job *job = submit(f, 0, 5, 600);

        await_start(f, job);
        tries = 0;
        disk_fails = true;
        say_hello(f, job);
        turned_go(f->node->loop, HOUR);
        disk_fails = false;
        assert_in_range(tries, 1 + 6 + 58, 1 + 6 + 60);
        assert_true(f->node->storage_error[0]);
        assert_int_equal(kept_state(f, 1), JOB_STARTING);
        turned_go(f->node->loop, 60 * SEC);
        assert_false(f->node->storage_error[0]);
        assert_int_equal(kept_state(f, 1), JOB_RUNNING);
}

struct recorded {
        struct change change;
        uint64_t undone;
        bool kept;
};

static int apply(struct change *change) { return 0; }

static void keep(struct change *change) { ((struct recorded *) change)->kept = true; }

static void undo(struct change *change, const char *why) { ((struct recorded *) change)->undone = loop_boottime(); }

static void test_locked(void **state) {
        struct fixture *f = *state;
        cleanup_free char *path = format_string("%s/state.db", f->state_dir);
        struct recorded first = { .change = { .apply = apply, .keep = keep, .undo = undo } }, second = first;
        sqlite3 *db = NULL;

        turned_go(f->node->loop, SEC);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        uint64_t now = loop_boottime();
        settle_add(f->node->settle, &first.change);
        turned_go(f->node->loop, 60 * SEC);
        assert_false(first.kept);
        assert_about(first.undone - now, SETTLE_BUSY_USEC, SETTLE_BUSY_USEC + SEC);
        settle_add(f->node->settle, &second.change);
        turned_go(f->node->loop, 7 * SEC);
        assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        (void) sqlite3_close(db);
        turned_go(f->node->loop, SEC);
        assert_true(second.kept && second.undone == 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_backoff, setup, teardown),
                cmocka_unit_test_setup_teardown(test_long_budget, setup, teardown),
                cmocka_unit_test_setup_teardown(test_progress, setup, teardown),
                cmocka_unit_test_setup_teardown(test_free_deaths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_wall_clock, setup, teardown),
                cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hello, setup, teardown),
                cmocka_unit_test_setup_teardown(test_grace, setup, teardown),
                cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_sweeper, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_sweeper, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_helpers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_gpus, setup_two_gpus, teardown),
                cmocka_unit_test_setup_teardown(test_driver, setup_two_gpus, teardown),
                cmocka_unit_test_setup_teardown(test_pruning, setup, teardown),
                cmocka_unit_test_setup_teardown(test_on_exit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_locked, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
