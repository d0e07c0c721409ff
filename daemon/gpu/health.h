/* Which GPUs may be given to a job: not in use outside bertd, and clean again after a job. Pure. */
#ifndef DAEMON_GPU_HEALTH_H
#define DAEMON_GPU_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/gpu/nvml.h"

#define GPU_NOTE_MAX 192
#define GPU_BASELINE_TOLERANCE (UINT64_C(256) << 20) /* bytes over its baseline that a free GPU may have in use */

enum gpu_state {
        GPU_FREE,        /* or a job's: this module does not know */
        GPU_BUSY,        /* processes or memory not of bertd's jobs */
        GPU_QUARANTINED, /* a job left processes or memory */
        GPU_UNKNOWN,     /* the driver does not answer, or the GPU is not listed */
};

struct gpu_health {
        enum gpu_state state;
        bool released;           /* a job released it; not seen clean since */
        uint64_t job;            /* its last job, 0 = none since bertd started */
        uint64_t baseline;       /* least memory in use seen without a process; UINT64_MAX = not seen yet */
        char note[GPU_NOTE_MAX]; /* "in use outside bertd: pid 1234 (user bob), 8.1 GiB"; "" when free */
};

/* Sets the state and note of a GPU that no job uses, and its baseline. `gpu` NULL: not listed by the driver. */
void gpu_judge(struct gpu_health *health, const struct nvml_gpu *gpu);

/* Sets GPU_UNKNOWN, with the reason. */
void gpu_unknown(struct gpu_health *health, const char *why);
/* Sets GPU_BUSY: not given as such, for this reason. */
void gpu_withhold(struct gpu_health *health, const char *why);

#endif
