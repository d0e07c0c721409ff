/*
 * Which tensors a model has, by slot: the five embedding tensors, the map to the hidden width if there is one, the sets of attention and
 * feed-forward tensors, then pooler and heads. A layer asks layer_attention() and layer_feed_forward() for its sets: layers that share get
 * the same ones. Names and shapes are those of Hugging Face's state_dict.
 *
 *   model_layout_new → … → model_layout_free
 */
#ifndef TRAINER_MODEL_LAYOUT_H
#define TRAINER_MODEL_LAYOUT_H

#include "trainer/model/model.h"

enum {
        SLOT_WORD,
        SLOT_POSITION,
        SLOT_TYPE,
        SLOT_EMBEDDINGS_GAMMA,
        SLOT_EMBEDDINGS_BETA,
        SLOT_ENCODER, /* first slot of the mapping, or of the first set */
};
enum {
        MAPPING_WEIGHT = SLOT_ENCODER,
        MAPPING_BIAS,
        MAPPING_SLOTS = 2,
};
enum {
        ATTENTION_QKV_WEIGHT, /* q, k, v: three tensors, adjacent in memory */
        ATTENTION_K_WEIGHT,
        ATTENTION_V_WEIGHT,
        ATTENTION_QKV_BIAS,
        ATTENTION_K_BIAS,
        ATTENTION_V_BIAS,
        ATTENTION_OUTPUT_WEIGHT,
        ATTENTION_OUTPUT_BIAS,
        ATTENTION_GAMMA,
        ATTENTION_BETA,
        ATTENTION_SLOTS,
};
enum {
        FEED_FORWARD_UP_WEIGHT,
        FEED_FORWARD_UP_BIAS,
        FEED_FORWARD_DOWN_WEIGHT,
        FEED_FORWARD_DOWN_BIAS,
        FEED_FORWARD_GAMMA,
        FEED_FORWARD_BETA,
        FEED_FORWARD_SLOTS,
};
enum {
        HEAD_POOLER_WEIGHT, /* counted from layout.head */
        HEAD_POOLER_BIAS,
        HEAD_DECODER_BIAS,
        HEAD_TRANSFORM_WEIGHT,
        HEAD_TRANSFORM_BIAS,
        HEAD_TRANSFORM_GAMMA,
        HEAD_TRANSFORM_BETA,
        HEAD_SENTENCE_WEIGHT,
        HEAD_SENTENCE_BIAS,
        HEAD_SLOTS,
};
enum {
        CLASSIFIER_WEIGHT, /* counted from layout.classifier */
        CLASSIFIER_BIAS,
        CLASSIFIER_SLOTS,
        CLASSIFIER_SEGMENTS = CLASSIFIER_SLOTS, /* one more where segments are pooled by attention */
};
#define TENSOR_NAME_MAX 112

struct model_layout {
        struct model_tensor *tensors; /* owned */
        char (*names)[TENSOR_NAME_MAX];
        uint32_t n_tensors;
        size_t n_elements;                  /* with gaps */
        uint64_t n_parameters;              /* without */
        uint32_t *attention, *feed_forward; /* (layers) first slot of the set that each layer uses */
        uint32_t head;                      /* first slot of pooler and heads */
        uint32_t classifier;                /* first slot of the classifier */
};

int model_layout_new(const struct model_config *config, struct model_layout *ret_layout, struct error *error);
void model_layout_free(struct model_layout *layout);

#endif
