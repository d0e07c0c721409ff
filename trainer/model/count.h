/* Exact numbers of parameters, by part, without allocating the model. */
#ifndef TRAINER_MODEL_COUNT_H
#define TRAINER_MODEL_COUNT_H

#include <stdint.h>

#include "common/error.h"
#include "trainer/model/config.h"
#include "trainer/model/model.h"

struct parameter_counts {
        uint64_t part[MODEL_PART_MAX]; /* a shared tensor counts once; the tied decoder is not counted again */
        uint64_t body;                 /* all but the two heads: "encoder + pooler" of the papers' tables */
        uint64_t whole;
        int64_t saved_by_factorizing; /* V·H − (V·E + E·H): what an embedding table of width E saves; 0 without a mapping */
};

int parameter_counts(const struct model_config *config, struct parameter_counts *ret_counts, struct error *error);

#endif
