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

#include "trainer/ops/cuda/backend.h"

typedef __nv_bfloat16 bf16;
typedef __half fp16;

constexpr uint32_t WARP = 32, ALL_LANES = 0xffffffffu;
constexpr uint32_t VECTOR = 8; /* elements that a lane handles at a time */

#if defined(__CUDACC_RTC__) /* kernels alone: tests/gpu/nvrtc.py */
#define START(...) (void) 0
#elif defined(__CUDACC__)
#define START(kernel, grid, block, shared, ...) kernel<<<grid, block, shared, cuda_backend.stream>>>(__VA_ARGS__)
#else
#define START(kernel, grid, block, shared, ...) \
        emulate(grid, block, shared, [=, arguments = std::make_tuple(__VA_ARGS__)] { std::apply(kernel, arguments); })
#endif
#ifdef __CUDACC__
#define DYNAMIC_SHARED(type, name)             \
        extern __shared__ float4 name##_raw[]; \
        type *name = (type *) name##_raw
#else
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

/* Of 16 bits only. */
#define WITH_HALF(tensor_dtype, ...)                \
        do {                                        \
                if ((tensor_dtype) == DTYPE_BF16) { \
                        typedef bf16 T;             \
                        __VA_ARGS__;                \
                } else {                            \
                        typedef fp16 T;             \
                        __VA_ARGS__;                \
                }                                   \
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

/* Two neighbours of a row, the first in the low half: converted in one instruction, while one alone takes four times as long. */
template <class T> __device__ static inline uint32_t pack_pair(float first, float second);
template <> __device__ inline uint32_t pack_pair<bf16>(float first, float second) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
        uint32_t bits;

        memcpy(&bits, &pair, sizeof(bits));
        return bits;
}
template <> __device__ inline uint32_t pack_pair<fp16>(float first, float second) {
        __half2 pair = __floats2half2_rn(first, second);
        uint32_t bits;

        memcpy(&bits, &pair, sizeof(bits));
        return bits;
}
template <class T> __device__ static inline float2 unpack_pair(uint32_t bits) {
        T pair[2];

        memcpy(pair, &bits, sizeof(bits));
        return { to_float(pair[0]), to_float(pair[1]) };
}
template <> __device__ inline float2 unpack_pair<bf16>(uint32_t bits) {
        return { __uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u) };
}

/* Eight elements as they lie in memory. */
template <class T> struct packed {
        uint4 words;

        __device__ static packed of(const float x[VECTOR]) {
                return { { pack_pair<T>(x[0], x[1]), pack_pair<T>(x[2], x[3]), pack_pair<T>(x[4], x[5]),
                           pack_pair<T>(x[6], x[7]) } };
        }
        __device__ void unpack(float x[VECTOR]) const {
                const uint32_t w[VECTOR / 2] = { words.x, words.y, words.z, words.w };
#pragma unroll
                for (uint32_t i = 0; i < VECTOR / 2; i++) {
                        float2 pair = unpack_pair<T>(w[i]);
                        x[2 * i] = pair.x;
                        x[2 * i + 1] = pair.y;
                }
        }
};
template <> struct packed<float> {
        float4 half[2];

        __device__ static packed of(const float x[VECTOR]) {
                return { { { x[0], x[1], x[2], x[3] }, { x[4], x[5], x[6], x[7] } } };
        }
        __device__ void unpack(float x[VECTOR]) const {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                        x[4 * i] = half[i].x;
                        x[4 * i + 1] = half[i].y;
                        x[4 * i + 2] = half[i].z;
                        x[4 * i + 3] = half[i].w;
                }
        }
};
template <class T> __device__ static inline void load_packed(const T *p, float x[VECTOR]) {
        ((const packed<T> *) p)->unpack(x);
}
template <class T> __device__ static inline void store_packed(T *p, const float x[VECTOR]) {
        *(packed<T> *) p = packed<T>::of(x);
}
/* One by one: the first n of eight, zeros behind them. */
template <class T> __device__ static inline void load_some(const T *p, uint32_t n, float x[VECTOR]) {
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                x[i] = i < n ? to_float(p[i]) : 0;
}
template <class T> __device__ static inline void store_some(T *p, uint32_t n, const float x[VECTOR]) {
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                if (i < n)
                        p[i] = from_float<T>(x[i]);
}

/* As they are when they are stored. */
template <class T> __device__ static inline void round8(float x[VECTOR]) { packed<T>::of(x).unpack(x); }

/* Whether rows are whole pieces of eight, each aligned: decided on the host, so that most kernels are compiled without the other way. */
static inline bool is_whole(struct tensor t) {
        return !t.data ||
               ((uintptr_t) t.data % alignof(uint4) == 0 && t.stride % VECTOR == 0 && t.columns % VECTOR == 0);
}
#define WITH_ALIGNED(aligned, ...)                      \
        do {                                            \
                if (aligned) {                          \
                        constexpr bool ALIGNED = true;  \
                        __VA_ARGS__;                    \
                } else {                                \
                        constexpr bool ALIGNED = false; \
                        __VA_ARGS__;                    \
                }                                       \
        } while (0)

/* Of a row's eight from p on the n that there are: where ALIGNED, all or none. */
template <bool ALIGNED, class T> __device__ static inline void load8(const T *p, uint32_t n, float x[VECTOR]) {
        if (!ALIGNED || n == 0)
                load_some(p, ALIGNED ? 0 : n, x);
        else
                load_packed(p, x);
}
template <bool ALIGNED, class T> __device__ static inline void store8(T *p, uint32_t n, const float x[VECTOR]) {
        if (!ALIGNED)
                store_some(p, n, x);
        else if (n)
                store_packed(p, x);
}

/* The same of rows that may end amid a piece: in one where it is whole and aligned. */
template <class T> __device__ static inline bool is_packed(const T *p, uint32_t n) {
        return n >= VECTOR && (uintptr_t) p % alignof(uint4) == 0;
}
template <class T> __device__ static inline void load8(const T *p, uint32_t n, float x[VECTOR]) {
        if (is_packed(p, n))
                load_packed(p, x);
        else
                load_some(p, n, x);
}
template <class T> __device__ static inline void store8(T *p, uint32_t n, const float x[VECTOR]) {
        if (is_packed(p, n))
                store_packed(p, x);
        else
                store_some(p, n, x);
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
template <class N> __device__ static inline N block_sum(N x) {
        __shared__ N parts[WARP];
        N total = 0;

        x = warp_sum(x);
        if (threadIdx.x % WARP == 0)
                parts[threadIdx.x / WARP] = x;
        __syncthreads();
        for (uint32_t i = 0; i < blockDim.x / WARP; i++)
                total += parts[i];
        __syncthreads();
        return total;
}

/* struct dropout as kernels take it: a factor in double would be converted again wherever it is used. */
struct drop {
        uint64_t seed;
        uint32_t site, threshold; /* threshold 0: nothing is dropped */
        float scale;
};
static inline struct drop drop_of(const struct dropout &d) { return { d.seed, d.site, d.threshold, (float) d.scale }; }

/* Element e of the eight of a dropout block (dropout.h): half e & 1 of word e >> 1. */
__device__ static inline bool is_kept(const struct drop &d, const struct philox &r, uint32_t e) {
        uint32_t high = e & 1 ? r.v[e >> 1] : r.v[e >> 1] << 16; /* the half, and bits below it that decide nothing */

        return high >= d.threshold << 16;
}

/* The factors of the eight. */
__device__ static inline void dropout8(const struct drop &d, uint64_t k, uint32_t block, float mask[VECTOR]) {
        struct philox r = philox(d.seed, block, d.site, k);

#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                mask[i] = is_kept(d, r, i) ? d.scale : 0;
}

constexpr float SQRT_HALF = 0.70710678118654752440f, SQRT_2_OVER_PI = 0.79788456080286535588f,
                INV_SQRT_2PI = 0.39894228040143267794f;

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
