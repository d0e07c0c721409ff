/* See internal.h: tensors by slot, and the arguments that forward and backward of one operation share, so the two cannot disagree about
 * shapes, sites or saved tensors. Owns nothing. */
#include <assert.h>

#include "trainer/model/internal.h"

static struct tensor slot_tensor(const struct model *model, void *run, enum dtype dtype, uint32_t slot) {
        const struct model_tensor *t = &model->layout.tensors[slot];
        uint32_t columns = t->n_dims == 2 ? t->shape[1] : t->shape[0];

        return (struct tensor) {
                .data = run ? (char *) run + t->offset * dtype_size(dtype)
                            : NULL, /* a model that only infers has no gradients */
                .dtype = dtype,
                .rows = t->n_dims == 2 ? t->shape[0] : 1,
                .columns = columns,
                .stride = columns,
        };
}

struct tensor model_parameter(const struct model *model, uint32_t slot) {
        return slot_tensor(model, model->state.values, model->ops->dtype, slot);
}

struct tensor model_master(const struct model *model, uint32_t slot) {
        return slot_tensor(model, model->state.parameters, model->ops->master, slot);
}

struct tensor model_gradient(struct model *model, uint32_t slot) {
        struct tensor t = slot_tensor(model, model->state.gradients, model->ops->master, slot);

        t.fresh = model->stale[slot];
        model->stale[slot] = false;
        return t;
}

struct tensor model_qkv_gradient(struct model *model, uint32_t slot) {
        struct tensor first = model_gradient(model, slot);

        (void) model_gradient(model, slot + 1);
        (void) model_gradient(model, slot + 2);
        return model_stacked(first);
}

void model_norm_gradients(struct model *model, uint32_t gamma_slot, struct op_norm *norm) {
        norm->dgamma = model_gradient(model, gamma_slot);
        norm->dbeta = model_gradient(model, gamma_slot + 1);
}

struct tensor model_stacked(struct tensor first) {
        if (first.rows == 1)
                first.columns = first.stride = 3 * first.columns;
        else
                first.rows *= 3;
        return first;
}

enum activation model_activation(const struct model *model) {
        static const enum activation table[ACT_MAX] = {
                [ACT_GELU] = ACTIVATION_GELU,
                [ACT_GELU_NEW] = ACTIVATION_GELU_NEW,
                [ACT_RELU] = ACTIVATION_RELU,
        };
        if (model->limits.fast_gelu && model->config.hidden_act == ACT_GELU)
                return ACTIVATION_GELU_NEW;
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
                .n_sequences = batch->n_sequences,
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

/* A gradient that nothing was added to. */
static void zero_gradient(struct model *model, uint32_t slot) {
        struct tensor t = model_gradient(model, slot);

        model->ops->zero(t.data, (size_t) t.rows * t.columns * dtype_size(t.dtype));
}

void model_count_off(struct model *model, const struct model_pass *pass, uint32_t slot, uint32_t n) {
        for (uint32_t i = slot; i < slot + n; i++) {
                assert(model->pending[i] > 0);
                if (model->stale[i])
                        zero_gradient(model, i);
                if (--model->pending[i] == 0 && pass->ready)
                        pass->ready(pass->context, i);
        }
}
