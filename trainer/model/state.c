/* See state.h. Owns the runs. */
#include "trainer/model/state.h"

#include <errno.h>

#include "trainer/ops/ops.h"

static int allocate_run(struct model_state *state, void **ret, enum dtype dtype, const char *what,
                        struct error *error) {
        size_t size = state->n_elements * dtype_size(dtype);

        *ret = state->ops->allocate(size);
        if (!*ret)
                return error_set(error, ENOMEM, "no memory for %zu MB of %s", size >> 20, what);
        return 0;
}

int state_allocate(struct model_state *state, const struct ops *ops, size_t n_elements, bool training,
                   struct error *error) {
        enum dtype dtype = ops->dtype, master = ops->master;

        *state = (struct model_state) { .ops = ops,
                                        .n_elements = n_elements,
                                        .element_size = dtype_size(master),
                                        .run_bytes = n_elements * dtype_size(master) };
        int r = allocate_run(state, &state->parameters, master, "parameters", error);
        if (r >= 0 && dtype != master)
                r = allocate_run(state, &state->values, dtype, "rounded parameters", error);
        else
                state->values = state->parameters;
        if (r < 0 || !training)
                return r;
        r = allocate_run(state, &state->gradients, master, "gradients", error);
        if (r >= 0)
                r = allocate_run(state, &state->moment1, master, "first moments", error);
        if (r >= 0)
                r = allocate_run(state, &state->moment2, master, "second moments", error);
        return r;
}

void state_free(struct model_state *state) {
        void *const runs[] = { state->parameters, state->gradients, state->moment1, state->moment2 };

        if (state->values && state->values != state->parameters)
                state->ops->release(state->values, state->n_elements * dtype_size(state->ops->dtype));
        for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
                if (runs[i])
                        state->ops->release(runs[i], state->run_bytes);
        *state = (struct model_state) {};
}

void state_parameters_changed(const struct model_state *state) {
        if (state->values != state->parameters)
                state->ops->round(state->values, state->parameters, state->n_elements);
}

void state_zero_gradients(const struct model_state *state) { state->ops->zero(state->gradients, state->run_bytes); }

bool state_in_host_memory(const struct model_state *state) { return state->ops->host_memory; }

void state_download(const struct model_state *state, void *to, const void *run) {
        state->ops->download(to, run, state->run_bytes);
}

void state_upload(const struct model_state *state, void *run, const void *from) {
        state->ops->upload(run, from, state->run_bytes);
}

void *state_allocate_spare(const struct model_state *state, uint32_t n_runs) {
        return state->ops->allocate_spare(n_runs * state->run_bytes);
}

void state_release_spare(const struct model_state *state, void *data, uint32_t n_runs) {
        if (data)
                state->ops->release(data, n_runs * state->run_bytes);
}

void state_copy(const struct model_state *state, void *to, const void *run) {
        state->ops->copy(to, run, state->run_bytes);
}

void state_mark(const struct model_state *state) { state->ops->mark(); }

bool state_fetch(const struct model_state *state, void *to, const void *run) {
        return state->ops->fetch(to, run, state->run_bytes);
}

void *state_allocate_host(const struct model_state *state, size_t size) { return state->ops->allocate_host(size); }

void state_release_host(const struct model_state *state, void *data, size_t size) {
        state->ops->release_host(data, size);
}

uint64_t state_hash(const struct model_state *state) { return state->ops->hash(state->parameters, state->run_bytes); }
