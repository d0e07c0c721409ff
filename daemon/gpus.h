/* The host's GPUs: names for CUDA_VISIBLE_DEVICES (UUIDs where the driver tells them). At most 64. */
#ifndef DAEMON_GPUS_H
#define DAEMON_GPUS_H

#include <stdint.h>

#include "common/error.h"

#define GPUS_MAX 64
#define GPU_NAME_MAX 64

struct gpus {
        uint32_t n;
        char names[GPUS_MAX][GPU_NAME_MAX];
};

/* `option`: NULL = what the NVIDIA driver lists in /proc, a number = indices 0…N−1, else names separated by commas. */
int gpus_find(const char *option, struct gpus *ret, struct error *error);

/* `want` free ones as a bit mask (the lowest first); 0 where there are not so many. */
uint64_t gpus_take(const struct gpus *gpus, uint64_t used, uint32_t want);

/* The value of CUDA_VISIBLE_DEVICES; the caller frees. */
char *gpus_visible(const struct gpus *gpus, uint64_t mask);

#endif
