/*
 * What kernels share: launching, conversion, loads of eight elements, reductions, dropout, activations. An element block of T3's
 * dropout is eight channels, so eight is also what a lane handles at a time.
 *
 * The same source is compiled by nvcc and, for tests without a GPU, as C++ over tests/gpu/emulation: hence LAUNCH and
 * DYNAMIC_SHARED in place of <<<>>> and extern __shared__.
 */
#ifndef TRAINER_CUDA_KERNELS_CUH
#define TRAINER_CUDA_KERNELS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "trainer/cuda/backend.h"

typedef __nv_bfloat16 bf16;
typedef __half fp16;

#define WARP 32
#define ALL_LANES 0xffffffffu
#define VECTOR 8

#ifdef __CUDACC__
#define START(kernel, grid, block, shared, ...) kernel<<<grid, block, shared, cuda_backend.stream>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name)             \
        extern __shared__ float4 name##_raw[]; \
        type *name = (type *) name##_raw
#else
#define START(kernel, grid, block, shared, ...) \
        emulate(grid, block, shared, [=, arguments = std::make_tuple(__VA_ARGS__)] { std::apply(kernel, arguments); })
#define DYNAMIC_SHARED(type, name) type *name = (type *) emulated_shared()
#endif

/* An empty grid is not an error here. */
#define LAUNCH(kernel, grid, block, shared, ...)                          \
        do {                                                              \
                const dim3 grid_ = grid;                                  \
                if (cuda_works() && grid_.x && grid_.y && grid_.z) {      \
                        START(kernel, grid_, block, shared, __VA_ARGS__); \
                        (void) cuda_check(cudaGetLastError(), #kernel);   \
                }                                                         \
        } while (0)

/* Runs what follows with T as the element type of a tensor. */
#define WITH_TYPE(tensor_dtype, ...)                       \
        do {                                               \
                if ((tensor_dtype) == DTYPE_FP32) {        \
                        typedef float T;                   \
                        __VA_ARGS__;                       \
                } else if ((tensor_dtype) == DTYPE_BF16) { \
                        typedef bf16 T;                    \
                        __VA_ARGS__;                       \
                } else {                                   \
                        typedef fp16 T;                    \
                        __VA_ARGS__;                       \
                }                                          \
        } while (0)

/* A tensor as kernels take it. */
template <class T> struct view {
        T *data;
        uint32_t rows, columns, stride;

        __host__ __device__ T *row(size_t r) const { return data + r * stride; }
};
template <class T> static view<T> view_of(struct tensor t) {
        return view<T> { (T *) t.data, t.rows, t.columns, t.stride };
}

static inline uint32_t ceil_div(size_t a, uint32_t b) { return (uint32_t) ((a + b - 1) / b); }

__device__ static inline float to_float(float x) { return x; }
__device__ static inline float to_float(bf16 x) { return __bfloat162float(x); }
__device__ static inline float to_float(fp16 x) { return __half2float(x); }
template <class T> __device__ static inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ inline fp16 from_float<fp16>(float x) { return __float2half_rn(x); }

/* What a float becomes when it is stored. */
template <class T> __device__ static inline float rounded(float x) { return to_float(from_float<T>(x)); }

/* Eight elements in one piece if the row has them and they are aligned, one by one at the end of an odd row. */
template <class T> struct alignas(VECTOR * sizeof(T) > 16 ? 16 : VECTOR * sizeof(T)) packed { T v[VECTOR]; };
template <class T> __device__ static inline bool is_packed(const T *p, uint32_t n) {
        return n >= VECTOR && (uintptr_t) p % alignof(packed<T>) == 0;
}
template <class T> __device__ static inline void load8(const T *p, uint32_t n, float x[VECTOR]) {
        if (is_packed(p, n)) {
                packed<T> all = *(const packed<T> *) p;
#pragma unroll
                for (int i = 0; i < VECTOR; i++)
                        x[i] = to_float(all.v[i]);
                return;
        }
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                x[i] = i < n ? to_float(p[i]) : 0;
}
template <class T> __device__ static inline void store8(T *p, uint32_t n, const float x[VECTOR]) {
        if (is_packed(p, n)) {
                packed<T> all;
#pragma unroll
                for (int i = 0; i < VECTOR; i++)
                        all.v[i] = from_float<T>(x[i]);
                *(packed<T> *) p = all;
                return;
        }
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                if (i < n)
                        p[i] = from_float<T>(x[i]);
}

/* Butterflies: every lane gets the same bits. */
__device__ static inline float warp_sum(float x) {
#pragma unroll
        for (int d = WARP / 2; d > 0; d /= 2)
                x += __shfl_xor_sync(ALL_LANES, x, d);
        return x;
}
__device__ static inline float warp_max(float x) {
#pragma unroll
        for (int d = WARP / 2; d > 0; d /= 2)
                x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, d));
        return x;
}
__device__ static inline double warp_sum(double x) {
#pragma unroll
        for (int d = WARP / 2; d > 0; d /= 2)
                x += __shfl_xor_sync(ALL_LANES, x, d);
        return x;
}

/* Over a block of at most 1024 threads, whole warps; the result is every thread's. */
__device__ static inline double block_sum(double x) {
        __shared__ double parts[WARP];
        double total = 0;

        x = warp_sum(x);
        if (threadIdx.x % WARP == 0)
                parts[threadIdx.x / WARP] = x;
        __syncthreads();
        for (uint32_t i = 0; i < blockDim.x / WARP; i++)
                total += parts[i];
        __syncthreads();
        return total;
}

/* The factors of the eight elements of a dropout block (dropout.h). */
__device__ static inline void dropout8(const struct dropout &d, uint64_t k, uint32_t block, float mask[VECTOR]) {
        struct philox r = philox(d.seed, block, d.site, k);

#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
                uint32_t half = i & 1 ? r.v[i >> 1] >> 16 : r.v[i >> 1] & 0xffff;
                mask[i] = half >= d.threshold ? (float) d.scale : 0;
        }
}

#define SQRT_HALF 0.70710678118654752440f
#define SQRT_2_OVER_PI 0.79788456080286535588f
#define INV_SQRT_2PI 0.39894228040143267794f

__device__ static inline float activate(enum activation act, float x) {
        switch (act) {
        case ACTIVATION_GELU:
                return 0.5f * x * (1 + erff(x * SQRT_HALF));
        case ACTIVATION_GELU_NEW:
                return 0.5f * x * (1 + tanhf(SQRT_2_OVER_PI * (x + 0.044715f * x * x * x)));
        case ACTIVATION_RELU:
                return x > 0 ? x : 0;
        case ACTIVATION_TANH:
                return tanhf(x);
        default:
                return x;
        }
}

__device__ static inline float activate_derivative(enum activation act, float s) {
        float t;

        switch (act) {
        case ACTIVATION_GELU:
                return 0.5f * (1 + erff(s * SQRT_HALF)) + s * INV_SQRT_2PI * expf(-0.5f * s * s);
        case ACTIVATION_GELU_NEW:
                t = tanhf(SQRT_2_OVER_PI * (s + 0.044715f * s * s * s));
                return 0.5f * (1 + t) + 0.5f * s * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * 0.044715f * s * s);
        case ACTIVATION_RELU:
                return s > 0;
        case ACTIVATION_TANH:
                return 1 - s * s;
        default:
                return 1;
        }
}

#endif
