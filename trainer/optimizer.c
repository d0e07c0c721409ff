/*
 * Schedules, the global norm and the update, over the model's flat runs: what varies from tensor to tensor is only whether
 * weight decay applies. The arithmetic itself is the backend's.
 */
#include "trainer/optimizer.h"

#include <math.h>

#include "trainer/model_internal.h"

double schedule_rate(const struct spec_optimizer *spec, uint64_t step, uint64_t steps) {
        uint64_t warmup =
                spec->warmup_steps ? spec->warmup_steps : (uint64_t) llround(spec->warmup_ratio * (double) steps);

        if (step < warmup)
                return spec->learning_rate * (double) (step + 1) / (double) warmup;
        if (spec->schedule == SCHEDULE_CONSTANT)
                return spec->learning_rate;
        return step < steps ? spec->learning_rate * (1 - (double) step / (double) steps) : 0;
}

double optimizer_gradient_norm(struct model *model) {
        return sqrt(model->ops->sum_squares(model->gradients, model->layout.n_elements));
}

void optimizer_update(struct model *model, const struct spec_optimizer *spec, double rate, uint64_t update,
                      double gradient_scale) {
        size_t size = model_element_size(model);
        struct op_adamw op = {
                .rate = rate,
                .beta1 = spec->beta1,
                .beta2 = spec->beta2,
                .epsilon = spec->epsilon,
                .correction1 = 1 - pow(spec->beta1, (double) update),
                .correction2 = 1 - pow(spec->beta2, (double) update),
                .gradient_scale = gradient_scale,
        };

        for (uint32_t i = 0; i < model->layout.n_tensors; i++) {
                const struct model_tensor *t = &model->layout.tensors[i];
                size_t at = t->offset * size;
                op.weight_decay = t->decay ? spec->weight_decay : 0;
                model->ops->adamw(&op, t->n_elements, (const char *) model->gradients + at,
                                  (char *) model->parameters + at, (char *) model->moment1 + at,
                                  (char *) model->moment2 + at);
        }
}
