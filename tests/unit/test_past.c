/* What Submit takes of a run that is continued: into the new job, or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/rules/past.h"

#define S(text) ((char[]) { text })

static struct job *new_job(const struct submission *s) {
        struct job *job = job_new();

        assert_non_null(job);
        job->kind = s->kind;
        job->run_dir = strdup(s->run_dir);
        return job;
}

static void test_taken(void **state) {
        struct past_checkpoint rows[] = { { 10, 100, 5, CHECKPOINT_GOOD, S("") },
                                          { 20, 0, 6, CHECKPOINT_DEMOTED, S("/r/x") },
                                          { 15, 7, 7, CHECKPOINT_UNCONFIRMED, S("/r/y") } };
        struct submission s = { .kind = JOB_PRETRAIN,
                                .run_dir = S("/r"),
                                .max_without_progress = 5,
                                .past_deaths = 4,
                                .past_free_deaths = 9,
                                .past_run_steps = 25,
                                .past_run_usec = 26,
                                .past_active_usec = 27,
                                .past_lost = S("killed=18446744073709551615 oom=3 none-such=1"),
                                .past_checkpoints = rows,
                                .n_past = 3 };
        struct job *job = new_job(&s);

        past_take(job, &s);
        assert_true(job->deaths == 4 && job->free_deaths == 9);
        assert_true(job->run_steps == 25 && job->run_usec == 26 && job->active_usec == 27);
        assert_int_equal(job->lost_usec[EXIT_CLASS_KILLED], BERTD_SECONDS_MAX * USEC_PER_SEC);
        assert_int_equal(job->lost_usec[EXIT_CLASS_OOM], 3);
        assert_int_equal(job->n_ledger, 3);
        assert_string_equal(job_checkpoint(job, 10)->path, "/r/checkpoints/step-000000010.ckpt");
        assert_string_equal(job_checkpoint(job, 20)->path, "/r/x");
        assert_int_equal(job_checkpoint(job, 20)->state, CHECKPOINT_DEMOTED);
        assert_int_equal(job_newest_good(job)->step, 10);
        for (size_t i = 0; i < job->n_ledger; i++)
                assert_true(job->ledger[i].dirty && job->ledger[i].attempt == 0);
        job_free(job);
}

/* As with `resume`, a budget that is used up begins again; what was not is not given again. */
static void test_budget(void **state) {
        struct submission s = { .run_dir = S("/r"), .max_without_progress = 5, .past_deaths = 5 };
        struct job *job = new_job(&s);

        past_take(job, &s);
        assert_int_equal(job->deaths, 0);
        job_free(job);
}

static const char *refusal(struct submission s, struct past_checkpoint row) {
        static struct error error;

        error = (struct error) {};
        s.past_checkpoints = &row;
        s.n_past = 1;
        return past_check(&s, &error) < 0 ? error.text : "";
}

static void test_refused(void **state) {
        const struct submission trainer = { .kind = JOB_PRETRAIN, .run_dir = S("/r"), .cwd = S("/w") };
        const struct submission command = { .kind = JOB_COMMAND, .run_dir = S("/r"), .cwd = S("/w") };
        const struct submission nowhere = { .kind = JOB_COMMAND, .cwd = S("/w") };
        struct past_checkpoint row = { 10, 1, 1, CHECKPOINT_GOOD, S("/w/c") };

        assert_string_equal(refusal(command, row), "");
        assert_non_null(strstr(refusal(trainer, row), "not below run_dir"));
        assert_non_null(strstr(refusal(nowhere, row), "needs run_dir"));
        row.path = S("/r/../w/c");
        assert_non_null(strstr(refusal(command, row), "not below run_dir"));
        row.path = S("/r/a\nb");
        assert_non_null(strstr(refusal(command, row), "not below run_dir"));
        row.path = S("");
        assert_string_equal(refusal(trainer, row), "");
        row.step = 0;
        assert_non_null(strstr(refusal(trainer, row), "out of range"));
        row.step = 1;
        row.created = UINT64_MAX;
        assert_non_null(strstr(refusal(trainer, row), "out of range"));
}

static void test_many_paths(void **state) {
        enum { N = 20 };
        char path[4000] = "/r/";
        struct past_checkpoint rows[N];
        struct submission s = { .run_dir = S("/r"), .past_checkpoints = rows, .n_past = N };
        struct error error = {};

        memset(path + 3, 'x', sizeof(path) - 4);
        path[sizeof(path) - 1] = '\0';
        for (int i = 0; i < N; i++)
                rows[i] = (struct past_checkpoint) { 1, 1, 1, CHECKPOINT_GOOD, path };
        assert_true(past_check(&s, &error) < 0);
        assert_non_null(strstr(error.text, "more than 65536 bytes"));
        s.n_past = 16;
        assert_int_equal(past_check(&s, NULL), 0);
}

static void test_states(void **state) {
        assert_int_equal(past_state_from_name("demoted"), CHECKPOINT_DEMOTED);
        assert_true(past_state_from_name("deleted") < 0 && past_state_from_name("") < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_taken), cmocka_unit_test(test_budget),
                                            cmocka_unit_test(test_refused), cmocka_unit_test(test_many_paths),
                                            cmocka_unit_test(test_states) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
