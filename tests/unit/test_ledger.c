/* The ledger of a job beside its folder: which files are taken up, what is gone, what a start begins from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/ledger.h"
#include "tests/unit/folder.h"

struct fixture {
        char *folder;
        struct job *job;
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error error = {};

        assert_non_null(f);
        f->folder = make_folder();
        f->job = calloc(1, sizeof(*f->job));
        cleanup_free char *checkpoints = format_string("%s/checkpoints", f->folder);
        assert_true(f->job && mkdir_parents(checkpoints, 0700, &error) >= 0);
        f->job->attempt.number = 3;
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        job_free(f->job);
        remove_folder(f->folder);
        free(f);
        return 0;
}

static char *path_of(const struct fixture *f, const char *name) {
        return format_string("%s/checkpoints/%s", f->folder, name);
}

static void put(const struct fixture *f, const char *name, const char *text) {
        cleanup_free char *path = path_of(f, name);

        assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, NULL), 0);
}

static void take_away(const struct fixture *f, const char *name) {
        cleanup_free char *path = path_of(f, name);

        assert_int_equal(unlink(path), 0);
}

static void test_names(void **state) {
        static const char *const others[] = { "step-10.ckpt",
                                              "step-000000011.ckpt.tmp",
                                              "step-0000000012.ckpt",
                                              "step-00000001x.ckpt",
                                              "step-000000000.ckpt",
                                              "stop-000000013.ckpt",
                                              "step-000000014.ckpx",
                                              "step-99999999999999999999999.ckpt",
                                              "step--00000015.ckpt",
                                              "step-9223372036854775808.ckpt",
                                              ".ckpt",
                                              "step-.ckpt",
                                              ".step-000000016.ckpt",
                                              "step-000000017.ckpt ",
                                              "step-000000018.ckpt.ckpt" };
        static const uint64_t expected[] = { 7, 1234567890, INT64_MAX };
        struct fixture *f = *state;
        struct job *job = f->job;

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                put(f, others[i], "x");
        put(f, "step-000000020.ckpt", ""); /* not written yet */
        cleanup_free char *link = path_of(f, "step-000000021.ckpt"), *folder = path_of(f, "step-000000022.ckpt");
        assert_int_equal(symlink("step-000000007.ckpt", link), 0);
        assert_true(mkdir_parents(folder, 0700, NULL) >= 0);
        assert_false(ledger_refresh(job, f->folder));
        put(f, "step-000000007.ckpt", "seven");
        put(f, "step-1234567890.ckpt", "x");
        put(f, "step-9223372036854775807.ckpt", "x");
        assert_true(ledger_refresh(job, f->folder));
        assert_int_equal(job->n_ledger, ELEMENTSOF(expected));
        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                assert_true(job->ledger[i].step == expected[i] && job->ledger[i].state == CHECKPOINT_GOOD);
                assert_true(job->ledger[i].attempt == 3 && job->ledger[i].dirty);
        }
        cleanup_free char *path = path_of(f, "step-000000007.ckpt");
        assert_string_equal(job->ledger[0].path, path);
        assert_int_equal(job->ledger[0].size, 5);
        uint64_t now = clock_realtime_usec();
        assert_in_range(job->ledger[0].created, now - 600 * USEC_PER_SEC, now);
        assert_false(ledger_refresh(job, f->folder)); /* nothing new */
}

static void test_deleted_and_back(void **state) {
        struct fixture *f = *state;
        struct job *job = f->job;

        put(f, "step-000000010.ckpt", "x");
        put(f, "step-000000020.ckpt", "x");
        put(f, "step-000000030.ckpt", "x");
        assert_true(ledger_refresh(job, f->folder));
        job->ledger[2].state = CHECKPOINT_DEMOTED;
        job->ledger[1].dirty = false;
        take_away(f, "step-000000020.ckpt");
        assert_false(ledger_is_there(&job->ledger[1]));
        assert_true(ledger_note_deleted(job));
        assert_true(job->ledger[1].state == CHECKPOINT_DELETED && job->ledger[1].dirty);
        assert_false(ledger_note_deleted(job));
        assert_int_equal(ledger_choose(job)->step, 10);
        put(f, "step-000000020.ckpt", "x");
        assert_true(ledger_refresh(job, f->folder));
        assert_int_equal(job->n_ledger, 3);
        assert_int_equal(job->ledger[1].state, CHECKPOINT_GOOD);
        assert_int_equal(job->ledger[2].state, CHECKPOINT_DEMOTED); /* its file says nothing about it */
        assert_int_equal(ledger_choose(job)->step, 20);
}

static void test_going_back(void **state) {
        struct fixture *f = *state;
        struct job *job = f->job;
        uint64_t steps[4] = {};

        assert_null(ledger_choose(job));
        put(f, "step-000000010.ckpt", "x");
        put(f, "step-000000020.ckpt", "x");
        put(f, "step-000000030.ckpt", "x");
        put(f, "step-000000040.ckpt", "x");
        assert_true(ledger_refresh(job, f->folder));
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
        put(f, "step-000000050.ckpt", "x");
        assert_false(ledger_refresh(job, f->folder));
        assert_int_equal(job->n_ledger, 4);
        ledger_abandon_newer(job, 20);
        assert_true(job->ledger[1].state == CHECKPOINT_GOOD && !job->ledger[1].dirty);
        assert_true(job->ledger[2].state == CHECKPOINT_ABANDONED && job->ledger[2].dirty);
        assert_int_equal(job->ledger[3].state, CHECKPOINT_DELETED);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_names, setup, teardown),
                cmocka_unit_test_setup_teardown(test_deleted_and_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_going_back, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
