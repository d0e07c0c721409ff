/* The ledger of a job: which of the shim's words it takes up, what a start begins from, which paths it holds. No file
 * is looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "daemon/rules/ledger.h"

#define TAKE(job, ...) take(job, (const uint64_t[]) { __VA_ARGS__ }, sizeof((const uint64_t[]) { __VA_ARGS__ }) / 8)

static bool take(struct job *job, const uint64_t *found, size_t n) {
        return ledger_take(job, "/run", &(struct ledger_news) { .found = found, .n_found = n });
}

static bool lose(struct job *job, uint64_t step) {
        return ledger_take(job, "/run", &(struct ledger_news) { .gone = &step, .n_gone = 1 });
}

static int setup(void **state) {
        struct job *job = calloc(1, sizeof(*job));

        assert_non_null(job);
        job->attempt.number = 3;
        job->kind = JOB_PRETRAIN;
        job->cwd = text_shared("/home/alice");
        *state = job;
        return 0;
}

static int teardown(void **state) {
        job_free(*state);
        return 0;
}

static void test_found(void **state) {
        static const uint64_t expected[] = { 7, 1234567890, INT64_MAX };
        struct job *job = *state;

        assert_false(TAKE(job, 0, 5, 1));                 /* no step */
        assert_false(TAKE(job, 8, 0, 1));                 /* holds nothing */
        assert_false(TAKE(job, UINT64_C(1) << 63, 5, 1)); /* no number of the database's */
        assert_false(TAKE(job, 8, UINT64_C(1) << 63, 1));
        assert_false(TAKE(job, 8, 5, UINT64_C(1) << 63));
        assert_false(TAKE(job, 8, 5)); /* not whole */
        assert_int_equal(job->n_ledger, 0);
        assert_true(TAKE(job, 1234567890, 9, 77, INT64_MAX, 9, 77, 7, 5, 66));
        assert_int_equal(job->n_ledger, ELEMENTSOF(expected));
        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                assert_true(job->ledger[i].step == expected[i] && job->ledger[i].state == CHECKPOINT_GOOD);
                assert_true(job->ledger[i].attempt == 3 && job->ledger[i].dirty);
        }
        assert_string_equal(job->ledger[0].path, "/run/checkpoints/step-000000007.ckpt");
        assert_true(job->ledger[0].size == 5 && job->ledger[0].created == 66);
        assert_false(TAKE(job, 7, 5, 66)); /* nothing new */
}

static void test_gone_and_back(void **state) {
        struct job *job = *state;

        assert_true(TAKE(job, 10, 1, 1, 20, 2, 2, 30, 3, 3));
        job->ledger[2].state = CHECKPOINT_DEMOTED;
        job->ledger[1].dirty = false;
        job->ledger[1].restored = 4;
        job->attempt.number = 5;
        assert_true(lose(job, 20));
        assert_true(job->ledger[1].state == CHECKPOINT_DELETED && job->ledger[1].dirty);
        assert_false(lose(job, 20));
        assert_false(lose(job, 30)); /* set aside stays set aside */
        assert_false(lose(job, 40));
        assert_int_equal(ledger_choose(job)->step, 10);
        assert_true(TAKE(job, 20, 22, 99));
        assert_false(TAKE(job, 30, 3, 3)); /* its file says nothing about it */
        assert_int_equal(job->n_ledger, 3);
        assert_true(job->ledger[1].state == CHECKPOINT_GOOD && job->ledger[1].size == 22);
        assert_true(job->ledger[1].attempt == 3 && job->ledger[1].restored == 4 && job->ledger[1].created == 2);
        assert_int_equal(job->ledger[2].state, CHECKPOINT_DEMOTED);
        assert_int_equal(ledger_choose(job)->step, 20);
        /* In one breath: gone first. */
        const uint64_t found[] = { 10, 11, 1 }, gone[] = { 10, 20 };
        assert_true(
                ledger_take(job, "/run", &(struct ledger_news) { found, gone, ELEMENTSOF(found), ELEMENTSOF(gone) }));
        assert_true(job->ledger[0].state == CHECKPOINT_GOOD && job->ledger[0].size == 11);
        assert_int_equal(job->ledger[1].state, CHECKPOINT_DELETED);
        /* Another file of that step. */
        free(job->ledger[1].path);
        job->ledger[1].path = strdup("/run/other/step-20.ckpt");
        assert_true(TAKE(job, 20, 1, 1));
        assert_true(job->ledger[1].attempt == 5 && job->ledger[1].restored == 0);
}

static void test_going_back(void **state) {
        struct job *job = *state;
        uint64_t steps[4] = {};

        assert_null(ledger_choose(job));
        assert_true(TAKE(job, 10, 1, 1, 20, 1, 1, 30, 1, 1, 40, 1, 1));
        job->ledger[3].state = CHECKPOINT_DELETED;
        for (size_t i = 0; i < job->n_ledger; i++)
                job->ledger[i].dirty = false;
        assert_int_equal(ledger_good_steps(job, steps, ELEMENTSOF(steps)), 3);
        assert_true(steps[0] == 30 && steps[1] == 20 && steps[2] == 10);
        steps[1] = 0;
        assert_int_equal(ledger_good_steps(job, steps, 1), 1);
        assert_true(steps[0] == 30 && steps[1] == 0);

        /* Asked to go back to 20: until the trainer has put the newer ones away, they are not taken up again. */
        job->resume_abandon = true;
        job->resume_from = 20;
        assert_int_equal(ledger_choose(job)->step, 20);
        assert_false(TAKE(job, 50, 1, 1));
        assert_int_equal(job->n_ledger, 4);
        ledger_abandon_newer(job, 20);
        assert_true(job->ledger[1].state == CHECKPOINT_GOOD && !job->ledger[1].dirty);
        assert_true(job->ledger[2].state == CHECKPOINT_ABANDONED && job->ledger[2].dirty);
        assert_int_equal(job->ledger[3].state, CHECKPOINT_DELETED);
}

static void add(struct job *job, uint64_t step, enum checkpoint_state state, const char *path) {
        assert_int_equal(
                job_checkpoint_add(job, &(struct checkpoint) { .step = step, .state = state, .path = (char *) path }),
                0);
}

/* One that may not be on the disk is used only if no good one is left, the newest of them first. */
static void test_unconfirmed(void **state) {
        struct job *job = *state;
        uint64_t steps[4] = {};

        add(job, 10, CHECKPOINT_GOOD, "/run/a");
        add(job, 20, CHECKPOINT_UNCONFIRMED, "/run/b");
        add(job, 30, CHECKPOINT_UNCONFIRMED, "/run/c");
        assert_true(ledger_choose(job)->step == 10 && job_newest_good(job)->step == 10);
        assert_true(ledger_good_steps(job, steps, ELEMENTSOF(steps)) == 1 && steps[0] == 10);
        assert_true(lose(job, 10));
        assert_true(ledger_choose(job)->step == 30 && job_newest_good(job)->step == 30);
        assert_int_equal(ledger_good_steps(job, steps, ELEMENTSOF(steps)), 2); /* what may be set aside, one by one */
        assert_true(steps[0] == 30 && steps[1] == 20);
        job->resume_abandon = true;
        job->resume_from = 20;
        assert_int_equal(ledger_choose(job)->step, 20);
        assert_true(lose(job, 20));
        assert_null(ledger_choose(job));
        assert_true(job->ledger[1].state == CHECKPOINT_DELETED && job->ledger[1].dirty);
        job->id = 5; /* what is below the job's own folder is kept with the job */
        assert_false(ledger_is_below_job(job));
        add(job, 40, CHECKPOINT_UNCONFIRMED, "/state/jobs/5/d");
        assert_true(ledger_is_below_job(job));
        job->ledger[2].state = job->ledger[3].state = CHECKPOINT_DEMOTED;
        assert_false(ledger_is_below_job(job));
        assert_null(job_newest_good(job));
}

/* A path stands for the newest report of it, whatever state the older rows had. */
static void test_overwritten(void **state) {
        struct job *job = *state;

        add(job, 10, CHECKPOINT_GOOD, "/run/last");
        add(job, 20, CHECKPOINT_DEMOTED, "/run/last");
        add(job, 30, CHECKPOINT_GOOD, "/run/other");
        add(job, 40, CHECKPOINT_DELETED, "/run/last");
        add(job, 50, CHECKPOINT_GOOD, "/run/last");
        for (size_t i = 0; i < job->n_ledger; i++)
                job->ledger[i].dirty = false;
        ledger_overwritten(job, &job->ledger[4]);
        assert_true(job->ledger[0].state == CHECKPOINT_DELETED && job->ledger[0].dirty);
        assert_true(job->ledger[1].state == CHECKPOINT_DELETED && job->ledger[1].dirty);
        assert_true(job->ledger[2].state == CHECKPOINT_GOOD && !job->ledger[2].dirty);
        assert_false(job->ledger[3].dirty);
        assert_true(job->ledger[4].state == CHECKPOINT_GOOD && !job->ledger[4].dirty);
}

static void test_paths(void **state) {
        static const struct {
                const char *path;
                bool trainer, command;
        } rows[] = {
                { "/run/checkpoints/step-000000010.ckpt", true, true },
                { "/run/a", true, true },
                { "/run", false, false },
                { "/run/", false, false },
                { "/runner/a", false, false },
                { "/run/../etc/shadow", false, false },
                { "/run/a/..", false, false },
                { "/run/./a", false, false },
                { "/run/.", false, false },
                { "/run//a", false, false },
                { "/run/a/", false, false },
                { "/run/...", true, true },
                { "/run/..a/.b", true, true },
                { "run/a", false, false },
                { "", false, false },
                { "/", false, false },
                { "/root/secret", false, false },
                { "/home/alice/out/step-1.ckpt", false, true },
                { "/home/alice", false, false },
                { "/home/alice/../bob/x", false, false },
                { "/run/a\nb", false, false },
                { "/run/a\033[2J", false, false },
                { "/run/a\177", false, false },
        };
        struct job *job = *state;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                job->kind = JOB_PRETRAIN;
                assert_true(ledger_may_hold(job, "/run", rows[i].path) == rows[i].trainer);
                assert_true(ledger_may_hold(job, "/run//", rows[i].path) == rows[i].trainer);
                job->kind = JOB_COMMAND;
                assert_true(ledger_may_hold(job, "/run", rows[i].path) == rows[i].command);
        }
        cleanup_free char *path = malloc(5000);
        assert_non_null(path);
        memset(path, 'a', 5000);
        memcpy(path, "/run/", 5);
        path[4096] = '\0';
        assert_false(ledger_may_hold(job, "/run", path));
        path[4095] = '\0';
        assert_true(ledger_may_hold(job, "/run", path));
        assert_true(ledger_may_hold(job, "/a/../run", "/a/../run/x")); /* the folder's own text is its user's */
        assert_true(ledger_may_hold(job, "/", "/x"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_found, setup, teardown),
                cmocka_unit_test_setup_teardown(test_gone_and_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_going_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unconfirmed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_overwritten, setup, teardown),
                cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
