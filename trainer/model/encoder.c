/*
 * Embeddings and layers of BERT and ALBERT, forward and backward (Devlin et al. 2019, Lan et al. 2020; module by module as Hugging Face's
 * BertModel and AlbertModel, dropout after the sublayers and on the attention probabilities; after ALBERT's feed-forward, too, as in
 * Google's modeling.py: Hugging Face's AlbertLayer leaves that one out). Shapes: T tokens, E embedding, H hidden, F feed-forward; BERT: E = H.
 *
 * Backward: parameter gradients are added to, but for a step's first part of each; d_hidden carries the gradient of the current layer's output downwards. A tensor that layers
 * share gets a part from each, and each part is counted off, so a listener learns when a gradient is complete.
 */
#include "trainer/model/internal.h"

static const struct tensor absent = {};

void encoder_forward_embeddings(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct op_norm norm = model_embedding_norm(model, batch, pass);
        struct op_embed embed = {
                .ids = batch->ids,
                .positions = batch->positions,
                .types = batch->token_types,
                .word = model_parameter(model, SLOT_WORD),
                .position = model_parameter(model, SLOT_POSITION),
                .type = model_parameter(model, SLOT_TYPE),
                .x = norm.x,
        };
        model->ops->embed_forward(&embed, &norm);
        if (model->config.embedding_mapping)
                model->ops->linear(norm.y, model_parameter(model, MAPPING_WEIGHT), model_parameter(model, MAPPING_BIAS),
                                   ACTIVATION_NONE, absent,
                                   view_rows(model->buffers.hidden0, batch->n_tokens)); /* (T, H) */
}

void encoder_forward_layer(struct model *model, const struct batch *batch, const struct model_pass *pass,
                           uint32_t layer) {
        const struct ops *ops = model->ops;
        const struct layer_buffers *b = &model->buffers.layers[layer];
        uint32_t a = layer_attention(model, layer), f = layer_feed_forward(model, layer), n = batch->n_tokens;
        struct tensor x = model_layer_input(model, batch, layer); /* (T, H) */
        struct op_attention attention = model_attention(model, batch, pass, layer);
        struct op_norm norm1 = model_attention_norm(model, batch, pass, layer),
                       norm2 = model_output_norm(model, batch, pass, layer);

        ops->linear(x, model_stacked(model_parameter(model, a + ATTENTION_QKV_WEIGHT)),
                    model_stacked(model_parameter(model, a + ATTENTION_QKV_BIAS)), ACTIVATION_NONE, absent,
                    attention.qkv);         /* (T, 3H) */
        ops->attention_forward(&attention); /* (T, H) */
        ops->linear(attention.context, model_parameter(model, a + ATTENTION_OUTPUT_WEIGHT),
                    model_parameter(model, a + ATTENTION_OUTPUT_BIAS), ACTIVATION_NONE, absent, norm1.x);
        ops->add_norm_forward(&norm1);
        ops->linear(norm1.y, model_parameter(model, f + FEED_FORWARD_UP_WEIGHT),
                    model_parameter(model, f + FEED_FORWARD_UP_BIAS), model_activation(model), view_rows(b->pre, n),
                    view_rows(b->act, n)); /* (T, F) */
        ops->linear(view_rows(b->act, n), model_parameter(model, f + FEED_FORWARD_DOWN_WEIGHT),
                    model_parameter(model, f + FEED_FORWARD_DOWN_BIAS), ACTIVATION_NONE, absent, norm2.x); /* (T, H) */
        ops->add_norm_forward(&norm2);
}

/* ---- backward: the mirror, last operation first ---- */

/* d_hidden: gradient of the layer's output in; d_sum leaves with that of y1. */
static void backward_feed_forward(struct model *model, const struct batch *batch, const struct model_pass *pass,
                                  uint32_t layer) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        uint32_t f = layer_feed_forward(model, layer), n = batch->n_tokens;
        struct tensor act = view_rows(b->layers[layer].act, n), pre = view_rows(b->layers[layer].pre, n); /* (T, F) */
        struct tensor d_pre = { b->d_wide.data, pre.dtype, n, pre.columns, pre.columns, false };          /* (T, F) */
        struct op_norm norm = model_output_norm(model, batch, pass, layer);

        norm.dy = view_rows(b->d_hidden, n);
        norm.dresidual = view_rows(b->d_sum, n);
        norm.dx = view_rows(b->d_branch, n);
        norm.dbias = model_gradient(model, f + FEED_FORWARD_DOWN_BIAS);
        model_norm_gradients(model, f + FEED_FORWARD_GAMMA, &norm);
        ops->add_norm_backward(&norm);
        ops->linear_dw_db(norm.dx, act, model_gradient(model, f + FEED_FORWARD_DOWN_WEIGHT), absent);
        ops->linear_dx(norm.dx, model_parameter(model, f + FEED_FORWARD_DOWN_WEIGHT), false, model_activation(model),
                       pre, d_pre, model_gradient(model, f + FEED_FORWARD_UP_BIAS));
        ops->linear_dw_db(d_pre, norm.residual, model_gradient(model, f + FEED_FORWARD_UP_WEIGHT), absent);
        ops->linear_dx(d_pre, model_parameter(model, f + FEED_FORWARD_UP_WEIGHT), true, ACTIVATION_NONE, absent,
                       norm.dresidual, absent);
        model_count_off(model, pass, f, FEED_FORWARD_SLOTS);
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
        norm.dbias = model_gradient(model, a + ATTENTION_OUTPUT_BIAS);
        model_norm_gradients(model, a + ATTENTION_GAMMA, &norm);
        ops->add_norm_backward(&norm);
        ops->linear_dw_db(norm.dx, attention.context, model_gradient(model, a + ATTENTION_OUTPUT_WEIGHT), absent);
        ops->linear_dx(norm.dx, model_parameter(model, a + ATTENTION_OUTPUT_WEIGHT), false, ACTIVATION_NONE, absent,
                       attention.dcontext, absent);
        ops->attention_backward(&attention);
        ops->linear_dw_db(attention.dqkv, norm.residual, model_qkv_gradient(model, a + ATTENTION_QKV_WEIGHT),
                          model_qkv_gradient(model, a + ATTENTION_QKV_BIAS));
        ops->linear_dx(attention.dqkv, model_stacked(model_parameter(model, a + ATTENTION_QKV_WEIGHT)), true,
                       ACTIVATION_NONE, absent, norm.dresidual, absent);
        model_count_off(model, pass, a, ATTENTION_SLOTS);
}

void encoder_backward_layer(struct model *model, const struct batch *batch, const struct model_pass *pass,
                            uint32_t layer) {
        backward_feed_forward(model, batch, pass, layer);
        backward_attention(model, batch, pass, layer);
}

/* d_hidden (T, H) → d_embedded (T, E) */
void encoder_backward_mapping(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        const struct model_buffers *b = &model->buffers;
        struct tensor d_hidden = view_rows(b->d_hidden, batch->n_tokens);

        model->ops->linear_dw_db(d_hidden, view_rows(b->normed, batch->n_tokens), model_gradient(model, MAPPING_WEIGHT),
                                 model_gradient(model, MAPPING_BIAS));
        model->ops->linear_dx(d_hidden, model_parameter(model, MAPPING_WEIGHT), false, ACTIVATION_NONE, absent,
                              view_rows(b->d_embedded, batch->n_tokens), absent);
        model_count_off(model, pass, MAPPING_WEIGHT, MAPPING_SLOTS);
}

void encoder_backward_embeddings(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct op_norm norm = model_embedding_norm(model, batch, pass);

        if (model->config.embedding_mapping)
                encoder_backward_mapping(model, batch, pass);
        norm.dy = norm.dx = view_rows(model->buffers.d_embedded, batch->n_tokens);
        model_norm_gradients(model, SLOT_EMBEDDINGS_GAMMA, &norm);
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
        model_count_off(model, pass, SLOT_WORD, SLOT_ENCODER);
}
