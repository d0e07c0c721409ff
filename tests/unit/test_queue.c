/* Which queued jobs start, in which order, and what the others are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "bertd/limits.h"
#include "daemon/base/descriptors.h"
#include "daemon/rules/reasons.h"

static const struct queue_free eight = {
        .slots = 8, .slots_total = 8, .gpus = 2, .gpus_total = 2, .starts = 100, .files = 1024
};
static struct queue_heads heads;

static void test_priority_then_age(void **state) {
        struct queue_entry e[] = { { .id = 3, .priority = 0, .slots = 1 },
                                   { .id = 1, .priority = 0, .slots = 1 },
                                   { .id = 2, .priority = 5, .slots = 1 } };

        assert_int_equal(queue_plan(e, 3, eight, &heads), 3);
        assert_int_equal(e[0].id, 2);
        assert_int_equal(e[1].id, 1);
        assert_int_equal(e[2].id, 3);
}

static void test_head_is_not_starved(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 6 }, { .id = 2, .slots = 4 }, { .id = 3, .slots = 1 } };
        char text[128];

        assert_int_equal(queue_plan(e, 3, eight, &heads), 1);
        assert_int_equal(e[1].wait, WAIT_SLOTS);
        assert_int_equal(e[2].wait, WAIT_BEHIND);
        struct queue_free left = { .slots = 2, .slots_total = 8 };
        assert_string_equal(reason_of_waiting(&e[1], left, text, sizeof(text)), "waits for 4 slots (2 of 8 free)");
        assert_string_equal(reason_of_waiting(&e[2], left, text, sizeof(text)),
                            "queued after job 2, waits for 1 slot (2 of 8 free)");
        assert_string_equal(reason_of_waiting(&e[0], left, text, sizeof(text)), "");
}

static void test_gpus(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 1, .gpus = 2 }, { .id = 2, .slots = 1, .gpus = 1 } };
        struct queue_free none = { .slots = 7, .slots_total = 8, .gpus = 0, .gpus_total = 2 };
        char text[128];

        assert_int_equal(queue_plan(e, 2, eight, &heads), 1);
        assert_int_equal(e[1].wait, WAIT_GPUS);
        assert_string_equal(reason_of_waiting(&e[1], none, text, sizeof(text)), "waits for 1 GPU (0 of 2 free)");
}

/* A host may come back with fewer slots or GPUs: a job that it cannot hold keeps nobody waiting. */
static void test_too_large(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 9 },
                                   { .id = 2, .slots = 1, .gpus = 3 },
                                   { .id = 3, .slots = 1 } };
        char text[128];

        assert_int_equal(queue_plan(e, 3, eight, &heads), 1);
        assert_int_equal(e[0].wait, WAIT_NEVER);
        assert_int_equal(e[1].wait, WAIT_NEVER);
        assert_int_equal(e[2].wait, WAIT_NONE);
        assert_string_equal(reason_of_waiting(&e[0], eight, text, sizeof(text)),
                            "needs 9 slots, this host has 8: pause it and resume it with fewer");
        assert_string_equal(reason_of_waiting(&e[1], eight, text, sizeof(text)), "needs 3 GPUs, this host has 2");
}

/* A job that waits for a GPU keeps GPUs, and no slots. */
static void test_gpus_keep_no_slots(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 2, .gpus = 1 },
                                   { .id = 2, .slots = 1 },
                                   { .id = 3, .slots = 1, .gpus = 1 },
                                   { .id = 4, .slots = 6 },
                                   { .id = 5, .slots = 1 } };
        struct queue_free six = eight;
        char text[128];

        six.slots = 6;
        six.gpus = 0;
        assert_int_equal(queue_plan(e, 5, six, &heads), 1);
        assert_int_equal(e[0].wait, WAIT_GPUS);
        assert_int_equal(e[1].wait, WAIT_NONE);
        assert_int_equal(e[2].wait, WAIT_BEHIND_GPUS);
        assert_int_equal(e[3].wait, WAIT_SLOTS);
        assert_int_equal(e[4].wait, WAIT_BEHIND);
        assert_int_equal(e[4].behind, 4);
        assert_string_equal(reason_of_waiting(&e[2], six, text, sizeof(text)),
                            "queued after job 1, waits for 1 GPU (0 of 2 free)");
        six.slots = 1; /* neither are there: slots are no use to it before its GPU */
        assert_int_equal(queue_plan(e, 5, six, &heads), 1);
        assert_int_equal(e[0].wait, WAIT_GPUS);
        assert_int_equal(e[1].wait, WAIT_NONE);
        assert_string_equal(reason_of_waiting(&e[0], six, text, sizeof(text)),
                            "waits for 1 GPU (0 of 2 free) and 2 slots (1 of 8 free)");
}

/* What a wide job waits for is not given to a narrower one after it: neither the GPU that is free, nor, with both free,
 * the slots. */
static void test_gpu_job_is_not_starved(void **state) {
        struct queue_entry e[] = { { .id = 1, .slots = 4, .gpus = 2 },
                                   { .id = 2, .slots = 1, .gpus = 1 },
                                   { .id = 3, .slots = 1 } };
        struct queue_free one = eight;

        one.gpus = 1;
        assert_int_equal(queue_plan(e, 3, one, &heads), 1);
        assert_int_equal(e[1].wait, WAIT_BEHIND_GPUS);
        one.gpus = 2;
        one.slots = 3;
        assert_int_equal(queue_plan(e, 3, one, &heads), 0);
        assert_int_equal(e[0].wait, WAIT_SLOTS);
        assert_int_equal(e[2].wait, WAIT_BEHIND);
}

/* Each attempt needs the same of bertd: all that are left over wait for it. */
static void test_files(void **state) {
        struct queue_entry e[] = {
                { .id = 1, .slots = 1 }, { .id = 2, .slots = 1 }, { .id = 3, .slots = 1 }, { .id = 4, .slots = 9 }
        };
        struct queue_entry late = { .id = 5, .slots = 1 };
        struct queue_free two = eight;
        char text[256];

        two.starts = 2;
        assert_int_equal(queue_plan(e, 4, two, &heads), 2);
        assert_int_equal(e[2].wait, WAIT_FILES);
        assert_int_equal(e[3].wait, WAIT_NEVER);
        assert_true(queue_is_behind(&heads, &late));
        assert_int_equal(late.wait, WAIT_FILES);
        assert_string_equal(
                reason_of_waiting(&late, two, text, sizeof(text)),
                "waits for open files: bertd may open 1024; raise its hard limit (LimitNOFILE=, ulimit -Hn) "
                "and restart it");
}

/* Whatever the limit, what is shared out is less; and from a thousand on there is room for jobs and for clients. */
static void test_descriptors(void **state) {
        struct descriptors files;

        for (uint64_t limit = DESCRIPTORS_MIN; limit < 20000; limit += 7) {
                descriptors_share(limit, &files);
                assert_true(files.clients > BERTD_CLIENTS_OF_ROOT && files.clients <= BERTD_CLIENTS_MAX);
                assert_true(files.attempts >= 4);
                assert_true(files.clients * 4 + files.attempts * 6 + 60 < limit);
        }
        descriptors_share(16384, &files);
        assert_int_equal(files.clients, BERTD_CLIENTS_MAX);
        assert_true(files.attempts > 2000);
        descriptors_share(1024, &files); /* a user who takes all that he may leaves others some */
        assert_true(files.attempts >= 80 && files.clients >= BERTD_CLIENTS_OF_UID_MAX + 2 * BERTD_CLIENTS_OF_ROOT);
        descriptors_share(16, &files);
        assert_int_equal(files.attempts, 1);
}

static struct queue_entry any_entry(uint64_t *seed, uint64_t id) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        return (struct queue_entry) {
                .id = id, .priority = (int32_t) (*seed >> 60), .slots = 1 + (*seed >> 33) % 9, .gpus = (*seed >> 50) % 3
        };
}

/* Whatever the entries: those that start fit together, and none starts with what one before it waits for. */
static void test_properties(void **state) {
        uint64_t seed = 1;

        for (int round = 0; round < 2000; round++) {
                struct queue_entry e[12];
                for (size_t i = 0; i < 12; i++)
                        e[i] = any_entry(&seed, i + 1);
                uint64_t slots = 0, gpus = 0;
                bool slots_kept = false, gpus_kept = false;
                size_t started = queue_plan(e, 12, eight, &heads), seen = 0;
                for (size_t i = 0; i < 12; i++) {
                        assert_true((e[i].wait == WAIT_NEVER) == (e[i].slots > 8 || e[i].gpus > 2));
                        slots_kept |= e[i].wait == WAIT_SLOTS;
                        gpus_kept |= e[i].wait == WAIT_GPUS;
                        assert_true(e[i].wait != WAIT_BEHIND || slots_kept);
                        assert_true(e[i].wait != WAIT_BEHIND_GPUS || (gpus_kept && e[i].gpus > 0));
                        if (e[i].wait != WAIT_NONE)
                                continue;
                        assert_false(slots_kept || (gpus_kept && e[i].gpus > 0));
                        seen++;
                        slots += e[i].slots;
                        gpus += e[i].gpus;
                }
                assert_int_equal(seen, started);
                assert_true(slots <= 8 && gpus <= 2);
        }
}

/* A job behind a head is told so as a plan of them all would; one that is not may be before a head, or want nothing
 * that one waits for. */
static void test_behind(void **state) {
        uint64_t seed = 1;

        for (int round = 0; round < 5000; round++) {
                struct queue_entry e[4];
                for (size_t i = 0; i < 4; i++)
                        do
                                e[i] = any_entry(&seed, i + 1);
                        while (e[i].slots > 8);
                struct queue_entry last = e[3];
                (void) queue_plan(e, 3, eight, &heads);
                e[3] = last;
                struct queue_heads before = heads;
                bool behind = queue_is_behind(&before, &last);
                (void) queue_plan(e, 4, eight, &heads);
                for (size_t i = 0; i < 4; i++) {
                        if (e[i].id == 4 && behind)
                                assert_true(e[i].wait == last.wait && e[i].behind == last.behind);
                        if (e[i].id == 4 && !behind && before.all.id > 0)
                                assert_true(e[i].priority > before.all.priority);
                        if (e[i].id == 4 && !behind && before.gpus.id > 0)
                                assert_true(e[i].gpus == 0 || e[i].priority > before.gpus.priority);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_priority_then_age),
                cmocka_unit_test(test_head_is_not_starved),
                cmocka_unit_test(test_gpus),
                cmocka_unit_test(test_too_large),
                cmocka_unit_test(test_gpus_keep_no_slots),
                cmocka_unit_test(test_gpu_job_is_not_starved),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_properties),
                cmocka_unit_test(test_behind),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
