/*
 * BERT and ALBERT forward (Devlin et al. 2019, Lan et al. 2020; module by module as Hugging Face's BertForPreTraining and
 * AlbertForPreTraining, dropout after the sublayers and on the attention probabilities; after ALBERT's feed-forward, too, as in
 * Google's modeling.py: Hugging Face's AlbertLayer leaves that one out). Also builds the arguments that forward and backward of one operation share, so the two cannot
 * disagree about shapes, sites or saved tensors. Shapes: T tokens, B samples, M masked rows, E embedding,
 * H hidden, F feed-forward, V words. BERT: E = H.
 */
#include "trainer/model/internal.h"

static const struct tensor absent = {};

enum activation model_activation(const struct model *model) {
        static const enum activation table[ACT_MAX] = {
                [ACT_GELU] = ACTIVATION_GELU,
                [ACT_GELU_NEW] = ACTIVATION_GELU_NEW,
                [ACT_RELU] = ACTIVATION_RELU,
        };
        return table[model->config.hidden_act];
}

struct dropout model_dropout(const struct model *model, const struct model_pass *pass, uint32_t layer,
                             enum dropout_place place) {
        const struct model_config *c = &model->config;
        double p = place == DROPOUT_ATTENTION_PROBABILITIES ? c->attention_probs_dropout_prob : c->hidden_dropout_prob;

        return dropout_new(pass->dropout ? p : 0, pass->seed, pass->stage, layer, place);
}

static struct op_norm norm_over(const struct model *model, uint32_t gamma_slot) {
        return (struct op_norm) {
                .gamma = model_master(model, gamma_slot),
                .beta = model_master(model, gamma_slot + 1),
                .dgamma = model_gradient(model, gamma_slot),
                .dbeta = model_gradient(model, gamma_slot + 1),
                .epsilon = model->config.layer_norm_eps,
                .workspace = model->buffers.workspace,
        };
}

struct op_norm model_embedding_norm(const struct model *model, const struct batch *batch,
                                    const struct model_pass *pass) {
        const struct model_buffers *b = &model->buffers;
        struct op_norm op = norm_over(model, SLOT_EMBEDDINGS_GAMMA);

        op.x = view_rows(b->embedded, batch->n_tokens);
        op.y = view_rows(b->normed, batch->n_tokens);
        op.mean = view_columns(b->mean, batch->n_tokens);
        op.rstd = view_columns(b->rstd, batch->n_tokens);
        op.dropout = model_dropout(model, pass, DROPOUT_LAYER_EMBEDDINGS, DROPOUT_EMBEDDINGS);
        op.rows = (struct row_keys) { model->row_k, batch->positions };
        return op;
}

struct op_norm model_attention_norm(const struct model *model, const struct batch *batch, const struct model_pass *pass,
                                    uint32_t layer) {
        const struct layer_buffers *b = &model->buffers.layers[layer];
        struct op_norm op = norm_over(model, layer_attention(model, layer) + ATTENTION_GAMMA);

        op.x = view_rows(b->sum1, batch->n_tokens);
        op.residual = model_layer_input(model, batch, layer);
        op.y = view_rows(b->y1, batch->n_tokens);
        op.mean = view_columns(b->mean1, batch->n_tokens);
        op.rstd = view_columns(b->rstd1, batch->n_tokens);
        op.dropout = model_dropout(model, pass, layer, DROPOUT_ATTENTION_OUTPUT);
        op.rows = (struct row_keys) { model->row_k, batch->positions };
        return op;
}

struct op_norm model_output_norm(const struct model *model, const struct batch *batch, const struct model_pass *pass,
                                 uint32_t layer) {
        const struct layer_buffers *b = &model->buffers.layers[layer];
        struct op_norm op = norm_over(model, layer_feed_forward(model, layer) + FEED_FORWARD_GAMMA);

        op.x = view_rows(b->sum2, batch->n_tokens);
        op.residual = view_rows(b->y1, batch->n_tokens);
        op.y = view_rows(b->y2, batch->n_tokens);
        op.mean = view_columns(b->mean2, batch->n_tokens);
        op.rstd = view_columns(b->rstd2, batch->n_tokens);
        op.dropout = model_dropout(model, pass, layer, DROPOUT_FEED_FORWARD_OUTPUT);
        op.rows = (struct row_keys) { model->row_k, batch->positions };
        return op;
}

struct op_norm model_transform_norm(const struct model *model, const struct batch *batch) {
        const struct model_buffers *b = &model->buffers;
        struct op_norm op = norm_over(model, head_slot(model, HEAD_TRANSFORM_GAMMA));

        op.x = view_rows(b->transform_act, batch->n_masked);
        op.y = view_rows(b->transformed, batch->n_masked);
        op.mean = view_columns(b->transform_mean, batch->n_masked);
        op.rstd = view_columns(b->transform_rstd, batch->n_masked);
        return op;
}

struct op_attention model_attention(const struct model *model, const struct batch *batch, const struct model_pass *pass,
                                    uint32_t layer) {
        const struct layer_buffers *b = &model->buffers.layers[layer];

        return (struct op_attention) {
                .max_length = batch->max_length,
                .qkv = view_rows(b->qkv, batch->n_tokens),
                .context = view_rows(b->context, batch->n_tokens),
                .lse = view_columns(b->lse, batch->n_tokens),
                .cu_seqlens = batch->cu_seqlens,
                .sample_k = batch->sample_k,
                .n_samples = batch->n_samples,
                .n_heads = model->config.num_attention_heads,
                .dropout = model_dropout(model, pass, layer, DROPOUT_ATTENTION_PROBABILITIES),
                .kept = b->kept,
                .workspace = model->buffers.workspace,
        };
}

struct tensor model_layer_input(const struct model *model, const struct batch *batch, uint32_t layer) {
        const struct model_buffers *b = &model->buffers;

        return view_rows(layer == 0 ? b->hidden0 : b->layers[layer - 1].y2, batch->n_tokens);
}

static void forward_embeddings(struct model *model, const struct batch *batch, const struct model_pass *pass) {
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

void model_forward_layer(struct model *model, const struct batch *batch, const struct model_pass *pass,
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

static void forward_sentence(struct model *model, const struct batch *batch, const struct model_pass *pass,
                             bool gradient) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        struct tensor first = view_rows(b->first, batch->n_samples),
                      pooled = view_rows(b->pooled, batch->n_samples); /* (B, H) */
        struct op_xent xent = {
                .logits = view_rows(b->sentence_logits, batch->n_samples), /* (B, 2) */
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

void model_forward(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient) {
        forward_embeddings(model, batch, pass);
        for (uint32_t l = 0; l < model_n_layers(model, pass); l++) {
                model_forward_layer(model, batch, pass, l);
                if (pass->classify)
                        model_take_first(model, batch, l);
        }
        if (pass->classify) {
                model_forward_classifier(model, batch, pass, gradient);
                return;
        }
        forward_sentence(model, batch, pass, gradient);
        if (batch->n_masked)
                forward_masked(model, batch, pass, gradient);
}
