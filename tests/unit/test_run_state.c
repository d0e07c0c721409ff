/* run/state: its one table takes every field to a checkpoint's meta and back; what is missing, of another type or at
 * odds is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/run/state.h"

enum { BATCH = 24 };

/* Each field has another value. */
static struct run_state state_of(bool dynamic) {
        struct run_state state = { .stage = 1,
                                   .step = 70,
                                   .stage_step = 30,
                                   .correction_step = 29,
                                   .loss_scale = loss_scale_new(dynamic),
                                   .best_validation_loss = 0.1,
                                   .best_validation_accuracy = 2.0 / 3,
                                   .best_validation_step = 60,
                                   .validated = { .step = 70, .loss = 0.3, .accuracy = 0.4 },
                                   .evaluation_due = true,
                                   .last_checkpoint_step = 50 };

        if (dynamic) {
                (void) loss_scale_overflow(&state.loss_scale);
                loss_scale_clean(&state.loss_scale);
        }
        return state;
}

static bool same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static void assert_same(const struct run_state *a, const struct run_state *b) {
        assert_int_equal(a->step, b->step);
        assert_int_equal(a->stage_step, b->stage_step);
        assert_int_equal(a->correction_step, b->correction_step);
        assert_true(a->loss_scale.value == b->loss_scale.value && a->loss_scale.clean == b->loss_scale.clean);
        assert_true(same(a->best_validation_loss, b->best_validation_loss));
        assert_true(same(a->best_validation_accuracy, b->best_validation_accuracy));
        assert_int_equal(a->best_validation_step, b->best_validation_step);
        assert_int_equal(a->validated.step, b->validated.step);
        assert_true(same(a->validated.loss, b->validated.loss) && same(a->validated.accuracy, b->validated.accuracy));
        assert_int_equal(a->evaluation_due, b->evaluation_due);
}

static struct run_state read_back(const struct checkpoint_meta *meta, bool dynamic) {
        struct run_state state = { .stage = 7, .last_checkpoint_step = 9, .loss_scale = loss_scale_new(dynamic) };
        struct error error = {};

        assert_int_equal(state_from_meta(&state, BATCH, meta, "c.ckpt", &error), 0);
        assert_int_equal(state.stage, 7);
        assert_int_equal(state.last_checkpoint_step, 9);
        return state;
}

static void test_round_trip(void **context) {
        for (int dynamic = 0; dynamic < 2; dynamic++)
                for (int due = 0; due < 2; due++) {
                        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
                        struct run_state state = state_of(dynamic);
                        state.evaluation_due = due;
                        state_to_meta(&state, BATCH, true, true, &meta);
                        const struct run_state again = read_back(&meta, dynamic);
                        assert_same(&state, &again);
                }
}

/* Of a stage that pretrains, or of numbers, less is written; nothing yet validated is no figure. */
static void test_less(void **context) {
        cleanup_checkpoint_meta struct checkpoint_meta pretraining = {}, numbers = {};
        struct run_state state = state_of(false);

        state_to_meta(&state, BATCH, true, false, &numbers);
        state.best_validation_accuracy = state.validated.accuracy = NAN;
        struct run_state again = read_back(&numbers, false);
        assert_same(&state, &again);
        state.best_validation_loss = NAN;
        state.validated = (struct run_figures) {};
        state_to_meta(&state, BATCH, false, false, &pretraining);
        again = read_back(&pretraining, false);
        assert_same(&state, &again);
}

static void refused(const struct checkpoint_meta *meta, const char *key) {
        struct run_state state = { .loss_scale = loss_scale_new(true) };
        struct error error = {};

        assert_true(state_from_meta(&state, BATCH, meta, "c.ckpt", &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_BAD_CHECKPOINT);
        assert_ptr_equal(strstr(error.text, "c.ckpt: meta key "), error.text);
        assert_ptr_equal(strstr(error.text + strlen("c.ckpt: meta key "), key),
                         error.text + strlen("c.ckpt: meta key "));
}

static void test_mistyped(void **context) {
        static const char *const values[] = { "x", "", "1x", " 1", "-1x", "1 x" };
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        const struct run_state state = state_of(true);

        state_to_meta(&state, BATCH, true, true, &meta);
        assert_int_equal(meta.n, 11);
        for (uint32_t i = 0; i < meta.n; i++)
                for (size_t k = 0; k < ELEMENTSOF(values); k++) {
                        cleanup_checkpoint_meta struct checkpoint_meta wrong = {};
                        checkpoint_meta_copy(&wrong, &meta);
                        checkpoint_meta_set(&wrong, meta.items[i].key, "%s", values[k]);
                        if (strcmp(meta.items[i].key, "loss_scale") != 0 || values[k][0] != ' ')
                                refused(&wrong, meta.items[i].key);
                }
        checkpoint_meta_set(&meta, "samples", "%d", 30 * BATCH + 1);
        refused(&meta, "samples");
}

static void test_missing(void **context) {
        static const char *const needed[] = { "step", "samples", "schedule_step", "correction_step",
                                              "best_validation_step" };
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        const struct run_state state = state_of(true);

        state_to_meta(&state, BATCH, true, true, &meta);
        for (uint32_t i = 0; i < meta.n; i++) {
                cleanup_checkpoint_meta struct checkpoint_meta less = {};
                bool is_needed = false;
                for (uint32_t k = 0; k < meta.n; k++)
                        if (k != i)
                                checkpoint_meta_set(&less, meta.items[k].key, "%s", meta.items[k].value);
                for (size_t k = 0; k < ELEMENTSOF(needed); k++)
                        is_needed = is_needed || strcmp(needed[k], meta.items[i].key) == 0;
                if (is_needed)
                        refused(&less, meta.items[i].key);
                else
                        (void) read_back(&less, true);
        }
}

/* As it was validated; an older trainer recorded that of the best alone. */
static void test_figures(void **context) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct run_figures figures = {};

        checkpoint_meta_set(&meta, "best_validation_step", "8");
        checkpoint_meta_set(&meta, "best_validation_loss", "0.5");
        checkpoint_meta_set(&meta, "best_validation_accuracy", "0.75");
        assert_false(state_figures(&meta, 9, &figures));
        assert_true(state_figures(&meta, 8, &figures));
        assert_true(figures.step == 8 && figures.loss == 0.5 && figures.accuracy == 0.75);
        checkpoint_meta_set(&meta, "validation_loss", "0.25");
        assert_true(state_figures(&meta, 8, &figures));
        assert_true(figures.loss == 0.25 && isnan(figures.accuracy));
        checkpoint_meta_set(&meta, "validation_loss", "a quarter");
        assert_false(state_figures(&meta, 8, &figures));
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_round_trip), cmocka_unit_test(test_less),
                                            cmocka_unit_test(test_mistyped), cmocka_unit_test(test_missing),
                                            cmocka_unit_test(test_figures) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
