/*
 * Watches the GPUs that bertd may give to jobs, by a child that asks the driver (nvml.h): on demand before one is given, every few
 * seconds while one cannot be given or a job waits for one, else twice a minute. Where there is no NVML it does nothing, and
 * every GPU that no job uses is free.
 */
#ifndef DAEMON_GPU_WATCH_H
#define DAEMON_GPU_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/loop.h"
#include "daemon/gpu/gpus.h"

struct gpu_watch;

/* Borrows `gpus`. `on_change` is called after each answer. */
int gpu_watch_new(struct loop *loop, const struct gpus *gpus, void (*on_change)(void *userdata), void *userdata,
                  struct gpu_watch **ret);
void gpu_watch_free(struct gpu_watch *watch);

/* Who uses what now: job 0 = nobody. To be called after each change, for each GPU; what a job lets go is looked at before it is
 * given again. */
void gpu_watch_holder(struct gpu_watch *watch, uint32_t gpu, uint64_t job);

/* True where the last answer is recent enough to give GPUs away; else asks, and on_change follows. */
bool gpu_watch_fresh(struct gpu_watch *watch);

/* Asks where the last answer is older than a few seconds; nobody waits for it. */
void gpu_watch_refresh(struct gpu_watch *watch);

/* The GPUs that no job uses and that cannot be given. `state`: of these, GPU_FREE = all. NULL watch: none. */
uint64_t gpu_watch_blocked(const struct gpu_watch *watch, enum gpu_state state);

/* The note on a GPU, "" = none. */
const char *gpu_watch_note(const struct gpu_watch *watch, uint32_t gpu);

#endif
