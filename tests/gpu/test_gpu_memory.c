/*
 * What is planned without a GPU (ops/planned.h) is what is allocated with one, to the byte: of the model's state and of
 * its arena, of the copy for checkpoints, and of the module itself. In every precision, for both kinds of head, with
 * and without recomputation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/gpu/module.h"
#include "tests/ops/model_helpers.h"
#include "trainer/ops/cuda/sizes.h"
#include "trainer/model/room.h"
#include "trainer/ops/planned.h"

size_t emulated_used(void);

static const struct model_limits small = { 96, 8, 20, 48, true, false, false };

static struct model_config config_of(bool albert, uint32_t labels) {
        struct model_config config = helper_config(61, 64, 3, 2, 96, 0.1);

        if (albert)
                config = helper_albert(config, 24, SHARING_ALL, 1, 1);
        config.classifier.n_labels = labels;
        config.classifier.n_layers = 1;
        config.without_pretraining_heads = labels > 0;
        return config;
}

static void check_model(const struct model_config *config, enum precision precision, const struct ops *ops,
                        const struct model_limits *limits) {
        struct model_memory planned, real;
        struct error error = {};
        struct model *model;
        size_t before = emulated_used();

        assert_int_equal(model_plan_memory(config, ops_planned(precision), limits, &planned, &error), 0);
        assert_int_equal(model_plan_memory(config, ops, limits, &real, &error), 0);
        assert_memory_equal(&planned, &real, sizeof(planned));
        assert_int_equal(model_new(config, ops, limits, &model, &error), 0);
        assert_int_equal(emulated_used() - before, model_memory_sum(&planned));
        before = emulated_used();
        void *spare = state_allocate_spare(model_state(model), 3);
        assert_non_null(spare);
        assert_int_equal(emulated_used() - before, planned.snapshot);
        state_release_spare(model_state(model), spare, 3);
        model_free(model);
        assert_int_equal(emulated_used(), CUDA_OPEN_BYTES);
}

static void test_plan_is_arena(void **state) {
        static const enum precision precisions[CUDA_PRECISION_MAX] = { PRECISION_FP32, PRECISION_TF32, PRECISION_BF16,
                                                                       PRECISION_FP16 };
        for (enum cuda_precision p = 0; p < CUDA_PRECISION_MAX; p++) {
                const struct ops *ops;
                char text[CUDA_TEXT_MAX];
                assert_int_equal(emulated_used(), 0);
                assert_int_equal(module_load()->open(p, 0, &ops, text, sizeof(text)), 0);
                assert_int_equal(emulated_used(), CUDA_OPEN_BYTES);
                assert_int_equal(ops->later_bytes(true), ops_planned(precisions[p])->later_bytes(true));
                for (unsigned i = 0; i < 16; i++) {
                        struct model_config config = config_of(i & 1, i & 2 ? 5 : 0);
                        struct model_limits limits = small;
                        limits.recompute = i & 4;
                        limits.training = !(i & 8);
                        check_model(&config, precisions[p], ops, &limits);
                }
                module_load()->close();
        }
        assert_int_equal(emulated_used(), 0);
}

/* Refused before the first allocation, with both figures. */
static void test_no_room(void **state) {
        struct model_config config = config_of(false, 0);
        struct error error = {};
        struct model *model = NULL;
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];

        (void) setenv("EMULATED_MEMORY", "50331648:100", 1);
        assert_int_equal(module_load()->open(CUDA_BF16, 0, &ops, text, sizeof(text)), -ENOMEM);
        (void) setenv("EMULATED_MEMORY", "1125899906842624", 1);
        assert_int_equal(module_load()->open(CUDA_BF16, 0, &ops, text, sizeof(text)), 0);
        (void) setenv("EMULATED_MEMORY", "60000000", 1);
        assert_int_equal(model_new(&config, ops, &small, &model, &error), 0);
        model_free(model);
        (void) setenv("EMULATED_MEMORY", "50331748", 1);
        assert_int_equal(model_new(&config, ops, &small, &model, &error), -ENOMEM);
        assert_string_equal(error.text,
                            "GPU memory: 3 MiB are needed, but 0 of 48 MiB are free; free some, or compute on the CPU");
        assert_int_equal(emulated_used(), CUDA_OPEN_BYTES);
        module_load()->close();
        (void) unsetenv("EMULATED_MEMORY");
}

static uint64_t seven_each(const void *context, uint64_t n) { return n > 40 ? UINT64_MAX : 7 * n; }

static void test_largest(void **state) {
        for (uint64_t room = 0; room < 400; room++)
                assert_int_equal(room_largest(seven_each, NULL, 50, room), MIN(room / 7, 40));
        assert_int_equal(room_largest(seven_each, NULL, 3, 400), 3);
        assert_int_equal(room_largest(seven_each, NULL, 1, 6), 0);
}

/* Of what a card is sold with, a rank has less; of cards as they report themselves, no more than they have. */
static void test_room_of_cards(void **state) {
        static const struct {
                unsigned nominal, reported_mib;
        } cards[] = { { 16, 16151 }, { 40, 40326 }, { 80, 81045 }, { 141, 143156 } };

        for (size_t i = 0; i < ELEMENTSOF(cards); i++) {
                uint64_t nominal = ops_planned_room_nominal((uint64_t) cards[i].nominal << 30),
                         real = ops_planned_room((uint64_t) cards[i].reported_mib << 20);
                assert_true(nominal <= real && nominal > real - real / 50);
        }
        assert_int_equal(ops_planned_room(CUDA_CONTEXT_BYTES), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_plan_is_arena), cmocka_unit_test(test_no_room),
                                            cmocka_unit_test(test_largest), cmocka_unit_test(test_room_of_cards) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
