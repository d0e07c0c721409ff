/* Which queued jobs start, in which order, and what the others are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/reasons.h"

static const struct queue_free eight = { .slots = 8, .slots_total = 8, .gpus = 2, .gpus_total = 2 };

static void test_priority_then_age(void **state) {
        struct queue_entry e[] = { { .id = 3, .priority = 0, .slots = 1 },
                                   { .id = 1, .priority = 0, .slots = 1 },
                                   { .id = 2, .priority = 5, .slots = 1 } };

        assert_int_equal(queue_plan(e, 3, eight), 3);
        assert_int_equal(e[0].id, 2);
        assert_int_equal(e[1].id, 1);
        assert_int_equal(e[2].id, 3);
}

static void test_head_is_not_starved(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 6 }, { .id = 2, .slots = 4 }, { .id = 3, .slots = 1 } };
        char text[128];

        assert_int_equal(queue_plan(e, 3, eight), 1);
        assert_int_equal(e[1].wait, WAIT_SLOTS);
        assert_int_equal(e[2].wait, WAIT_BEHIND);
        struct queue_free left = { .slots = 2, .slots_total = 8 };
        assert_string_equal(reason_of_waiting(&e[1], left, text, sizeof(text)), "waits for 4 slots (2 of 8 free)");
        assert_string_equal(reason_of_waiting(&e[2], left, text, sizeof(text)),
                            "waits behind job 2 (needs 1 slot; 2 of 8 free)");
        assert_string_equal(reason_of_waiting(&e[0], left, text, sizeof(text)), "");
}

static void test_gpus(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 1, .gpus = 2 }, { .id = 2, .slots = 1, .gpus = 1 } };
        struct queue_free none = { .slots = 7, .slots_total = 8, .gpus = 0, .gpus_total = 2 };
        char text[128];

        assert_int_equal(queue_plan(e, 2, eight), 1);
        assert_int_equal(e[1].wait, WAIT_GPUS);
        assert_string_equal(reason_of_waiting(&e[1], none, text, sizeof(text)), "waits for 1 GPU (0 of 2 free)");
}

/* A host may come back with fewer slots or GPUs: a job that it cannot hold keeps nobody waiting. */
static void test_too_large(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 9 },
                                   { .id = 2, .slots = 1, .gpus = 3 },
                                   { .id = 3, .slots = 1 } };
        char text[128];

        assert_int_equal(queue_plan(e, 3, eight), 1);
        assert_int_equal(e[0].wait, WAIT_NEVER);
        assert_int_equal(e[1].wait, WAIT_NEVER);
        assert_int_equal(e[2].wait, WAIT_NONE);
        assert_string_equal(reason_of_waiting(&e[0], eight, text, sizeof(text)),
                            "needs 9 slots, this host has 8: pause it and resume it with less");
        assert_string_equal(reason_of_waiting(&e[1], eight, text, sizeof(text)), "needs 3 GPUs, this host has 2");
}

/* Whatever the entries: those that start fit together, and none starts behind one that waits. */
static void test_properties(void **state) {
        uint64_t seed = 1;

        for (int round = 0; round < 2000; round++) {
                struct queue_entry e[12];
                for (size_t i = 0; i < 12; i++) {
                        seed = seed * 6364136223846793005u + 1442695040888963407u;
                        e[i] = (struct queue_entry) { .id = i + 1,
                                                      .priority = (int32_t) (seed >> 60),
                                                      .slots = 1 + (seed >> 33) % 9,
                                                      .gpus = (seed >> 50) % 3 };
                }
                uint64_t slots = 0, gpus = 0;
                bool waiting = false;
                size_t started = queue_plan(e, 12, eight), seen = 0;
                for (size_t i = 0; i < 12; i++) {
                        assert_true((e[i].wait == WAIT_NEVER) == (e[i].slots > 8 || e[i].gpus > 2));
                        if (e[i].wait == WAIT_NEVER)
                                continue;
                        waiting |= e[i].wait != WAIT_NONE;
                        assert_true(!waiting || e[i].wait != WAIT_NONE);
                        if (e[i].wait != WAIT_NONE)
                                continue;
                        seen++;
                        slots += e[i].slots;
                        gpus += e[i].gpus;
                }
                assert_int_equal(seen, started);
                assert_true(slots <= 8 && gpus <= 2);
        }
}

/* A job behind the head is told so as a plan of them all would, one before it is not. */
static void test_behind(void **state) {
        uint64_t seed = 1;

        for (int round = 0; round < 2000; round++) {
                struct queue_entry e[4], head = {};
                for (size_t i = 0; i < 4; i++) {
                        seed = seed * 6364136223846793005u + 1442695040888963407u;
                        e[i] = (struct queue_entry) { .id = i + 1,
                                                      .priority = (int32_t) (seed >> 62),
                                                      .slots = 1 + (seed >> 33) % 8 };
                }
                struct queue_entry last = e[3];
                (void) queue_plan(e, 3, eight);
                for (size_t i = 0; i < 3; i++)
                        if (e[i].wait == WAIT_SLOTS)
                                head = e[i];
                e[3] = last;
                bool behind = queue_is_behind(&head, &last);
                (void) queue_plan(e, 4, eight);
                for (size_t i = 0; i < 4; i++) {
                        if (e[i].id == 4 && behind)
                                assert_true(e[i].wait == WAIT_BEHIND && e[i].behind == last.behind);
                        if (e[i].id == 4 && !behind && head.id > 0)
                                assert_true(e[i].priority > head.priority);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_priority_then_age),
                cmocka_unit_test(test_head_is_not_starved),
                cmocka_unit_test(test_gpus),
                cmocka_unit_test(test_too_large),
                cmocka_unit_test(test_properties),
                cmocka_unit_test(test_behind),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
