/*
 * Gradients of the fp64 backend against central finite differences: of the whole model, every tensor, with and without
 * dropout (its masks are a function of the sample, so the loss stays differentiable), every activation; and a second
 * micro-batch adds to the first's. The whole model passes through every operation of the table.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/ops/model_helpers.h"

static double loss_of(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct model_loss loss = {};

        model_evaluate(model, batch, pass, &loss);
        return loss.mlm_sum * pass->mlm_scale + loss.sentence_sum * pass->sentence_scale;
}

/* Away from the tiny initial values: gradients of every tensor matter. */
static void roughen(struct model *model) {
        double *p = model_parameters(model);

        for (uint32_t i = 0; i < model_n_tensors(model); i++) {
                const struct model_tensor *t = model_tensor(model, i);
                for (size_t e = 0; e < t->n_elements; e++)
                        p[t->offset + e] += 0.3 * helper_random(i, (uint32_t) e);
        }
}

static double derivative(struct model *model, const struct batch *batch, const struct model_pass *pass, double *p) {
        const double step = 1e-4, value = *p;
        double f[4];

        for (int i = 0; i < 4; i++) {
                *p = value + (i - 1.5 + (i < 2 ? -0.5 : 0.5)) * step; /* −2, −1, 1, 2 */
                f[i] = loss_of(model, batch, pass);
        }
        *p = value;
        return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step);
}

/* Some elements of every tensor; embeddings rows that the batch uses. */
static void check_tensor(struct model *model, const struct batch *batch, const struct model_pass *pass,
                         uint32_t index) {
        const struct model_tensor *t = model_tensor(model, index);
        double *p = model_parameters(model), *g = model_gradients(model);

        for (uint32_t i = 0; i < 5; i++) {
                size_t e = t->offset + philox_below(philox(3, i, index, 5).v[0], (uint32_t) t->n_elements);
                double numeric = derivative(model, batch, pass, &p[e]),
                       scale = fmax(fmax(fabs(numeric), fabs(g[e])), 1e-3);
                if (fabs(numeric - g[e]) > 1e-6 * scale)
                        fail_msg("%s[%zu]: gradient %.12g, finite difference %.12g", t->name, e - t->offset, g[e],
                                 numeric);
        }
}

static void check_model(enum hidden_act act, double dropout, bool sentence) {
        struct model_config config = helper_config(19, 12, 2, 3, 20, dropout);
        struct test_batch *t = helper_batch(config.vocab_size, 3, 11, 1000, true);
        struct model_loss loss = {};

        config.hidden_act = act;
        if (!sentence)
                t->sentence_labels[1] = -1;
        struct model *model = helper_model(&config, ops_fp64(), &t->batch);
        struct model_pass pass = helper_pass(&t->batch, dropout > 0);
        model_init(model, 1);
        roughen(model);
        model_zero_gradients(model);
        model_forward_backward(model, &t->batch, &pass, &loss);
        for (uint32_t i = 0; i < model_n_tensors(model); i++)
                check_tensor(model, &t->batch, &pass, i);
        model_free(model);
        free(t);
}

static void test_gelu(void **state) { check_model(ACT_GELU, 0, true); }
static void test_gelu_dropout(void **state) { check_model(ACT_GELU, 0.2, true); }
static void test_gelu_new(void **state) { check_model(ACT_GELU_NEW, 0, true); }
static void test_relu(void **state) { check_model(ACT_RELU, 0, true); }
static void test_absent_label(void **state) { check_model(ACT_GELU, 0, false); }

static void test_accumulates(void **state) {
        struct model_config config = helper_config(19, 12, 1, 3, 20, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 3, 11, 5, true);
        struct model *model = helper_model(&config, ops_fp64(), &t->batch);
        struct model_pass pass = helper_pass(&t->batch, true);
        struct model_loss loss = {};
        double *g = model_gradients(model);

        model_init(model, 1);
        model_forward_backward(model, &t->batch, &pass, &loss);
        double *once = calloc(model_n_elements(model), sizeof(double));
        assert_non_null(once);
        for (size_t i = 0; i < model_n_elements(model); i++)
                once[i] = g[i];
        model_forward_backward(model, &t->batch, &pass, &loss);
        for (size_t i = 0; i < model_n_elements(model); i++)
                assert_true(fabs(g[i] - 2 * once[i]) <= 1e-12);
        free(once);
        model_free(model);
        free(t);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_gelu), cmocka_unit_test(test_gelu_dropout), cmocka_unit_test(test_gelu_new),
                cmocka_unit_test(test_relu), cmocka_unit_test(test_absent_label), cmocka_unit_test(test_accumulates),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
