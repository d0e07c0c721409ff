/* The loss scale falls on overflow and never below its least, grows after enough clean updates, and comes back from its
 * text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "trainer/model/loss_scale.h"

static void test_never_zero(void **state) {
        struct loss_scale s = loss_scale_new(true);

        assert_true(s.value == LOSS_SCALE_START);
        for (int i = 0; i < 16; i++)
                assert_true(loss_scale_overflow(&s));
        assert_true(s.value == LOSS_SCALE_MIN);
        assert_false(loss_scale_overflow(&s));
        assert_true(s.value == LOSS_SCALE_MIN);
}

static void test_grows(void **state) {
        struct loss_scale s = loss_scale_new(true);

        for (int i = 0; i < LOSS_SCALE_GROWTH; i++)
                loss_scale_clean(&s);
        assert_true(s.value == 2 * LOSS_SCALE_START && s.clean == 0);
        for (int i = 0; i < 20 * LOSS_SCALE_GROWTH; i++)
                loss_scale_clean(&s);
        assert_true(s.value == LOSS_SCALE_MAX);
}

static void test_off(void **state) {
        struct loss_scale s = loss_scale_new(false);

        loss_scale_clean(&s);
        assert_false(loss_scale_overflow(&s));
        assert_true(loss_scale_parse(&s, "1024 3"));
        assert_true(s.value == 1 && s.clean == 0);
}

static void test_text(void **state) {
        struct loss_scale s = loss_scale_new(true), again = loss_scale_new(true);
        char text[64];

        assert_true(loss_scale_overflow(&s));
        loss_scale_clean(&s);
        loss_scale_format(&s, text, sizeof(text));
        assert_true(loss_scale_parse(&again, text));
        assert_true(again.value == s.value && again.clean == 1);
        static const char *const not_scales[] = { "0 7", "nan", "", "x", "1024 x", "1024 3x", "1024x", "1024 2000" };
        for (size_t i = 0; i < sizeof(not_scales) / sizeof(not_scales[0]); i++)
                assert_false(loss_scale_parse(&again, not_scales[i]));
        assert_true(again.value == s.value && again.clean == 1);
        assert_true(loss_scale_parse(&again, "1024")); /* an older bert-trainer's */
        assert_true(again.value == 1024 && again.clean == 0);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_never_zero), cmocka_unit_test(test_grows),
                                            cmocka_unit_test(test_off), cmocka_unit_test(test_text) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
