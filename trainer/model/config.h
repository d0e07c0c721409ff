/*
 * A model's shape: the keys of Hugging Face's config.json (jansson) for BERT and ALBERT, and two of ours for ALBERT. Unknown keys
 * are kept out silently, as Hugging Face does; a missing, mistyped or impossible one, or two that contradict each other, are
 * refused by file and key with exit code BERTD_EXIT_CONFIG.
 *
 *   cross_layer_sharing   what the layers of a group share: none, attention, ffn or all (default). A LayerNorm belongs to its
 *                         sublayer. none needs as many groups as layers, attention and ffn one group.
 *   embedding_mapping     false: no E to H map, as in the ALBERT paper's table; only where E = H (default true)
 */
#ifndef TRAINER_MODEL_CONFIG_H
#define TRAINER_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/hex.h"
#include "common/spec/spec.h"

enum model_type { MODEL_BERT, MODEL_ALBERT, MODEL_TYPE_MAX };
enum hidden_act { ACT_GELU, ACT_GELU_NEW, ACT_RELU, ACT_MAX };
enum classifier_target { TARGET_CLASS, TARGET_NUMBER, CLASSIFIER_TARGET_MAX }; /* what a label is */
enum cross_layer_sharing { SHARING_NONE, SHARING_ATTENTION, SHARING_FFN, SHARING_ALL, SHARING_MAX };

/* What a class is derived from (classifier.c). n_labels 0: the model has no classifier. */
struct classifier_config {
        enum classifier_target target;
        uint32_t n_labels;               /* logits of a text */
        uint32_t first_layer, n_layers;  /* whose output at [CLS] is taken, from 0 */
        enum classifier_combine combine; /* of n_layers > 1 */
        enum classifier_input input;     /* pooled (through the pooler) or cls */
        enum classifier_segments segments;
        bool segmented; /* a text may be several sequences, which `segments` pools */
        double dropout;
};

struct model_config {
        enum model_type model_type;
        uint32_t vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size;
        uint32_t max_position_embeddings, type_vocab_size;
        enum hidden_act hidden_act;
        double hidden_dropout_prob, attention_probs_dropout_prob, initializer_range, layer_norm_eps;
        /* BERT: hidden_size, num_hidden_layers, 1, none, false */
        uint32_t embedding_size, num_hidden_groups, inner_group_num;
        enum cross_layer_sharing cross_layer_sharing;
        bool embedding_mapping;
        bool without_pretraining_heads;
        struct classifier_config classifier;
};

int config_load(const char *path, struct model_config *ret_config, struct error *error);

/* The same of a text; `path` names it in errors. */
int config_parse(const char *path, const char *text, size_t size, struct model_config *ret_config, struct error *error);

/* As config_parse reads it, every key given. The caller drops the reference; NULL: no memory. */
json_t *config_json(const struct model_config *config);

/* What BERT has in ALBERT's fields; for who builds a config without a file. */
void config_set_bert(struct model_config *config);

/* Layers that a token passes through: num_hidden_layers times inner_group_num. */
static inline uint32_t config_n_layers(const struct model_config *config) {
        return config->num_hidden_layers * config->inner_group_num;
}

/* Width of what the classifier sees. */
static inline uint32_t config_features(const struct model_config *config) {
        return config->classifier.combine == COMBINE_CONCAT ? config->classifier.n_layers * config->hidden_size
                                                            : config->hidden_size;
}

const char *config_sharing_name(enum cross_layer_sharing sharing);

/* xxh3-128 in hex over the fields in a fixed order: two files that mean the same model hash alike. */
void config_hash(const struct model_config *config, char hex[HEX_128_SIZE]);

#endif
