/* Names of classes: their order, and which of two lists are the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "trainer/data/examples.h"

/* In order. */
static const char *const ordered[] = { "-10",
                                       "-2.5",
                                       "-2",
                                       "+0",
                                       "-0",
                                       "0",
                                       "0.",
                                       "00",
                                       ".5",
                                       "0.5",
                                       "+1",
                                       "01",
                                       "1",
                                       "1.0",
                                       "1.05",
                                       "1.5",
                                       "1.50",
                                       "2",
                                       "10",
                                       "9223372036854775807",
                                       "9223372036854775808",
                                       "100000000000000000000000",
                                       "",
                                       " 1",
                                       "+",
                                       "-",
                                       ".",
                                       "1 ",
                                       "1,5",
                                       "1.2.3",
                                       "1a",
                                       "1e3",
                                       "A",
                                       "Z",
                                       "a",
                                       "nan",
                                       "\u00e4",
                                       "\uffee",
                                       "\U0001f600" };

static int sign(int x) { return (x > 0) - (x < 0); }

static void test_order_is_total(void **state) {
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(ordered); i++)
                for (size_t j = 0; j < ELEMENTSOF(ordered); j++)
                        if (sign(labels_compare(ordered[i], ordered[j])) != (i > j) - (i < j))
                                fail_msg("'%s' and '%s': %d", ordered[i], ordered[j],
                                         labels_compare(ordered[i], ordered[j]));
}

static void fill(struct labels *labels, const char *const *names) {
        for (; *names; names++)
                assert_int_equal(labels_add(labels, *names, NULL), 0);
}

static void check_match(const char *const *own, const char *const *its, enum labels_match expected,
                        const int32_t *places) {
        struct labels a = {}, b = {};
        int32_t found[8];

        fill(&a, own);
        fill(&b, its);
        assert_int_equal(labels_match(&a, &b, found), expected);
        for (uint32_t i = 0; i < a.n; i++)
                assert_int_equal(found[i], places[i]);
        labels_free(&a);
        labels_free(&b);
}

#define NAMES(...) ((const char *const[]) { __VA_ARGS__, NULL })
#define PLACES(...) ((const int32_t[]) { __VA_ARGS__ })

static void test_classes_are_found_by_name(void **state) {
        (void) state;
        check_match(NAMES("a", "b", "c"), NAMES("c", "a", "b"), LABELS_ALL, PLACES(1, 2, 0));
        check_match(NAMES("a", "b"), NAMES("c", "d"), LABELS_NONE, PLACES(-1, -1));
        check_match(NAMES("a", "b"), NAMES("a", "b", "c"), LABELS_SOME, PLACES(0, 1));
        check_match(NAMES("a", "b", "c"), NAMES("b", "a"), LABELS_SOME, PLACES(1, 0, -1));
        check_match(NAMES("a"), NAMES("A"), LABELS_NONE, PLACES(-1));
}

static void test_a_class_without_a_name_is_its_number(void **state) {
        (void) state;
        check_match(NAMES("0", "1"), NAMES("LABEL_1", "LABEL_0"), LABELS_ALL, PLACES(1, 0));
        check_match(NAMES("LABEL_1", "LABEL_0"), NAMES("0", "1"), LABELS_ALL, PLACES(1, 0));
        check_match(NAMES("no", "yes"), NAMES("LABEL_0", "LABEL_1"), LABELS_NONE, PLACES(-1, -1));
        check_match(NAMES("1", "LABEL_1"), NAMES("LABEL_0", "LABEL_1"), LABELS_SOME, PLACES(-1, 1));
        check_match(NAMES("1", "2"), NAMES("LABEL_0", "LABEL_1"), LABELS_SOME, PLACES(1, -1));
        check_match(NAMES("LABEL_", "LABEL_x"), NAMES("", "x"), LABELS_NONE, PLACES(-1, -1));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order_is_total),
                cmocka_unit_test(test_classes_are_found_by_name),
                cmocka_unit_test(test_a_class_without_a_name_is_its_number),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
