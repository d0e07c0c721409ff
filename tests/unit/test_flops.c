/* FLOPs of a step beside numbers computed by hand from the formula in model.h: a sequence of 5 tokens, one of 3, of
 * which one token is masked; H = 4, F = 6, V = 10, two layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/ops/model_helpers.h"

/* A layer, forward: 8·5·16 + 4·5·4·6 + 4·25·4 = 1520 and 8·3·16 + 4·3·4·6 + 4·9·4 = 816. */
enum { LAYER = 1520 + 816, POOLER = 2 * 2 * 16, MASKED = 2 * 4 * 4 + 2 * 4 * 10, CLASSES = 2 * 2 * 4 * 5 };

static double flops(const struct model_config *config, struct test_batch *t, bool classify, enum freeze frozen) {
        struct model *model = helper_model(config, ops_cpu(), &t->batch);
        struct model_pass pass = { .classify = classify, .frozen = frozen };
        double all = model_batch_flops(model, &t->batch, &pass);

        model_free(model);
        return all;
}

/* Bit for bit: all are whole numbers. */
#define assert_flops(expected, ...) assert_int_equal((long) flops(__VA_ARGS__), expected)

static struct model_config bert(void) { return helper_config(10, 4, 2, 2, 6, 0); }

static struct test_batch *batch(void) {
        struct test_batch *t = helper_batch(10, 2, 5, 0, true);

        assert_int_equal(t->batch.n_tokens, 8);
        assert_int_equal(t->batch.n_masked, 1);
        return t;
}

static void test_pretraining(void **state) {
        struct model_config config = bert(), albert = helper_albert(config, 2, SHARING_ALL, 1, 1);
        struct test_batch *t = batch();

        assert_flops(3 * (2 * LAYER + POOLER + MASKED), &config, t, false, FREEZE_NONE);
        assert_int_equal(3 * (2 * LAYER + POOLER + MASKED), 14544);
        /* E = 2: 2·8·2·4 for the mapping, 2·4·2 + 2·2·10 for the masked token; what is shared is computed in each layer
         */
        assert_flops(3 * (2 * LAYER + 128 + POOLER + 56), &albert, t, false, FREEZE_NONE);
        t->sentence_labels[0] = t->sentence_labels[1] = -1; /* mlm: nobody asks the pooler */
        assert_flops(3 * (2 * LAYER + MASKED), &config, t, false, FREEZE_NONE);
        free(t);
}

static void test_classifier(void **state) {
        struct model_config top = bert(), low, cls, mapped = helper_albert(bert(), 2, SHARING_ALL, 1, 1);
        struct test_batch *t = batch();

        top.classifier = mapped.classifier =
                (struct classifier_config) { .n_labels = 5, .first_layer = 1, .n_layers = 1, .input = INPUT_POOLED };
        low = cls = top;
        low.classifier.first_layer = 0;
        cls.classifier.input = INPUT_CLS;
        assert_flops(3 * (2 * LAYER + POOLER + CLASSES), &top, t, true, FREEZE_NONE);
        assert_flops(3 * (LAYER + POOLER + CLASSES), &low, t, true, FREEZE_NONE); /* the layer above is not computed */
        assert_flops(3 * (2 * LAYER + POOLER + CLASSES) - 6 * 8 * 16, &top, t, true, FREEZE_EMBEDDINGS);
        assert_flops(2 * LAYER + 2 * POOLER + 3 * CLASSES, &top, t, true, FREEZE_ENCODER);
        assert_flops(2 * LAYER + POOLER + 2 * CLASSES, &top, t, true, FREEZE_FEATURES);
        assert_flops(LAYER + POOLER + 2 * CLASSES, &low, t, true, FREEZE_FEATURES);
        assert_flops(2 * LAYER + 2 * CLASSES, &cls, t, true, FREEZE_ENCODER);
        assert_flops(3 * (2 * LAYER + 128 + POOLER + CLASSES), &mapped, t, true, FREEZE_NONE);
        assert_flops(3 * (2 * LAYER + POOLER + CLASSES) + 2 * 128, &mapped, t, true, FREEZE_EMBEDDINGS);
        assert_flops(2 * LAYER + 128 + 2 * POOLER + 3 * CLASSES, &mapped, t, true, FREEZE_ENCODER);
        free(t);
}

/* RECIPES of published models: BERT base, n = 128, 20 masked: 0.0699 TFLOP a sequence; 0.3015 with 512 and 80. */
static void test_published(void **state) {
        const struct {
                uint32_t length, masked;
                double tera;
        } cases[] = { { 128, 20, 0.0699 }, { 512, 80, 0.3015 } };
        struct model_config config = helper_config(30528, 768, 12, 12, 3072, 0);

        for (size_t i = 0; i < 2; i++) {
                struct test_batch *t = helper_batch(config.vocab_size, 1, cases[i].length, 0, false);
                const struct model model = { .config = config };
                struct model_pass pass = {};
                t->batch.n_masked = cases[i].masked;
                double tera = model_batch_flops(&model, &t->batch, &pass) / 1e12;
                assert_true(tera > cases[i].tera - 0.00005 && tera < cases[i].tera + 0.00005);
                free(t);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pretraining),
                cmocka_unit_test(test_classifier),
                cmocka_unit_test(test_published),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
