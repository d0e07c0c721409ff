/* `bert-trainer params CONFIG.json`: exact parameter counts, by part, without allocating the model. */
#ifndef TRAINER_PARAMS_H
#define TRAINER_PARAMS_H

#include <stdint.h>

#include "common/error.h"
#include "trainer/config.h"

struct parameter_counts {
        uint64_t embeddings, layer, encoder, pooler, sentence_head,
                mlm_head; /* the tied decoder is not counted twice */
};

int parameter_counts(const struct model_config *config, struct parameter_counts *ret_counts, struct error *error);

/* The subcommand: argv[0] is "params". Returns an exit code. */
int cmd_params(int argc, char **argv);

#endif
