/*
 * Backward of BERT and ALBERT: the mirror of forward.c, last operation first. Parameter gradients are added to; d_hidden
 * carries the gradient of the current layer's output downwards. The word table gets its decoder part first and its embedding part
 * last; a tensor that layers share gets a part from each. Each part is counted off, so who listens learns when a gradient is
 * complete.
 */
#include "trainer/model/internal.h"

#include <assert.h>

static const struct tensor absent = {};

/* One use of each of `n` tensors from `slot` on is in its gradient. */
static void count_off(struct model *model, const struct model_pass *pass, uint32_t slot, uint32_t n) {
        for (uint32_t i = slot; i < slot + n; i++) {
                assert(model->pending[i] > 0);
                if (--model->pending[i] == 0 && pass->ready)
                        pass->ready(pass->context, i);
        }
}

/* The sentence head's part of d_hidden: one row a sample. */
static void backward_sentence(struct model *model, const struct batch *batch, const struct model_pass *pass,
                              struct tensor d_hidden) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        uint32_t n = batch->n_samples;
        struct tensor d_logits = view_rows(b->sentence_logits, n);                            /* (B, 2) */
        struct tensor pooled = view_rows(b->pooled, n), d_pooled = view_rows(b->d_pooled, n); /* (B, H) */
        struct tensor d_first = view_rows(b->d_first, n);                                     /* (B, H) */

        ops->linear_dw_db(d_logits, pooled, model_gradient(model, head_slot(model, HEAD_SENTENCE_WEIGHT)),
                          model_gradient(model, head_slot(model, HEAD_SENTENCE_BIAS)));
        ops->linear_dx(d_logits, model_parameter(model, head_slot(model, HEAD_SENTENCE_WEIGHT)), false, ACTIVATION_TANH,
                       pooled, d_pooled);
        ops->linear_dw_db(d_pooled, view_rows(b->first, n), model_gradient(model, head_slot(model, HEAD_POOLER_WEIGHT)),
                          model_gradient(model, head_slot(model, HEAD_POOLER_BIAS)));
        ops->linear_dx(d_pooled, model_parameter(model, head_slot(model, HEAD_POOLER_WEIGHT)), false, ACTIVATION_NONE,
                       absent, d_first);
        ops->scatter_add_rows(d_first, batch->cu_seqlens, d_hidden);
        count_off(model, pass, head_slot(model, HEAD_SENTENCE_WEIGHT), 2);
        count_off(model, pass, head_slot(model, HEAD_POOLER_WEIGHT), 2);
}

static void backward_masked(struct model *model, const struct batch *batch, struct tensor d_hidden) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        uint32_t n = batch->n_masked;
        struct tensor d_logits = view_rows(b->logits, n);         /* (M, V) */
        struct tensor d_transform = view_rows(b->d_transform, n); /* (M, E) */
        struct tensor d_masked = view_rows(b->d_masked, n);       /* (M, H) */
        struct op_norm norm = model_transform_norm(model, batch);

        norm.dy = norm.dx = d_transform;
        ops->linear_dw_db(d_logits, norm.y, model_gradient(model, SLOT_WORD),
                          model_gradient(model, head_slot(model, HEAD_DECODER_BIAS)));
        ops->linear_dx(d_logits, model_parameter(model, SLOT_WORD), false, ACTIVATION_NONE, absent, d_transform);
        ops->norm_dropout_backward(&norm);
        ops->activation_backward(model_activation(model), view_rows(b->transform_pre, n), d_transform);
        ops->linear_dw_db(d_transform, view_rows(b->masked, n),
                          model_gradient(model, head_slot(model, HEAD_TRANSFORM_WEIGHT)),
                          model_gradient(model, head_slot(model, HEAD_TRANSFORM_BIAS)));
        ops->linear_dx(d_transform, model_parameter(model, head_slot(model, HEAD_TRANSFORM_WEIGHT)), false,
                       ACTIVATION_NONE, absent, d_masked);
        ops->scatter_add_rows(d_masked, batch->masked_rows, d_hidden);
}

/* d_hidden: gradient of the layer's output in; d_sum leaves with that of y1. */
static void backward_feed_forward(struct model *model, const struct batch *batch, const struct model_pass *pass,
                                  uint32_t layer) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        uint32_t f = layer_feed_forward(model, layer), n = batch->n_tokens;
        struct tensor act = view_rows(b->layers[layer].act, n), pre = view_rows(b->layers[layer].pre, n); /* (T, F) */
        struct tensor d_pre = { b->d_wide.data, pre.dtype, n, pre.columns, pre.columns };                 /* (T, F) */
        struct op_norm norm = model_output_norm(model, batch, pass, layer);

        norm.dy = view_rows(b->d_hidden, n);
        norm.dresidual = view_rows(b->d_sum, n);
        norm.dx = view_rows(b->d_branch, n);
        ops->add_norm_backward(&norm);
        ops->linear_dw_db(norm.dx, act, model_gradient(model, f + FEED_FORWARD_DOWN_WEIGHT),
                          model_gradient(model, f + FEED_FORWARD_DOWN_BIAS));
        ops->linear_dx(norm.dx, model_parameter(model, f + FEED_FORWARD_DOWN_WEIGHT), false, model_activation(model),
                       pre, d_pre);
        ops->linear_dw_db(d_pre, norm.residual, model_gradient(model, f + FEED_FORWARD_UP_WEIGHT),
                          model_gradient(model, f + FEED_FORWARD_UP_BIAS));
        ops->linear_dx(d_pre, model_parameter(model, f + FEED_FORWARD_UP_WEIGHT), true, ACTIVATION_NONE, absent,
                       norm.dresidual);
        count_off(model, pass, f, FEED_FORWARD_SLOTS);
}

/* d_sum: gradient of y1 in; d_hidden leaves with that of the layer's input. */
static void backward_attention(struct model *model, const struct batch *batch, const struct model_pass *pass,
                               uint32_t layer) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        uint32_t a = layer_attention(model, layer), n = batch->n_tokens;
        struct op_attention attention = model_attention(model, batch, pass, layer);
        struct op_norm norm = model_attention_norm(model, batch, pass, layer);

        norm.dy = view_rows(b->d_sum, n);
        norm.dresidual = view_rows(b->d_hidden, n);
        norm.dx = view_rows(b->d_branch, n);
        attention.dcontext = view_rows(b->d_context, n); /* (T, H) */
        attention.dqkv = attention.qkv;                  /* (T, 3H) */
        attention.dqkv.data = b->d_wide.data;
        ops->add_norm_backward(&norm);
        ops->linear_dw_db(norm.dx, attention.context, model_gradient(model, a + ATTENTION_OUTPUT_WEIGHT),
                          model_gradient(model, a + ATTENTION_OUTPUT_BIAS));
        ops->linear_dx(norm.dx, model_parameter(model, a + ATTENTION_OUTPUT_WEIGHT), false, ACTIVATION_NONE, absent,
                       attention.dcontext);
        ops->attention_backward(&attention);
        ops->linear_dw_db(attention.dqkv, norm.residual, model_stacked(model_gradient(model, a + ATTENTION_QKV_WEIGHT)),
                          model_stacked(model_gradient(model, a + ATTENTION_QKV_BIAS)));
        ops->linear_dx(attention.dqkv, model_stacked(model_parameter(model, a + ATTENTION_QKV_WEIGHT)), true,
                       ACTIVATION_NONE, absent, norm.dresidual);
        count_off(model, pass, a, ATTENTION_SLOTS);
}

/* d_hidden (T, H) → d_embedded (T, E) */
static void backward_mapping(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        const struct model_buffers *b = &model->buffers;
        struct tensor d_hidden = view_rows(b->d_hidden, batch->n_tokens);

        model->ops->linear_dw_db(d_hidden, view_rows(b->normed, batch->n_tokens), model_gradient(model, MAPPING_WEIGHT),
                                 model_gradient(model, MAPPING_BIAS));
        model->ops->linear_dx(d_hidden, model_parameter(model, MAPPING_WEIGHT), false, ACTIVATION_NONE, absent,
                              view_rows(b->d_embedded, batch->n_tokens));
        count_off(model, pass, MAPPING_WEIGHT, MAPPING_SLOTS);
}

static void backward_embeddings(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct op_norm norm = model_embedding_norm(model, batch, pass);

        if (model->config.embedding_mapping)
                backward_mapping(model, batch, pass);
        norm.dy = norm.dx = view_rows(model->buffers.d_embedded, batch->n_tokens);
        struct op_embed embed = {
                .ids = batch->ids,
                .positions = batch->positions,
                .types = batch->token_types,
                .word = model_gradient(model, SLOT_WORD),
                .position = model_gradient(model, SLOT_POSITION),
                .type = model_gradient(model, SLOT_TYPE),
                .x = norm.dx,
                .workspace = model->buffers.workspace,
        };
        model->ops->norm_dropout_backward(&norm);
        model->ops->embed_backward(&embed);
        count_off(model, pass, SLOT_WORD, SLOT_ENCODER);
}

/* From the classifier down to the lowest part that is not frozen. Then every gradient is complete, those of parts that the loss does
 * not reach being 0. */
static void backward_from_classifier(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct tensor d_hidden = view_rows(model->buffers.d_hidden, batch->n_tokens);
        uint32_t layers = pass->frozen >= FREEZE_ENCODER ? 0 : model_n_layers(model, pass);

        model_backward_classifier(model, batch, pass);
        for (uint32_t l = layers; l-- > 0;) {
                model_give_first(model, batch, l, d_hidden);
                if (model->limits.recompute && l + 1 < layers)
                        model_forward_layer(model, batch, pass, l);
                backward_feed_forward(model, batch, pass, l);
                backward_attention(model, batch, pass, l);
        }
        if (pass->frozen == FREEZE_NONE)
                backward_embeddings(model, batch, pass);
        else if (pass->frozen == FREEZE_EMBEDDINGS && model->config.embedding_mapping)
                backward_mapping(model, batch, pass);
        for (uint32_t i = 0; i < model->layout.n_tensors; i++)
                while (model->pending[i] > 0)
                        count_off(model, pass, i, 1);
}

void model_backward(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct tensor d_hidden = view_rows(model->buffers.d_hidden, batch->n_tokens);

        for (uint32_t i = 0; i < model->layout.n_tensors; i++)
                model->pending[i] = model->layout.tensors[i].uses;
        model->ops->zero(d_hidden.data, (size_t) d_hidden.rows * d_hidden.stride * dtype_size(d_hidden.dtype));
        if (pass->classify) {
                backward_from_classifier(model, batch, pass);
                return;
        }
        backward_sentence(model, batch, pass, d_hidden);
        if (batch->n_masked)
                backward_masked(model, batch, d_hidden);
        count_off(model, pass, head_slot(model, HEAD_DECODER_BIAS), HEAD_SENTENCE_WEIGHT - HEAD_DECODER_BIAS);
        count_off(model, pass, SLOT_WORD, 1);
        for (uint32_t layers = config_n_layers(&model->config), l = layers; l-- > 0;) {
                if (model->limits.recompute && l + 1 < layers) /* the last one's activations are still there */
                        model_forward_layer(model, batch, pass, l);
                backward_feed_forward(model, batch, pass, l);
                backward_attention(model, batch, pass, l);
        }
        backward_embeddings(model, batch, pass);
        count_off(model, pass, model->layout.classifier, model->layout.n_tensors - model->layout.classifier);
}
