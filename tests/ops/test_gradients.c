/*
 * Gradients of the fp64 backend against central finite differences: of the whole model, every tensor, with and without
 * dropout (its masks are a function of the sample, so the loss stays differentiable), every activation; and a second
 * micro-batch adds to the first's. The whole model passes through every operation of the table.
 */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "tests/close.h"
#include "tests/ops/model_helpers.h"

static double loss_of(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct model_loss loss = {};

        model_evaluate(model, batch, pass, &loss);
        return loss.mlm_sum * pass->mlm_scale + loss.sentence_sum * pass->sentence_scale;
}

/* Away from the tiny initial values: gradients of every tensor matter. */
static void roughen(struct model *model) {
        double *p = model_state(model)->parameters;

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
        double *p = model_state(model)->parameters, *g = model_state(model)->gradients;

        for (uint32_t i = 0; i < 5; i++) {
                size_t e = t->offset + philox_below(philox(3, i, index, 5).v[0], (uint32_t) t->n_elements);
                double numeric = derivative(model, batch, pass, &p[e]),
                       scale = fmax(fmax(fabs(numeric), fabs(g[e])), 1e-3);
                if (!is_close(g[e], numeric, 1e-7 * scale)) /* 1.3e-8 measured */
                        fail_msg("%s[%zu]: gradient %.12g, finite difference %.12g", t->name, e - t->offset, g[e],
                                 numeric);
        }
}

/* What a step before left in the gradients is not to be seen again; what lies between tensors stays 0. */
static void spoil_gradients(struct model *model) {
        double *g = model_state(model)->gradients;

        for (uint32_t i = 0; i < model_n_tensors(model); i++)
                for (size_t j = 0; j < model_tensor(model, i)->n_elements; j++)
                        g[model_tensor(model, i)->offset + j] = NAN;
}

/* How often and when each gradient was called complete, and what it was then. */
struct readiness {
        struct model *model;
        uint32_t calls[512], last, n;
        double *then;
};

static void note_ready(void *context, uint32_t tensor) {
        struct readiness *r = context;
        const struct model_tensor *t = model_tensor(r->model, tensor);

        assert_true(tensor < 512);
        r->calls[tensor]++;
        r->last = tensor;
        r->n++;
        memcpy(r->then + t->offset, (double *) model_state(r->model)->gradients + t->offset,
               t->n_elements * sizeof(double));
}

/* Each tensor was called complete once, and nothing was added to it afterwards; the word table came last but for its
 * neighbours. */
static void check_ready(const struct readiness *r) {
        const double *g = model_state(r->model)->gradients;

        assert_int_equal(r->n, model_n_tensors(r->model));
        assert_int_equal(r->last, SLOT_ENCODER - 1);
        for (uint32_t i = 0; i < model_n_tensors(r->model); i++)
                assert_int_equal(r->calls[i], 1);
        assert_memory_equal(g, r->then, model_state(r->model)->n_elements * sizeof(double));
}

static void check_config(const struct model_config *config, bool sentence, bool masked) {
        struct test_batch *t = helper_batch(config->vocab_size, 3, 11, 1000, true);
        struct model_loss loss = {};

        if (!sentence)
                t->sentence_labels[1] = -1;
        if (!masked)
                t->batch.n_masked = 0;
        struct model *model = helper_model(config, ops_fp64(), &t->batch);
        struct model_pass pass = helper_pass(&t->batch, config->hidden_dropout_prob > 0);
        struct readiness ready = { .model = model, .then = calloc(model_state(model)->n_elements, sizeof(double)) };
        assert_non_null(ready.then);
        pass.ready = note_ready;
        pass.context = &ready;
        model_init(model, 1);
        roughen(model);
        spoil_gradients(model);
        model_zero_gradients(model);
        model_forward_backward(model, &t->batch, &pass, &loss);
        check_ready(&ready);
        for (uint32_t i = 0; i < model_n_tensors(model); i++)
                check_tensor(model, &t->batch, &pass, i);
        free(ready.then);
        model_free(model);
        free(t);
}

static void check_model(enum hidden_act act, double dropout, bool sentence) {
        struct model_config config = helper_config(19, 12, 2, 3, 20, dropout);

        config.hidden_act = act;
        check_config(&config, sentence, true);
}

static void test_gelu(void **state) { check_model(ACT_GELU, 0, true); }
static void test_gelu_dropout(void **state) { check_model(ACT_GELU, 0.2, true); }
static void test_gelu_new(void **state) { check_model(ACT_GELU_NEW, 0, true); }
static void test_relu(void **state) { check_model(ACT_RELU, 0, true); }
static void test_absent_label(void **state) { check_model(ACT_GELU, 0, false); }

static void test_nothing_masked(void **state) {
        struct model_config config = helper_config(19, 12, 2, 3, 20, 0);

        check_config(&config, true, false);
}

/* Every way to share, with and without dropout; widths E below, at and above H; groups and inner layers. */
static void test_albert(void **state) {
        static const struct {
                uint32_t layers, embedding;
                enum cross_layer_sharing sharing;
                uint32_t groups, inner;
                double dropout;
        } cases[] = {
                { 3, 7, SHARING_ALL, 1, 1, 0 },       { 3, 7, SHARING_ALL, 1, 1, 0.2 },
                { 3, 7, SHARING_ATTENTION, 1, 1, 0 }, { 3, 7, SHARING_ATTENTION, 1, 1, 0.2 },
                { 3, 7, SHARING_FFN, 1, 1, 0 },       { 3, 7, SHARING_FFN, 1, 1, 0.2 },
                { 3, 7, SHARING_NONE, 3, 1, 0 },      { 3, 7, SHARING_NONE, 3, 1, 0.2 },
                { 3, 12, SHARING_ALL, 2, 1, 0.2 },    { 2, 20, SHARING_ALL, 1, 2, 0.2 },
                { 2, 5, SHARING_ATTENTION, 1, 2, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct model_config config = helper_config(19, 12, cases[i].layers, 3, 20, cases[i].dropout);
                config = helper_albert(config, cases[i].embedding, cases[i].sharing, cases[i].groups, cases[i].inner);
                config.hidden_act = ACT_GELU_NEW;
                check_config(&config, true, true);
        }
}

/* Without a mapping, ALBERT that shares nothing is BERT. */
static void test_albert_is_bert(void **state) {
        struct model_config bert = helper_config(19, 12, 2, 3, 20, 0.1);
        struct model_config albert = helper_albert(bert, 12, SHARING_NONE, 2, 1);
        struct test_batch *t = helper_batch(19, 3, 11, 5, true);
        struct model_pass pass = helper_pass(&t->batch, true);
        struct model_loss x = {}, y = {};

        albert.embedding_mapping = false;
        struct model *a = helper_model(&bert, ops_fp64(), &t->batch), *b = helper_model(&albert, ops_fp64(), &t->batch);
        model_init(a, 1);
        model_init(b, 1);
        model_forward_backward(a, &t->batch, &pass, &x);
        model_forward_backward(b, &t->batch, &pass, &y);
        assert_memory_equal(&x, &y, sizeof(x));
        assert_int_equal(model_state(a)->n_elements, model_state(b)->n_elements);
        assert_memory_equal(model_state(a)->gradients, model_state(b)->gradients,
                            model_state(a)->n_elements * sizeof(double));
        model_free(a);
        model_free(b);
        free(t);
}

/* Hugging Face's names; what is shared is there once, under the name of its first user. */
static void test_albert_names(void **state) {
        static const char *const shared[] = {
                "albert.embeddings.LayerNorm.bias",
                "albert.encoder.embedding_hidden_mapping_in.weight",
                "albert.encoder.embedding_hidden_mapping_in.bias",
                "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight",
        };
        static const char *const end[] = {
                "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.weight",
                "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.bias",
                "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn_output.weight",
                "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn_output.bias",
                "albert.encoder.albert_layer_groups.1.albert_layers.0.full_layer_layer_norm.weight",
                "albert.encoder.albert_layer_groups.1.albert_layers.0.full_layer_layer_norm.bias",
                "albert.pooler.weight",
                "albert.pooler.bias",
                "predictions.bias",
                "predictions.dense.weight",
                "predictions.dense.bias",
                "predictions.LayerNorm.weight",
                "predictions.LayerNorm.bias",
                "sop_classifier.classifier.weight",
                "sop_classifier.classifier.bias",
        };
        struct model_config config = helper_albert(helper_config(19, 12, 2, 3, 20, 0), 7, SHARING_ATTENTION, 1, 1);
        struct test_batch *t = helper_batch(19, 3, 11, 5, true);
        struct model *model = helper_model(&config, ops_fp64(), &t->batch);
        uint32_t n = model_n_tensors(model);

        assert_int_equal(n, 5 + 2 + 10 + 2 * 6 + 9);
        for (uint32_t i = 0; i < ELEMENTSOF(shared); i++)
                assert_string_equal(model_tensor(model, 4 + i)->name, shared[i]);
        for (uint32_t i = 0; i < ELEMENTSOF(end); i++)
                assert_string_equal(model_tensor(model, n - ELEMENTSOF(end) + i)->name, end[i]);
        assert_int_equal(model_tensor(model, 7)->uses, 2);
        model_free(model);
        free(t);
}

/* Recomputed activations are the same bits; they take less memory. */
static void check_recompute(const struct model_config *config, const struct ops *ops) {
        struct test_batch *t = helper_batch(config->vocab_size, 5, 33, 5, true);
        struct model_limits limits = {
                t->batch.n_tokens, t->batch.n_sequences, t->batch.n_masked, 33, true, false, false
        };
        struct model_pass pass = helper_pass(&t->batch, true);
        struct model_loss x = {}, y = {};
        struct model *a = helper_model(config, ops, &t->batch), *b = NULL;
        struct model_memory kept, recomputed;

        assert_int_equal(model_plan_memory(config, ops, &limits, &kept, NULL), 0);
        limits.recompute = true;
        assert_int_equal(model_plan_memory(config, ops, &limits, &recomputed, NULL), 0);
        assert_true(recomputed.activations < kept.activations && recomputed.parameters == kept.parameters);
        assert_int_equal(a->arena_size, kept.activations);
        assert_int_equal(model_new(config, ops, &limits, &b, NULL), 0);
        assert_int_equal(b->arena_size, recomputed.activations);
        model_init(a, 1);
        model_init(b, 1);
        model_forward_backward(a, &t->batch, &pass, &x);
        model_forward_backward(b, &t->batch, &pass, &y);
        assert_memory_equal(&x, &y, sizeof(x));
        assert_memory_equal(model_state(a)->gradients, model_state(b)->gradients,
                            model_state(a)->n_elements * model_state(a)->element_size);
        model_free(a);
        model_free(b);
        free(t);
}

/* gelu by fast_gelu is gelu_new: the same bits; and not those of gelu. */
static void check_fast_gelu(const struct ops *ops) {
        struct model_config erf = helper_config(101, 24, 2, 3, 60, 0.1), tanh = erf;
        struct test_batch *t = helper_batch(erf.vocab_size, 5, 33, 5, true);
        struct model_limits limits = {
                t->batch.n_tokens, t->batch.n_sequences, t->batch.n_masked, 33, true, false, true
        };
        struct model_pass pass = helper_pass(&t->batch, true);
        struct model_loss x = {}, y = {}, z = {};
        struct model *fast = NULL;

        tanh.hidden_act = ACT_GELU_NEW;
        struct model *as_tanh = helper_model(&tanh, ops, &t->batch), *as_erf = helper_model(&erf, ops, &t->batch);
        assert_int_equal(model_new(&erf, ops, &limits, &fast, NULL), 0);
        model_init(fast, 1);
        model_init(as_tanh, 1);
        model_init(as_erf, 1);
        model_forward_backward(fast, &t->batch, &pass, &x);
        model_forward_backward(as_tanh, &t->batch, &pass, &y);
        model_forward_backward(as_erf, &t->batch, &pass, &z);
        assert_memory_equal(&x, &y, sizeof(x));
        assert_memory_equal(model_state(fast)->gradients, model_state(as_tanh)->gradients,
                            model_state(fast)->n_elements * model_state(fast)->element_size);
        assert_true(x.mlm_sum != z.mlm_sum);
        model_free(fast);
        model_free(as_tanh);
        model_free(as_erf);
        free(t);
}

static void test_fast_gelu(void **state) {
        check_fast_gelu(ops_fp64());
        check_fast_gelu(ops_cpu());
}

static void test_recompute(void **state) {
        struct model_config bert = helper_config(101, 24, 4, 3, 60, 0.1);
        struct model_config albert = helper_albert(bert, 10, SHARING_FFN, 1, 1);

        check_recompute(&bert, ops_fp64());
        check_recompute(&bert, ops_cpu());
        check_recompute(&albert, ops_cpu());
}

/* The batch's gradients are there once: a second time doubles them; from zero they are the same again. */
static void check_accumulates(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        const double *g = model_state(model)->gradients;
        double *once = calloc(model_state(model)->n_elements, sizeof(double));
        struct model_loss loss = {};

        assert_non_null(once);
        memcpy(once, g, model_state(model)->n_elements * sizeof(double));
        model_forward_backward(model, batch, pass, &loss);
        for (size_t i = 0; i < model_state(model)->n_elements; i++)
                assert_true(fabs(g[i] - 2 * once[i]) <= 1e-12);
        spoil_gradients(model);
        model_zero_gradients(model);
        model_forward_backward(model, batch, pass, &loss);
        for (size_t i = 0; i < model_state(model)->n_elements; i++)
                assert_true(fabs(g[i] - once[i]) <= 1e-12);
        free(once);
}

static void test_accumulates(void **state) {
        struct model_config config = helper_config(19, 12, 1, 3, 20, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 3, 11, 5, true);
        struct model *model = helper_model(&config, ops_fp64(), &t->batch);
        struct model_pass pass = helper_pass(&t->batch, true);
        struct model_loss loss = {};

        model_init(model, 1);
        model_forward_backward(model, &t->batch, &pass, &loss);
        check_accumulates(model, &t->batch, &pass);
        model_free(model);
        free(t);
}

static void test_no_micro_batch(void **state) {
        struct model_config config = helper_config(19, 12, 1, 3, 20, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 3, 11, 5, true);
        struct model *model = helper_model(&config, ops_fp64(), &t->batch);

        spoil_gradients(model);
        model_zero_gradients(model);
        model_settle_gradients(model);
        for (size_t i = 0; i < model_state(model)->n_elements; i++)
                assert_true(((double *) model_state(model)->gradients)[i] == 0);
        model_free(model);
        free(t);
}

/* Gradients of what is frozen are 0, whatever was there. */
static void check_frozen(struct model *model, const struct batch *batch, struct model_pass *pass) {
        struct model_loss loss = {};

        for (enum freeze frozen = FREEZE_NONE; frozen < FREEZE_MAX; frozen++) {
                const double *word =
                        (const double *) model_state(model)->gradients + model_tensor(model, SLOT_WORD)->offset;
                double sum = 0;
                pass->frozen = frozen;
                spoil_gradients(model);
                model_zero_gradients(model);
                model_forward_backward(model, batch, pass, &loss);
                for (size_t i = 0; i < model_state(model)->n_elements; i++)
                        assert_true(isfinite(((double *) model_state(model)->gradients)[i]));
                for (size_t i = 0; i < model_tensor(model, SLOT_WORD)->n_elements; i++)
                        sum += fabs(word[i]);
                assert_true((sum > 0) == (frozen == FREEZE_NONE));
        }
}

/* Every way to a classifier's features, over texts of one to three segments. */
static const struct classifier_config classifiers[] = {
        { .first_layer = 1, .n_layers = 1, .input = INPUT_POOLED, .dropout = 0.2 },
        { .first_layer = 0, .n_layers = 1, .input = INPUT_CLS },
        { .first_layer = 0, .n_layers = 2, .input = INPUT_CLS, .combine = COMBINE_CONCAT, .dropout = 0.2 },
        { .first_layer = 0, .n_layers = 2, .input = INPUT_POOLED, .combine = COMBINE_MEAN },
        { .first_layer = 0, .n_layers = 2, .input = INPUT_CLS, .combine = COMBINE_MAX },
        { .first_layer = 1, .n_layers = 1, .input = INPUT_POOLED, .segmented = true, .segments = SEGMENTS_MEAN },
        { .first_layer = 1, .n_layers = 1, .input = INPUT_CLS, .segmented = true, .segments = SEGMENTS_MAX },
        { .first_layer = 0,
          .n_layers = 2,
          .input = INPUT_CLS,
          .combine = COMBINE_CONCAT,
          .segmented = true,
          .segments = SEGMENTS_ATTENTION,
          .dropout = 0.2 },
        { .target = TARGET_NUMBER,
          .first_layer = 1,
          .n_layers = 1,
          .input = INPUT_POOLED,
          .segmented = true,
          .segments = SEGMENTS_MEAN,
          .dropout = 0.2 },
};

static void test_classifier(void **state) {
        struct test_batch *t = helper_batch(40, 6, 9, 5, true);
        struct batch *b = &t->batch;

        for (size_t i = 0; i < ELEMENTSOF(classifiers); i++) {
                struct model_config config = helper_config(40, 8, 2, 2, 12, 0.1);
                config.classifier = classifiers[i];
                config.classifier.n_labels = classifiers[i].target == TARGET_NUMBER ? 1 : 3;
                config.without_pretraining_heads = i % 2;
                b->n_samples = classifiers[i].segmented ? 3 : 6;
                for (uint32_t s = 0; s <= b->n_samples; s++)
                        t->sample_begin[s] =
                                (int32_t) (classifiers[i].segmented ? s * (s + 1) / 2 : s); /* of 1, 2, 3 */
                for (uint32_t s = 0; s < b->n_samples; s++) {
                        t->sentence_labels[s] = (int32_t) (s % config.classifier.n_labels);
                        t->targets[s] = 0.7 * s - 0.5;
                }
                struct model *model = helper_model(&config, ops_fp64(), b);
                struct model_pass pass = helper_pass(b, true);
                struct model_loss loss = {};
                pass.classify = true;
                model_init(model, 1);
                roughen(model);
                spoil_gradients(model);
                model_zero_gradients(model);
                model_forward_backward(model, b, &pass, &loss);
                assert_int_equal(loss.sentence_count, b->n_samples);
                for (uint32_t tensor = 0; tensor < model_n_tensors(model); tensor++)
                        check_tensor(model, b, &pass, tensor);
                check_accumulates(model, b, &pass);
                check_frozen(model, b, &pass);
                model_free(model);
        }
        free(t);
}

/* Every place where BERT drops does so, each with a mask of its own, and none in an evaluation: forward and backward
 * share these, so that a place which is forgotten has right gradients. */
static void test_dropout_places(void **state) {
        enum { LAYERS = 2, PLACES = 1 + 3 * LAYERS };
        struct model_config config = helper_config(19, 12, LAYERS, 3, 20, 0.25);
        struct test_batch *t = helper_batch(config.vocab_size, 3, 11, 5, true);
        struct model *model = helper_model(&config, ops_fp64(), &t->batch);

        for (int training = 0; training < 2; training++) {
                struct model_pass pass = helper_pass(&t->batch, training);
                struct dropout all[PLACES] = { model_embedding_norm(model, &t->batch, &pass).dropout };
                for (uint32_t l = 0; l < LAYERS; l++) {
                        all[1 + 3 * l] = model_attention(model, &t->batch, &pass, l).dropout;
                        all[2 + 3 * l] = model_attention_norm(model, &t->batch, &pass, l).dropout;
                        all[3 + 3 * l] = model_output_norm(model, &t->batch, &pass, l).dropout;
                }
                for (uint32_t i = 0; i < PLACES; i++) {
                        assert_int_equal(all[i].threshold, training ? 16384 : 0);
                        for (uint32_t j = 0; j < i; j++)
                                assert_int_not_equal(all[i].site, all[j].site);
                }
        }
        model_free(model);
        free(t);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_classifier),     cmocka_unit_test(test_gelu),
                cmocka_unit_test(test_gelu_dropout),   cmocka_unit_test(test_gelu_new),
                cmocka_unit_test(test_relu),           cmocka_unit_test(test_absent_label),
                cmocka_unit_test(test_nothing_masked), cmocka_unit_test(test_accumulates),
                cmocka_unit_test(test_albert),         cmocka_unit_test(test_albert_is_bert),
                cmocka_unit_test(test_albert_names),   cmocka_unit_test(test_recompute),
                cmocka_unit_test(test_fast_gelu),      cmocka_unit_test(test_dropout_places),
                cmocka_unit_test(test_no_micro_batch),
        };

        omp_set_num_threads(1); /* the models are too small for more */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
