/* The host's GPUs: names for CUDA_VISIBLE_DEVICES (UUIDs if the driver reports them), at most 64. A GPU that is divided
 * by MIG is not one of them, its MIG devices are. Pure except gpus_find. */
#ifndef DAEMON_GPU_GPUS_H
#define DAEMON_GPU_GPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/gpu/nvml.h"

#define GPUS_MAX NVML_GPUS_MAX
#define GPU_NAME_MAX NVML_NAME_MAX

struct gpus {
        uint32_t n;
        char names[GPUS_MAX][GPU_NAME_MAX];
};

/* `option`: NULL = what the NVIDIA driver lists (NVML, else /proc), a number = indices 0…N−1, else names separated by
 * commas. */
int gpus_find(const char *option, struct gpus *ret, struct error *error);

/* `want` of those outside `taken`, lowest first, as a bit mask; 0 if there are not enough. */
uint64_t gpus_take(const struct gpus *gpus, uint64_t taken, uint32_t want);

/* Their names for CUDA_VISIBLE_DEVICES; a job holds these names, also after a restart with another list. The caller
 * frees. */
char *gpus_visible(const struct gpus *gpus, uint64_t mask);

/* Bit mask of `names` (NULL = none) in the list. `ret_missing` (may be NULL): number of names not in the list. */
uint64_t gpus_mask(const struct gpus *gpus, const char *names, uint32_t *ret_missing);

/* Takes the next of `*names`, or the next that is not in the list; false: no more. */
bool gpus_next(const char **names, char name[GPU_NAME_MAX]);
bool gpus_next_missing(const struct gpus *gpus, const char **names, char name[GPU_NAME_MAX]);

/* The driver's record of GPU `name`, or NULL: a UUID, or its beginning from "GPU-" on; a MIG device's, whole, or its
 * older name; or an index, which a MIG device does not have. */
const struct nvml_gpu *gpus_listed(const struct nvml_answer *answer, const char *name);

#endif
