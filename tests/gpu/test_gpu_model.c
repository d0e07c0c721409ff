/*
 * Whole models on the CUDA backend, in every precision: the losses of three updates beside the CPU's, with dropout and
 * ragged samples, and the same bits when they are done again. Pretraining of BERT and ALBERT and a classifier of
 * several layers and tasks; micro-batches as graphs. With a GPU, or emulated; see module.h.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/close.h"
#include "tests/gpu/module.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"

enum { UPDATES = 3 };

/* Of a loss, relative: what a run's rounding adds up to in three updates. */
#ifdef EMULATED
static const double limits[CUDA_PRECISION_MAX] = {
        [CUDA_FP32] = 2e-7, /* 2.5e-8 measured */
        [CUDA_BF16] = 5e-3, /* 9.6e-4 measured */
        [CUDA_FP16] = 5e-4, /* 7.9e-5 measured */
};
#else /* not measured: a GPU sums in other orders */
static const double limits[CUDA_PRECISION_MAX] = {
        [CUDA_FP32] = 1e-5, [CUDA_TF32] = 1e-3, [CUDA_BF16] = 1e-2, [CUDA_FP16] = 2e-3
};
#endif
static const struct cuda_module *module;
static const struct ops *ops;
static enum cuda_precision precision;

struct trajectory {
        double loss[UPDATES];
        uint64_t hash;
};

static struct trajectory train(const struct ops *on, const struct model_config *config, const struct test_batch *t,
                               const struct class_range *ranges, const struct spec_optimizer *optimizer) {
        double scale = on->dtype == DTYPE_FP16 ? 1024 : 1;
        struct model_pass pass = helper_pass(&t->batch, true);
        struct trajectory found = {};

        pass.mlm_scale *= scale;
        pass.sentence_scale *= scale;
        pass.classify = config->classifier.n_labels > 0;
        pass.ranges = ranges;
        struct model *model = helper_model(config, on, &t->batch);
        model_init(model, 11);
        for (int i = 0; i < UPDATES; i++) {
                struct model_loss loss = {};
                model_zero_gradients(model);
                model_forward_backward(model, &t->batch, &pass, &loss);
                double norm = optimizer_gradient_norm(model) / scale;
                assert_true(isfinite(norm));
                optimizer_update(model, optimizer, 1e-2, (uint64_t) i + 1, fmin(1, 1 / norm) / scale);
                found.loss[i] = (loss.mlm_count ? loss.mlm_sum / (double) loss.mlm_count : 0) +
                                (loss.sentence_count ? loss.sentence_sum / (double) loss.sentence_count : 0);
        }
        assert_null(model_failed(model));
        found.hash = state_hash(model_state(model));
        model_free(model);
        return found;
}

static void compare(const char *name, const struct model_config *config, const struct test_batch *t,
                    const struct class_range *ranges, const struct spec_optimizer *optimizer) {
        struct trajectory want = train(ops_cpu(), config, t, ranges, optimizer),
                          got = train(ops, config, t, ranges, optimizer);
        double worst = 0;

        for (int i = 0; i < UPDATES; i++) {
                assert_true(isfinite(got.loss[i]));
                worst = worse(worst, fabs(got.loss[i] - want.loss[i]) / want.loss[i]);
        }
        (void) printf("%s: loss %.4f to %.4f, here %.4f to %.4f; apart by %.1e\n", name, want.loss[0],
                      want.loss[UPDATES - 1], got.loss[0], got.loss[UPDATES - 1], worst);
        assert_true(want.loss[UPDATES - 1] < want.loss[0]);
        assert_true(worst <= limits[precision]);
#ifdef EMULATED
        if (config->classifier.n_labels || config->embedding_mapping)
                return; /* one model shows whether memory that nobody wrote counts: nothing else is left to chance here
                         */
#endif
        struct trajectory again = train(ops, config, t, ranges, optimizer);
        assert_true(got.hash == again.hash);
        assert_memory_equal(got.loss, again.loss, sizeof(got.loss));
}

static void test_bert(void **state) {
        struct model_config config = helper_config(203, 64, 2, 2, 96, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 3, 21, 1000, true);

        compare("bert", &config, t, NULL, &helper_lamb);
        free(t);
}

static void test_albert(void **state) {
        struct model_config bert = helper_config(203, 64, 3, 2, 96, 0.1);
        struct model_config config = helper_albert(bert, 24, SHARING_ALL, 1, 1);
        struct test_batch *t = helper_batch(config.vocab_size, 3, 21, 1000, true);

        config.hidden_act = ACT_GELU_NEW;
        compare("albert", &config, t, NULL, &helper_lamb);
        free(t);
}

static void test_classifier(void **state) {
        static const struct class_range ranges[5] = { { 0, 2 }, { 0, 2 }, { 2, 5 }, { 2, 5 }, { 2, 5 } };
        struct model_config config = helper_config(203, 64, 2, 2, 96, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 6, 21, 1000, true);

        struct spec_optimizer by_layer = helper_lamb;
        by_layer.layer_decay = 0.8;
        by_layer.freeze = FREEZE_EMBEDDINGS;
        config.without_pretraining_heads = true;
        config.classifier = (struct classifier_config) { .n_labels = 5,
                                                         .first_layer = 0,
                                                         .n_layers = 2,
                                                         .combine = COMBINE_CONCAT,
                                                         .input = INPUT_CLS,
                                                         .dropout = 0.1 };
        t->batch.n_masked = 0;
        for (int32_t i = 0; i < 6; i++)
                t->sentence_labels[i] = i % 5;
        compare("classifier", &config, t, ranges, &helper_lamb);
        compare("classifier, layer by layer", &config, t, ranges, &by_layer);
        config.classifier.target = TARGET_NUMBER;
        config.classifier.n_labels = 1;
        for (int32_t i = 0; i < 6; i++) {
                t->sentence_labels[i] = 0;
                t->targets[i] = 0.5 * i - 1;
        }
        compare("regression", &config, t, NULL, &helper_lamb);
        free(t);
}

static void listen(void *context, uint32_t tensor) {}

/* Two updates of micro-batches of different shapes, `one_by_one`: none as a graph. */
static uint64_t accumulate(bool one_by_one) {
        enum { MICRO = 3 };
        struct model_config config = helper_config(99, 64, 1, 2, 48, 0.1); /* heads that tensor cores take */
        struct test_batch *t[MICRO];
        struct model_loss loss = {};

        for (uint32_t i = 0; i < MICRO; i++)
                t[i] = helper_batch(config.vocab_size, 4 - i, 21, 1000 + i, true);
        struct model_pass pass = helper_pass(&t[0]->batch, true);
        pass.ready = one_by_one ? listen : NULL;
        struct model *model = helper_model(&config, ops, &t[0]->batch);
        model_init(model, 11);
        for (uint64_t update = 1; update <= 2; update++) {
                model_zero_gradients(model);
                for (uint32_t i = 0; i < MICRO; i++)
                        model_forward_backward(model, &t[i]->batch, &pass, NULL);
                model_take_loss(model, &loss);
                assert_true(isfinite(optimizer_gradient_norm(model)));
                optimizer_update(model, &helper_lamb, 1e-2, update, 1e-3);
        }
        assert_null(model_failed(model));
        assert_int_equal(loss.sentence_count, 2 * (4 + 3 + 2));
        uint64_t hash = state_hash(model_state(model));
        model_free(model);
        for (uint32_t i = 0; i < MICRO; i++)
                free(t[i]);
        return hash;
}

/* All but the very first micro-batch, nearly all by a graph that is there: a step's first has stamps in it. */
static void test_graphs(void **state) {
        struct cuda_counts before = *module->counts();
        uint64_t hash = accumulate(false);
        struct cuda_counts after = *module->counts();

        assert_int_equal(after.graphs - before.graphs, 5);
#ifdef EMULATED /* on a GPU cuBLASLt's kernels decide it: printed by test_ways */
        assert_int_equal(after.graphs_made - before.graphs_made, 3);
#endif
        assert_true(hash == accumulate(true));
        assert_int_equal(module->counts()->graphs, after.graphs);
}

/* Whether anything went a way that is only slower. */
static void test_ways(void **state) {
        const struct cuda_counts *c = module->counts();

        module_print_ways(module);
        assert_true(c->lt_products > 0);
        if (ops->dtype != ops->master)
                assert_int_equal(c->plain_attentions, 0);
}

#ifdef EMULATED
/* Where no graph can be made, all is done one by one: the last test, for none is tried again. */
static void test_without_graphs(void **state) {
        uint64_t hash = accumulate(false), graphs = module->counts()->graphs;

        emulated_fail_graphs(true);
        assert_true(hash == accumulate(false));
        emulated_fail_graphs(false);
        assert_true(hash == accumulate(false));
        assert_int_equal(module->counts()->graphs, graphs);
}
#endif

static int check(const struct cuda_module *opened, enum cuda_precision p, const struct ops *table) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_bert),          cmocka_unit_test(test_albert),
                                            cmocka_unit_test(test_classifier),    cmocka_unit_test(test_graphs),
                                            cmocka_unit_test(test_ways),
#ifdef EMULATED
                                            cmocka_unit_test(test_without_graphs)
#endif
        };

        module = opened;
        precision = p;
        ops = table;
        return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) { return module_in_each_precision(check); }
