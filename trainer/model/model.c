/* The model as an object: its life cycle and accessors. Owns layout, state, the arena of activations and what a batch needs on the host. */
#include "trainer/model/model.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "trainer/model/internal.h"

#define MIB ((size_t) 1 << 20)

/* ---- life cycle ---- */

static int new_layers(struct model *model, struct error *error) {
        uint32_t layers = config_n_layers(&model->config);

        model->buffers.layers = calloc(layers, sizeof(struct layer_buffers));
        model->pending = calloc(model->layout.n_tensors, sizeof(*model->pending));
        model->stale = calloc(model->layout.n_tensors, sizeof(*model->stale));
        model->update_tensors = calloc(model->layout.n_tensors, sizeof(*model->update_tensors));
        if (!model->buffers.layers || !model->pending || !model->stale || !model->update_tensors)
                return error_set(error, ENOMEM, "no memory for %u layers", layers);
        return 0;
}

static int allocate_buffers(struct model *model, size_t size, struct error *error) {
        struct arena arena = { .dtype = model->ops->dtype, .master = model->ops->master };

        model->arena_size = size;
        model->arena = model->ops->allocate(size);
        if (!model->arena)
                return error_set(error, ENOMEM, "no memory for %zu MB of activations: a smaller micro-batch needs less",
                                 size >> 20);
        arena.data = model->arena;
        buffers_plan(model, &arena);
        assert(arena.used == size);
        model->host_row_k = model->ops->host_memory ? model->row_k : calloc(model->limits.max_tokens, sizeof(uint64_t));
        return model->host_row_k ? 0 : error_set(error, ENOMEM, "no memory for a batch");
}

/* Not in the arena, which may be a device's. */
static int allocate_host(struct model *model, struct error *error) {
        const struct classifier_config *c = &model->config.classifier;
        size_t n = model->limits.max_sequences, d = config_features(&model->config), h = model->config.hidden_size;
        struct model_buffers *b = &model->buffers;

        if (c->n_labels == 0)
                return 0;
        b->host_in = calloc(n * MAX(c->n_layers * h, d), sizeof(double));
        b->host_out = calloc(n * d, sizeof(double));
        b->host_query = calloc(2 * d, sizeof(double));
        b->host_logits = calloc((size_t) model->limits.max_sequences * c->n_labels, sizeof(double));
        return b->host_in && b->host_out && b->host_query && b->host_logits
                       ? 0
                       : error_set(error, ENOMEM, "no memory for a classifier");
}

static int check_length(const struct model_config *config, const struct model_limits *limits, struct error *error) {
        assert(limits->max_tokens && limits->max_sequences && limits->max_length);
        if (limits->max_length <= config->max_position_embeddings)
                return 0;
        return error_set(error, EINVAL, "sequence length %u is more than max_position_embeddings %u",
                         limits->max_length, config->max_position_embeddings);
}

/* Fills in what needs none of the backend's memory, and how much of it the model will take. */
static int plan(struct model *model, struct model_memory *ret, struct error *error) {
        const struct ops *ops = model->ops;
        bool training = model->limits.training;
        struct arena arena = { .dtype = ops->dtype, .master = ops->master };

        int r = model_layout_new(&model->config, &model->layout, error);
        if (r >= 0)
                r = new_layers(model, error);
        if (r < 0)
                return r;
        buffers_plan(model, &arena);
        size_t n = model->layout.n_elements;
        *ret = (struct model_memory) {
                .parameters = state_bytes(ops, n, training, RUN_PARAMETERS) + state_bytes(ops, n, training, RUN_VALUES),
                .gradients = state_bytes(ops, n, training, RUN_GRADIENTS),
                .moments = state_bytes(ops, n, training, RUN_MOMENT1) + state_bytes(ops, n, training, RUN_MOMENT2),
                .activations = arena.used,
                .snapshot = state_snapshot_bytes(ops, n),
        };
        return 0;
}

/* Before any allocation: the driver would report no more than that it failed. */
static int check_room(const struct ops *ops, const struct model_memory *memory, struct error *error) {
        size_t unused, all, need = model_memory_sum(memory);

        if (!ops->memory || !ops->memory(&unused, &all) || need <= unused)
                return 0;
        return error_set(
                error, ENOMEM,
                "GPU memory: %zu MiB are needed, but %zu of %zu MiB are free; free some, or compute on the CPU",
                (need + MIB - 1) >> 20, unused >> 20, all >> 20);
}

static int allocate(struct model *model, struct error *error) {
        struct model_memory memory;

        int r = plan(model, &memory, error);
        if (r >= 0)
                r = check_room(model->ops, &memory, error);
        if (r >= 0)
                r = state_allocate(&model->state, model->ops, model->layout.n_elements, model->limits.training, error);
        if (r >= 0)
                r = allocate_buffers(model, memory.activations, error);
        return r >= 0 ? allocate_host(model, error) : r;
}

int model_new(const struct model_config *config, const struct ops *ops, const struct model_limits *limits,
              struct model **ret_model, struct error *error) {
        int r = check_length(config, limits, error);
        if (r < 0)
                return r;
        struct model *model = calloc(1, sizeof(*model));

        if (!model)
                return error_set(error, ENOMEM, "no memory for a model");
        *model = (struct model) { .config = *config, .ops = ops, .limits = *limits };
        r = allocate(model, error);
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

        if (!model)
                return error_set(error, ENOMEM, "no memory for a model");
        *model = (struct model) { .config = *config, .ops = ops, .limits = *limits };
        int r = plan(model, ret_memory, error);
        model_free(model);
        return r;
}

void model_free(struct model *model) {
        if (!model)
                return;
        state_free(&model->state);
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
        free(model->stale);
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

const struct model_state *model_state(const struct model *model) { return &model->state; }
const struct model_config *model_config(const struct model *model) { return &model->config; }
uint64_t model_n_parameters(const struct model *model) { return model->layout.n_parameters; }

const char *model_failed(const struct model *model) { return model->ops->failed ? model->ops->failed() : NULL; }
