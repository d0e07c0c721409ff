/* Optimizers and schedules, over the model's flat runs. */
#ifndef TRAINER_OPTIMIZER_H
#define TRAINER_OPTIMIZER_H

#include <stdint.h>

#include "common/spec.h"
#include "trainer/model.h"

/* The learning rate of update `step` (0-based): linear warm-up from 0 over w steps, lr·(step+1)/w, then linear decay to 0 at
 * `steps` counted from step 0 (Devlin et al.'s optimization.py: the rate drops when warm-up ends) or constant. */
double schedule_rate(const struct spec_optimizer *spec, uint64_t step, uint64_t steps);

/* Global L2 norm of the gradients, in fixed blocks of 64 Ki, then double in order (T2): same bits at any thread count. */
double optimizer_gradient_norm(struct model *model);

/* AdamW (Loshchilov & Hutter 2019) with bias correction by `update` = step + 1; gradients are scaled by `gradient_scale`
 * (clipping: min(1, clip/norm)) on the way in. Decoupled decay lr·wd·p on tensors with `decay`. */
void optimizer_update(struct model *model, const struct spec_optimizer *spec, double rate, uint64_t update,
                      double gradient_scale);

#endif
