/*
 * The model's inside, for model*.c, init.c, optimizer.c, params.c, export.c, fill_mask.c and tests that look at activations. Nobody else includes it.
 *
 * Parameters are found by slot: the five embedding tensors, the map to the hidden width where there is one, the sets of attention
 * and feed-forward tensors, then pooler and heads. A layer asks layer_attention() and layer_feed_forward() for its sets: layers
 * that share get the same ones.
 */
#ifndef TRAINER_MODEL_INTERNAL_H
#define TRAINER_MODEL_INTERNAL_H

#include "trainer/model/model.h"
#include "trainer/ops/ops.h"

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

/* Activations of one layer, saved from forward for backward. Without training all layers share one set; with recomputation all but
 * y2. */
struct layer_buffers {
        struct tensor qkv;                    /* (T, 3H) */
        struct tensor lse;                    /* (A, T) */
        struct workspace kept;                /* of the attention */
        struct tensor context;                /* (T, H) */
        struct tensor sum1, mean1, rstd1, y1; /* (T, H), (1, T), (1, T), (T, H) attention + residual, normalised */
        struct tensor pre, act;               /* (T, F) */
        struct tensor sum2, mean2, rstd2, y2; /* feed-forward + residual, normalised: the layer's output */
};

struct model_buffers {
        struct tensor embedded, mean, rstd, normed;                /* (T, E), (1, T), (1, T), (T, E) */
        struct tensor hidden0;                                     /* (T, H); `normed` itself without a mapping */
        struct layer_buffers *layers;                              /* (L) */
        struct tensor first, pooled, sentence_logits;              /* (B, H), (B, H), (B, 2) */
        struct tensor masked, transform_pre, transform_act;        /* (M, H), (M, E), (M, E) */
        struct tensor transform_mean, transform_rstd, transformed; /* (1, M), (1, M), (M, E) */
        struct tensor logits;                                      /* (M, V); becomes its own gradient */
        struct tensor d_hidden, d_sum, d_branch, d_context;        /* (T, H) each; training only, as all below */
        struct tensor d_wide;                                      /* (T, max(F, 3H)) */
        struct tensor d_embedded;                                  /* (T, E); `d_hidden` itself without a mapping */
        struct tensor d_masked, d_transform;                       /* (M, H), (M, E) */
        struct tensor d_first, d_pooled;                           /* (B, H) */
        struct workspace workspace;
        /* The classifier's. D: its features, L: its layers. */
        struct tensor layers_first;                          /* (L · B, H) outputs at [CLS], a layer after the other */
        struct tensor combined, class_pooled;                /* (B, D), (B, H) */
        struct tensor features, dropped;                     /* (texts, D) */
        struct tensor class_logits;                          /* (texts, labels); becomes its own gradient */
        struct tensor d_layers_first, d_combined, d_dropped; /* training only */
        double *host_in, *host_out, *host_query;             /* (L · B · H), (B · D), (2 · D) */
        double *host_logits;                                 /* (B · labels) */
};

struct model {
        struct model_config config;
        const struct ops *ops;
        struct model_limits limits;
        struct model_layout layout;
        void *parameters, *gradients, *moment1, *moment2;
        void *values; /* parameters in the backend's dtype: `parameters` itself where that is the master dtype */
        void *arena;
        size_t arena_size;
        uint64_t forward_usec, usec;    /* of forward passes and of all, since model_take_forward_share */
        uint32_t n_passes;              /* forward and backward, since model_zero_gradients */
        struct batch batch;             /* the one under way, in the backend's memory */
        const struct batch *host_batch; /* the same in the caller's, during a pass */
        uint64_t *row_k;                /* (T) sample of each token of it */
        uint64_t *host_row_k;           /* (T) the same where it is filled: `row_k` itself with host memory */
        struct xent_sums *mlm_sums, *sentence_sums; /* in the backend's memory, since model_take_loss */
        uint32_t *pending; /* (tensors) uses that the backward pass under way has still to come to */
        struct op_update_tensor *update_tensors; /* (tensors) of the update under way */
        struct model_buffers buffers;
};

/* A parameter in the backend's dtype, in its master dtype, or its gradient, as a matrix; vectors are (1, n). */
struct tensor model_parameter(const struct model *model, uint32_t slot);
struct tensor model_master(const struct model *model, uint32_t slot);
struct tensor model_gradient(const struct model *model, uint32_t slot);

/* The three adjacent q, k, v tensors as one: (3H, H) or (1, 3H). */
struct tensor model_stacked(struct tensor first);

static inline uint32_t layer_attention(const struct model *model, uint32_t layer) {
        return model->layout.attention[layer];
}
static inline uint32_t layer_feed_forward(const struct model *model, uint32_t layer) {
        return model->layout.feed_forward[layer];
}
static inline uint32_t head_slot(const struct model *model, uint32_t slot) { return model->layout.head + slot; }

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

/* classifier.c: takes what layer `layer` puts out at [CLS], where the classifier wants it; then features and loss. */
void model_take_first(struct model *model, const struct batch *batch, uint32_t layer);
void model_forward_classifier(struct model *model, const struct batch *batch, const struct model_pass *pass,
                              bool gradient);
/* Gradients of the classifier's parameters; those of the layers' outputs wait for model_give_first, layer by layer. */
void model_backward_classifier(struct model *model, const struct batch *batch, const struct model_pass *pass);
void model_give_first(struct model *model, const struct batch *batch, uint32_t layer, struct tensor d_hidden);

/* Layers that a pass needs: all, or those up to the classifier's highest. */
static inline uint32_t model_n_layers(const struct model *model, const struct model_pass *pass) {
        const struct classifier_config *c = &model->config.classifier;
        return pass->classify ? c->first_layer + c->n_layers : config_n_layers(&model->config);
}

/* One layer's forward pass: for backward, where activations are recomputed. */
void model_forward_layer(struct model *model, const struct batch *batch, const struct model_pass *pass, uint32_t layer);

/* Both losses are added to the model's sums; with `gradient`, logits become their own gradients. `batch` is model->batch, here and
 * wherever operations are called. */
void model_forward(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient);
void model_backward(struct model *model, const struct batch *batch, const struct model_pass *pass);

#endif
