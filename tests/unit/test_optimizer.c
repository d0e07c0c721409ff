/* Schedules at their corners and as published; the norm; AdamW by hand, every optimizer against the papers' formulas;
 * which tensors decay; initial weights; that a small model learns. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "daemon/plan/schedule.h"
#include "tests/close.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"

static void test_schedule(void **state) {
        struct spec_optimizer s = {
                .learning_rate = 1.0, .warmup_steps = 4, .warmup_ratio = 0.5, .schedule = SCHEDULE_LINEAR
        };

        assert_true(schedule_rate(&s, 0, 10) == 0.25);
        assert_true(schedule_rate(&s, 3, 10) == 1.0);
        assert_true(fabs(schedule_rate(&s, 4, 10) - 0.6) < 1e-15); /* decay counts from step 0: the rate drops here */
        assert_true(fabs(schedule_rate(&s, 9, 10) - 0.1) < 1e-15);
        assert_true(schedule_rate(&s, 10, 10) == 0);
        assert_true(schedule_rate(&s, 11, 10) == 0);
        s.warmup_steps = 0;
        assert_true(schedule_rate(&s, 0, 10) == 0.2);
        assert_true(schedule_rate(&s, 4, 10) == 1.0);
        s.warmup_ratio = 0;
        assert_true(schedule_rate(&s, 0, 10) == 1.0);
        s.schedule = SCHEDULE_CONSTANT;
        assert_true(schedule_rate(&s, 9, 10) == 1.0);
}

/* Published schedules, each as its own code has it; x is its own step counter. */
static double google(double x, double w, double n) { return x < w ? x / w : 1 - x / n; }
static double nvidia_poly(double x, double w, double n) { return x / n < w / n ? x / w : sqrt(1 - x / n); }
static double nvidia_linear(double x, double w, double n) {
        return x / n < w / n ? x / n / (w / n) : fmax((x / n - 1) / (w / n - 1), 0);
}
static double hugging_face_linear(double x, double w, double n) { return x < w ? x / w : fmax(0, (n - x) / (n - w)); }
static double hugging_face_cosine(double x, double w, double n) {
        return x < w ? x / w : 0.5 * (1 + cos(acos(-1) * (x - w) / (n - w)));
}
static double bertadam_cosine(double x, double w, double n) {
        return x / n < w / n ? x / w : 0.5 * (1 + cos(acos(-1) * x / n));
}

static void test_published_schedules(void **state) {
        static const struct {
                enum schedule schedule;
                enum decay_from from;
                enum step_count count;
                double (*published)(double x, double w, double n);
        } cases[] = {
                { SCHEDULE_LINEAR, DECAY_FROM_START, STEP_COUNT_FROM_ZERO, google },
                { SCHEDULE_POLY, DECAY_FROM_START, STEP_COUNT_FROM_ONE, nvidia_poly },
                { SCHEDULE_LINEAR, DECAY_FROM_WARMUP, STEP_COUNT_FROM_ONE, nvidia_linear },
                { SCHEDULE_LINEAR, DECAY_FROM_WARMUP, STEP_COUNT_FROM_ZERO, hugging_face_linear },
                { SCHEDULE_COSINE, DECAY_FROM_WARMUP, STEP_COUNT_FROM_ZERO, hugging_face_cosine },
                { SCHEDULE_COSINE, DECAY_FROM_START, STEP_COUNT_FROM_ZERO, bertadam_cosine },
        };
        static const uint64_t n = 7038;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (int ratio = 0; ratio < 2; ratio++) {
                        struct spec_optimizer s = { .learning_rate = 6e-3,
                                                    .warmup_steps = ratio ? 0 : 2000,
                                                    .warmup_ratio = 0.2843,
                                                    .schedule = cases[i].schedule,
                                                    .power = 0.5,
                                                    .decay_from = cases[i].from,
                                                    .step_count = cases[i].count };
                        double w = ratio ? 0.2843 * (double) n : 2000;
                        for (uint64_t step = 0; step < n; step++) {
                                double x = (double) step + (cases[i].count == STEP_COUNT_FROM_ONE);
                                double rate = schedule_rate(&s, step, n),
                                       expected = 6e-3 * cases[i].published(x, w, (double) n);
                                if (!is_close(rate, expected, 1e-12))
                                        fail_msg("case %zu, step %d: %g, expected %g", i, (int) step, rate, expected);
                        }
                }
        /* RECIPES: the rate drops to 0.846 when NVIDIA's warm-up of phase 1 ends. */
        struct spec_optimizer s = { .learning_rate = 1,
                                    .warmup_ratio = 0.2843,
                                    .schedule = SCHEDULE_POLY,
                                    .power = 0.5,
                                    .step_count = STEP_COUNT_FROM_ONE };
        assert_true(fabs(schedule_rate(&s, 2000, n) - 0.846) < 5e-4);
        assert_true(schedule_rate(&s, n - 1, n) == 0);
}

static struct model *small_model(const struct ops *ops, const struct test_batch *t) {
        struct model_config config = helper_config(50, 12, 1, 3, 20, 0.1);

        return helper_model(&config, ops, &t->batch);
}

static void test_norm(void **state) {
        struct test_batch *t = helper_batch(50, 2, 9, 1, false);
        struct model *model = small_model(ops_cpu(), t);
        float *g = model_state(model)->gradients;

        assert_true(optimizer_gradient_norm(model) == 0);
        g[0] = 3;
        g[model_tensor(model, 5)->offset] = -4;
        assert_true(optimizer_gradient_norm(model) == 5);
        g[1] = NAN;
        assert_true(isnan(optimizer_gradient_norm(model)));
        model_free(model);
        free(t);
}

static void test_update(void **state) {
        const struct spec_optimizer spec = { .beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.5 };
        struct test_batch *t = helper_batch(50, 2, 9, 1, false);
        struct model *model = small_model(ops_fp64(), t);
        double *p = model_state(model)->parameters, *g = model_state(model)->gradients,
               *m = model_state(model)->moment1, *v = model_state(model)->moment2;
        const struct model_tensor *weight = model_tensor(model, SLOT_WORD),
                                  *gamma = model_tensor(model, SLOT_EMBEDDINGS_GAMMA);

        assert_true(weight->decay && !gamma->decay);
        p[weight->offset] = 2, g[weight->offset] = 6;
        p[gamma->offset] = 2, g[gamma->offset] = 6;
        optimizer_update(model, &spec, 0.1, 1, 0.5); /* g = 3: m̂ = 3, v̂ = 9 */
        assert_true(fabs(m[weight->offset] - 0.6) < 1e-12 && fabs(v[weight->offset] - 0.9) < 1e-12);
        assert_true(fabs(p[weight->offset] - (2 - 0.1 * (3 / 3.001 + 0.5 * 2))) < 1e-12);
        assert_true(fabs(p[gamma->offset] - (2 - 0.1 * 3 / 3.001)) < 1e-12);
        optimizer_update(model, &spec, 0.1, 2, 0.5); /* m = .8·.6 + .2·3, v = .9·.9 + .1·9 */
        assert_true(fabs(m[gamma->offset] - 1.08) < 1e-12 && fabs(v[gamma->offset] - 1.71) < 1e-12);
        assert_true(fabs(p[gamma->offset] - (2 - 0.1 * 3 / 3.001 - 0.1 * (1.08 / 0.36) / (sqrt(1.71 / 0.19) + 1e-3))) <
                    1e-12);
        model_free(model);
        free(t);
}

/* The papers' formulas, one tensor at a time, in memory of their own. */
struct reference {
        double *p, *m, *v;
};

static void reference_update(const struct spec_optimizer *o, const struct model_tensor *t, struct reference *r,
                             const double *gradient, double norm, double rate, double update) {
        bool corrected = o->name == OPTIMIZER_ADAMW || o->name == OPTIMIZER_LAMB,
             lamb = o->name == OPTIMIZER_LAMB || o->name == OPTIMIZER_LAMB_GOOGLE;
        double *p = r->p + t->offset, *m = r->m + t->offset, *v = r->v + t->offset, own = 0, weights = 0, length = 0;
        double *u = calloc(t->n_elements, sizeof(double));

        assert_non_null(u);
        for (size_t i = 0; i < t->n_elements; i++)
                own += gradient[i] * gradient[i];
        if (o->clip_by == CLIP_BY_TENSOR)
                norm = sqrt(own);
        for (size_t i = 0; i < t->n_elements; i++) {
                double g = gradient[i] / fmax(1, norm / o->clip_norm);
                m[i] = o->beta1 * m[i] + (1 - o->beta1) * g;
                v[i] = o->beta2 * v[i] + (1 - o->beta2) * g * g;
                double mhat = corrected ? m[i] / (1 - pow(o->beta1, update)) : m[i],
                       vhat = corrected ? v[i] / (1 - pow(o->beta2, update)) : v[i];
                u[i] = mhat / (sqrt(vhat) + o->epsilon) + (t->decay ? o->weight_decay * p[i] : 0);
                weights += p[i] * p[i];
                length += u[i] * u[i];
        }
        double trust = lamb && t->decay && weights > 0 && length > 0 ? sqrt(weights) / sqrt(length) : 1;
        for (size_t i = 0; i < t->n_elements; i++)
                p[i] -= rate * trust * u[i];
        free(u);
}

static void check_optimizer(const struct spec_optimizer *o) {
        struct test_batch *t = helper_batch(50, 2, 9, 1, false);
        struct model *model = small_model(ops_fp64(), t);
        size_t n = model_state(model)->n_elements;
        double *p = model_state(model)->parameters, *g = model_state(model)->gradients,
               *copy = calloc(n, sizeof(double));
        struct reference r = { calloc(n, sizeof(double)), calloc(n, sizeof(double)), calloc(n, sizeof(double)) };

        assert_true(copy && r.p && r.m && r.v);
        model_init(model, 3);
        memset(p + model_tensor(model, 1)->offset, 0,
               model_tensor(model, 1)->n_elements * sizeof(double)); /* |p| = 0 */
        memcpy(r.p, p, n * sizeof(double));
        for (uint32_t update = 1; update <= 3; update++) {
                for (uint32_t i = 0; i < model_n_tensors(model); i++)
                        for (size_t e = 0; e < model_tensor(model, i)->n_elements; e++)
                                g[model_tensor(model, i)->offset + e] =
                                        i == 2 ? 0 : 0.2 * helper_random(update * 100 + i, (uint32_t) e);
                memcpy(copy, g, n * sizeof(double));
                double norm = optimizer_gradient_norm(model), rate = 0.01 * update;
                optimizer_update(model, o, rate, update, optimizer_gradient_scale(o, norm));
                for (uint32_t i = 0; i < model_n_tensors(model); i++)
                        reference_update(o, model_tensor(model, i), &r, copy + model_tensor(model, i)->offset, norm,
                                         rate, update);
                for (size_t i = 0; i < n; i++)
                        if (!is_close(p[i], r.p[i], 1e-12))
                                fail_msg("optimizer %d, update %u, element %zu: %.15g, expected %.15g", (int) o->name,
                                         update, i, p[i], r.p[i]);
        }
        free(copy);
        free(r.p);
        free(r.m);
        free(r.v);
        model_free(model);
        free(t);
}

static void test_published_optimizers(void **state) {
        for (enum optimizer_name name = 0; name < OPTIMIZER_NAME_MAX; name++)
                for (enum clip_by by = 0; by < CLIP_BY_MAX; by++) {
                        struct spec_optimizer o = { .name = name,
                                                    .beta1 = 0.9,
                                                    .beta2 = 0.999,
                                                    .epsilon = 1e-6,
                                                    .weight_decay = 0.01,
                                                    .clip_norm = 1,
                                                    .clip_by = by };
                        check_optimizer(&o);
                }
}

static void test_decay_flags(void **state) {
        struct test_batch *t = helper_batch(50, 2, 9, 1, false);
        struct model *model = small_model(ops_cpu(), t);
        size_t end = 0;

        for (uint32_t i = 0; i < model_n_tensors(model); i++) {
                const struct model_tensor *tensor = model_tensor(model, i);
                bool exempt = strstr(tensor->name, "LayerNorm") || strstr(tensor->name, "bias");
                assert_int_equal(tensor->decay, !exempt);
                assert_true(tensor->offset >= end);
                end = tensor->offset + tensor->n_elements;
        }
        assert_true(end <= model_state(model)->n_elements);
        assert_string_equal(model_tensor(model, 0)->name, "bert.embeddings.word_embeddings.weight");
        assert_string_equal(model_tensor(model, model_n_tensors(model) - 1)->name, "cls.seq_relationship.bias");
        model_free(model);
        free(t);
}

static void test_init(void **state) {
        struct model_config config = helper_config(1000, 48, 1, 3, 20, 0.1);
        struct test_batch *t = helper_batch(50, 2, 9, 1, false);
        struct model *a = helper_model(&config, ops_cpu(), &t->batch),
                     *b = helper_model(&config, ops_fp64(), &t->batch);
        const float *p = model_state(a)->parameters;
        const double *q = model_state(b)->parameters;
        double sum = 0, squares = 0;

        model_init(a, 7);
        model_init(b, 7);
        for (size_t i = 0; i < model_state(a)->n_elements; i++)
                assert_true(p[i] == q[i]);
        for (size_t i = 0; i < 48000; i++) {
                assert_true(fabsf(p[i]) <= 0.04f);
                sum += p[i];
                squares += p[i] * p[i];
        }
        assert_true(fabs(sum / 48000) < 4 * 0.0176 / sqrt(48000));
        assert_true(fabs(sqrt(squares / 48000) / 0.02 - 0.8796) < 0.01); /* of a normal cut at two deviations */
        assert_true(p[model_tensor(a, SLOT_EMBEDDINGS_GAMMA)->offset] == 1.0f);
        assert_true(p[model_tensor(a, SLOT_EMBEDDINGS_BETA)->offset] == 0.0f);
        model_init(a, 8);
        assert_true(p[0] != (float) q[0]);
        model_free(a);
        model_free(b);
        free(t);
}

/* 150 steps on four samples: the masked words are known afterwards, and so is the order of sentences. */
static void check_learns(const struct model_config *config, const struct spec_optimizer *spec, double rate) {
        struct test_batch *t = helper_batch(97, 4, 21, 1, true);
        struct model *model = helper_model(config, ops_cpu(), &t->batch);
        struct model_pass pass = helper_pass(&t->batch, true), still = helper_pass(&t->batch, false);
        struct model_loss before = {}, after = {}, ignored = {};

        model_init(model, 3);
        model_evaluate(model, &t->batch, &still, &before);
        for (uint64_t step = 1; step <= 150; step++) {
                model_zero_gradients(model);
                model_forward_backward(model, &t->batch, &pass, &ignored);
                optimizer_update(model, spec, rate, step, 1 / fmax(1, optimizer_gradient_norm(model)));
        }
        model_evaluate(model, &t->batch, &still, &after);
        assert_true(fabs(before.mlm_sum / before.mlm_count - log(97)) < 0.2);
        assert_true(after.mlm_sum / after.mlm_count < 0.5);
        assert_true(after.sentence_sum / after.sentence_count < 0.2);
        assert_int_equal(after.sentence_correct, after.sentence_count);
        model_free(model);
        free(t);
}

static void test_learns(void **state) {
        struct spec_optimizer spec = { .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-6, .weight_decay = 0.01 };
        struct model_config bert = helper_config(97, 32, 2, 4, 64, 0.1);
        struct model_config albert = helper_albert(helper_config(97, 32, 2, 4, 64, 0), 48, SHARING_ALL, 1, 1);

        check_learns(&bert, &spec, 3e-3);
        check_learns(&albert, &spec, 3e-3);
        spec.name = OPTIMIZER_LAMB;
        check_learns(&albert, &spec, 1e-2);
}

/* A device's one call, as ops.h defines it, on the fp64 table. */
static void update_naively(const struct op_update *op) {
        const struct ops *ops = ops_fp64();

        for (uint32_t i = 0; i < op->n_tensors; i++) {
                const struct op_update_tensor *t = &op->tensors[i];
                double *g = (double *) op->g + t->offset, *p = (double *) op->p + t->offset,
                       *m = (double *) op->m + t->offset, *v = (double *) op->v + t->offset, ratio = 1;
                struct op_adam adam = op->adam;
                adam.rate = t->rate;
                adam.weight_decay = t->weight_decay;
                double norm = adam.gradient_scale * sqrt(ops->sum_squares(g, t->n));
                if (op->clip_norm > 0 && norm > op->clip_norm)
                        adam.gradient_scale *= op->clip_norm / norm;
                if (!op->trust_ratio) {
                        ops->adamw(&adam, t->n, g, p, m, v);
                        continue;
                }
                ops->adam_direction(&adam, t->n, g, p, m, v);
                double weights = sqrt(ops->sum_squares(p, t->n)), direction = sqrt(ops->sum_squares(g, t->n));
                if (t->adapt && weights > 0 && direction > 0)
                        ratio = weights / direction;
                ops->descend(adam.rate * ratio, t->n, g, p);
        }
}

static void check_together(const struct spec_optimizer *o) {
        struct ops table = *ops_fp64();
        struct test_batch *t = helper_batch(50, 2, 9, 1, false);
        struct model_config config = helper_config(50, 12, 3, 3, 20, 0.1);

        table.update = update_naively;
        struct model *a = helper_model(&config, ops_fp64(), &t->batch), *b = helper_model(&config, &table, &t->batch);
        size_t bytes = model_state(a)->run_bytes;
        model_init(a, 3);
        model_init(b, 3);
        for (uint32_t update = 1; update <= 3; update++) {
                double *g = model_state(a)->gradients;
                for (size_t i = 0; i < model_state(a)->n_elements; i++)
                        g[i] = 0.2 * helper_random(update, (uint32_t) i);
                memcpy(model_state(b)->gradients, g, bytes);
                optimizer_update(a, o, 0.01 * update, update, 0.5);
                optimizer_update(b, o, 0.01 * update, update, 0.5);
        }
        assert_memory_equal(model_state(a)->parameters, model_state(b)->parameters, bytes);
        assert_memory_equal(model_state(a)->moment1, model_state(b)->moment1, bytes);
        assert_memory_equal(model_state(a)->moment2, model_state(b)->moment2, bytes);
        model_free(a);
        model_free(b);
        free(t);
}

/* Tables that update all tensors in one call get what the others get tensor by tensor. */
static void test_together(void **state) {
        for (enum optimizer_name name = 0; name < OPTIMIZER_NAME_MAX; name++)
                for (enum clip_by by = 0; by < CLIP_BY_MAX; by++)
                        for (enum freeze freeze = 0; freeze <= FREEZE_FEATURES; freeze++) {
                                struct spec_optimizer o = { .name = name,
                                                            .beta1 = 0.9,
                                                            .beta2 = 0.999,
                                                            .epsilon = 1e-6,
                                                            .weight_decay = 0.01,
                                                            .clip_norm = 0.1,
                                                            .clip_by = by,
                                                            .layer_decay = 0.8,
                                                            .freeze = freeze };
                                check_together(&o);
                        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_together),
                cmocka_unit_test(test_published_schedules),
                cmocka_unit_test(test_published_optimizers),
                cmocka_unit_test(test_schedule),
                cmocka_unit_test(test_norm),
                cmocka_unit_test(test_update),
                cmocka_unit_test(test_decay_flags),
                cmocka_unit_test(test_init),
                cmocka_unit_test(test_learns),
        };

        omp_set_num_threads(1); /* the models are too small for more */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
