/*
 * The model's inside, for model*.c, init.c, optimizer.c, params.c and tests that look at activations. Nobody else includes it.
 *
 * Parameters are found by slot: the five embedding tensors, LAYER_SLOTS for each layer, then pooler and heads. A layer asks
 * for its slots through layer_parameters(), the one place that would map several layers to one set.
 */
#ifndef TRAINER_MODEL_INTERNAL_H
#define TRAINER_MODEL_INTERNAL_H

#include "trainer/model.h"
#include "trainer/ops.h"

enum {
        SLOT_WORD,
        SLOT_POSITION,
        SLOT_TYPE,
        SLOT_EMBEDDINGS_GAMMA,
        SLOT_EMBEDDINGS_BETA,
        SLOT_LAYERS, /* first slot of layer 0 */
};
enum {
        LAYER_QKV_WEIGHT, /* q, k, v: three tensors, adjacent in memory */
        LAYER_K_WEIGHT,
        LAYER_V_WEIGHT,
        LAYER_QKV_BIAS,
        LAYER_K_BIAS,
        LAYER_V_BIAS,
        LAYER_ATTENTION_WEIGHT,
        LAYER_ATTENTION_BIAS,
        LAYER_ATTENTION_GAMMA,
        LAYER_ATTENTION_BETA,
        LAYER_UP_WEIGHT,
        LAYER_UP_BIAS,
        LAYER_DOWN_WEIGHT,
        LAYER_DOWN_BIAS,
        LAYER_OUTPUT_GAMMA,
        LAYER_OUTPUT_BETA,
        LAYER_SLOTS,
};
enum {
        HEAD_POOLER_WEIGHT, /* counted from the slot after the last layer */
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
#define TENSOR_NAME_MAX 96

struct model_layout {
        struct model_tensor *tensors; /* owned */
        char (*names)[TENSOR_NAME_MAX];
        uint32_t n_tensors;
        size_t n_elements;     /* with gaps */
        uint64_t n_parameters; /* without */
};

int model_layout_new(const struct model_config *config, struct model_layout *ret_layout, struct error *error);
void model_layout_free(struct model_layout *layout);

/* Activations of one layer, saved from forward for backward. Without training all layers share one set. */
struct layer_buffers {
        struct tensor qkv;                    /* (T, 3H) */
        struct tensor lse;                    /* (A, T) */
        struct tensor context;                /* (T, H) */
        struct tensor sum1, mean1, rstd1, y1; /* (T, H), (1, T), (1, T), (T, H) attention + residual, normalised */
        struct tensor pre, act;               /* (T, F) */
        struct tensor sum2, mean2, rstd2, y2; /* feed-forward + residual, normalised: the layer's output */
};

struct model_buffers {
        struct tensor embedded, mean, rstd, hidden0;               /* (T, H), (1, T), (1, T), (T, H) */
        struct layer_buffers *layers;                              /* (L) */
        struct tensor first, pooled, sentence_logits;              /* (B, H), (B, H), (B, 2) */
        struct tensor masked, transform_pre, transform_act;        /* (M, H) each */
        struct tensor transform_mean, transform_rstd, transformed; /* (1, M), (1, M), (M, H) */
        struct tensor logits;                                      /* (M, V); becomes its own gradient */
        struct tensor d_hidden, d_sum, d_branch, d_context;        /* (T, H) each; training only, as all below */
        struct tensor d_wide;                                      /* (T, max(F, 3H)) */
        struct tensor d_masked, d_transform;                       /* (M, H) */
        struct tensor d_first, d_pooled;                           /* (B, H) */
        struct workspace workspace;
};

struct model {
        struct model_config config;
        const struct ops *ops;
        struct model_limits limits;
        struct model_layout layout;
        void *parameters, *gradients, *moment1, *moment2;
        void *arena;
        size_t arena_size;
        uint64_t *row_k; /* (T) sample of each token, filled for each batch */
        struct model_buffers buffers;
};

/* A parameter or its gradient as a matrix of the backend's dtype; vectors are (1, n). */
struct tensor model_parameter(const struct model *model, uint32_t slot);
struct tensor model_gradient(const struct model *model, uint32_t slot);

/* The three adjacent q, k, v tensors as one: (3H, H) or (1, 3H). */
struct tensor model_stacked(struct tensor first);

static inline uint32_t layer_parameters(const struct model *model, uint32_t layer) {
        return SLOT_LAYERS + layer * LAYER_SLOTS;
}
static inline uint32_t head_slot(const struct model *model, uint32_t slot) {
        return SLOT_LAYERS + model->config.num_hidden_layers * LAYER_SLOTS + slot;
}

/* The first `rows` rows, or columns, of a buffer planned for the largest batch. */
static inline struct tensor view_rows(struct tensor t, uint32_t rows) {
        t.rows = rows;
        return t;
}
static inline struct tensor view_columns(struct tensor t, uint32_t columns) {
        t.columns = columns;
        return t;
}

enum activation model_activation(const struct model *model);
struct dropout model_dropout(const struct model *model, const struct model_pass *pass, uint32_t layer,
                             enum dropout_place place);

/* The arguments that forward and backward of one normalisation or attention share. */
struct op_norm model_embedding_norm(const struct model *model, const struct batch *batch,
                                    const struct model_pass *pass);
struct op_norm model_attention_norm(const struct model *model, const struct batch *batch, const struct model_pass *pass,
                                    uint32_t layer);
struct op_norm model_output_norm(const struct model *model, const struct batch *batch, const struct model_pass *pass,
                                 uint32_t layer);
struct op_norm model_transform_norm(const struct model *model, const struct batch *batch);
struct op_attention model_attention(const struct model *model, const struct batch *batch, const struct model_pass *pass,
                                    uint32_t layer);

/* (T, H) what layer `layer` reads: the embeddings for 0, else the output of layer − 1. */
struct tensor model_layer_input(const struct model *model, const struct batch *batch, uint32_t layer);

/* Both losses are added to *loss; with `gradient`, logits become their own gradients. */
void model_forward(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient,
                   struct model_loss *loss);
void model_backward(struct model *model, const struct batch *batch, const struct model_pass *pass);

#endif
