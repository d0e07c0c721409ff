/* Numbers as labels: how they are read, and correlations beside those of SciPy 1.17.1: pearsonr, spearmanr. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "trainer/data/target.h"
#include "trainer/infer/correlation.h"

#define NUMBERS_MAX 7

static const struct golden {
        const char *name;
        size_t n;
        double x[NUMBERS_MAX], y[NUMBERS_MAX], mse, pearson, spearman;
} goldens[] = {
        { "without ties", 5, { 1.5, 2.25, 0.5, 4, 3 }, { 2, 1, 0.25, 5, 3.5 }, 0.625, 0.9141749022030569, 0.9 },
        { "ties on both sides",
          7,
          { 1, 2, 2, 3, 3, 3, 0 },
          { 2, 2, 1, 4, 4, 0, 0 },
          1.8571428571428572,
          0.516671222870379,
          0.452006665766282 },
        { "reversed", 4, { 1, 2, 3, 4 }, { 9, 4, 1, 0 }, 22, -0.9583148474999099, -1 },
        { "far from 0", 4, { 1e9 + 1, 1e9 + 2, 1e9 + 4, 1e9 + 3 }, { 1e9, 1e9 + 3, 1e9 + 2, 1e9 + 9 }, 10.5, 0.4, 0.4 },
        { "two", 2, { 1, 2 }, { 5, 3 }, 8.5, -1, -1 },
        { "constant predictions", 3, { 0.1, 0.1, 0.1 }, { 1, 2, 3 }, 4.276666666666666, NAN, NAN },
        { "constant labels", 3, { 1, 2, 3 }, { 0.1, 0.1, 0.1 }, 4.276666666666666, NAN, NAN },
        { "one text", 1, { 1 }, { 2 }, 1, NAN, NAN },
};

static bool is_near(double a, double b) { return isnan(b) ? isnan(a) : fabs(a - b) < 1e-14; }

static void test_as_scipy(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(goldens); i++) {
                const struct golden *g = &goldens[i];
                double spearman = 7;
                print_message("%s\n", g->name);
                assert_true(is_near(mean_squared_error(g->x, g->y, g->n), g->mse));
                assert_true(is_near(correlation_pearson(g->x, g->y, g->n), g->pearson));
                assert_int_equal(correlation_spearman(g->x, g->y, g->n, &spearman, NULL), 0);
                assert_true(is_near(spearman, g->spearman));
        }
}

/* As nothing to divide by: never a number. */
static void test_too_small_to_square(void **state) {
        const double x[] = { 1e-200, 2e-200, 3e-200 }, y[] = { 1, 2, 3 };

        assert_true(isnan(correlation_pearson(x, y, ELEMENTSOF(x))));
}

static const struct {
        const char *text;
        int r;
        double value;
} targets[] = {
        { "3", 0, 3 },
        { "-0.25", 0, -0.25 },
        { "+1e-3", 0, 1e-3 },
        { ".5", 0, 0.5 },
        { "5.", 0, 5 },
        { " 2.5\t", 0, 2.5 },
        { "-3.4e38", 0, -3.4e38 },
        { "1e-400", 0, 0 },
        { "", -EINVAL, 0 },
        { " ", -EINVAL, 0 },
        { "nan", -EINVAL, 0 },
        { "inf", -EINVAL, 0 },
        { "-Infinity", -EINVAL, 0 },
        { "0x10", -EINVAL, 0 },
        { "1,5", -EINVAL, 0 },
        { "1 2", -EINVAL, 0 },
        { "3.5/5", -EINVAL, 0 },
        { "1e", -EINVAL, 0 },
        { "--1", -EINVAL, 0 },
        { "e5", -EINVAL, 0 },
        { "true", -EINVAL, 0 },
        { "3.5\r", -EINVAL, 0 },
        { "3.5e38", -ERANGE, 0 },
        { "-1e39", -ERANGE, 0 },
        { "1e999", -ERANGE, 0 },
};

static void test_targets(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(targets); i++) {
                double value = 7;
                print_message("'%s'\n", targets[i].text);
                assert_int_equal(target_parse(targets[i].text, &value), targets[i].r);
                assert_true(value == (targets[i].r < 0 ? 7 : targets[i].value));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_as_scipy),
                cmocka_unit_test(test_too_small_to_square),
                cmocka_unit_test(test_targets),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
