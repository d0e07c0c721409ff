/* Walks every cell of the state table against a second statement of contract C3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/rules/states.h"

/* Rows as in enum job_state, columns as in enum job_event: digit = next state, '.' = impossible, 'x' = refused, '=' =
 * stays. */
static const char *const expected[JOB_STATE_MAX] = {
        [JOB_QUEUED] = "1.78=xx.......",   [JOB_STARTING] = ".2333xx.5406..",  [JOB_RUNNING] = ".=333xx.5406..",
        [JOB_STOPPING] = ".====xx.5.0.78", [JOB_BACKOFF] = "..78=0x0......",   [JOB_DONE] = "..xx=x=.......",
        [JOB_FAILED] = "..xx=0=.......",   [JOB_CANCELLED] = "..xx=0=.......", [JOB_PAUSED] = "..7x=0x.......",
};

static char code(struct transition t) {
        switch (t.verdict) {
        case STATE_IMPOSSIBLE:
                return '.';
        case STATE_REFUSE:
                return 'x';
        case STATE_STAY:
                return '=';
        default:
                return (char) ('0' + t.next);
        }
}

static void test_every_cell(void **state) {
        for (int s = 0; s < JOB_STATE_MAX; s++) {
                char row[EVENT_MAX + 1] = "";
                for (int e = 0; e < EVENT_MAX; e++)
                        row[e] = code(state_after((enum job_state) s, (enum job_event) e));
                assert_string_equal(row, expected[s]);
        }
}

static void test_ended_states_leave_only_by_resume(void **state) {
        for (int s = 0; s < JOB_STATE_MAX; s++)
                for (int e = 0; e < EVENT_MAX; e++)
                        if (state_has_ended((enum job_state) s) && e != EVENT_RESUME)
                                assert_int_not_equal(state_after((enum job_state) s, (enum job_event) e).verdict,
                                                     STATE_MOVE);
}

static void test_names(void **state) {
        for (int s = 0; s < JOB_STATE_MAX; s++)
                assert_int_equal(job_state_from_name(job_state_name((enum job_state) s)), s);
        for (int k = 0; k < JOB_KIND_MAX; k++)
                assert_int_equal(job_kind_from_name(job_kind_name((enum job_kind) k)), k);
        for (int c = 0; c < EXIT_CLASS_MAX; c++)
                assert_int_equal(exit_class_from_name(exit_class_name(c)), c);
        for (int e = 0; e < EVENT_MAX; e++)
                assert_true(strlen(job_event_name((enum job_event) e)) > 0);
        assert_true(job_state_from_name("sleeping") < 0);
        assert_string_equal(exit_class_name(-1), "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_cell),
                cmocka_unit_test(test_ended_states_leave_only_by_resume),
                cmocka_unit_test(test_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
