/*
 * The CPU backend's bits do not depend on the number of threads (T2): loss, gradients, norm and updated weights after
 * two steps, with dropout and ragged samples. And the loss of fp32 agrees with the fp64 reference, dropout masks
 * included.
 */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/close.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"

struct outcome {
        double loss, norm;
        size_t n;
        float *parameters;
};

static struct outcome train(const struct model_config *config, const struct test_batch *t, int threads) {
        const struct spec_optimizer spec = { .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-6, .weight_decay = 0.01 };
        struct model_pass pass = helper_pass(&t->batch, true);
        struct model_loss loss = {};
        struct outcome o = {};

        omp_set_num_threads(threads);
        struct model *model = helper_model(config, ops_cpu(), &t->batch);
        model_init(model, 11);
        for (uint64_t step = 0; step < 2; step++) {
                model_zero_gradients(model);
                model_forward_backward(model, &t->batch, &pass, &loss);
                o.norm += optimizer_gradient_norm(model);
                optimizer_update(model, &spec, 1e-3, step + 1, 0.5);
        }
        o.loss = loss.mlm_sum + loss.sentence_sum;
        o.n = model_state(model)->n_elements;
        o.parameters = calloc(o.n, sizeof(float));
        assert_non_null(o.parameters);
        memcpy(o.parameters, model_state(model)->parameters, o.n * sizeof(float));
        model_free(model);
        return o;
}

static void test_same_bits(void **state) {
        struct model_config config = helper_config(1003, 96, 2, 3, 200, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 9, 131, 1000, true);
        struct outcome one = train(&config, t, 1);

        for (int threads = 2; threads <= 4; threads++) {
                struct outcome other = train(&config, t, threads);
                assert_true(one.loss == other.loss);
                assert_true(one.norm == other.norm);
                assert_memory_equal(one.parameters, other.parameters, one.n * sizeof(float));
                free(other.parameters);
        }
        free(one.parameters);
        free(t);
}

/* Gradients of every tensor: the fp32 model and the fp64 model from the same weights. */
static void check_against_fp64(struct model_config config) {
        config.initializer_range = 0.2;
        struct test_batch *t = helper_batch(config.vocab_size, 5, 45, 77, true);
        struct model *fast = helper_model(&config, ops_cpu(), &t->batch),
                     *reference = helper_model(&config, ops_fp64(), &t->batch);
        struct model_pass pass = helper_pass(&t->batch, true);
        struct model_loss loss = {}, expected = {};
        double global;

        model_init(fast, 5);
        model_init(reference, 5);
        model_forward_backward(fast, &t->batch, &pass, &loss);
        model_forward_backward(reference, &t->batch, &pass, &expected);
        assert_true(is_close(loss.mlm_sum, expected.mlm_sum, 2e-7 * expected.mlm_sum)); /* 2.3e-8 measured */
        assert_true(is_close(loss.sentence_sum, expected.sentence_sum, 1e-6 * expected.sentence_sum)); /* 1.3e-7 */
        assert_int_equal(loss.mlm_count, expected.mlm_count);
        assert_int_equal(loss.mlm_correct, expected.mlm_correct);
        global = optimizer_gradient_norm(reference);
        for (uint32_t i = 0; i < model_n_tensors(fast); i++) {
                const struct model_tensor *tensor = model_tensor(fast, i);
                const float *g = (const float *) model_state(fast)->gradients + tensor->offset;
                const double *r = (const double *) model_state(reference)->gradients + tensor->offset;
                double difference = 0, norm = 0;
                for (size_t e = 0; e < tensor->n_elements; e++) {
                        difference += (g[e] - r[e]) * (g[e] - r[e]);
                        norm += r[e] * r[e];
                }
                if (!strstr(tensor->name, "key.bias") &&
                    !is_close(sqrt(difference), 0, 1e-5 * fmax(sqrt(norm), 1e-6 * global))) /* 1.1e-6 measured */
                        fail_msg("%s: gradient differs by %g of %g", tensor->name, sqrt(difference), sqrt(norm));
        }
        model_free(fast);
        model_free(reference);
        free(t);
}

static void test_agrees_with_fp64(void **state) { check_against_fp64(helper_config(211, 40, 2, 5, 72, 0.1)); }

static void test_albert_agrees_with_fp64(void **state) {
        check_against_fp64(helper_albert(helper_config(211, 40, 3, 5, 72, 0.1), 28, SHARING_ALL, 1, 1));
        check_against_fp64(helper_albert(helper_config(211, 40, 3, 5, 72, 0.1), 56, SHARING_ATTENTION, 1, 1));
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_same_bits), cmocka_unit_test(test_agrees_with_fp64),
                                            cmocka_unit_test(test_albert_agrees_with_fp64) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
