/*
 * Optimizers and schedules, over the model's flat runs.
 *
 *   adamw        Loshchilov & Hutter 2019: bias correction, decoupled weight decay
 *   bertadam     the same without bias correction (Devlin et al.'s optimization.py, Sun et al.'s BertAdam)
 *   lamb         You et al. 2020 as in NVIDIA's apex FusedLAMB: bias correction; each matrix's step is scaled by |p| / |direction|,
 *                its trust ratio
 *   lamb_google  the same without bias correction (Google's lamb_optimizer.py, ALBERT)
 *
 * Weight decay and trust ratio leave out LayerNorm and biases (a ratio of 1), in all published code.
 */
#ifndef TRAINER_MODEL_OPTIMIZER_H
#define TRAINER_MODEL_OPTIMIZER_H

#include <stdint.h>

#include "common/spec/spec.h"
#include "trainer/model/model.h"

/*
 * The learning rate of update `step` (0-based) of `steps`: linear warm-up over w updates to lr, then lr · f(t), f by schedule:
 *   linear 1 − t    poly (1 − t)^power    cosine (1 + cos πt) / 2    constant 1
 * decay_from sets where t is 0: start = at update 0, so that the rate drops when warm-up ends (Google, NVIDIA's poly; × 0.9 at 10 %
 * of warm-up), warmup = when warm-up ends (Hugging Face). t is 1 at `steps`.
 * step_count is what published code differs in by one:
 *   full        warm-up counts from 1, decay from 0: no update has a rate of 0
 *   from_zero   both from 0: the first update's rate is 0 (Google, BertAdam, Hugging Face)
 *   from_one    both from 1: the last update's rate is 0 (NVIDIA)
 */
double schedule_rate(const struct spec_optimizer *spec, uint64_t step, uint64_t steps);

/* Global L2 norm of the gradients, in fixed blocks of 64 Ki, then double in order (T2): same bits at any thread count. */
double optimizer_gradient_norm(struct model *model);

/* min(1, clip_norm / norm) where clipping is global; 1 where it is off, or by tensor: then optimizer_update does it. */
double optimizer_gradient_scale(const struct spec_optimizer *spec, double norm);

/* One update; bias correction, if any, by `update`, counted from 1 since the moments were 0. Gradients are scaled by
 * `gradient_scale` on the way in; LAMB leaves its directions in their place. */
void optimizer_update(struct model *model, const struct spec_optimizer *spec, double rate, uint64_t update,
                      double gradient_scale);

#endif
