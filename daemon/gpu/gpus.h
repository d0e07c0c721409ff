/*
 * The host's GPUs: names for CUDA_VISIBLE_DEVICES (UUIDs where the driver tells them), at most 64, and which of them
 * may be given to a job: not used by another, not in use outside bertd, and after a job clean again. Pure but for
 * gpus_find.
 */
#ifndef DAEMON_GPUS_H
#define DAEMON_GPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/gpu/nvml.h"

#define GPUS_MAX NVML_GPUS_MAX
#define GPU_NAME_MAX NVML_NAME_MAX
#define GPU_NOTE_MAX 192
#define GPU_BASELINE_TOLERANCE (UINT64_C(256) << 20) /* bytes over its baseline that a free GPU may have in use */

struct gpus {
        uint32_t n;
        char names[GPUS_MAX][GPU_NAME_MAX];
};

enum gpu_state {
        GPU_FREE,        /* or a job's: that is not this module's to know */
        GPU_BUSY,        /* processes or memory that are not ours */
        GPU_QUARANTINED, /* what a job left */
        GPU_UNKNOWN,     /* the driver does not answer, or does not list it */
};

struct gpu_health {
        enum gpu_state state;
        bool released;     /* by a job, and not seen clean since */
        uint64_t job;      /* that had it last, 0 = none since bertd started */
        uint64_t baseline; /* the least memory in use that was seen without a process; UINT64_MAX = not seen yet */
        char note[GPU_NOTE_MAX]; /* "in use outside bertd: pid 1234 (user bob), 8.1 GiB"; "" when free */
};

/* `option`: NULL = what the NVIDIA driver lists (NVML, else /proc), a number = indices 0…N−1, else names separated by commas. */
int gpus_find(const char *option, struct gpus *ret, struct error *error);

/* `want` of those outside `taken` as a bit mask (the lowest first); 0 where there are not so many. */
uint64_t gpus_take(const struct gpus *gpus, uint64_t taken, uint32_t want);

/* Their names, as CUDA_VISIBLE_DEVICES wants them: what a job holds, also after a restart with another list. The caller frees. */
char *gpus_visible(const struct gpus *gpus, uint64_t mask);

/* Which of the list `names` (NULL = none) are. `ret_missing` (may be NULL): how many of the names it has not. */
uint64_t gpus_mask(const struct gpus *gpus, const char *names, uint32_t *ret_missing);

/* Takes the next of `*names` that the list does not have; false: no more. */
bool gpus_next_missing(const struct gpus *gpus, const char **names, char name[GPU_NAME_MAX]);

/* The driver's record of GPU `name` (a UUID, its beginning, or an index), or NULL. */
const struct nvml_gpu *gpus_listed(const struct nvml_answer *answer, const char *name);

/* Sets the state and note of a GPU that no job uses, and its baseline. `gpu` NULL: not listed by the driver. */
void gpu_judge(struct gpu_health *health, const struct nvml_gpu *gpu);

/* No answer, for this reason. */
void gpu_unknown(struct gpu_health *health, const char *why);

#endif
