/*
 * The model's inside, for model/ and tests that look at activations. Low to high, each file using those above it:
 *
 *   layout (which tensors), state (their memory), buffers (the arena of activations)
 *   arguments (what forward and backward of an operation share)
 *   encoder; pretraining_heads, classifier: each forward and backward
 *   pass (a micro-batch through encoder and head), model (life cycle)
 *
 * A head is a struct model_head in its own file and a row of pass.c's table.
 */
#ifndef TRAINER_MODEL_INTERNAL_H
#define TRAINER_MODEL_INTERNAL_H

#include "trainer/model/layout.h"
#include "trainer/model/model.h"
#include "trainer/model/state.h"
#include "trainer/ops/ops.h"

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
        struct model_state state;
        void *arena;
        size_t arena_size;
        uint64_t forward_usec, usec;    /* of forward passes and of all, since model_take_forward_share */
        uint32_t n_passes;              /* forward and backward, since model_zero_gradients */
        uint64_t n_steps;               /* calls of model_zero_gradients */
        struct batch batch;             /* the current one, in the backend's memory */
        const struct batch *host_batch; /* the same in the caller's, during a pass */
        uint64_t *row_k;                /* (T) sample of each token of it */
        uint64_t *host_row_k;           /* (T) the same where it is filled: `row_k` itself with host memory */
        struct xent_sums *mlm_sums, *sentence_sums; /* in the backend's memory, since model_take_loss */
        uint32_t *pending;                       /* (tensors) uses that the current backward pass has not reached yet */
        bool *stale;                             /* (tensors) whose gradient is still the previous step's */
        struct op_update_tensor *update_tensors; /* (tensors) of the current update */
        struct model_buffers buffers;
};

/* ---- buffers.c ---- */

/* Walked twice with the same calls: with data == NULL it counts, then it hands out. */
struct arena {
        char *data;
        size_t used; /* bytes */
        enum dtype dtype, master;
};

void buffers_plan(struct model *model, struct arena *arena);

/* ---- arguments.c ---- */

/* A parameter in the backend's dtype or in its master dtype, as a matrix; vectors are (1, n). */
struct tensor model_parameter(const struct model *model, uint32_t slot);
struct tensor model_master(const struct model *model, uint32_t slot);

/* Where the part of a gradient goes that an operation is about to add: fresh for the first of a step. Call it only if one is
 * added. Those of q, k and v as one; those of a norm. */
struct tensor model_gradient(struct model *model, uint32_t slot);
struct tensor model_qkv_gradient(struct model *model, uint32_t slot);
void model_norm_gradients(struct model *model, uint32_t gamma_slot, struct op_norm *norm);

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

/* One use of each of `n` tensors from `slot` on is in its gradient, or is not in this pass. */
void model_count_off(struct model *model, const struct model_pass *pass, uint32_t slot, uint32_t n);

/* ---- encoder.c; `batch` is model->batch, here and wherever operations are called ---- */

void encoder_forward_embeddings(struct model *model, const struct batch *batch, const struct model_pass *pass);
void encoder_forward_layer(struct model *model, const struct batch *batch, const struct model_pass *pass,
                           uint32_t layer);
/* d_hidden: gradient of the layer's output in, of its input out. */
void encoder_backward_layer(struct model *model, const struct batch *batch, const struct model_pass *pass,
                            uint32_t layer);
/* d_hidden: gradient of the first layer's input in. */
void encoder_backward_mapping(struct model *model, const struct batch *batch, const struct model_pass *pass);
void encoder_backward_embeddings(struct model *model, const struct batch *batch, const struct model_pass *pass);

/* ---- heads: what is computed of the layers' outputs, up to the loss ---- */

struct model_head {
        uint32_t (*n_layers)(const struct model *model); /* that it needs */

        /* With the output of a layer, lowest first; NULL: only the last one's counts, which forward takes itself. */
        void (*take_layer)(struct model *model, const struct batch *batch, uint32_t layer);

        /* Losses are added to the model's sums; with `gradient`, what backward begins with is made. */
        void (*forward)(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient);

        /* Gradients of the head's parameters; and those of layers' outputs, added to d_hidden (0) at once or, from the highest layer down, by
         * give_layer (NULL: none is left). */
        void (*backward)(struct model *model, const struct batch *batch, const struct model_pass *pass);
        void (*give_layer)(struct model *model, const struct batch *batch, uint32_t layer, struct tensor d_hidden);

        double (*flops)(const struct model *model, const struct batch *batch, enum freeze frozen);
};
extern const struct model_head pretraining_head, classifier_head, regression_head;

/* The classifier's parts, for heads that differ from it in their loss alone: its forward up to the logits (texts, labels), in whose place
 * their gradient is when backward begins. */
uint32_t classifier_n_layers(const struct model *model);
void classifier_take_layer(struct model *model, const struct batch *batch, uint32_t layer);
struct tensor classifier_forward(struct model *model, const struct batch *batch, const struct model_pass *pass);
void classifier_backward(struct model *model, const struct batch *batch, const struct model_pass *pass);
void classifier_give_layer(struct model *model, const struct batch *batch, uint32_t layer, struct tensor d_hidden);
double classifier_flops(const struct model *model, const struct batch *batch, enum freeze frozen);

/* `forward` again for the gradients of weights and of the input, as far as they are wanted. */
static inline double flops_with_backward(double forward, bool weights, bool input) {
        return forward * (1 + weights + input);
}

#endif
