/*
 * What clients ask for, without a bus: acts are called with plain values on a node that has no socket, whose clock the
 * test turns. Its launcher and its shim are the test's.
 */
#include "tests/unit/act_fixture.h"

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
        a.job->host_state = strdup("h2=9999999999999999:3");
        assert_int_equal(act_resume(&a, &(struct resume_options) { .has_ranks = true, .ranks = 2 }), 0);
        assert_null(a.job->host_state);
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
