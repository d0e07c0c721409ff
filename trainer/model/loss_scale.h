/*
 * Dynamic loss scaling for fp16 (Micikevicius et al. 2018): gradients are computed scaled up by a power of two so that small ones do
 * not vanish; if they overflow, the update is skipped and the scale halved; after LOSS_SCALE_GROWTH clean updates it is
 * doubled. It stays within [LOSS_SCALE_MIN, LOSS_SCALE_MAX], so it never reaches zero: what overflows at the lowest scale is
 * an error of the run, not of the scale. Pure.
 */
#ifndef TRAINER_MODEL_LOSS_SCALE_H
#define TRAINER_MODEL_LOSS_SCALE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOSS_SCALE_START 65536.0
#define LOSS_SCALE_MIN 1.0
#define LOSS_SCALE_MAX 16777216.0
#define LOSS_SCALE_GROWTH 2000 /* updates */

struct loss_scale {
        double value;
        uint64_t clean; /* updates since it changed */
        bool dynamic;   /* false: `value` is 1 and stays */
};

struct loss_scale loss_scale_new(bool dynamic);

/* An update was made. */
void loss_scale_clean(struct loss_scale *scale);

/* Gradients were not finite. True: the update is skipped and the next one has a lower scale. False: the scale is at its
 * minimum, so it is a real NaN or infinity. */
bool loss_scale_overflow(struct loss_scale *scale);

/* As checkpoints keep it. False: not a scale, or one that cannot be; it is then left as it is. */
void loss_scale_format(const struct loss_scale *scale, char *buffer, size_t size);
bool loss_scale_parse(struct loss_scale *scale, const char *text);

#endif
