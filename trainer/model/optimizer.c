/*
 * See optimizer.h. What varies from tensor to tensor is whether weight decay applies, the trust ratio and, where wanted, the
 * clipping. The arithmetic itself is the backend's.
 */
#include "trainer/model/optimizer.h"

#include <math.h>

#include "trainer/model/internal.h"

static const struct kind {
        bool bias_correction, trust_ratio;
} kinds[OPTIMIZER_NAME_MAX] = {
        [OPTIMIZER_ADAMW] = { true, false },
        [OPTIMIZER_BERTADAM] = { false, false },
        [OPTIMIZER_LAMB] = { true, true },
        [OPTIMIZER_LAMB_GOOGLE] = { false, true },
};

static double decay(const struct spec_optimizer *spec, double t) {
        switch (spec->schedule) {
        case SCHEDULE_LINEAR:
                return 1 - t;
        case SCHEDULE_POLY:
                return pow(1 - t, spec->power);
        case SCHEDULE_COSINE:
                return 0.5 * (1 + cos(M_PI * t));
        default:
                return 1;
        }
}

double schedule_rate(const struct spec_optimizer *spec, uint64_t step, uint64_t steps) {
        double warmup = spec->warmup_steps ? (double) spec->warmup_steps : spec->warmup_ratio * (double) steps;
        double rising = (double) step + (spec->step_count != STEP_COUNT_FROM_ZERO),
               falling = (double) step + (spec->step_count == STEP_COUNT_FROM_ONE), all = (double) steps;
        double from = spec->decay_from == DECAY_FROM_WARMUP ? fmin(warmup, falling) : 0;

        if (rising < warmup || (rising <= warmup && spec->step_count == STEP_COUNT_FULL))
                return spec->learning_rate * rising / warmup;
        if (spec->schedule != SCHEDULE_CONSTANT && falling >= all)
                return 0;
        return spec->learning_rate * decay(spec, (falling - from) / (all - from));
}

double optimizer_gradient_norm(struct model *model) {
        return sqrt(model->ops->sum_squares(model->state.gradients, model->layout.n_elements));
}

static double clip_scale(const struct spec_optimizer *spec, double norm) {
        return spec->clip_norm > 0 && norm > spec->clip_norm ? spec->clip_norm / norm : 1;
}

double optimizer_gradient_scale(const struct spec_optimizer *spec, double norm) {
        return spec->clip_by == CLIP_BY_GLOBAL ? clip_scale(spec, norm) : 1;
}

static bool is_frozen(enum freeze freeze, const struct model_tensor *t) {
        static const enum freeze thaws[MODEL_PART_MAX] = {
                [PART_EMBEDDINGS] = FREEZE_NONE,       [PART_MAPPING] = FREEZE_EMBEDDINGS,
                [PART_ATTENTION] = FREEZE_EMBEDDINGS,  [PART_FEED_FORWARD] = FREEZE_EMBEDDINGS,
                [PART_POOLER] = FREEZE_ENCODER,        [PART_MLM_HEAD] = FREEZE_ENCODER,
                [PART_SENTENCE_HEAD] = FREEZE_ENCODER, [PART_CLASSIFIER] = FREEZE_FEATURES,
                [PART_SEGMENTS] = FREEZE_FEATURES
        };
        return freeze > thaws[t->part];
}

/* Sun et al. 2019: layer l of L has rate · ξ^(L−1−l); embeddings, pooler and classifier keep the rate. */
static double layer_rate(const struct spec_optimizer *spec, const struct model *model, const struct model_tensor *t) {
        if (t->layer < 0 || spec->layer_decay <= 0 || spec->layer_decay >= 1)
                return 1;
        return pow(spec->layer_decay, (double) config_n_layers(&model->config) - 1 - t->layer);
}

/* One tensor's places in the flat runs. */
struct place {
        size_t n;
        void *g, *p, *m, *v;
};

static struct place place_of(const struct model *model, const struct model_tensor *t) {
        size_t at = t->offset * model->state.element_size;

        return (struct place) { t->n_elements, (char *) model->state.gradients + at,
                                (char *) model->state.parameters + at, (char *) model->state.moment1 + at,
                                (char *) model->state.moment2 + at };
}

static void lamb(const struct ops *ops, const struct op_adam *op, const struct place *t, bool adapt) {
        double ratio = 1;

        ops->adam_direction(op, t->n, t->g, t->p, t->m, t->v);
        if (adapt) {
                double weights = sqrt(ops->sum_squares(t->p, t->n)), direction = sqrt(ops->sum_squares(t->g, t->n));
                ratio = weights > 0 && direction > 0 ? weights / direction : 1;
        }
        ops->descend(op->rate * ratio, t->n, t->g, t->p);
}

static void update_one_by_one(struct model *model, const struct spec_optimizer *spec, const struct op_adam *all) {
        struct op_adam op = *all;

        for (uint32_t i = 0; i < model->layout.n_tensors; i++) {
                const struct model_tensor *tensor = &model->layout.tensors[i];
                struct place t = place_of(model, tensor);
                if (is_frozen(spec->freeze, tensor))
                        continue;
                op.rate = all->rate * layer_rate(spec, model, tensor);
                op.weight_decay = tensor->decay ? spec->weight_decay : 0;
                op.gradient_scale = all->gradient_scale;
                if (spec->clip_by == CLIP_BY_TENSOR)
                        op.gradient_scale *=
                                clip_scale(spec, all->gradient_scale * sqrt(model->ops->sum_squares(t.g, t.n)));
                if (kinds[spec->name].trust_ratio)
                        lamb(model->ops, &op, &t, tensor->decay);
                else
                        model->ops->adamw(&op, t.n, t.g, t.p, t.m, t.v);
        }
}

static void update_together(struct model *model, const struct spec_optimizer *spec, const struct op_adam *all) {
        struct op_update_tensor *tensors = model->update_tensors;
        uint32_t n = 0;

        for (uint32_t i = 0; i < model->layout.n_tensors; i++) {
                const struct model_tensor *t = &model->layout.tensors[i];
                if (!is_frozen(spec->freeze, t))
                        tensors[n++] = (struct op_update_tensor) { t->offset, t->n_elements,
                                                                   all->rate * layer_rate(spec, model, t),
                                                                   t->decay ? spec->weight_decay : 0, t->decay };
        }
        const struct op_update op = {
                .adam = *all,
                .trust_ratio = kinds[spec->name].trust_ratio,
                .clip_norm = spec->clip_by == CLIP_BY_TENSOR ? spec->clip_norm : 0,
                .n_tensors = n,
                .tensors = tensors,
                .g = model->state.gradients,
                .p = model->state.parameters,
                .m = model->state.moment1,
                .v = model->state.moment2,
                .values = model->state.values != model->state.parameters ? model->state.values : NULL,
        };
        model->ops->update(&op);
}

void optimizer_update(struct model *model, const struct spec_optimizer *spec, double rate, uint64_t update,
                      double gradient_scale) {
        bool correct = kinds[spec->name].bias_correction;
        struct op_adam op = {
                .rate = rate,
                .beta1 = spec->beta1,
                .beta2 = spec->beta2,
                .epsilon = spec->epsilon,
                .correction1 = correct ? 1 - pow(spec->beta1, (double) update) : 1,
                .correction2 = correct ? 1 - pow(spec->beta2, (double) update) : 1,
                .gradient_scale = gradient_scale,
        };

        if (model->ops->update)
                update_together(model, spec, &op);
        else
                update_one_by_one(model, spec, &op);
}
