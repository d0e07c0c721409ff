/*
 * Watches the GPUs that bertd may give to jobs, with a child that queries the driver (nvml.h): on demand before one is
 * given to a job, every few seconds while one is blocked or a job waits for one, else twice a minute. Without NVML it
 * does nothing, and every GPU without a job is free.
 */
#ifndef DAEMON_GPU_WATCH_H
#define DAEMON_GPU_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/loop.h"
#include "daemon/gpu/gpus.h"
#include "daemon/gpu/health.h"

struct gpu_watch;

/* Borrows `gpus`. `on_change` is called after each answer. */
int gpu_watch_new(struct loop *loop, const struct gpus *gpus, void (*on_change)(void *userdata), void *userdata,
                  struct gpu_watch **ret);
void gpu_watch_free(struct gpu_watch *watch);

/* Sets the job of each GPU (0 = none). Call it for each GPU after each change; a released GPU is checked before it is
 * given to another job. */
void gpu_watch_holder(struct gpu_watch *watch, uint32_t gpu, uint64_t job);

/* True if the last answer is recent enough to give GPUs to jobs; else starts a query, and on_change follows. */
bool gpu_watch_fresh(struct gpu_watch *watch);

/* Starts a query if the last answer is older than a few seconds; does not wait. */
void gpu_watch_refresh(struct gpu_watch *watch);

/* Bit mask of the GPUs in that state that no job uses. NULL watch: none. */
uint64_t gpu_watch_in_state(const struct gpu_watch *watch, enum gpu_state state);

/* Bit mask of the GPUs that no job uses and that cannot be given to one. NULL watch: none. */
uint64_t gpu_watch_blocked(const struct gpu_watch *watch);

/* How long ago the driver reported what gpu_watch_use returns; UINT64_MAX: it has not lately. NULL watch: likewise. */
uint64_t gpu_watch_age(const struct gpu_watch *watch);
/* What the driver reports of a GPU, in use or not; NULL: nothing lately. Borrowed until the loop's next turn. */
const struct nvml_gpu *gpu_watch_use(const struct gpu_watch *watch, const char *name);

/* The note of a GPU, "" = none. */
const char *gpu_watch_note(const struct gpu_watch *watch, uint32_t gpu);

#endif
