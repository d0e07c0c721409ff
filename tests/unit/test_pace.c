/* Which rank is slow, from what ranks say of their shares: by the work that they did, over several steps, with a floor.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "trainer/report/pace.h"

/* One step of ranks that do as much as `work` says in `seconds`. */
static bool step(struct pace *p, uint32_t n, const double *seconds, const double *work, struct pace_row *row) {
        for (uint32_t r = 0; r < n; r++)
                pace_shares(p)[r] = (struct pace_share) { seconds[r], work ? work[r] : 1 };
        return pace_step(p, row);
}

static void test_row(void **state) {
        struct pace *p = pace_new(4);
        struct pace_row row;

        assert_false(step(p, 4, (double[]) { 0.2, 0.1, 0.4, 0.3 }, NULL, &row));
        assert_true(row.min == 0.1 && row.median == 0.2 && row.max == 0.4 && row.slowest == 2);
        assert_false(step(p, 4, (double[]) { 0, 0, 0, 0 }, (double[]) { 0, 0, 0, 0 }, &row));
        assert_true(row.max == 0 && row.slowest == 0);
        pace_free(p);
}

/* True once, when enough steps say so; over when they no longer do. */
static void test_slow_and_over(void **state) {
        struct pace *p = pace_new(3);
        struct pace_row row;
        uint32_t rank = 9;
        double ratio = 0;

        for (int i = 0; i < PACE_STEPS - 1; i++)
                assert_false(step(p, 3, (double[]) { 0.1, 0.1, 0.14 }, NULL, &row));
        assert_false(pace_slow(p, &rank, &ratio));
        assert_true(step(p, 3, (double[]) { 0.1, 0.1, 0.14 }, NULL, &row));
        assert_true(pace_slow(p, &rank, &ratio) && rank == 2 && fabs(ratio - 1.4) < 1e-9);
        for (int i = 0; i < PACE_STEPS; i++)
                assert_false(step(p, 3, (double[]) { 0.1, 0.1, 0.14 }, NULL, &row));
        int told = 0;
        for (int i = 0; i < PACE_STEPS; i++)
                told += step(p, 3, (double[]) { 0.1, 0.1, 0.1 }, NULL, &row);
        assert_int_equal(told, 1);
        assert_false(pace_slow(p, &rank, &ratio));
        pace_free(p);
}

/* A few long pauses make nobody slow. */
static void test_pauses(void **state) {
        struct pace *p = pace_new(2);
        struct pace_row row;

        for (int i = 0; i < 5 * PACE_STEPS; i++)
                assert_false(step(p, 2, (double[]) { 0.1, i % 3 ? 0.1 : 5 }, NULL, &row));
        pace_free(p);
}

/* Twice the work takes twice the time; a rank without work is not judged, nor makes the others slow. */
static void test_work(void **state) {
        struct pace *p = pace_new(3);
        struct pace_row row;

        for (int i = 0; i < 2 * PACE_STEPS; i++)
                assert_false(step(p, 3, (double[]) { 0.1, 0.2, 0 }, (double[]) { 1e9, 2e9, 0 }, &row));
        assert_true(row.max == 0.2 && row.slowest == 1);
        pace_free(p);
}

static void test_floor(void **state) {
        struct pace *p = pace_new(2);
        struct pace_row row;

        for (int i = 0; i < 2 * PACE_STEPS; i++)
                assert_false(step(p, 2, (double[]) { 0.0002, 0.0008 }, NULL, &row));
        pace_free(p);
}

/* Two ranks: the faster is the median. A change of a tenth is new; another rank is, too. */
static void test_changes(void **state) {
        struct pace *p = pace_new(2);
        struct pace_row row;
        uint32_t rank;
        double ratio;
        int told = 0;

        for (int i = 0; i < PACE_STEPS; i++)
                told += step(p, 2, (double[]) { 0.1, 0.15 }, NULL, &row);
        assert_int_equal(told, 1);
        assert_true(pace_slow(p, &rank, &ratio) && rank == 1 && fabs(ratio - 1.5) < 1e-9);
        for (int i = 0; i < PACE_STEPS; i++)
                told += step(p, 2, (double[]) { 0.1, 0.2 }, NULL, &row);
        assert_int_equal(told, 2);
        assert_true(pace_slow(p, &rank, &ratio) && fabs(ratio - 2) < 1e-9);
        for (int i = 0; i < PACE_STEPS; i++)
                (void) step(p, 2, (double[]) { 0.3, 0.1 }, NULL, &row);
        assert_true(pace_slow(p, &rank, &ratio) && rank == 0 && fabs(ratio - 3) < 1e-9);
        pace_free(p);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_row),    cmocka_unit_test(test_slow_and_over),
                                            cmocka_unit_test(test_pauses), cmocka_unit_test(test_work),
                                            cmocka_unit_test(test_floor),  cmocka_unit_test(test_changes) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
