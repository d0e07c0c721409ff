/*
 * The model as an object: the arena of activations, life cycle and accessors. Which tensors it has stands in layout.c, what
 * is computed in forward.c and backward.c.
 */
#include "trainer/model/model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "trainer/model/internal.h"

/* ---- arena ---- */

/* Walked twice with the same calls: with data == NULL it counts, then it hands out. */
struct arena {
        char *data;
        size_t used; /* bytes */
        enum dtype dtype, master;
};

static void *arena_bytes(struct arena *arena, size_t size) {
        void *p = arena->data ? arena->data + arena->used : NULL;

        arena->used += (size + 63) / 64 * 64;
        return p;
}

static struct tensor arena_strided(struct arena *arena, uint32_t rows, uint32_t columns, uint32_t stride,
                                   enum dtype dtype) {
        return (struct tensor) { arena_bytes(arena, (size_t) rows * stride * dtype_size(dtype)), dtype, rows, columns,
                                 stride };
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
                                   c->hidden_size, c->num_attention_heads, l->max_samples };
        bool wanted = l->training && c->attention_probs_dropout_prob > 0 && model->ops->kept_bytes;
        size_t size = wanted ? model->ops->kept_bytes(&shape) : 0;

        return (struct workspace) { size > 0 ? arena_bytes(arena, size) : NULL, size };
}

/* All but the output may be shared where nothing of it is needed after the layer, or where backward makes it again. */
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
                .pre = arena_tensor(arena, t, f),
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
        b->d_first = arena_tensor(arena, model->limits.max_samples, h);
        b->d_pooled = arena_tensor(arena, model->limits.max_samples, h);
}

static void plan_classifier(struct model *model, struct arena *arena) {
        const struct classifier_config *c = &model->config.classifier;
        struct model_buffers *b = &model->buffers;
        uint32_t n = model->limits.max_samples, h = model->config.hidden_size, d = config_features(&model->config);

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
        size_t t = model->limits.max_tokens * sizeof(int32_t), b = model->limits.max_samples * sizeof(int32_t),
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

#define LOGITS_ALIGNMENT 64 /* elements: a vocabulary is often odd, and fast matrix products want aligned rows */

static void plan_buffers(struct model *model, struct arena *arena) {
        const struct model_config *c = &model->config;
        const struct model_limits *limits = &model->limits;
        struct model_buffers *b = &model->buffers;
        uint32_t t = limits->max_tokens, h = c->hidden_size, e = c->embedding_size, m = limits->max_masked;
        struct ops_shape shape = { t, m, limits->max_length, MAX(h, e), c->num_attention_heads, limits->max_samples };

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
        b->first = arena_tensor(arena, limits->max_samples, h);
        b->pooled = arena_tensor(arena, limits->max_samples, h);
        b->sentence_logits = arena_tensor(arena, limits->max_samples, 2);
        b->masked = arena_tensor(arena, m, h);
        b->transform_pre = arena_tensor(arena, m, e);
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

/* ---- life cycle ---- */

static int allocate_run(struct model *model, void **ret, enum dtype dtype, const char *what, struct error *error) {
        size_t size = model->layout.n_elements * dtype_size(dtype);

        *ret = model->ops->allocate(size);
        if (!*ret)
                return error_set(error, ENOMEM, "no memory for %zu MB of %s", size >> 20, what);
        return 0;
}

static int allocate_runs(struct model *model, struct error *error) {
        enum dtype dtype = model->ops->dtype, master = model->ops->master;

        int r = allocate_run(model, &model->parameters, master, "parameters", error);
        if (r >= 0 && dtype != master)
                r = allocate_run(model, &model->values, dtype, "rounded parameters", error);
        else
                model->values = model->parameters;
        if (r < 0 || !model->limits.training)
                return r;
        r = allocate_run(model, &model->gradients, master, "gradients", error);
        if (r >= 0)
                r = allocate_run(model, &model->moment1, master, "first moments", error);
        if (r >= 0)
                r = allocate_run(model, &model->moment2, master, "second moments", error);
        return r;
}

static int new_layers(struct model *model, struct error *error) {
        uint32_t layers = config_n_layers(&model->config);

        model->buffers.layers = calloc(layers, sizeof(struct layer_buffers));
        model->pending = calloc(model->layout.n_tensors, sizeof(*model->pending));
        model->update_tensors = calloc(model->layout.n_tensors, sizeof(*model->update_tensors));
        if (!model->buffers.layers || !model->pending || !model->update_tensors)
                return error_set(error, ENOMEM, "no memory for %u layers", layers);
        return 0;
}

static int allocate_buffers(struct model *model, struct error *error) {
        struct arena arena = { .dtype = model->ops->dtype, .master = model->ops->master };

        int r = new_layers(model, error);
        if (r < 0)
                return r;
        plan_buffers(model, &arena);
        model->arena_size = arena.used;
        model->arena = model->ops->allocate(arena.used);
        if (!model->arena)
                return error_set(error, ENOMEM, "no memory for %zu MB of activations: a smaller micro-batch needs less",
                                 arena.used >> 20);
        arena.data = model->arena;
        arena.used = 0;
        plan_buffers(model, &arena);
        model->host_row_k = model->ops->host_memory ? model->row_k : calloc(model->limits.max_tokens, sizeof(uint64_t));
        return model->host_row_k ? 0 : error_set(error, ENOMEM, "no memory for a batch");
}

/* Not in the arena, which may be a device's. */
static int allocate_host(struct model *model, struct error *error) {
        const struct classifier_config *c = &model->config.classifier;
        size_t n = model->limits.max_samples, d = config_features(&model->config), h = model->config.hidden_size;
        struct model_buffers *b = &model->buffers;

        if (c->n_labels == 0)
                return 0;
        b->host_in = calloc(n * MAX(c->n_layers * h, d), sizeof(double));
        b->host_out = calloc(n * d, sizeof(double));
        b->host_query = calloc(2 * d, sizeof(double));
        b->host_logits = calloc((size_t) model->limits.max_samples * c->n_labels, sizeof(double));
        return b->host_in && b->host_out && b->host_query && b->host_logits
                       ? 0
                       : error_set(error, ENOMEM, "no memory for a classifier");
}

int model_new(const struct model_config *config, const struct ops *ops, const struct model_limits *limits,
              struct model **ret_model, struct error *error) {
        assert(limits->max_tokens && limits->max_samples && limits->max_length);
        struct model *model = calloc(1, sizeof(*model));

        if (!model)
                return error_set(error, ENOMEM, "no memory for a model");
        model->config = *config;
        model->ops = ops;
        model->limits = *limits;
        if (limits->max_length > config->max_position_embeddings) {
                model_free(model);
                return error_set(error, EINVAL, "sequence length %u is more than max_position_embeddings %u",
                                 limits->max_length, config->max_position_embeddings);
        }
        int r = model_layout_new(config, &model->layout, error);
        if (r >= 0)
                r = allocate_runs(model, error);
        if (r >= 0)
                r = allocate_buffers(model, error);
        if (r >= 0)
                r = allocate_host(model, error);
        if (r < 0) {
                model_free(model);
                return r;
        }
        *ret_model = model;
        return 0;
}

int model_plan_memory(const struct model_config *config, const struct ops *ops, const struct model_limits *limits,
                      struct model_memory *ret_memory, struct error *error) {
        struct model *model = calloc(1, sizeof(*model));
        struct arena arena = { .dtype = ops->dtype, .master = ops->master };

        if (!model)
                return error_set(error, ENOMEM, "no memory for a model");
        *model = (struct model) { .config = *config, .ops = ops, .limits = *limits };
        int r = model_layout_new(config, &model->layout, error);
        if (r >= 0)
                r = new_layers(model, error);
        if (r >= 0) {
                size_t run = model_run_bytes(model), values = model->layout.n_elements * dtype_size(ops->dtype);
                plan_buffers(model, &arena);
                *ret_memory = (struct model_memory) { .parameters = run + (ops->dtype != ops->master ? values : 0),
                                                      .activations = arena.used };
                if (limits->training)
                        ret_memory->gradients = run, ret_memory->moments = 2 * run;
        }
        model_free(model);
        return r;
}

static void release_run(struct model *model, void *run, enum dtype dtype) {
        if (run)
                model->ops->release(run, model->layout.n_elements * dtype_size(dtype));
}

void model_free(struct model *model) {
        if (!model)
                return;
        enum dtype master = model->ops->master;
        if (model->values != model->parameters)
                release_run(model, model->values, model->ops->dtype);
        release_run(model, model->parameters, master);
        release_run(model, model->gradients, master);
        release_run(model, model->moment1, master);
        release_run(model, model->moment2, master);
        if (model->host_row_k != model->row_k)
                free(model->host_row_k);
        if (model->arena)
                model->ops->release(model->arena, model->arena_size);
        free(model->buffers.host_in);
        free(model->buffers.host_out);
        free(model->buffers.host_query);
        free(model->buffers.host_logits);
        free(model->buffers.layers);
        free(model->pending);
        free(model->update_tensors);
        model_layout_free(&model->layout);
        free(model);
}

/* ---- accessors ---- */

uint32_t model_n_tensors(const struct model *model) { return model->layout.n_tensors; }

const struct model_tensor *model_tensor(const struct model *model, uint32_t index) {
        assert(index < model->layout.n_tensors);
        return &model->layout.tensors[index];
}

size_t model_n_elements(const struct model *model) { return model->layout.n_elements; }
uint64_t model_n_parameters(const struct model *model) { return model->layout.n_parameters; }
size_t model_element_size(const struct model *model) { return dtype_size(model->ops->master); }
size_t model_run_bytes(const struct model *model) { return model->layout.n_elements * model_element_size(model); }
void *model_parameters(struct model *model) { return model->parameters; }
void *model_gradients(struct model *model) { return model->gradients; }
void *model_moment1(struct model *model) { return model->moment1; }
void *model_moment2(struct model *model) { return model->moment2; }

void model_download(struct model *model, void *to, const void *run) {
        model->ops->download(to, run, model_run_bytes(model));
}
void model_upload(struct model *model, void *run, const void *from) {
        model->ops->upload(run, from, model_run_bytes(model));
}

void *model_allocate_spare(const struct model *model, uint32_t n_runs) {
        return model->ops->allocate_spare(n_runs * model_run_bytes(model));
}
void model_release_spare(const struct model *model, void *data, uint32_t n_runs) {
        if (data)
                model->ops->release(data, n_runs * model_run_bytes(model));
}
void model_copy(struct model *model, void *to, const void *run) { model->ops->copy(to, run, model_run_bytes(model)); }
void model_mark(struct model *model) { model->ops->mark(); }
bool model_fetch(struct model *model, void *to, const void *run) {
        return model->ops->fetch(to, run, model_run_bytes(model));
}

bool model_in_host_memory(const struct model *model) { return model->ops->host_memory; }
void *model_allocate_host(const struct model *model, size_t size) { return model->ops->allocate_host(size); }
void model_release_host(const struct model *model, void *data, size_t size) { model->ops->release_host(data, size); }
uint64_t model_hash_parameters(const struct model *model) {
        return model->ops->hash(model->parameters, model_run_bytes(model));
}

void model_parameters_changed(struct model *model) {
        if (model->values != model->parameters)
                model->ops->round(model->values, model->parameters, model->layout.n_elements);
}

const char *model_failed(const struct model *model) { return model->ops->failed ? model->ops->failed() : NULL; }

static void zero_sums(struct model *model) {
        model->ops->zero(model->mlm_sums, sizeof(*model->mlm_sums));
        model->ops->zero(model->sentence_sums, sizeof(*model->sentence_sums));
}

/* In a step's first micro-batch: the others may be graphs. */
static void stamp(struct model *model, enum model_stamp i) {
        if (model->ops->stamp && model->n_passes == 0)
                model->ops->stamp(i);
}

void model_zero_gradients(struct model *model) {
        model->ops->zero(model->gradients, model_run_bytes(model));
        model->n_passes = 0;
        stamp(model, STAMP_BEGIN);
        zero_sums(model);
}

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
        return slot_tensor(model, model->values, model->ops->dtype, slot);
}
struct tensor model_master(const struct model *model, uint32_t slot) {
        return slot_tensor(model, model->parameters, model->ops->master, slot);
}
struct tensor model_gradient(const struct model *model, uint32_t slot) {
        return slot_tensor(model, model->gradients, model->ops->master, slot);
}

struct tensor model_stacked(struct tensor first) {
        if (first.rows == 1)
                first.columns = first.stride = 3 * first.columns;
        else
                first.rows *= 3;
        return first;
}

/* ---- passes ---- */

static void check_batch(const struct model *model, const struct batch *batch, const struct model_pass *pass) {
        const struct model_config *c = &model->config;

        assert(batch->n_tokens <= model->limits.max_tokens && batch->n_samples <= model->limits.max_samples);
        assert(batch->n_masked <= model->limits.max_masked && batch->max_length <= model->limits.max_length);
        assert(batch->cu_seqlens[0] == 0 && batch->cu_seqlens[batch->n_samples] == (int32_t) batch->n_tokens);
        for (uint32_t t = 0; t < batch->n_tokens; t++) {
                assert((uint32_t) batch->ids[t] < c->vocab_size);
                assert((uint32_t) batch->positions[t] < c->max_position_embeddings);
                assert((uint32_t) batch->token_types[t] < c->type_vocab_size);
        }
        for (uint32_t i = 0; i < batch->n_masked; i++) {
                assert((uint32_t) batch->masked_rows[i] < batch->n_tokens);
                assert(batch->masked_labels[i] < (int32_t) c->vocab_size);
        }
        for (uint32_t i = 0; i < batch->n_samples; i++)
                assert(batch->cu_seqlens[i] < batch->cu_seqlens[i + 1]);
        if (!pass->classify) {
                for (uint32_t i = 0; i < batch->n_samples; i++)
                        assert(batch->sentence_labels[i] < 2);
                return;
        }
        assert(batch->text_begin[0] == 0 && batch->text_begin[batch->n_texts] == (int32_t) batch->n_samples);
        for (uint32_t i = 0; i < batch->n_texts; i++)
                assert(batch->sentence_labels[i] < (int32_t) c->classifier.n_labels);
}

static void upload_batch(struct model *model, const struct batch *from) {
        const struct ops *ops = model->ops;
        struct batch *to = &model->batch;
        size_t t = from->n_tokens * sizeof(int32_t), b = from->n_samples * sizeof(int32_t),
               m = from->n_masked * sizeof(int32_t);

        to->n_samples = from->n_samples;
        to->n_texts = from->n_texts;
        to->n_tokens = from->n_tokens;
        to->n_masked = from->n_masked;
        to->max_length = from->max_length;
        ops->upload(to->ids, from->ids, t);
        ops->upload(to->token_types, from->token_types, t);
        ops->upload(to->positions, from->positions, t);
        ops->upload(to->cu_seqlens, from->cu_seqlens, b + sizeof(int32_t));
        ops->upload(to->sample_k, from->sample_k, 2 * b);
        ops->upload(to->masked_rows, from->masked_rows, m);
        ops->upload(to->masked_labels, from->masked_labels, m);
        ops->upload(to->sentence_labels, from->sentence_labels, b);
        ops->upload(model->row_k, model->host_row_k, 2 * t);
}

static void begin_batch(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        check_batch(model, batch, pass);
        for (uint32_t s = 0; s < batch->n_samples; s++)
                for (int32_t t = batch->cu_seqlens[s]; t < batch->cu_seqlens[s + 1]; t++)
                        model->host_row_k[t] = batch->sample_k[s];
        model->host_batch = batch;
        if (model->ops->host_memory)
                model->batch = *batch;
        else
                upload_batch(model, batch);
}

void model_take_loss(struct model *model, struct model_loss *loss) {
        struct xent_sums mlm, sentence;

        model->ops->download(&mlm, model->mlm_sums, sizeof(mlm));
        model->ops->download(&sentence, model->sentence_sums, sizeof(sentence));
        zero_sums(model);
        loss->mlm_sum += mlm.loss;
        loss->mlm_count += mlm.count;
        loss->mlm_correct += mlm.correct;
        loss->sentence_sum += sentence.loss;
        loss->sentence_count += sentence.count;
        loss->sentence_correct += sentence.correct;
}

/* A graph is made while the device still has the micro-batch before to do: for a step's first it would wait. The classifier computes on the
 * host too, and who listens for gradients sends them on. */
static bool may_be_graph(const struct model *model, const struct model_pass *pass) {
        return model->ops->begin_graph && model->n_passes > 0 && !pass->classify && !pass->ready;
}

void model_forward_backward(struct model *model, const struct batch *batch, const struct model_pass *pass,
                            struct model_loss *loss) {
        assert(model->limits.training);
        if (!batch->n_samples)
                return;
        uint64_t begin = clock_monotonic_usec();
        begin_batch(model, batch, pass);
        bool graph = may_be_graph(model, pass) && model->ops->begin_graph();
        model_forward(model, &model->batch, pass, true);
        stamp(model, STAMP_FORWARD);
        model->forward_usec += clock_monotonic_usec() - begin;
        model_backward(model, &model->batch, pass);
        stamp(model, STAMP_BACKWARD);
        if (graph && !model->ops->end_graph()) {
                model_forward(model, &model->batch, pass, true);
                model_backward(model, &model->batch, pass);
        }
        model->n_passes++;
        if (loss)
                model_take_loss(model, loss);
        model->usec += clock_monotonic_usec() - begin;
}

double model_take_forward_share(struct model *model) {
        const struct ops *ops = model->ops;
        double forward = (double) model->forward_usec, all = (double) model->usec;

        if (ops->stamp) {
                forward = ops->between(STAMP_BEGIN, STAMP_FORWARD);
                all = ops->between(STAMP_BEGIN, STAMP_BACKWARD);
        }
        model->forward_usec = model->usec = 0;
        return all > 0 ? forward / all : 0;
}

void model_evaluate(struct model *model, const struct batch *batch, const struct model_pass *pass,
                    struct model_loss *loss) {
        if (!batch->n_samples)
                return;
        begin_batch(model, batch, pass);
        model_forward(model, &model->batch, pass, false);
        model_take_loss(model, loss);
}

void model_classify(struct model *model, const struct batch *batch, double *logits) {
        const struct model_pass pass = { .classify = true };
        struct model_loss loss = {};

        model_evaluate(model, batch, &pass, &loss);
        if (batch->n_samples)
                model->ops->load(model->ops->dtype, model->buffers.class_logits.data, 0, logits,
                                 (size_t) batch->n_texts * model->config.classifier.n_labels);
}

/* `forward` again for the gradients of weights and of the input, where they are wanted. */
static double with_backward(double forward, bool weights, bool input) { return forward * (1 + weights + input); }

static double encoder_flops(const struct model *model, double n, const struct model_pass *pass, enum freeze frozen) {
        const struct model_config *c = &model->config;
        bool layers = frozen < FREEZE_ENCODER, embeddings = frozen < FREEZE_EMBEDDINGS;
        double h = c->hidden_size, f = c->intermediate_size, e = c->embedding_size;
        double layer = 8 * n * h * h + 4 * n * h * f + 4 * n * n * h;
        double flops = with_backward(model_n_layers(model, pass) * layer, layers, layers);

        if (c->embedding_mapping)
                return flops + with_backward(2 * n * e * h, layers, embeddings);
        return layers && !embeddings ? flops - 6 * n * h * h : flops;
}

static double pretraining_flops(const struct model *model, const struct batch *batch) {
        double h = model->config.hidden_size, v = model->config.vocab_size, e = model->config.embedding_size;
        uint32_t sentences = 0;

        for (uint32_t i = 0; i < batch->n_texts; i++)
                sentences += batch->sentence_labels[i] >= 0;
        return with_backward(2 * h * h * sentences + batch->n_masked * (2 * h * e + 2 * e * v), true, true);
}

static double classifier_flops(const struct model *model, const struct batch *batch, enum freeze frozen) {
        const struct classifier_config *c = &model->config.classifier;
        double h = model->config.hidden_size, features = config_features(&model->config);
        bool layers = frozen < FREEZE_ENCODER, pooled = c->input == INPUT_POOLED, pooler = frozen < FREEZE_FEATURES;
        double flops = with_backward(2 * features * c->n_labels * batch->n_texts, true, layers || (pooled && pooler));

        return pooled ? flops + with_backward(2 * h * h * batch->n_samples, pooler, layers) : flops;
}

double model_batch_flops(const struct model *model, const struct batch *batch, const struct model_pass *pass) {
        enum freeze frozen = pass->classify ? pass->frozen : FREEZE_NONE;
        double flops = pass->classify ? classifier_flops(model, batch, frozen) : pretraining_flops(model, batch);

        for (uint32_t s = 0; s < batch->n_samples; s++)
                flops += encoder_flops(model, batch->cu_seqlens[s + 1] - batch->cu_seqlens[s], pass, frozen);
        return flops;
}
