/* See cuda_runtime.h. */
#ifndef EMULATION_CUDA_FP16_H
#define EMULATION_CUDA_FP16_H

#include "tests/ops/narrow.h"

struct __half {
        uint16_t bits;
};
static inline float __half2float(__half x) { return fp16_to(x.bits); }
static inline __half __float2half_rn(float x) { return { fp16_from(x) }; }
struct __half2 {
        __half x, y;
};
static inline __half2 __floats2half2_rn(float x, float y) { return { __float2half_rn(x), __float2half_rn(y) }; }

#endif
