/*
 * A model's shape: the keys of Hugging Face's config.json (jansson). Unknown keys are kept out silently, as Hugging Face does;
 * a missing, mistyped or impossible one is refused by file and key with exit code BERTD_EXIT_CONFIG.
 */
#ifndef TRAINER_CONFIG_H
#define TRAINER_CONFIG_H

#include <stdint.h>

#include "common/error.h"

enum hidden_act { ACT_GELU, ACT_GELU_NEW, ACT_RELU, ACT_MAX };

struct model_config {
        uint32_t vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size;
        uint32_t max_position_embeddings, type_vocab_size;
        enum hidden_act hidden_act;
        double hidden_dropout_prob, attention_probs_dropout_prob, initializer_range, layer_norm_eps;
};

int config_load(const char *path, struct model_config *ret_config, struct error *error);

/* xxh3-128 in hex over the fields in a fixed order: two files that mean the same model hash alike. */
void config_hash(const struct model_config *config, char hex[33]);

#endif
