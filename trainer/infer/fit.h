/*
 * Whether what a command puts together fits: a model's configuration, the vocabulary, lengths, classes, heads. The one place for it, asked
 * before anything is computed, by every command and every run. Each function refuses in one line, with exit code `exit` or the one stated.
 */
#ifndef TRAINER_INFER_FIT_H
#define TRAINER_INFER_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "trainer/model/config.h"
#include "trainer/model/model.h"
#include "trainer/text/vocab.h"

struct fit {
        const char *model; /* where the configuration is from: a checkpoint, a folder, a config.json */
        const struct model_config *config;
        const char *vocab_path;
        const struct vocab *vocab; /* NULL: none */
        const char *vocab_hash;    /* of the vocabulary that the model was trained with; NULL: nobody knows */
        bool vouched; /* both are of one folder or one spec: it may have fewer tokens than the model takes */
        int exit;     /* where a vocabulary does not fit */
};

/* The vocabulary is the one that the model was trained with; where nobody knows, no larger than the model takes and no smaller than half
 * of it: one that is smaller otherwise than by padding is warned of. */
int fit_vocabulary(const struct fit *fit, struct error *error);

/* A configuration given beside the model's own describes the same model; dropout and initializer_range may differ. Exit 78. */
int fit_config(const char *model, const struct model_config *own, const char *path, const struct model_config *given,
               struct error *error);

/* `names` classes are known by name, of all the classifier's. `tasks`: several heads, of which these are some. Exit 76. */
int fit_labels(const char *model, const struct model_config *config, uint32_t names, bool tasks, struct error *error);

/* A sequence of so many tokens, as `key` sets. */
int fit_length(const char *model, const struct model_config *config, const char *key, uint32_t length, int exit,
               struct error *error);

/* A pair of texts, segments 0 and 1, as `what` asks for. */
int fit_pair(const char *model, const struct model_config *config, const char *what, int exit, struct error *error);

/* Heads (model.h): the model has those that are needed (exit 65), and none of them is still as it was initialised (76). */
int fit_heads(const char *model, const struct model_config *config, unsigned needed, unsigned fresh,
              struct error *error);

#endif
