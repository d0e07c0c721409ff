/* What fits together and what does not (fit.h): what the shell tests cannot bring about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "bertd/exit.h"
#include "trainer/infer/fit.h"
#include "trainer/model/heads.h"

static struct model_config classifier_of(uint32_t rows) {
        return (struct model_config) { .vocab_size = 100,
                                       .without_pretraining_heads = true,
                                       .layer_norm_eps = 1e-12,
                                       .classifier = { .n_labels = rows, .input = INPUT_POOLED } };
}

static void test_labels(void **state) {
        const struct model_config config = classifier_of(3);
        static const struct {
                uint32_t names;
                bool tasks, fits;
        } cases[] = {
                { 3, false, true }, { 2, false, false }, { 2, true, true }, { 4, true, false }, { 4, false, false }
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct error error = {};
                int r = fit_labels("c.ckpt", &config, cases[i].names, cases[i].tasks, &error);
                assert_int_equal(r >= 0, cases[i].fits);
                assert_int_equal(error.exit, cases[i].fits ? 0 : BERTD_EXIT_BAD_CHECKPOINT);
        }
}

/* A configuration beside the model's own: each key that makes it another model is named, what does not is not. */
static void test_config(void **state) {
        const struct model_config own = classifier_of(3);
        struct model_config given = own;
        struct error error = {};

        given.hidden_dropout_prob = 0.5;
        given.initializer_range = 0.5;
        assert_int_equal(fit_config("m", &own, "c.json", &given, &error), 0);
        given.hidden_act = ACT_RELU;
        assert_true(fit_config("m", &own, "c.json", &given, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_CONFIG);
        assert_non_null(strstr(error.text, "c.json: hidden_act"));
        error = (struct error) {};
        given = own;
        given.layer_norm_eps = 1e-5;
        assert_true(fit_config("m", &own, "c.json", &given, &error) < 0);
        assert_non_null(strstr(error.text, "layer_norm_eps"));
}

static void test_heads(void **state) {
        struct model_config config = classifier_of(2);
        struct error error = {};
        char names[128];

        assert_int_equal(heads_of_classifier(&config), HEAD(PART_CLASSIFIER) | HEAD(PART_POOLER));
        assert_int_equal(heads_of(&config), HEAD(PART_CLASSIFIER) | HEAD(PART_POOLER));
        assert_true(fit_heads("m", &config, HEAD(PART_MLM_HEAD), 0, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        error = (struct error) {};
        assert_true(fit_heads("m", &config, HEAD(PART_CLASSIFIER), HEAD(PART_CLASSIFIER), &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_BAD_CHECKPOINT);
        assert_int_equal(fit_heads("m", &config, HEAD(PART_CLASSIFIER), HEAD(PART_POOLER), &error), 0);

        config.classifier.input = INPUT_CLS; /* a pooler that nobody reads may be fresh */
        config.classifier.segmented = true;
        config.classifier.segments = SEGMENTS_ATTENTION;
        assert_int_equal(heads_of_classifier(&config), CLASSIFIER_HEADS);
        config.classifier = (struct classifier_config) {};
        config.without_pretraining_heads = false;
        assert_int_equal(heads_of(&config), PRETRAINING_HEADS | HEAD(PART_POOLER));
        heads_describe(ALL_HEADS, names, sizeof(names));
        assert_string_equal(names, "pooler, MLM head, NSP/SOP head, classifier, attention over segments");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_labels),
                cmocka_unit_test(test_config),
                cmocka_unit_test(test_heads),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
