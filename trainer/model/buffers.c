/* See internal.h: where a model keeps a micro-batch's activations. One arena, for the largest batch allowed. Owns nothing. */
#include "common/cleanup.h"
#include "trainer/model/internal.h"

#define LOGITS_ALIGNMENT 64 /* elements: a vocabulary is often odd, and fast matrix products want aligned rows */

static void *arena_bytes(struct arena *arena, size_t size) {
        void *p = arena->data ? arena->data + arena->used : NULL;

        arena->used += (size + 63) / 64 * 64;
        return p;
}

static struct tensor arena_strided(struct arena *arena, uint32_t rows, uint32_t columns, uint32_t stride,
                                   enum dtype dtype) {
        return (struct tensor) {
                arena_bytes(arena, (size_t) rows * stride * dtype_size(dtype)), dtype, rows, columns, stride, false
        };
}

static struct tensor arena_tensor(struct arena *arena, uint32_t rows, uint32_t columns) {
        return arena_strided(arena, rows, columns, columns, arena->dtype);
}

/* What a normalisation or a softmax keeps of each row. */
static struct tensor arena_statistics(struct arena *arena, uint32_t rows, uint32_t columns) {
        return arena_strided(arena, rows, columns, columns, arena->master);
}

static struct workspace plan_kept(const struct model *model, struct arena *arena) {
        const struct model_config *c = &model->config;
        const struct model_limits *l = &model->limits;
        struct ops_shape shape = { l->max_tokens,  l->max_masked,          l->max_length,
                                   c->hidden_size, c->num_attention_heads, l->max_sequences };
        bool wanted = l->training && c->attention_probs_dropout_prob > 0 && model->ops->kept_bytes;
        size_t size = wanted ? model->ops->kept_bytes(&shape) : 0;

        return (struct workspace) { size > 0 ? arena_bytes(arena, size) : NULL, size };
}

/* A slope is computed for the backward pass alone; an argument may be where the activation is fused with the product. */
static struct tensor plan_kept_by_linear(const struct model *model, struct arena *arena, uint32_t rows,
                                         uint32_t columns) {
        bool idle = !model->limits.training && model->ops->keeps_slope;

        return idle ? (struct tensor) {} : arena_tensor(arena, rows, columns);
}

/* All but the output may be shared if none of it is needed after the layer, or if backward makes it again. */
static struct layer_buffers plan_layer(const struct model *model, struct arena *arena) {
        const struct model_config *c = &model->config;
        uint32_t t = model->limits.max_tokens, h = c->hidden_size, f = c->intermediate_size;

        return (struct layer_buffers) {
                .qkv = arena_tensor(arena, t, 3 * h),
                .lse = arena_statistics(arena, c->num_attention_heads, t),
                .kept = plan_kept(model, arena),
                .context = arena_tensor(arena, t, h),
                .sum1 = arena_tensor(arena, t, h),
                .mean1 = arena_statistics(arena, 1, t),
                .rstd1 = arena_statistics(arena, 1, t),
                .y1 = arena_tensor(arena, t, h),
                .pre = plan_kept_by_linear(model, arena, t, f),
                .act = arena_tensor(arena, t, f),
                .sum2 = arena_tensor(arena, t, h),
                .mean2 = arena_statistics(arena, 1, t),
                .rstd2 = arena_statistics(arena, 1, t),
                .y2 = arena_tensor(arena, t, h),
        };
}

static void plan_gradients(struct model *model, struct arena *arena) {
        const struct model_config *c = &model->config;
        struct model_buffers *b = &model->buffers;
        uint32_t t = model->limits.max_tokens, m = model->limits.max_masked, h = c->hidden_size;

        b->d_hidden = arena_tensor(arena, t, h);
        b->d_sum = arena_tensor(arena, t, h);
        b->d_branch = arena_tensor(arena, t, h);
        b->d_context = arena_tensor(arena, t, h);
        b->d_wide = arena_tensor(arena, t, MAX(c->intermediate_size, 3 * h));
        b->d_embedded = c->embedding_mapping ? arena_tensor(arena, t, c->embedding_size) : b->d_hidden;
        b->d_masked = arena_tensor(arena, m, h);
        b->d_transform = arena_tensor(arena, m, c->embedding_size);
        b->d_first = arena_tensor(arena, model->limits.max_sequences, h);
        b->d_pooled = arena_tensor(arena, model->limits.max_sequences, h);
}

static void plan_classifier(struct model *model, struct arena *arena) {
        const struct classifier_config *c = &model->config.classifier;
        struct model_buffers *b = &model->buffers;
        uint32_t n = model->limits.max_sequences, h = model->config.hidden_size, d = config_features(&model->config);

        b->layers_first = arena_tensor(arena, c->n_layers * n, h);
        b->combined = c->n_layers > 1 ? arena_tensor(arena, n, d) : b->layers_first;
        b->class_pooled = c->input == INPUT_POOLED ? arena_tensor(arena, n, h) : b->combined;
        b->features = c->segmented ? arena_tensor(arena, n, d) : b->class_pooled;
        b->dropped = c->dropout > 0 ? arena_tensor(arena, n, d) : b->features;
        b->class_logits = arena_tensor(arena, n, c->n_labels);
        if (!model->limits.training)
                return;
        b->d_layers_first = arena_tensor(arena, c->n_layers * n, h);
        b->d_combined = c->n_layers > 1 ? arena_tensor(arena, n, d) : b->d_layers_first;
        b->d_dropped = arena_tensor(arena, n, d);
}

/* A device gets a copy of each batch. */
static void plan_batch(struct model *model, struct arena *arena) {
        size_t t = model->limits.max_tokens * sizeof(int32_t), b = model->limits.max_sequences * sizeof(int32_t),
               m = model->limits.max_masked * sizeof(int32_t);

        model->row_k = arena_bytes(arena, 2 * t);
        if (model->ops->host_memory)
                return;
        model->batch = (struct batch) {
                .ids = arena_bytes(arena, t),
                .token_types = arena_bytes(arena, t),
                .positions = arena_bytes(arena, t),
                .cu_seqlens = arena_bytes(arena, b + sizeof(int32_t)),
                .sample_k = arena_bytes(arena, 2 * b),
                .masked_rows = arena_bytes(arena, m),
                .masked_labels = arena_bytes(arena, m),
                .sentence_labels = arena_bytes(arena, b),
        };
}

void buffers_plan(struct model *model, struct arena *arena) {
        const struct model_config *c = &model->config;
        const struct model_limits *limits = &model->limits;
        struct model_buffers *b = &model->buffers;
        uint32_t t = limits->max_tokens, h = c->hidden_size, e = c->embedding_size, m = limits->max_masked;
        struct ops_shape shape = { t, m, limits->max_length, MAX(h, e), c->num_attention_heads, limits->max_sequences };

        plan_batch(model, arena);
        model->mlm_sums = arena_bytes(arena, sizeof(struct xent_sums));
        model->sentence_sums = arena_bytes(arena, sizeof(struct xent_sums));
        b->embedded = arena_tensor(arena, t, e);
        b->mean = arena_statistics(arena, 1, t);
        b->rstd = arena_statistics(arena, 1, t);
        b->normed = arena_tensor(arena, t, e);
        b->hidden0 = c->embedding_mapping ? arena_tensor(arena, t, h) : b->normed;
        for (uint32_t l = 0; l < config_n_layers(c); l++) {
                bool own = l == 0 || (limits->training && !limits->recompute);
                b->layers[l] = own ? plan_layer(model, arena) : b->layers[0];
                if (l > 0 && limits->recompute)
                        b->layers[l].y2 = arena_tensor(arena, t, h);
        }
        b->first = arena_tensor(arena, limits->max_sequences, h);
        b->pooled = arena_tensor(arena, limits->max_sequences, h);
        b->sentence_logits = arena_tensor(arena, limits->max_sequences, 2);
        b->masked = arena_tensor(arena, m, h);
        b->transform_pre = plan_kept_by_linear(model, arena, m, e);
        b->transform_act = arena_tensor(arena, m, e);
        b->transform_mean = arena_statistics(arena, 1, m);
        b->transform_rstd = arena_statistics(arena, 1, m);
        b->transformed = arena_tensor(arena, m, e);
        b->logits = arena_strided(arena, m, c->vocab_size,
                                  (c->vocab_size + LOGITS_ALIGNMENT - 1) / LOGITS_ALIGNMENT * LOGITS_ALIGNMENT,
                                  arena->dtype);
        if (limits->training)
                plan_gradients(model, arena);
        if (c->classifier.n_labels > 0)
                plan_classifier(model, arena);
        b->workspace.size = model->ops->workspace_bytes(&shape);
        b->workspace.data = arena_bytes(arena, b->workspace.size);
}
