/* See state.h. Owns the runs. */
#include "trainer/model/state.h"

#include <errno.h>

#include "trainer/ops/ops.h"

size_t state_bytes(const struct ops *ops, size_t n_elements, bool training, enum state_run run) {
        if (run == RUN_VALUES)
                return ops->dtype != ops->master ? n_elements * dtype_size(ops->dtype) : 0;
        return run == RUN_PARAMETERS || training ? n_elements * dtype_size(ops->master) : 0;
}

size_t state_snapshot_bytes(const struct ops *ops, size_t n_elements) {
        return state_bytes(ops, n_elements, true, RUN_PARAMETERS) + state_bytes(ops, n_elements, true, RUN_MOMENT1) +
               state_bytes(ops, n_elements, true, RUN_MOMENT2);
}

static void **place_of(struct model_state *state, enum state_run run) {
        void **places[STATE_RUN_MAX] = { &state->parameters, &state->values, &state->gradients, &state->moment1,
                                         &state->moment2 };
        return places[run];
}

int state_allocate(struct model_state *state, const struct ops *ops, size_t n_elements, bool training,
                   struct error *error) {
        static const char *const names[STATE_RUN_MAX] = { "parameters", "rounded parameters", "gradients",
                                                          "first moments", "second moments" };

        *state = (struct model_state) { .ops = ops,
                                        .n_elements = n_elements,
                                        .element_size = dtype_size(ops->master),
                                        .run_bytes = state_bytes(ops, n_elements, training, RUN_PARAMETERS) };
        for (enum state_run run = 0; run < STATE_RUN_MAX; run++) {
                size_t size = state_bytes(ops, n_elements, training, run);
                void **data = place_of(state, run);
                *data = size > 0 ? ops->allocate(size) : NULL;
                if (size > 0 && !*data)
                        return error_set(error, ENOMEM, "no memory for %zu MB of %s", size >> 20, names[run]);
        }
        if (!state->values)
                state->values = state->parameters;
        return 0;
}

void state_free(struct model_state *state) {
        if (state->values == state->parameters)
                state->values = NULL;
        for (enum state_run run = 0; run < STATE_RUN_MAX; run++) {
                void *data = *place_of(state, run);
                if (data)
                        state->ops->release(data, state_bytes(state->ops, state->n_elements, true, run));
        }
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
