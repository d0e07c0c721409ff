/* See fit.h. Owns nothing. */
#include "trainer/infer/fit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/model/heads.h"

/* ---- the vocabulary ---- */

/* Tables of embeddings are padded to a multiple of 8, 64 or 128 rows, which is little of a real one. */
static bool is_padded(uint32_t tokens, uint32_t rows) {
        static const uint32_t multiples[] = { 8, 64, 128 };

        for (size_t i = 0; i < ELEMENTSOF(multiples); i++)
                if ((tokens + multiples[i] - 1) / multiples[i] * multiples[i] == rows && rows - tokens <= rows / 16)
                        return true;
        return false;
}

int fit_vocabulary(const struct fit *fit, struct error *error) {
        uint32_t tokens = fit->vocab ? vocab_size(fit->vocab) : 0, rows = fit->config->vocab_size;
        char hash[VOCAB_HASH_MAX];

        if (!fit->vocab)
                return 0;
        vocab_hash(fit->vocab, hash);
        if (fit->vocab_hash && strcmp(hash, fit->vocab_hash) != 0)
                return error_input(error, fit->exit, "%s: not the vocabulary that %s was trained with", fit->vocab_path,
                                   fit->model);
        bool vouched = fit->vocab_hash || fit->vouched;
        if (tokens > rows || (!vouched && tokens < rows / 2))
                return error_input(error, fit->exit, "%s: %u tokens, but %s has a vocab_size of %u: not its vocabulary",
                                   fit->vocab_path, tokens, fit->model, rows);
        if (!vouched && tokens < rows && !is_padded(tokens, rows))
                (void) fprintf(
                        stderr,
                        "bert-trainer: warning: %s: %u tokens, but %s has a vocab_size of %u: is it its vocabulary?\n",
                        fit->vocab_path, tokens, fit->model, rows);
        return 0;
}

/* ---- the configuration ---- */

int fit_config(const char *model, const struct model_config *own, const char *path, const struct model_config *given,
               struct error *error) {
        const struct {
                const char *key;
                uint32_t own, given;
        } keys[] = {
#define KEY(k) { #k, (uint32_t) own->k, (uint32_t) given->k }
                KEY(model_type),
                KEY(vocab_size),
                KEY(hidden_size),
                KEY(num_hidden_layers),
                KEY(num_attention_heads),
                KEY(intermediate_size),
                KEY(max_position_embeddings),
                KEY(type_vocab_size),
                KEY(hidden_act),
                KEY(embedding_size),
                KEY(num_hidden_groups),
                KEY(inner_group_num),
                KEY(cross_layer_sharing),
                KEY(embedding_mapping),
#undef KEY
        };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (keys[i].own != keys[i].given)
                        return error_input(error, BERTD_EXIT_CONFIG,
                                           "%s: %s is not that of %s: leave model.config out, or give its own", path,
                                           keys[i].key, model);
        if (fabs(own->layer_norm_eps - given->layer_norm_eps) > 1e-6 * own->layer_norm_eps)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: layer_norm_eps is %g, but %s has %g", path,
                                   given->layer_norm_eps, model, own->layer_norm_eps);
        return 0;
}

int fit_labels(const char *model, const struct model_config *config, uint32_t names, bool tasks, struct error *error) {
        uint32_t rows = config->classifier.n_labels;

        if (names <= rows && (tasks || names == rows))
                return 0;
        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: names of %u classes, but its classifier has %u",
                           model, names, rows);
}

int fit_length(const char *model, const struct model_config *config, const char *key, uint32_t length, int exit,
               struct error *error) {
        if (length <= config->max_position_embeddings)
                return 0;
        return error_input(error, exit, "%s: %u, but %s has max_position_embeddings %u", key, length, model,
                           config->max_position_embeddings);
}

int fit_pair(const char *model, const struct model_config *config, const char *what, int exit, struct error *error) {
        if (config->type_vocab_size >= 2)
                return 0;
        return error_input(error, exit, "%s: a pair of texts needs a type_vocab_size of 2, but %s has %u", what, model,
                           config->type_vocab_size);
}

/* ---- heads ---- */

static int refuse_missing(const char *model, const struct model_config *config, unsigned needed, struct error *error) {
        if (needed & CLASSIFIER_HEADS)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: holds no classifier: expected a checkpoint of finetune; bert-trainer fill-mask "
                                   "shows what pretraining learnt",
                                   model);
        return error_input(error, BERTD_EXIT_DATA, "%s: has no MLM head: expected a checkpoint of pretraining%s", model,
                           config->classifier.n_labels > 0 ? "; bert-trainer predict uses a classifier" : "");
}

int fit_heads(const char *model, const struct model_config *config, unsigned needed, unsigned fresh,
              struct error *error) {
        char names[128];

        if (needed & ~heads_of(config))
                return refuse_missing(model, config, needed, error);
        if (!(needed & fresh))
                return 0;
        heads_describe(needed & fresh, names, sizeof(names));
        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                           "%s: never trained: %s; train it with bert-trainer %s, model.init: this checkpoint", model,
                           names, needed & CLASSIFIER_HEADS ? "finetune" : "pretrain");
}
