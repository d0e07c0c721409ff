/* See planned.h. Owns nothing. */
#include "trainer/ops/planned.h"

#include "trainer/ops/cuda/sizes.h"
#include "trainer/ops/ops.h"

static size_t kept_bytes(const struct ops_shape *shape) { return cuda_kept_bytes(DTYPE_BF16, CUDA_MMA_SM, shape); }

#define PLANNED(type)                                                                                         \
        {                                                                                                     \
                .name = "cuda", .dtype = type, .master = DTYPE_FP32, .workspace_bytes = cuda_workspace_bytes, \
                .kept_bytes = type == DTYPE_FP32 ? 0 : kept_bytes, .later_bytes = cuda_later_bytes,           \
        }

const struct ops *ops_planned(enum precision precision) {
        static const struct ops tables[PRECISION_MAX] = {
                [PRECISION_FP32] = PLANNED(DTYPE_FP32),
                [PRECISION_TF32] = PLANNED(DTYPE_FP32),
                [PRECISION_BF16] = PLANNED(DTYPE_BF16),
                [PRECISION_FP16] = PLANNED(DTYPE_FP16),
        };

        return precision == PRECISION_FP64 ? ops_fp64() : &tables[precision];
}

uint64_t ops_planned_room(uint64_t bytes) {
        const uint64_t taken = CUDA_CONTEXT_BYTES + CUDA_OPEN_BYTES;

        return bytes > taken ? bytes - taken : 0;
}

uint64_t ops_planned_room_nominal(uint64_t bytes) { return ops_planned_room(bytes - bytes / CUDA_HELD_BACK); }
