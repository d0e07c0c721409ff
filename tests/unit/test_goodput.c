/* Lost steps and goodput of jobs that die, go back and finish. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "daemon/rules/goodput.h"

#define SEC UINT64_C(1000000)

static void add_checkpoint(struct job *job, uint64_t step) {
        const struct checkpoint row = { .step = step, .state = CHECKPOINT_GOOD, .path = (char *) "/c" };

        assert_int_equal(job_checkpoint_add(job, &row), 0);
}

static struct job *new_job(void) {
        struct job *job = calloc(1, sizeof(*job));

        assert_non_null(job);
        job->state = JOB_RUNNING;
        job->started = job->since_usec = 1000 * SEC;
        return job;
}

/* Steps from the first to `last`, one a second, heard of from the first on. */
static struct step_clock steps(struct job *job, uint64_t last) {
        struct step_clock clock = {};

        for (uint64_t s = job->attempt.first_step + 1; s <= last; s++)
                step_clock_note(&clock, s, s * SEC);
        job->attempt.step = last;
        return clock;
}

static void test_death_and_end(void **state) {
        struct job *job = new_job();

        struct step_clock clock = steps(job, 17);
        assert_true(isnan(goodput(job, NULL, 1000 * SEC)));
        add_checkpoint(job, 10);
        goodput_close_attempt(job, &clock, false);
        assert_int_equal(job->run_steps, 17);
        assert_int_equal(job->lost_steps, 7);
        job->attempt.first_step = job->attempt.step = 10;
        goodput_start_attempt(job);
        assert_int_equal(job->lost_steps, 7);
        clock = steps(job, 30);
        /* 30 useful seconds of 60. */
        assert_true(fabs(goodput(job, &clock, 1060 * SEC) - 0.5) < 0.02); /* assert_float_equal takes NaN for equal */
        goodput_close_attempt(job, &clock, true);
        assert_int_equal(job->lost_steps, 7);
        assert_int_equal(job->run_steps, 37);
        job_free(job);
}

/* Steps are what a user reports. */
static void test_steps_beyond_all_time(void **state) {
        struct job *job = new_job();
        struct step_clock clock = {};

        step_clock_note(&clock, 1, SEC);
        step_clock_note(&clock, 2, 1000000 * SEC);
        job->attempt.step = UINT64_MAX;
        for (int i = 0; i < 3; i++)
                goodput_close_attempt(job, &clock, false);
        assert_true(job->run_usec == BERTD_SECONDS_MAX * SEC);
        job_free(job);
}

static void test_going_back_further_loses_more(void **state) {
        struct job *job = new_job();

        struct step_clock clock = steps(job, 20);
        add_checkpoint(job, 10);
        add_checkpoint(job, 20);
        goodput_close_attempt(job, &clock, false);
        assert_int_equal(job->lost_steps, 0);
        job->attempt.first_step = job->attempt.step = 10;
        goodput_start_attempt(job);
        assert_int_equal(job->lost_steps, 10);
        job_free(job);
}

/* As many steps again as before, none lost: all of the time was useful. */
static void test_two_equal_attempts(void **state) {
        struct job *job = new_job();
        struct step_clock clock = steps(job, 10);

        add_checkpoint(job, 10);
        goodput_close_attempt(job, &clock, false);
        job->attempt.first_step = job->attempt.step = 10;
        goodput_start_attempt(job);
        clock = steps(job, 20);
        assert_true(fabs(goodput(job, &clock, 1020 * SEC) - 1) < 0.001);
        job_free(job);
}

static void test_time_that_counts(void **state) {
        struct job *job = new_job();

        goodput_note_time(job, 1010 * SEC);
        assert_int_equal(job->active_usec, 10 * SEC);
        job->state = JOB_PAUSED;
        goodput_note_time(job, 2000 * SEC);
        assert_int_equal(job->active_usec, 10 * SEC);
        job->state = JOB_QUEUED;
        goodput_note_time(job, 2005 * SEC);
        assert_int_equal(job->active_usec, 15 * SEC);
        goodput_note_time(job, 1500 * SEC); /* the wall clock was set back */
        assert_int_equal(job->active_usec, 15 * SEC);
        job_free(job);
}

/* Time since the attempt's own newest checkpoint, or its start, by how it ended. */
static void test_lost_time(void **state) {
        struct job *job = new_job();
        struct checkpoint before = { .step = 5, .attempt = 1, .created = 900 * SEC, .path = (char *) "/a" },
                          own = { .step = 10, .attempt = 2, .created = 1030 * SEC, .path = (char *) "/b" };

        job->attempt = (struct attempt) {
                .number = 2, .started = 1000 * SEC, .ended = 1050 * SEC, .exit_class = EXIT_CLASS_OOM
        };
        assert_int_equal(job_checkpoint_add(job, &before), 0);
        goodput_note_lost(job);
        assert_int_equal(job->lost_usec[EXIT_CLASS_OOM], 50 * SEC);
        assert_int_equal(job_checkpoint_add(job, &own), 0);
        goodput_note_lost(job);
        assert_int_equal(job->lost_usec[EXIT_CLASS_OOM], 70 * SEC);
        job->attempt.exit_class = EXIT_CLASS_FINISHED;
        goodput_note_lost(job);
        job->attempt.exit_class = EXIT_CLASS_KILLED;
        job->attempt.ended = 500 * SEC; /* the wall clock was set back */
        goodput_note_lost(job);
        assert_true(job->lost_usec[EXIT_CLASS_FINISHED] == 0 && job->lost_usec[EXIT_CLASS_KILLED] == 0);
        job_free(job);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_death_and_end),
                cmocka_unit_test(test_steps_beyond_all_time),
                cmocka_unit_test(test_going_back_further_loses_more),
                cmocka_unit_test(test_two_equal_attempts),
                cmocka_unit_test(test_time_that_counts),
                cmocka_unit_test(test_lost_time),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
