/*
 * What changes from step to step and is the same on all ranks: plain data, which one table in state.c takes to meta and back, and which
 * rank 0 sends as it is. A field that resume needs is a field here and a row there.
 */
#ifndef TRAINER_RUN_STATE_H
#define TRAINER_RUN_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "trainer/checkpoint/meta.h"
#include "trainer/model/loss_scale.h"

/* Of a validation; step 0: there was none. */
struct run_figures {
        uint64_t step;
        double loss, accuracy; /* NaN: of numbers */
};

struct run_state {
        uint32_t stage;
        uint64_t step, stage_step, correction_step; /* updates completed; see run.h */
        struct loss_scale loss_scale;               /* 1 unless fp16 */
        double best_validation_loss;                /* NaN: none yet */
        double best_validation_accuracy;            /* classification: comes before the loss */
        uint64_t best_validation_step;
        struct run_figures validated;  /* the last time */
        bool evaluation_due;           /* of this step: a stop came before its end */
        uint64_t last_checkpoint_step; /* begun or restored; UINT64_MAX: none */
};

/* `global_batch`: of the stage; samples are counted by it. `texts`: of a stage that learns labels, as it was validated is written, too;
 * `accuracy`: which are classes. */
void state_to_meta(const struct run_state *state, uint64_t global_batch, bool texts, bool accuracy,
                   struct checkpoint_meta *ret);

/* Stage and last_checkpoint_step stay as they are. Exit 76 naming `path` and the key. */
int state_from_meta(struct run_state *state, uint64_t global_batch, const struct checkpoint_meta *meta,
                    const char *path, struct error *error);

/* What a checkpoint of that step records of its weights: as it was validated, or as an older trainer did, which kept the best's alone. */
bool state_figures(const struct checkpoint_meta *meta, uint64_t step, struct run_figures *ret);

#endif
