/*
 * A checkpoint's MLM head over one text at a time, opened with all that belongs to it.
 *
 *   masked_lm_open → { masked_lm_read → masked_lm_run → masked_lm_logits … } → masked_lm_close
 */
#ifndef TRAINER_INFER_MASKED_LM_H
#define TRAINER_INFER_MASKED_LM_H

#include <stdint.h>

#include "common/error.h"
#include "trainer/data/batch.h"
#include "trainer/infer/bundle.h"
#include "trainer/model/model.h"
#include "trainer/ops/device.h"
#include "trainer/text/encoder.h"
#include "trainer/text/vocab.h"

#define MASK "[MASK]"

struct masked_lm {
        struct bundle bundle;
        struct device *device;
        struct model *model;
        struct encoder *encoder;
        struct batch batch; /* n_masked: the masks of the text */
        uint32_t max_tokens;
        double *logits; /* (vocab_size) of one mask */
};

/* Zeroed before; to be closed in any case. `vocab_path`: of a checkpoint without its own; NULL: none given. */
int masked_lm_open(struct masked_lm *m, const char *path, const char *vocab_path, struct error *error);
void masked_lm_close(struct masked_lm *m);

/* Refused (65): a text without a mask, or that is too long. */
int masked_lm_read(struct masked_lm *m, const char *text, struct error *error);
void masked_lm_run(struct masked_lm *m);

/* (vocab_size) of one of the masks, from 0; valid until the next call. */
const double *masked_lm_logits(struct masked_lm *m, uint32_t mask);

#endif
