/*
 * The heads of pretraining, forward and backward: the sentence head (NSP, SOP) over the pooler, and the MLM head over the masked rows, whose
 * decoder is the word table. As Hugging Face's BertForPreTraining and AlbertForPreTraining. B samples, M masked rows, V words.
 */
#include "trainer/model/internal.h"

static const struct tensor absent = {};

static void forward_sentence(struct model *model, const struct batch *batch, const struct model_pass *pass,
                             bool gradient) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        struct tensor first = view_rows(b->first, batch->n_sequences),
                      pooled = view_rows(b->pooled, batch->n_sequences); /* (B, H) */
        struct op_xent xent = {
                .logits = view_rows(b->sentence_logits, batch->n_sequences), /* (B, 2) */
                .labels = batch->sentence_labels,
                .scale = pass->sentence_scale,
                .gradient = gradient,
                .sums = model->sentence_sums,
                .workspace = b->workspace,
        };

        ops->gather_rows(model_layer_input(model, batch, config_n_layers(&model->config)), batch->cu_seqlens, first);
        ops->linear(first, model_parameter(model, head_slot(model, HEAD_POOLER_WEIGHT)),
                    model_parameter(model, head_slot(model, HEAD_POOLER_BIAS)), ACTIVATION_TANH, absent, pooled);
        ops->linear(pooled, model_parameter(model, head_slot(model, HEAD_SENTENCE_WEIGHT)),
                    model_parameter(model, head_slot(model, HEAD_SENTENCE_BIAS)), ACTIVATION_NONE, absent, xent.logits);
        ops->softmax_xent(&xent);
}

/* Only the masked rows meet the vocabulary. */
static void forward_masked(struct model *model, const struct batch *batch, const struct model_pass *pass,
                           bool gradient) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        struct op_norm norm = model_transform_norm(model, batch);
        struct tensor masked = view_rows(b->masked, batch->n_masked); /* (M, H) */
        struct op_xent xent = {
                .logits = view_rows(b->logits, batch->n_masked), /* (M, V) */
                .labels = batch->masked_labels,
                .scale = pass->mlm_scale,
                .gradient = gradient,
                .sums = model->mlm_sums,
                .workspace = b->workspace,
        };

        ops->gather_rows(model_layer_input(model, batch, config_n_layers(&model->config)), batch->masked_rows, masked);
        ops->linear(masked, model_parameter(model, head_slot(model, HEAD_TRANSFORM_WEIGHT)),
                    model_parameter(model, head_slot(model, HEAD_TRANSFORM_BIAS)), model_activation(model),
                    view_rows(b->transform_pre, batch->n_masked), norm.x);
        ops->norm_dropout_forward(&norm);
        ops->linear(norm.y, model_parameter(model, SLOT_WORD),
                    model_parameter(model, head_slot(model, HEAD_DECODER_BIAS)), ACTIVATION_NONE, absent, xent.logits);
        ops->softmax_xent(&xent);
}

static void forward(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient) {
        forward_sentence(model, batch, pass, gradient);
        if (batch->n_masked)
                forward_masked(model, batch, pass, gradient);
}

/* The sentence head's part of d_hidden: one row a sample. */
static void backward_sentence(struct model *model, const struct batch *batch, const struct model_pass *pass,
                              struct tensor d_hidden) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        uint32_t n = batch->n_sequences;
        struct tensor d_logits = view_rows(b->sentence_logits, n);                            /* (B, 2) */
        struct tensor pooled = view_rows(b->pooled, n), d_pooled = view_rows(b->d_pooled, n); /* (B, H) */
        struct tensor d_first = view_rows(b->d_first, n);                                     /* (B, H) */

        ops->linear_dw_db(d_logits, pooled, model_gradient(model, head_slot(model, HEAD_SENTENCE_WEIGHT)),
                          model_gradient(model, head_slot(model, HEAD_SENTENCE_BIAS)));
        ops->linear_dx(d_logits, model_parameter(model, head_slot(model, HEAD_SENTENCE_WEIGHT)), false, ACTIVATION_TANH,
                       pooled, d_pooled, absent);
        ops->linear_dw_db(d_pooled, view_rows(b->first, n), model_gradient(model, head_slot(model, HEAD_POOLER_WEIGHT)),
                          model_gradient(model, head_slot(model, HEAD_POOLER_BIAS)));
        ops->linear_dx(d_pooled, model_parameter(model, head_slot(model, HEAD_POOLER_WEIGHT)), false, ACTIVATION_NONE,
                       absent, d_first, absent);
        ops->scatter_add_rows(d_first, batch->cu_seqlens, d_hidden);
        model_count_off(model, pass, head_slot(model, HEAD_SENTENCE_WEIGHT), 2);
        model_count_off(model, pass, head_slot(model, HEAD_POOLER_WEIGHT), 2);
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
        model_norm_gradients(model, head_slot(model, HEAD_TRANSFORM_GAMMA), &norm);
        ops->linear_dw_db(d_logits, norm.y, model_gradient(model, SLOT_WORD),
                          model_gradient(model, head_slot(model, HEAD_DECODER_BIAS)));
        ops->linear_dx(d_logits, model_parameter(model, SLOT_WORD), false, ACTIVATION_NONE, absent, d_transform,
                       absent);
        ops->norm_dropout_backward(&norm);
        ops->activation_backward(model_activation(model), view_rows(b->transform_pre, n), d_transform);
        ops->linear_dw_db(d_transform, view_rows(b->masked, n),
                          model_gradient(model, head_slot(model, HEAD_TRANSFORM_WEIGHT)),
                          model_gradient(model, head_slot(model, HEAD_TRANSFORM_BIAS)));
        ops->linear_dx(d_transform, model_parameter(model, head_slot(model, HEAD_TRANSFORM_WEIGHT)), false,
                       ACTIVATION_NONE, absent, d_masked, absent);
        ops->scatter_add_rows(d_masked, batch->masked_rows, d_hidden);
}

/* The word table gets its decoder part here and its embedding part last. */
static void backward(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        struct tensor d_hidden = view_rows(model->buffers.d_hidden, batch->n_tokens);

        backward_sentence(model, batch, pass, d_hidden);
        if (batch->n_masked)
                backward_masked(model, batch, d_hidden);
        model_count_off(model, pass, head_slot(model, HEAD_DECODER_BIAS), HEAD_SENTENCE_WEIGHT - HEAD_DECODER_BIAS);
        model_count_off(model, pass, SLOT_WORD, 1);
}

static uint32_t n_layers(const struct model *model) { return config_n_layers(&model->config); }

static double flops(const struct model *model, const struct batch *batch, enum freeze frozen) {
        double h = model->config.hidden_size, v = model->config.vocab_size, e = model->config.embedding_size;
        uint32_t sentences = 0;

        for (uint32_t i = 0; i < batch->n_samples; i++)
                sentences += batch->sentence_labels[i] >= 0;
        return flops_with_backward(2 * h * h * sentences + batch->n_masked * (2 * h * e + 2 * e * v), true, true);
}

const struct model_head pretraining_head = {
        .n_layers = n_layers, .forward = forward, .backward = backward, .flops = flops
};
