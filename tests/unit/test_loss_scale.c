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
        loss_scale_parse(&s, "1024 3");
        assert_true(s.value == 1 && s.clean == 0);
}

static void test_text(void **state) {
        struct loss_scale s = loss_scale_new(true), again = loss_scale_new(true);
        char text[64];

        assert_true(loss_scale_overflow(&s));
        loss_scale_clean(&s);
        loss_scale_format(&s, text, sizeof(text));
        loss_scale_parse(&again, text);
        assert_true(again.value == s.value && again.clean == 1);
        loss_scale_parse(&again, "0 7");
        loss_scale_parse(&again, "nan");
        loss_scale_parse(&again, NULL);
        assert_true(again.value == s.value && again.clean == 1);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_never_zero), cmocka_unit_test(test_grows),
                                            cmocka_unit_test(test_off), cmocka_unit_test(test_text) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
