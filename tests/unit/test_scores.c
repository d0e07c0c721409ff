/* Precision, recall, F1 and their mean, beside those of scikit-learn 1.9.1: f1_score(average="macro"),
 * precision_recall_fscore_support. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "trainer/infer/scores.h"

#define CLASSES_MAX 5
static const struct golden {
        const char *name;
        uint32_t n;
        uint64_t confusion[CLASSES_MAX * CLASSES_MAX];
        double macro_f1, precision[CLASSES_MAX], recall[CLASSES_MAX], f1[CLASSES_MAX];
} goldens[] = {
        { "all occur",
          3,
          { 2, 1, 0, 0, 1, 1, 1, 0, 3 },
          0.6388888888888888,
          { 0.666666667, 0.5, 0.75 },
          { 0.666666667, 0.5, 0.75 },
          { 0.666666667, 0.5, 0.75 } },
        { "one is never predicted",
          3,
          { 2, 0, 0, 1, 0, 0, 0, 0, 2 },
          0.6,
          { 0.666666667, 0, 1 },
          { 1, 0, 1 },
          { 0.8, 0, 1 } },
        { "one is predicted and has no text",
          3,
          { 1, 0, 1, 0, 2, 0, 0, 0, 0 },
          0.5555555555555555,
          { 1, 1, 0 },
          { 0.5, 1, 0 },
          { 0.666666667, 1, 0 } },
        { "three occur nowhere",
          5,
          { [6] = 1, [8] = 1, [16] = 1, [18] = 2 },
          0.5833333333333333,
          { 0, 0.5, 0, 0.666666667, 0 },
          { 0, 0.5, 0, 0.666666667, 0 },
          { 0, 0.5, 0, 0.666666667, 0 } },
        { "all wrong", 2, { 0, 2, 1, 0 }, 0, {}, {}, {} },
        { "one class alone", 4, { [10] = 3 }, 1, { [2] = 1 }, { [2] = 1 }, { [2] = 1 } },
        { "one class, never hit", 4, { [9] = 3 }, 0, {}, {}, {} },
        { "no text", 2, {}, 0, {}, {}, {} },
};

static void test_as_scikit_learn(void **state) {
        for (size_t i = 0; i < sizeof(goldens) / sizeof(*goldens); i++) {
                const struct golden *g = &goldens[i];
                print_message("%s\n", g->name);
                assert_true(fabs(scores_macro_f1(g->confusion, g->n) - g->macro_f1) < 1e-15);
                for (uint32_t k = 0; k < g->n; k++) {
                        struct class_scores x = scores_of_class(g->confusion, g->n, k);
                        assert_true(fabs(x.precision - g->precision[k]) < 1e-9);
                        assert_true(fabs(x.recall - g->recall[k]) < 1e-9);
                        assert_true(fabs(x.f1 - g->f1[k]) < 1e-9);
                }
        }
}

/* Of the matrix, rows are the truth. */
static void test_counts(void **state) {
        const uint64_t confusion[] = { 1, 0, 1, 0, 2, 0, 0, 0, 0 };
        struct class_scores first = scores_of_class(confusion, 3, 0), last = scores_of_class(confusion, 3, 2);

        assert_true(first.support == 2 && first.predicted == 1 && first.hits == 1);
        assert_true(last.support == 0 && last.predicted == 1 && last.hits == 0 && scores_occurs(&last));
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_as_scikit_learn), cmocka_unit_test(test_counts) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
