/*
 * See saver.h. Owns the worker and the snapshot (parameters and both moments, one after the other). Where a device has memory to spare
 * the state is copied there first, which takes no time, and training need not wait for the thread. Invariants: snapshot, spare and
 * result belong to the worker while it is busy, to the caller otherwise; the model's state is lent to it until it is copied.
 */
#include "trainer/checkpoint/saver.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/clock.h"
#include "common/worker.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/checkpoint/writer.h"

static const char *const kinds[] = { "param", "moment1", "moment2" };
enum { N_KINDS = 3 };

struct saver {
        struct worker *worker;
        struct model *model;
        const struct model_state *state; /* its */
        size_t run_bytes;
        char *snapshot;                    /* N_KINDS × run_bytes */
        char *spare;                       /* as many in the backend's memory; NULL: the state itself is read */
        struct checkpoint_tensor *tensors; /* (N_KINDS × n_tensors), data in the snapshot */
        struct checkpoint_meta meta;
        const struct assets *assets; /* NULL: none */
        struct saver_result result;
};

static void describe_tensors(struct saver *saver) {
        uint32_t n = model_n_tensors(saver->model);
        size_t size = saver->state->element_size;

        for (uint32_t kind = 0; kind < N_KINDS; kind++) {
                for (uint32_t i = 0; i < n; i++) {
                        const struct model_tensor *t = model_tensor(saver->model, i);
                        saver->tensors[kind * n + i] =
                                weights_describe(saver->model, t, kinds[kind],
                                                 saver->snapshot + kind * saver->run_bytes + t->offset * size);
                }
        }
}

/* Infinities and NaN have all bits of the exponent. */
static bool is_finite(const struct checkpoint_tensor *t) {
        const uint64_t mask64 = UINT64_C(0x7ff) << 52;
        const uint32_t mask32 = 0xffu << 23;
        bool single = strcmp(t->dtype, "float32") == 0, bad = false;

        for (size_t i = 0; single && i < t->size / 4; i++)
                bad |= (((const uint32_t *) t->data)[i] & mask32) == mask32;
        for (size_t i = 0; !single && i < t->size / 8; i++)
                bad |= (((const uint64_t *) t->data)[i] & mask64) == mask64;
        return !bad;
}

/* An update may overflow where the gradients were finite. */
static int check_snapshot(struct saver *saver) {
        for (uint32_t i = 0; i < N_KINDS * model_n_tensors(saver->model); i++)
                if (!is_finite(&saver->tensors[i]))
                        return error_input(&saver->result.error, BERTD_EXIT_NAN,
                                           "step %" PRIu64 ": %s (%s) is not finite after the update",
                                           saver->result.step, saver->tensors[i].name, saver->tensors[i].kind);
        return 0;
}

static const void *run_of(const struct saver *saver, uint32_t kind) {
        const void *runs[N_KINDS] = { saver->state->parameters, saver->state->moment1, saver->state->moment2 };
        return runs[kind];
}

static int fetch_state(struct saver *saver) {
        bool ok = true;

        for (uint32_t kind = 0; ok && kind < N_KINDS; kind++)
                ok = state_fetch(saver->state, saver->snapshot + kind * saver->run_bytes,
                                 saver->spare ? saver->spare + kind * saver->run_bytes : run_of(saver, kind));
        worker_release(saver->worker);
        return ok ? 0 : error_errno(&saver->result.error, EIO, "the device's memory");
}

static void write_snapshot(void *context) {
        struct saver *saver = context;
        uint64_t begin = clock_monotonic_usec();

        saver->result.error = (struct error) {};
        saver->result.r = fetch_state(saver);
        if (saver->result.r >= 0)
                saver->result.r = check_snapshot(saver);
        if (saver->result.r >= 0)
                saver->result.r =
                        checkpoint_write(saver->result.path, &saver->meta, saver->tensors,
                                         N_KINDS * model_n_tensors(saver->model), saver->assets, &saver->result.error);
        saver->result.seconds = (double) (clock_monotonic_usec() - begin) / 1e6;
        saver->result.done = true;
}

int saver_new(struct model *model, struct saver **ret, struct error *error) {
        struct saver *saver = calloc(1, sizeof(*saver));
        if (!saver)
                return error_errno(error, ENOMEM, "checkpoint snapshot");

        saver->model = model;
        saver->state = model_state(model);
        saver->run_bytes = model_state(model)->run_bytes;
        saver->snapshot = state_allocate_host(model_state(model), N_KINDS * saver->run_bytes);
        saver->tensors = calloc((size_t) N_KINDS * model_n_tensors(model), sizeof(*saver->tensors));
        if (!saver->snapshot || !saver->tensors) {
                int r = error_errno(error, ENOMEM, "checkpoint snapshot of %zu bytes", N_KINDS * saver->run_bytes);
                saver_free(saver);
                return r;
        }
        describe_tensors(saver);
        int r = worker_new(write_snapshot, saver, &saver->worker);
        if (r < 0) {
                saver_free(saver);
                return error_errno(error, -r, "checkpoint thread");
        }
        *ret = saver;
        return 0;
}

void saver_set_assets(struct saver *saver, const struct assets *assets) { saver->assets = assets; }

void saver_take_spare(struct saver *saver) { saver->spare = state_allocate_spare(saver->state, N_KINDS); }

void saver_free(struct saver *saver) {
        if (!saver)
                return;
        worker_free(saver->worker);
        checkpoint_meta_free(&saver->meta);
        free(saver->tensors);
        state_release_spare(saver->state, saver->spare, N_KINDS);
        if (saver->snapshot)
                state_release_host(saver->state, saver->snapshot, N_KINDS * saver->run_bytes);
        free(saver);
}

static void take_result(struct saver *saver, struct saver_result *ret) {
        *ret = saver->result;
        saver->result.done = false;
}

void saver_poll(struct saver *saver, struct saver_result *ret) {
        if (worker_is_busy(saver->worker))
                ret->done = false;
        else
                take_result(saver, ret);
}

void saver_wait(struct saver *saver, struct saver_result *ret) {
        worker_wait(saver->worker);
        take_result(saver, ret);
}

void saver_begin(struct saver *saver, const char *path, uint64_t step, const struct checkpoint_meta *meta,
                 struct saver_result *ret_previous) {
        saver_wait(saver, ret_previous);
        checkpoint_meta_free(&saver->meta);
        checkpoint_meta_copy(&saver->meta, meta);
        (void) snprintf(saver->result.path, sizeof(saver->result.path), "%s", path);
        saver->result.step = step;
        for (uint32_t kind = 0; saver->spare && kind < N_KINDS; kind++)
                state_copy(saver->state, saver->spare + kind * saver->run_bytes, run_of(saver, kind));
        state_mark(saver->state);
        worker_begin(saver->worker, !saver->spare);
}

void saver_settle(struct saver *saver) { worker_settle(saver->worker); }
