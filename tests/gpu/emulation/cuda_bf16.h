/* See cuda_runtime.h. */
#ifndef EMULATION_CUDA_BF16_H
#define EMULATION_CUDA_BF16_H

#include "tests/ops/narrow.h"

struct __nv_bfloat16 {
        uint16_t bits;
};
static inline float __bfloat162float(__nv_bfloat16 x) { return bf16_to(x.bits); }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return { bf16_from(x) }; }
struct __nv_bfloat162 {
        __nv_bfloat16 x, y;
};
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
        return { __float2bfloat16_rn(x), __float2bfloat16_rn(y) };
}

#endif
