/*
 * What training changes of a model: parameters, gradients and both moments, each one contiguous run of `n_elements` values, tensors in
 * model_tensor order, so the exchange, the norms, the optimizer and checkpoints see flat memory. Alignment gaps are always 0.
 *
 * Runs are in the backend's memory, to be looked into only if state_in_host_memory, else by state_download and state_upload.
 */
#ifndef TRAINER_MODEL_STATE_H
#define TRAINER_MODEL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct ops;

struct model_state {
        const struct ops *ops;
        size_t n_elements, element_size; /* of a run; 4 bytes (fp32) or 8 (fp64 backend) */
        size_t run_bytes;
        void *parameters, *gradients, *moment1, *moment2; /* NULL but for parameters unless training */
        void *values; /* parameters in the backend's dtype: `parameters` itself if that is the master dtype */
};

enum state_run {
        RUN_PARAMETERS,
        RUN_VALUES, /* of the backend's dtype, unless that is the master's */
        RUN_GRADIENTS,
        RUN_MOMENT1,
        RUN_MOMENT2,
        STATE_RUN_MAX
};

/* Bytes that state_allocate allocates for a run; 0: the state has no such run. */
size_t state_bytes(const struct ops *ops, size_t n_elements, bool training, enum state_run run);
/* Bytes of a copy of what a checkpoint keeps: parameters and both moments. */
size_t state_snapshot_bytes(const struct ops *ops, size_t n_elements);

/* state_free in any case. */
int state_allocate(struct model_state *state, const struct ops *ops, size_t n_elements, bool training,
                   struct error *error);
void state_free(struct model_state *state);

/* To be called when parameters were changed otherwise than by model_init and optimizer_update. */
void state_parameters_changed(const struct model_state *state);
void state_zero_gradients(const struct model_state *state);

bool state_in_host_memory(const struct model_state *state);
void state_download(const struct model_state *state, void *to, const void *run);
void state_upload(const struct model_state *state, void *run, const void *from);

/* A copy beside training, by the table's entries (ops.h): n_runs of run_bytes, NULL if there is no memory to spare. */
void *state_allocate_spare(const struct model_state *state, uint32_t n_runs);
void state_release_spare(const struct model_state *state, void *data, uint32_t n_runs);
void state_copy(const struct model_state *state, void *to, const void *run);
void state_mark(const struct model_state *state);
bool state_fetch(const struct model_state *state, void *to, const void *run);

/* Host memory that both are fast with. */
void *state_allocate_host(const struct model_state *state, size_t size);
void state_release_host(const struct model_state *state, void *data, size_t size);

uint64_t state_hash(const struct model_state *state); /* of the parameters: compares ranks */

#endif
