/* common/worker: work beside its owner, what it borrows, its end. Each wait that must end has the test's own time
 * limit. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/worker.h"

struct job {
        struct worker *worker;
        atomic_bool may_read, may_end;
        atomic_int n_read, n_done;
        sigset_t blocked;
};

static void nap(void) { (void) nanosleep(&(struct timespec) { .tv_nsec = 1000000 }, NULL); }

static void work(void *context) {
        struct job *job = context;

        (void) pthread_sigmask(SIG_BLOCK, NULL, &job->blocked);
        while (!job->may_read)
                nap();
        job->n_read++;
        worker_release(job->worker);
        while (!job->may_end)
                nap();
        job->n_done++;
}

static void test_settles_before_the_end(void **state) {
        struct job job = {};

        assert_int_equal(worker_new(work, &job, &job.worker), 0);
        assert_false(worker_is_busy(job.worker));
        worker_wait(job.worker); /* for nothing */
        worker_settle(job.worker);
        worker_begin(job.worker, true);
        assert_true(worker_is_busy(job.worker));
        job.may_read = true;
        worker_settle(job.worker);
        assert_int_equal(job.n_read, 1);
        assert_true(worker_is_busy(job.worker));
        assert_int_equal(job.n_done, 0);
        job.may_end = true;
        worker_wait(job.worker);
        assert_int_equal(job.n_done, 1);
        assert_false(worker_is_busy(job.worker));
        worker_free(job.worker);
}

static void test_lends_nothing(void **state) {
        struct job job = {};

        assert_int_equal(worker_new(work, &job, &job.worker), 0);
        worker_begin(job.worker, false);
        worker_settle(job.worker); /* returns although nothing was read */
        assert_int_equal(job.n_read, 0);
        job.may_read = job.may_end = true;
        worker_wait(job.worker);
        assert_int_equal(job.n_read, 1);
        worker_free(job.worker);
}

static void test_free_ends_the_work(void **state) {
        struct job job = { .may_read = true, .may_end = true };

        for (int i = 0; i < 100; i++) {
                assert_int_equal(worker_new(work, &job, &job.worker), 0);
                worker_begin(job.worker, true);
                worker_free(job.worker);
                assert_int_equal(job.n_done, i + 1);
        }
        assert_int_equal(sigismember(&job.blocked, SIGTERM), 1);
        assert_int_equal(sigismember(&job.blocked, SIGUSR1), 1);
        worker_free(NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_settles_before_the_end),
                cmocka_unit_test(test_lends_nothing),
                cmocka_unit_test(test_free_ends_the_work),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
