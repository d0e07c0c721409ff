/* When silence is a hang: limits, medians, and clocks that jump. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shim/hang_clock.h"

#define SEC UINT64_C(1000000)

/* Looks as the shim does until `end`. True: a hang was seen. */
static bool look_until(struct shim_watch *w, uint64_t *now, uint64_t end) {
        while (*now + shim_watch_period(w) <= end) {
                *now += shim_watch_period(w);
                if (shim_watch_look(w, *now))
                        return true;
        }
        return false;
}

static void test_explicit(void **state) {
        struct shim_watch w;
        uint64_t now = 1000 * SEC;

        shim_watch_begin(&w, 8, 0, false, 100, now);
        assert_false(look_until(&w, &now, now + 10000 * SEC)); /* not armed, and no limit for the start */
        shim_watch_step(&w, 100, now);                         /* where it goes on from */
        assert_false(look_until(&w, &now, now + 10000 * SEC));
        shim_watch_step(&w, 101, now);
        assert_false(look_until(&w, &now, now + 7 * SEC));
        shim_watch_step(&w, 102, now);
        assert_false(look_until(&w, &now, now + 7 * SEC));
        shim_watch_step(&w, 102, now); /* the same step is no progress */
        assert_true(look_until(&w, &now, now + 2 * SEC));
}

/* A program that starts from an older checkpoint than expected; a program that goes back. */
static void test_older_steps(void **state) {
        struct shim_watch w;
        uint64_t now = 1000 * SEC;

        shim_watch_begin(&w, 8, 0, false, 100, now);
        shim_watch_step(&w, 50, now);
        assert_false(look_until(&w, &now, now + 10000 * SEC));
        shim_watch_step(&w, 51, now);
        assert_int_equal(shim_watch_limit(&w), 8 * SEC); /* armed */
        assert_false(look_until(&w, &now, now + 7 * SEC));
        shim_watch_step(&w, 101, now);
        assert_false(look_until(&w, &now, now + 7 * SEC));
        shim_watch_step(&w, 40, now);
        assert_false(look_until(&w, &now, now + 7 * SEC));
        shim_watch_step(&w, 41, now);
        assert_false(look_until(&w, &now, now + 7 * SEC));
        assert_true(look_until(&w, &now, now + 2 * SEC));
}

static void test_never(void **state) {
        struct shim_watch w;
        uint64_t now = SEC;

        shim_watch_begin(&w, 0, 0, true, 0, now);
        assert_false(look_until(&w, &now, now + 100000 * SEC));
        shim_watch_step(&w, 1, now);
        assert_false(look_until(&w, &now, now + 100000 * SEC));
}

static void test_start(void **state) {
        static const struct {
                int start_sec;
                bool trains;
                uint64_t limit;
        } rows[] = { { 5, false, 5 }, { 5, true, 5 }, { -1, true, 1800 }, { -1, false, 0 }, { 0, true, 0 } };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct shim_watch w;
                uint64_t now = SEC;
                shim_watch_begin(&w, -1, rows[i].start_sec, rows[i].trains, 0, now);
                assert_int_equal(shim_watch_limit(&w), rows[i].limit * SEC);
                assert_true(look_until(&w, &now, now + 4000 * SEC) == (rows[i].limit > 0));
        }
}

static void test_automatic(void **state) {
        struct shim_watch w;
        uint64_t now = SEC;

        shim_watch_begin(&w, -1, -1, true, 0, now);
        now += 100 * SEC;
        shim_watch_step(&w, 1, now);
        assert_int_equal(shim_watch_limit(&w), 2000 * SEC); /* all that is known: a step takes at most 100 s */
        for (uint64_t step = 2; step <= 200; step++) {
                now += step == 50 ? 5000 * SEC : 2 * SEC; /* one that took long, as an evaluation does */
                shim_watch_step(&w, step, now);
        }
        assert_int_equal(shim_watch_limit(&w), 300 * SEC);
        for (uint64_t step = 201; step <= 300; step++) {
                now += 60 * SEC;
                shim_watch_step(&w, step, now);
        }
        assert_int_equal(shim_watch_limit(&w), 1200 * SEC);
        now += 600 * SEC;
        shim_watch_step(&w, 310, now); /* nine reports were lost */
        assert_int_equal(shim_watch_limit(&w), 1200 * SEC);
}

/* The middle of the last steps, in whatever order they came. */
static void test_median(void **state) {
        static const uint64_t times[][3] = { { 50, 40, 60 }, { 40, 50, 60 }, { 60, 50, 40 }, { 50, 60, 40 } };

        for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
                struct shim_watch w;
                uint64_t now = SEC;
                shim_watch_begin(&w, -1, -1, true, 0, now);
                shim_watch_step(&w, 1, now += SEC);
                for (uint64_t step = 2; step <= 4; step++)
                        shim_watch_step(&w, step, now += times[i][step - 2] * SEC);
                assert_int_equal(shim_watch_limit(&w), 20 * 50 * SEC);
        }
}

/* How often the shim looks: eight times within a limit, and at least every 5 s. */
static void test_period(void **state) {
        static const struct {
                int start_sec;
                uint64_t usec;
        } rows[] = { { 0, 5 * SEC }, { 1, SEC / 8 }, { 8, SEC }, { 40, 5 * SEC }, { 1800, 5 * SEC } };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct shim_watch w;
                shim_watch_begin(&w, 0, rows[i].start_sec, true, 0, SEC);
                assert_int_equal(shim_watch_period(&w), rows[i].usec);
        }
}

/* The shim was stopped or the host suspended: one look, late, is one look. */
static void test_late_look(void **state) {
        struct shim_watch w;
        uint64_t now = SEC;

        shim_watch_begin(&w, 8, -1, false, 0, now);
        shim_watch_step(&w, 1, now);
        assert_false(shim_watch_look(&w, now += 100000 * SEC));
        assert_false(look_until(&w, &now, now + 5 * SEC));
        shim_watch_alive(&w, now);
        assert_false(look_until(&w, &now, now + 7 * SEC));
        assert_true(look_until(&w, &now, now + 2 * SEC));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_explicit), cmocka_unit_test(test_older_steps), cmocka_unit_test(test_never),
                cmocka_unit_test(test_start),    cmocka_unit_test(test_automatic),   cmocka_unit_test(test_late_look),
                cmocka_unit_test(test_period),   cmocka_unit_test(test_median),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
