/* The restart policy: a table of histories and what must follow. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/rules/reasons.h"

static const struct policy_config config = {
        .max_without_progress = 3, .backoff_min_sec = 4, .backoff_max_sec = 60, .reports = true
};

/* class, resumed, first, step, newest checkpoint at the end */
#define DEATH(c, r, first, last, newest) \
        { EXIT_CLASS_##c, r, first, last, newest, false }

/* A case whose counters are those of a job that has died as the history says. */
static struct policy_case case_of(const struct policy_death *history, size_t n, const uint64_t *good, size_t n_good) {
        struct policy_case c = { .history = history, .n = n, .good = good, .n_good = n_good };

        for (size_t i = 1; i <= n; i++)
                policy_count(&c.counters, history, i);
        return c;
}

static struct policy_decision decide_by(const struct policy_config *by, const struct policy_death *history, size_t n,
                                        const uint64_t *good, size_t n_good) {
        const struct policy_case c = case_of(history, n, good, n_good);
        struct policy_decision d;

        policy_decide(by, &c, &d);
        return d;
}

static struct policy_decision decide(const struct policy_death *history, size_t n, const uint64_t *good,
                                     size_t n_good) {
        return decide_by(&config, history, n, good, n_good);
}
static const char *words(const struct policy_decision *d) {
        static char text[256];

        return reason_of_decision(d, &config, text, sizeof(text));
}
#define DECIDE(history) decide(history, ELEMENTSOF(history), NULL, 0)
#define DECIDE_GOOD(history, good) decide(history, ELEMENTSOF(history), good, ELEMENTSOF(good))

static void test_single_deaths(void **state) {
        static const struct {
                struct policy_death death;
                enum policy_action action;
        } rows[] = {
                { DEATH(FINISHED, false, 0, 9, 9), POLICY_DONE },
                { DEATH(STOPPED, false, 0, 0, 0), POLICY_RETRY },
                { DEATH(USER_ERROR, false, 0, 0, 0), POLICY_FAIL },
                { DEATH(BAD_CHECKPOINT, false, 0, 0, 0), POLICY_RETRY },
                { DEATH(NAN, false, 0, 5, 0), POLICY_FAIL },
                { DEATH(FAILED, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(SIGNAL, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(KILLED, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(OOM, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(MPI, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(DISK_FULL, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(HANG, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(REBOOT, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(LOST, false, 0, 5, 0), POLICY_RETRY },
                { DEATH(LAUNCH, false, 0, 0, 0), POLICY_RETRY },
                { DEATH(MISSING, false, 0, 0, 0), POLICY_RETRY },
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct policy_decision d = decide(&rows[i].death, 1, NULL, 0);
                assert_int_equal(d.action, rows[i].action);
                assert_int_equal(d.delay_usec, d.action == POLICY_RETRY ? 4 * USEC_PER_SEC : 0);
        }
}

static void test_budget_and_backoff(void **state) {
        struct policy_death h[8];
        static const uint64_t delays[] = { 4, 8, 16 };

        for (size_t i = 0; i < 4; i++) {
                h[i] = (struct policy_death) DEATH(FAILED, false, 0, i + 1, 0);
                struct policy_decision d = decide(h, i + 1, NULL, 0);
                assert_int_equal(d.action, i < 3 ? POLICY_RETRY : POLICY_FAIL);
                if (i < 3)
                        assert_int_equal(d.delay_usec, delays[i] * USEC_PER_SEC);
                else
                        assert_non_null(strstr(words(&d),
                                               "failed 4 times without a newer checkpoint (max_without_progress 3)"));
        }
        /* A newer checkpoint wipes the slate. */
        h[3] = (struct policy_death) DEATH(FAILED, false, 0, 12, 10);
        struct policy_decision d = decide(h, 4, NULL, 0);
        assert_int_equal(d.action, POLICY_RETRY);
        assert_int_equal(d.delay_usec, 4 * USEC_PER_SEC);
}

/* A job that reports nothing hears of no checkpoint. */
static void test_words(void **state) {
        const struct policy_death death = DEATH(FAILED, false, 0, 0, 0), gone = DEATH(MISSING, true, 5, 5, 5);
        const struct policy_config silent = { .max_without_progress = 1 }, once = {}, both = { .reports = true };
        const struct policy_death deaths[] = { death, death };
        char text[256];

        struct policy_decision d = decide_by(&silent, deaths, 2, NULL, 0);
        assert_string_equal(reason_of_decision(&d, &silent, text, sizeof(text)), "failed 2 times (--retries 1)");
        d = decide_by(&once, &death, 1, NULL, 0);
        assert_string_equal(reason_of_decision(&d, &once, text, sizeof(text)), "not retried (--retries 0)");
        assert_string_equal(reason_of_decision(&d, &both, text, sizeof(text)), "not retried (max_without_progress 0)");
        const struct policy_death full = DEATH(DISK_FULL, false, 0, 0, 0);
        d = decide_by(&once, &full, 1, NULL, 0);
        assert_int_equal(d.action, POLICY_FAIL);
        assert_string_equal(reason_of_decision(&d, &once, text, sizeof(text)), "not retried (--retries 0)");
        struct policy_death unstarted = full; /* its attempt could not be made */
        unstarted.host = true;
        assert_int_equal(decide_by(&once, &unstarted, 1, NULL, 0).action, POLICY_RETRY);
        d = decide_by(&once, &gone, 1, NULL, 0);
        assert_true(d.action == POLICY_RETRY && d.cause == CAUSE_MISSING);
}

/* It stopped with a checkpoint: asked to, it goes on; else, not to be tried again, it has ended. */
static void test_unasked_stop(void **state) {
        const struct policy_death stopped[] = { DEATH(STOPPED, false, 0, 9, 9), DEATH(STOPPED, false, 0, 0, 0) };
        const struct policy_config once = {};

        for (int i = 0; i < 8; i++) {
                struct policy_case c = case_of(&stopped[i % 2], 1, NULL, 0);
                struct policy_decision d;
                c.unasked = i & 2;
                policy_decide(i & 4 ? &once : &config, &c, &d);
                assert_int_equal(d.action, c.unasked && i & 4 ? POLICY_FAIL : POLICY_RETRY);
        }
}

static void test_host_deaths_cost_nothing_but_back_off(void **state) {
        struct policy_death h[20];

        for (size_t i = 0; i < ELEMENTSOF(h); i++) {
                h[i] = (struct policy_death) DEATH(KILLED, false, 0, 5, 0);
                struct policy_decision d = decide(h, i + 1, NULL, 0);
                assert_int_equal(d.action, POLICY_RETRY);
                assert_true(d.delay_usec <= 60 * USEC_PER_SEC);
        }
        assert_int_equal(DECIDE(h).delay_usec, 60 * USEC_PER_SEC);
}

static void test_jitter_is_bounded(void **state) {
        const struct policy_death death = DEATH(FAILED, false, 0, 5, 0);
        const struct policy_config least = { .max_without_progress = 3 };

        for (uint32_t random = 0; random < 5000; random += 7) {
                struct policy_case c = case_of(&death, 1, NULL, 0);
                struct policy_decision d;
                c.random = random * 2654435761u;
                policy_decide(&config, &c, &d);
                assert_in_range(d.delay_usec, 3 * USEC_PER_SEC, 4 * USEC_PER_SEC);
                policy_decide(&least, &c, &d);
                assert_int_equal(d.delay_usec, USEC_PER_SEC);
        }
}

/* A job as bertd keeps it: a short history, and the counters. Dies until it is given up, at most `limit` times; returns
 * how often. */
static uint32_t walk(const struct policy_config *by, struct policy_death death, uint32_t limit,
                     uint64_t *ret_last_delay) {
        struct policy_death history[POLICY_HISTORY_MAX];
        struct policy_counters counters = {};
        struct policy_decision d = {};
        uint32_t died = 0;

        for (size_t n = 0; d.action != POLICY_FAIL && died < limit; died++) {
                if (n == ELEMENTSOF(history))
                        memmove(history, history + 1, --n * sizeof(history[0]));
                history[n++] = death;
                policy_count(&counters, history, n);
                policy_decide(by, &(struct policy_case) { .history = history, .n = n, .counters = counters }, &d);
                if (d.action == POLICY_RETRY) {
                        assert_in_range(d.delay_usec, USEC_PER_SEC, MAX(by->backoff_max_sec, 60u) * USEC_PER_SEC);
                        *ret_last_delay = d.delay_usec;
                }
        }
        return died;
}

static void test_every_budget_runs_out_exactly(void **state) {
        static const uint32_t budgets[] = { 0, 1, 5, 63, 64, 65, 70, 1000, 100000 };
        const struct policy_death death = DEATH(FAILED, false, 0, 0, 0);
        uint64_t last = 0;

        for (size_t i = 0; i < ELEMENTSOF(budgets); i++) {
                const struct policy_config by = { .max_without_progress = budgets[i], .backoff_max_sec = 0 };
                assert_int_equal(walk(&by, death, 1000000, &last), budgets[i] + 1);
        }
        assert_int_equal(last, USEC_PER_SEC);
}

/* No restart storm, whatever the job asks for: deaths that cost no budget back off further and further. */
static void test_floor(void **state) {
        const struct policy_config none = { .max_without_progress = 3 },
                                   some = { .backoff_min_sec = 2, .backoff_max_sec = 200 };
        const struct policy_death killed = DEATH(KILLED, false, 0, 0, 0), asks = DEATH(STOPPED, false, 0, 5, 0),
                                  saves = DEATH(STOPPED, true, 5, 6, 6);
        const struct policy_config patient = { .max_without_progress = 1,
                                               .backoff_min_sec = 2,
                                               .backoff_max_sec = 200 };
        static const uint64_t doubled[] = { 1, 2, 4, 8, 16, 32, 60, 60 };
        uint64_t last = 0;

        for (uint32_t i = 0; i < ELEMENTSOF(doubled); i++) {
                assert_int_equal(walk(&none, killed, i + 1, &last), i + 1);
                assert_int_equal(last, doubled[i] * USEC_PER_SEC);
                assert_int_equal(walk(&none, asks, i + 1, &last), i + 1);
                assert_int_equal(last, doubled[i] * USEC_PER_SEC);
        }
        assert_int_equal(walk(&patient, killed, 100, &last), 100);
        assert_int_equal(last, 200 * USEC_PER_SEC);
        assert_int_equal(walk(&some, asks, 1, &last), 1);
        assert_int_equal(last, USEC_PER_SEC); /* it has not died */
        assert_int_equal(walk(&none, saves, 100, &last), 100);
        assert_int_equal(last, 60 * USEC_PER_SEC);
}

static void test_starts_of_an_hour(void **state) {
        const uint64_t hour = POLICY_STARTS_SEC * USEC_PER_SEC, now = 100 * hour;
        const struct policy_death death = DEATH(KILLED, false, 0, 5, 0);
        struct policy_case c = case_of(&death, 1, NULL, 0);
        struct policy_decision d;

        assert_int_equal(policy_starts_wait(POLICY_STARTS_MAX - 1, now - 10, now), 0);
        assert_int_equal(policy_starts_wait(POLICY_STARTS_MAX, now - hour + 5, now), 5);
        assert_int_equal(policy_starts_wait(POLICY_STARTS_MAX, now - hour, now), 0);
        assert_int_equal(policy_starts_wait(POLICY_STARTS_MAX, now - 9 * hour, now), 0);
        assert_int_equal(policy_starts_wait(POLICY_STARTS_MAX, now + 9 * hour, now),
                         hour); /* a clock that was set back */
        policy_decide(&config, &c, &d);
        assert_false(d.hourly);
        c.starts_wait_usec = hour / 2;
        policy_decide(&config, &c, &d);
        assert_true(d.hourly && d.action == POLICY_RETRY);
        assert_int_equal(d.delay_usec, hour / 2);
        c.starts_wait_usec = USEC_PER_SEC; /* less than the back-off */
        policy_decide(&config, &c, &d);
        assert_false(d.hourly);
        assert_int_equal(d.delay_usec, 4 * USEC_PER_SEC);
}

static void test_same_step_twice(void **state) {
        const struct policy_death same[] = { DEATH(SIGNAL, false, 0, 57, 50), DEATH(SIGNAL, true, 50, 57, 50) };
        const struct policy_death other_step[] = { DEATH(SIGNAL, false, 0, 57, 50), DEATH(SIGNAL, true, 50, 58, 50) };
        const struct policy_death other_class[] = { DEATH(NAN, false, 0, 57, 50), DEATH(SIGNAL, true, 50, 57, 50) };
        const struct policy_death no_step[] = { DEATH(FAILED, false, 0, 0, 0), DEATH(FAILED, false, 0, 0, 0) };
        const struct policy_death killed[] = { DEATH(KILLED, false, 0, 57, 50), DEATH(KILLED, true, 50, 57, 50) };

        struct policy_decision d = DECIDE(same);
        assert_int_equal(d.action, POLICY_FAIL);
        assert_non_null(strstr(words(&d), "step 57"));
        assert_int_equal(DECIDE(other_step).action, POLICY_RETRY);
        assert_int_equal(DECIDE(other_class).action, POLICY_RETRY);
        assert_int_equal(DECIDE(no_step).action, POLICY_RETRY);
        assert_int_equal(DECIDE(killed).action, POLICY_RETRY);
}

/* Classes that tell of the job's data or code. */
static void test_repeatable_classes(void **state) {
        static const bool repeatable[EXIT_CLASS_MAX] = {
                [EXIT_CLASS_NAN] = true, [EXIT_CLASS_FAILED] = true, [EXIT_CLASS_SIGNAL] = true,
                [EXIT_CLASS_OOM] = true, [EXIT_CLASS_MPI] = true,    [EXIT_CLASS_HANG] = true,
        };
        const struct policy_config back = {
                .max_without_progress = 3, .backoff_min_sec = 4, .backoff_max_sec = 60, .nan_rollback = true
        };

        for (enum exit_class c = 0; c < EXIT_CLASS_MAX; c++) {
                const struct policy_death twice[] = { { c, false, 0, 57, 50, false }, { c, true, 50, 57, 50, false } };
                struct policy_decision d = decide_by(&back, twice, 2, NULL, 0);
                assert_int_equal(d.cause == CAUSE_SAME_STEP, repeatable[c]);
        }
}

static void test_bad_checkpoint(void **state) {
        const struct policy_death h[] = { DEATH(BAD_CHECKPOINT, true, 100, 100, 100) };
        const uint64_t two[] = { 100, 50 }, one[] = { 100 };

        struct policy_decision d = DECIDE_GOOD(h, two);
        assert_int_equal(d.action, POLICY_RETRY);
        assert_true(d.demote);
        assert_int_equal(d.demote_step, 100);
        d = DECIDE_GOOD(h, one);
        assert_int_equal(d.action, POLICY_FAIL);
        assert_false(d.demote);
        assert_non_null(strstr(words(&d), "there is no older one"));
}

static void test_two_deaths_before_the_first_step(void **state) {
        const struct policy_death once[] = { DEATH(SIGNAL, true, 100, 100, 100) };
        const struct policy_death twice[] = { DEATH(SIGNAL, true, 100, 100, 100), DEATH(FAILED, true, 100, 100, 100) };
        const struct policy_death shared[] = { DEATH(SIGNAL, true, 50, 50, 50), DEATH(SIGNAL, true, 100, 100, 100),
                                               DEATH(SIGNAL, true, 100, 100, 100) };
        const struct policy_death outside[] = { DEATH(KILLED, true, 100, 100, 100),
                                                DEATH(KILLED, true, 100, 100, 100) };
        const uint64_t two[] = { 100, 50 }, one[] = { 100 };

        assert_false(DECIDE_GOOD(once, two).demote);
        assert_true(DECIDE_GOOD(twice, two).demote);
        assert_int_equal(DECIDE_GOOD(twice, two).demote_step, 100);
        assert_false(DECIDE_GOOD(twice, one).demote);
        assert_false(DECIDE_GOOD(shared, two).demote);
        assert_false(DECIDE_GOOD(outside, two).demote);
}

static void test_nan(void **state) {
        const struct policy_config back = {
                .max_without_progress = 3, .backoff_min_sec = 4, .backoff_max_sec = 60, .nan_rollback = true
        };
        const struct policy_death same[] = { DEATH(NAN, false, 0, 57, 50), DEATH(NAN, true, 40, 57, 50) };
        const struct policy_death other[] = { DEATH(NAN, false, 0, 57, 50), DEATH(NAN, true, 40, 44, 40) };
        const uint64_t good[] = { 50, 40, 30 };
        struct policy_decision d;

        d = decide_by(&config, same, 1, good, 3);
        assert_int_equal(d.action, POLICY_FAIL);
        assert_false(d.rollback);
        assert_non_null(strstr(words(&d), "on_nan is stop"));
        d = decide_by(&back, same, 1, good, 3);
        assert_int_equal(d.action, POLICY_RETRY);
        assert_true(d.rollback);
        assert_int_equal(d.rollback_step, 40);
        d = decide_by(&back, same, 2, good, 3);
        assert_int_equal(d.action, POLICY_FAIL);
        assert_int_equal(d.cause, CAUSE_SAME_STEP);
        assert_false(d.rollback);
        const struct policy_death at_once[] = { DEATH(NAN, false, 0, 57, 57), DEATH(NAN, true, 57, 57, 57) };
        d = decide_by(&back, at_once, 2, good, 1);
        assert_int_equal(d.cause, CAUSE_SAME_STEP);
        d = decide_by(&back, other, 2, good + 1, 2);
        assert_int_equal(d.rollback_step, 30);
        d = decide_by(&back, same, 1, good, 1);
        assert_int_equal(d.rollback_step, 50);
        d = decide_by(&back, same, 1, NULL, 0);
        assert_true(d.rollback);
        assert_int_equal(d.rollback_step, 0);
}

static void test_a_full_disk_is_waited_out(void **state) {
        struct policy_death h[20];

        for (size_t i = 0; i < ELEMENTSOF(h); i++)
                h[i] = (struct policy_death) DEATH(DISK_FULL, false, 0, 5, 0);
        assert_int_equal(DECIDE(h).action, POLICY_RETRY);
        assert_int_equal(DECIDE(h).delay_usec, 60 * USEC_PER_SEC);
}

static void test_classify(void **state) {
        static const struct {
                int code, signal;
                bool oom;
                enum exit_class expected;
        } rows[] = {
                { 0, 0, false, EXIT_CLASS_FINISHED },        { 75, 0, false, EXIT_CLASS_STOPPED },
                { 2, 0, false, EXIT_CLASS_USER_ERROR },      { 65, 0, false, EXIT_CLASS_USER_ERROR },
                { 66, 0, false, EXIT_CLASS_USER_ERROR },     { 78, 0, false, EXIT_CLASS_USER_ERROR },
                { 76, 0, false, EXIT_CLASS_BAD_CHECKPOINT }, { 77, 0, false, EXIT_CLASS_NAN },
                { 1, 0, false, EXIT_CLASS_FAILED },          { 137, 0, false, EXIT_CLASS_KILLED },
                { 139, 0, false, EXIT_CLASS_SIGNAL },        { -1, SIGKILL, false, EXIT_CLASS_KILLED },
                { -1, SIGKILL, true, EXIT_CLASS_OOM },       { -1, SIGSEGV, false, EXIT_CLASS_SIGNAL },
                { -1, SIGTERM, false, EXIT_CLASS_KILLED },   { -1, 0, false, EXIT_CLASS_LOST },
                { 255, 0, false, EXIT_CLASS_FAILED },        { 128, 0, false, EXIT_CLASS_FAILED },
                { 192, 0, false, EXIT_CLASS_SIGNAL },        { 193, 0, false, EXIT_CLASS_FAILED },
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                assert_int_equal(policy_classify(rows[i].code, rows[i].signal, rows[i].oom), rows[i].expected);
}

/* A budget of 0 is one attempt, whoever killed it; a reboot is no death of its own. */
static void test_once(void **state) {
        const struct policy_config none = { .backoff_min_sec = 4, .backoff_max_sec = 60 };
        struct policy_death death = { .exit_class = EXIT_CLASS_KILLED };
        struct policy_decision d;

        d = decide_by(&none, &death, 1, NULL, 0);
        assert_int_equal(d.action, POLICY_FAIL);
        d = decide_by(&config, &death, 1, NULL, 0);
        assert_int_equal(d.action, POLICY_RETRY);
        death.exit_class = EXIT_CLASS_REBOOT;
        d = decide_by(&none, &death, 1, NULL, 0);
        assert_int_equal(d.action, POLICY_RETRY);
}

/* The job's own faults cost budget; an end on request, the host's and the administrator's deeds do not
 * (docs/bertd-job.5). */
static void test_what_costs_budget(void **state) {
        static const bool costs[EXIT_CLASS_MAX] = {
                [EXIT_CLASS_USER_ERROR] = true, [EXIT_CLASS_BAD_CHECKPOINT] = true, [EXIT_CLASS_NAN] = true,
                [EXIT_CLASS_FAILED] = true,     [EXIT_CLASS_SIGNAL] = true,         [EXIT_CLASS_OOM] = true,
                [EXIT_CLASS_MPI] = true,        [EXIT_CLASS_HANG] = true,           [EXIT_CLASS_LAUNCH] = true,
        };

        for (enum exit_class c = 0; c < EXIT_CLASS_MAX; c++) {
                assert_int_equal(policy_costs_budget(&(struct policy_death) { .exit_class = c }), costs[c]);
                assert_false(policy_costs_budget(&(struct policy_death) { .exit_class = c, .host = true }));
        }
}

/* Stopped on request: a step or a checkpoint is progress, and it begins again at the floor. A start that comes to
 * neither backs off as a death does. */
static void test_stopped_with_progress(void **state) {
        const struct policy_death step[] = { DEATH(STOPPED, true, 10, 15, 10) };
        const struct policy_death checkpoint[] = { DEATH(KILLED, true, 10, 15, 10), DEATH(STOPPED, true, 15, 15, 15) };
        const struct policy_death neither[] = { DEATH(KILLED, true, 10, 15, 10), DEATH(STOPPED, true, 10, 10, 10) };

        assert_int_equal(DECIDE(step).delay_usec, USEC_PER_SEC);
        assert_int_equal(DECIDE(checkpoint).delay_usec, USEC_PER_SEC);
        assert_int_equal(DECIDE(neither).delay_usec, 8 * USEC_PER_SEC);
        assert_int_equal(DECIDE(step).action, POLICY_RETRY);
}

/* Another host: neither a budget nor retries 0, and never later than a minute, however long a job's own back-off is. */
static void test_other_hosts(void **state) {
        static const struct policy_config none = { .max_without_progress = 0,
                                                   .backoff_min_sec = 5,
                                                   .backoff_max_sec = 600 };
        static const unsigned seconds[] = { 1, 2, 4, 8, 16, 32, 60, 60, 60 };
        struct policy_death history[ELEMENTSOF(seconds)];

        for (size_t k = 0; k < 2; k++)
                for (size_t i = 0; i < ELEMENTSOF(seconds); i++) {
                        history[i] =
                                (struct policy_death) { .exit_class = k == 0 ? EXIT_CLASS_WAIT : EXIT_CLASS_HOST_LOST };
                        struct policy_decision d = decide_by(&none, history, i + 1, NULL, 0);
                        assert_int_equal(d.action, POLICY_RETRY);
                        assert_int_equal(d.delay_usec, seconds[i] * USEC_PER_SEC);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_costs_budget),
                cmocka_unit_test(test_stopped_with_progress),
                cmocka_unit_test(test_once),
                cmocka_unit_test(test_single_deaths),
                cmocka_unit_test(test_budget_and_backoff),
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_unasked_stop),
                cmocka_unit_test(test_every_budget_runs_out_exactly),
                cmocka_unit_test(test_floor),
                cmocka_unit_test(test_starts_of_an_hour),
                cmocka_unit_test(test_host_deaths_cost_nothing_but_back_off),
                cmocka_unit_test(test_jitter_is_bounded),
                cmocka_unit_test(test_same_step_twice),
                cmocka_unit_test(test_repeatable_classes),
                cmocka_unit_test(test_bad_checkpoint),
                cmocka_unit_test(test_two_deaths_before_the_first_step),
                cmocka_unit_test(test_nan),
                cmocka_unit_test(test_a_full_disk_is_waited_out),
                cmocka_unit_test(test_classify),
                cmocka_unit_test(test_other_hosts),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
