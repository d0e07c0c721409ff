/*
 * Classifiers, optimizers and learning rates beside golden/oracles.safetensors: what PyTorch and transformers make of
 * the same models and batch (make-oracles, which names and describes what is in it). The tables below say in the
 * trainer's terms what make-oracles' say in theirs. By the fp64 backend, and by the CPU's.
 */
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/plan/schedule.h"
#include "tests/close.h"
#include "tests/ops/model_helpers.h"
#include "trainer/hf/safetensors.h"
#include "trainer/model/optimizer.h"

enum { SEQUENCES = 6, LABELS = 5, UPDATES = 4, STEPS = 40, WARMUP = 6 };
#define RATE 0.02

static struct safetensors *golden;

/* Absolute. */
static const struct bounds {
        double logits, loss, gradient, losses, weights;
} exact = { 1e-14, 4e-15, 1e-14, 8e-15, 6e-14 },   /* 1.3e-15, 4.4e-16, 1.8e-15, 8.9e-16, 7.9e-15 measured */
        single = { 4e-6, 1e-6, 4e-6, 2e-6, 4e-5 }; /* 4.6e-7, 1.2e-7, 4.8e-7, 2.7e-7, 5.5e-6 measured */

/* ---- golden values ---- */

static const struct safetensors_tensor *find(const char *of, const char *kind, const char *name) {
        char key[256];

        (void) snprintf(key, sizeof(key), "%s/%s%s", of, kind, name);
        return safetensors_find(golden, key);
}

static const struct safetensors_tensor *want(const char *of, const char *name, size_t n) {
        const struct safetensors_tensor *t = find(of, "", name);

        if (!t || t->dtype != SAFETENSORS_F64 || t->size != n * sizeof(double))
                fail_msg("oracles.safetensors: %s/%s is not there, or of another shape", of, name);
        return t;
}

static double value(const struct safetensors_tensor *t, size_t i) {
        double x;

        memcpy(&x, (const char *) t->data + i * sizeof(x), sizeof(x));
        return x;
}

/* What `case` or else its model begins with. */
static const struct safetensors_tensor *weight_before(const char *of, bool albert, const struct model_tensor *t) {
        const struct safetensors_tensor *own = find(of, "before/", t->name);

        return own ? own : want(albert ? "albert" : "bert", t->name, t->n_elements);
}

/* ---- the model and its batch ---- */

static struct test_batch *make_batch(bool segmented) {
        static const uint32_t lengths[SEQUENCES] = { 7, 3, 5, 8, 4, 6 };
        struct test_batch *t = helper_batch(12, SEQUENCES, 8, 0, false);
        struct batch *b = &t->batch;

        b->n_tokens = b->n_masked = 0;
        for (uint32_t s = 0; s < SEQUENCES; s++) {
                for (uint32_t i = 0; i < lengths[s]; i++) {
                        t->ids[b->n_tokens] = (int32_t) ((5 * s + 3 * i + s * i) % 11 + 1);
                        t->types[b->n_tokens] = i >= lengths[s] / 2;
                        t->positions[b->n_tokens++] = (int32_t) i;
                }
                t->cu_seqlens[s + 1] = (int32_t) b->n_tokens;
                t->sentence_labels[s] = (int32_t) s % LABELS;
                t->targets[s] = 0.25 * s - 0.5;
                t->sample_begin[s + 1] = (int32_t) (segmented ? (s + 1) * (s + 2) / 2 : s + 1); /* of 1, 2 and 3 */
        }
        b->n_samples = segmented ? 3 : SEQUENCES;
        return t;
}

static struct model_config make_config(bool albert, const struct classifier_config *classifier) {
        struct model_config config = helper_config(12, 4, albert ? 4 : 2, 2, 6, 0);

        if (albert) {
                config = helper_albert(config, 3, SHARING_ALL, 2, 1);
                config.hidden_act = ACT_GELU_NEW;
        }
        config.max_position_embeddings = 8;
        config.without_pretraining_heads = true;
        config.classifier = *classifier;
        config.classifier.n_labels = classifier->target == TARGET_NUMBER ? 1 : LABELS;
        return config;
}

static void write_weights(struct model *model, const char *of, bool albert) {
        for (uint32_t i = 0; i < model_n_tensors(model); i++) {
                const struct model_tensor *t = model_tensor(model, i);
                const struct safetensors_tensor *before = weight_before(of, albert, t);
                cleanup_free double *values = calloc(t->n_elements, sizeof(double));
                assert_non_null(values);
                for (size_t e = 0; e < t->n_elements; e++)
                        values[e] = value(before, e);
                model->ops->store(model->ops->master, model->state.parameters, t->offset, values, t->n_elements);
        }
        state_parameters_changed(model_state(model));
}

static double worst_of(const struct model *model, const void *run, const struct model_tensor *t,
                       const struct safetensors_tensor *expected) {
        cleanup_free double *values = calloc(t->n_elements, sizeof(double));
        double worst = 0;

        assert_non_null(values);
        assert_int_equal(expected->size, t->n_elements * sizeof(double));
        model->ops->load(model->ops->master, run, t->offset, values, t->n_elements);
        for (size_t e = 0; e < t->n_elements; e++)
                worst = worse(worst, fabs(values[e] - value(expected, e)));
        return worst;
}

static struct model_pass make_pass(const struct batch *batch, enum freeze frozen) {
        return (struct model_pass) { .classify = true, .sentence_scale = 1.0 / batch->n_samples, .frozen = frozen };
}

/* ---- heads ---- */

static const struct head {
        const char *name;
        bool albert, tasks;
        struct classifier_config classifier;
} heads[] = {
        { "pooled", .classifier = { .first_layer = 1, .n_layers = 1, .input = INPUT_POOLED } },
        { "cls", .classifier = { .first_layer = 1, .n_layers = 1, .input = INPUT_CLS } },
        { "first layer, pooled", .classifier = { .n_layers = 1, .input = INPUT_POOLED } },
        { "first layer", .classifier = { .n_layers = 1, .input = INPUT_CLS } },
        { "concat", .classifier = { .n_layers = 2, .input = INPUT_CLS, .combine = COMBINE_CONCAT } },
        { "mean", .classifier = { .n_layers = 2, .input = INPUT_CLS, .combine = COMBINE_MEAN } },
        { "mean, pooled", .classifier = { .n_layers = 2, .input = INPUT_POOLED, .combine = COMBINE_MEAN } },
        { "max", .classifier = { .n_layers = 2, .input = INPUT_CLS, .combine = COMBINE_MAX } },
        { "max, pooled", .classifier = { .n_layers = 2, .input = INPUT_POOLED, .combine = COMBINE_MAX } },
        { "segments' mean", .classifier = { .first_layer = 1,
                                            .n_layers = 1,
                                            .input = INPUT_POOLED,
                                            .segmented = true,
                                            .segments = SEGMENTS_MEAN } },
        { "segments' max", .classifier = { .first_layer = 1,
                                           .n_layers = 1,
                                           .input = INPUT_CLS,
                                           .segmented = true,
                                           .segments = SEGMENTS_MAX } },
        { "segments' attention", .classifier = { .n_layers = 2,
                                                 .input = INPUT_CLS,
                                                 .combine = COMBINE_CONCAT,
                                                 .segmented = true,
                                                 .segments = SEGMENTS_ATTENTION } },
        { "tasks", .tasks = true, .classifier = { .first_layer = 1, .n_layers = 1, .input = INPUT_POOLED } },
        { "albert", .albert = true, .classifier = { .first_layer = 3, .n_layers = 1, .input = INPUT_POOLED } },
        { "albert, concat", .albert = true,
          .classifier = { .first_layer = 1, .n_layers = 3, .input = INPUT_CLS, .combine = COMBINE_CONCAT } },
        { "number", .classifier = { .target = TARGET_NUMBER, .first_layer = 1, .n_layers = 1, .input = INPUT_POOLED } },
        { "number, concat",
          .classifier = { .target = TARGET_NUMBER, .n_layers = 2, .input = INPUT_CLS, .combine = COMBINE_CONCAT } },
        { "number, segments' mean", .classifier = { .target = TARGET_NUMBER,
                                                    .first_layer = 1,
                                                    .n_layers = 1,
                                                    .input = INPUT_POOLED,
                                                    .segmented = true,
                                                    .segments = SEGMENTS_MEAN } },
        { "number, albert", .albert = true,
          .classifier = { .target = TARGET_NUMBER, .first_layer = 3, .n_layers = 1, .input = INPUT_POOLED } },
};

/* What the loss does not reach has no gradient there, and one of 0 here. */
static double worst_gradient(struct model *model, const char *of) {
        double worst = 0;

        for (uint32_t i = 0; i < model_n_tensors(model); i++) {
                const struct model_tensor *t = model_tensor(model, i);
                const struct safetensors_tensor *expected = find(of, "gradient/", t->name);
                if (expected)
                        worst = worse(worst, worst_of(model, model_state(model)->gradients, t, expected));
                else
                        assert_true(model->ops->sum_squares((char *) model_state(model)->gradients +
                                                                    t->offset * model_state(model)->element_size,
                                                            t->n_elements) == 0);
        }
        return worst;
}

static void check_head(const struct ops *ops, const struct bounds *bounds, const struct head *head) {
        static const struct class_range ranges[LABELS] = { { 0, 2 }, { 0, 2 }, { 2, 5 }, { 2, 5 }, { 2, 5 } };
        struct model_config config = make_config(head->albert, &head->classifier);
        struct test_batch *t = make_batch(head->classifier.segmented);
        struct model *model = helper_model(&config, ops, &t->batch);
        struct model_pass pass = make_pass(&t->batch, FREEZE_NONE);
        struct model_loss loss = {};
        double logits[SEQUENCES * LABELS], worst = 0;
        size_t n = (size_t) t->batch.n_samples * config.classifier.n_labels;

        pass.ranges = head->tasks ? ranges : NULL;
        if (head->classifier.target == TARGET_NUMBER)
                memset(t->sentence_labels, 0, sizeof(t->sentence_labels));
        write_weights(model, head->name, head->albert);
        model_classify(model, &t->batch, logits);
        for (size_t i = 0; i < n; i++)
                worst = worse(worst, fabs(logits[i] - value(want(head->name, "logits", n), i)));
        model_zero_gradients(model);
        model_forward_backward(model, &t->batch, &pass, &loss);
        double of_loss = fabs(loss.sentence_sum * pass.sentence_scale - value(want(head->name, "loss", 1), 0)),
               gradient = worst_gradient(model, head->name);
        print_message("%-20s logits %8.1e, loss %8.1e, gradient %8.1e\n", head->name, worst, of_loss, gradient);
        assert_true(worst <= bounds->logits && of_loss <= bounds->loss && gradient <= bounds->gradient);
        model_free(model);
        free(t);
}

static void test_heads(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(heads); i++) {
                check_head(ops_fp64(), &exact, &heads[i]);
                check_head(ops_cpu(), &single, &heads[i]);
        }
}

/* ---- updates ---- */

static const struct training {
        const char *name;
        bool albert;
        struct spec_optimizer optimizer; /* but for what all have */
} trainings[] = {
        { "train: adamw", false, { .name = OPTIMIZER_ADAMW } },
        { "train: adamw, clipped", false, { .name = OPTIMIZER_ADAMW, .clip_norm = 0.05 } },
        { "train: adamw, clipped by tensor",
          false,
          { .name = OPTIMIZER_ADAMW, .clip_norm = 0.05, .clip_by = CLIP_BY_TENSOR } },
        { "train: bertadam", false, { .name = OPTIMIZER_BERTADAM } },
        { "train: bertadam, clipped by tensor",
          false,
          { .name = OPTIMIZER_BERTADAM, .clip_norm = 0.05, .clip_by = CLIP_BY_TENSOR } },
        { "train: lamb", false, { .name = OPTIMIZER_LAMB } },
        { "train: lamb, clipped", false, { .name = OPTIMIZER_LAMB, .clip_norm = 0.05 } },
        { "train: lamb, clipped by tensor",
          true,
          { .name = OPTIMIZER_LAMB, .clip_norm = 0.05, .clip_by = CLIP_BY_TENSOR } },
        { "train: lamb_google", false, { .name = OPTIMIZER_LAMB_GOOGLE } },
        { "train: lamb_google, clipped", true, { .name = OPTIMIZER_LAMB_GOOGLE, .clip_norm = 0.05 } },
        { "train: layer decay", false, { .name = OPTIMIZER_ADAMW, .layer_decay = 0.5 } },
        { "train: layer decay, albert", true, { .name = OPTIMIZER_ADAMW, .layer_decay = 0.5 } },
        { "train: embeddings frozen",
          false,
          { .name = OPTIMIZER_ADAMW, .clip_norm = 0.05, .layer_decay = 0.8, .freeze = FREEZE_EMBEDDINGS } },
        { "train: encoder frozen", false, { .name = OPTIMIZER_ADAMW, .freeze = FREEZE_ENCODER } },
        { "train: features frozen", false, { .name = OPTIMIZER_ADAMW, .freeze = FREEZE_FEATURES } },
        { "train: embeddings frozen, albert", true, { .name = OPTIMIZER_ADAMW, .freeze = FREEZE_EMBEDDINGS } },
        { "train: encoder frozen, albert", true, { .name = OPTIMIZER_LAMB, .freeze = FREEZE_ENCODER } },
        { "train: features frozen, albert", true, { .name = OPTIMIZER_BERTADAM, .freeze = FREEZE_FEATURES } },
};

/* A key's bias has no true gradient (softmax does not see it): Adam makes a step of either side's rounding. */
static double worst_weight(struct model *model, const struct training *training, const char **ret_name) {
        double worst = 0;

        for (uint32_t i = 0; i < model_n_tensors(model); i++) {
                const struct model_tensor *t = model_tensor(model, i);
                const struct safetensors_tensor *after = find(training->name, "after/", t->name);
                if (strstr(t->name, "key.bias") && after)
                        continue;
                double error = worst_of(model, model_state(model)->parameters, t,
                                        after ? after : weight_before(training->name, training->albert, t));
                if (is_worse(error, worst)) {
                        worst = error;
                        *ret_name = t->name;
                }
        }
        return worst;
}

static void check_training(const struct ops *ops, const struct bounds *bounds, const struct training *training) {
        const struct classifier_config classifier = { .first_layer = training->albert ? 3 : 1,
                                                      .n_layers = 1,
                                                      .input = INPUT_POOLED };
        struct model_config config = make_config(training->albert, &classifier);
        struct test_batch *t = make_batch(false);
        struct model *model = helper_model(&config, ops, &t->batch);
        struct model_pass pass = make_pass(&t->batch, training->optimizer.freeze);
        struct spec_optimizer optimizer = training->optimizer;
        double worst = 0;

        optimizer.beta1 = 0.9, optimizer.beta2 = 0.999, optimizer.epsilon = 1e-6, optimizer.weight_decay = 0.1;
        if (optimizer.layer_decay == 0)
                optimizer.layer_decay = 1;
        write_weights(model, training->name, training->albert);
        for (uint64_t update = 1; update <= UPDATES; update++) {
                struct model_loss loss = {};
                model_zero_gradients(model);
                model_forward_backward(model, &t->batch, &pass, &loss);
                worst = worse(worst, fabs(loss.sentence_sum * pass.sentence_scale -
                                          value(want(training->name, "losses", UPDATES), update - 1)));
                double scale = optimizer_gradient_scale(&optimizer, optimizer_gradient_norm(model));
                optimizer_update(model, &optimizer, RATE, update, scale);
        }
        const char *name = "";
        double weights = worst_weight(model, training, &name);
        print_message("%-35s losses %8.1e, weights %8.1e: %s\n", training->name, worst, weights, name);
        assert_true(worst <= bounds->losses && weights <= bounds->weights);
        model_free(model);
        free(t);
}

static void test_updates(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(trainings); i++) {
                check_training(ops_fp64(), &exact, &trainings[i]);
                check_training(ops_cpu(), &single, &trainings[i]);
        }
}

/* ---- learning rates ---- */

static void test_schedules(void **state) {
        static const struct {
                const char *name;
                enum schedule schedule;
        } schedules[] = { { "linear", SCHEDULE_LINEAR },
                          { "cosine", SCHEDULE_COSINE },
                          { "poly", SCHEDULE_POLY },
                          { "constant", SCHEDULE_CONSTANT } };

        for (size_t i = 0; i < ELEMENTSOF(schedules); i++) {
                const struct safetensors_tensor *rates = want("schedule", schedules[i].name, STEPS);
                const struct spec_optimizer optimizer = { .learning_rate = 1,
                                                          .warmup_steps = WARMUP,
                                                          .schedule = schedules[i].schedule,
                                                          .power = 1.5,
                                                          .decay_from = DECAY_FROM_WARMUP,
                                                          .step_count = STEP_COUNT_FROM_ZERO };
                for (uint64_t s = 0; s < STEPS; s++)
                        if (!is_close(schedule_rate(&optimizer, s, STEPS), value(rates, s), 1e-15))
                                fail_msg("%s: update %d: %.17g, expected %.17g", schedules[i].name, (int) s,
                                         schedule_rate(&optimizer, s, STEPS), value(rates, s));
        }
}

static int open_golden(void **state) {
        cleanup_free char *path = format_string("%s/tests/parity/golden/oracles.safetensors", getenv("SOURCE_DIR"));
        struct error error = {};

        if (safetensors_open(path, &golden, &error) < 0)
                fail_msg("%s", error.text);
        return 0;
}

static int close_golden(void **state) {
        safetensors_close(golden);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_heads), cmocka_unit_test(test_updates),
                                            cmocka_unit_test(test_schedules) };

        omp_set_num_threads(1); /* the models are too small for more */
        return cmocka_run_group_tests(tests, open_golden, close_golden);
}
