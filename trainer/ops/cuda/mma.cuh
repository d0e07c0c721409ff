/*
 * Tensor cores, for bf16 and fp16 from sm_80 on: D (16, 8) += A (16, 16) · B (16, 8), summed in fp32, by a warp. Lane 4g + t has (PTX
 * ISA, mma.m16n8k16), as (row, column):
 *   A   r[0]: (g, 2t), (g, 2t + 1)   r[1]: (g + 8, 2t) …   r[2]: (g, 2t + 8) …   r[3]: (g + 8, 2t + 8) …
 *   B   r[0]: (2t, g), (2t + 1, g)   r[1]: (2t + 8, g), (2t + 9, g)
 *   D   d[0], d[1]: (g, 2t), (g, 2t + 1)   d[2], d[3]: (g + 8, 2t) …
 * so D's of two neighbouring products, packed, are an A.
 *
 * load_matrices reads four 8 × 8 matrices; lane 8m + r gives the address of row r of matrix m, 16 bytes, aligned. Of each matrix lane 4g + t
 * gets row g, columns 2t and 2t + 1; from load_matrices_transposed column g, rows 2t and 2t + 1.
 *
 * copy16 takes 16 bytes from global to shared memory, or writes zeros, beside what the thread does next. Copies since the last
 * commit_copies are a group; wait_copies<N> returns when all of the thread's groups but the last N are complete. Other threads' need a
 * barrier after that.
 */
#ifndef TRAINER_CUDA_MMA_CUH
#define TRAINER_CUDA_MMA_CUH

#include "trainer/ops/cuda/kernels.cuh"

#ifdef __CUDACC__

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define MMA_ASM(...) __trap()
#else
#define MMA_ASM(...) asm volatile(__VA_ARGS__)
#endif

#define MMA_SHAPE "mma.sync.aligned.m16n8k16.row.col.f32."
#define MMA_OPERANDS ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"

__device__ static inline void multiply_matrices(bf16, float d[4], const uint32_t a[4], const uint32_t b[2]) {
        MMA_ASM(MMA_SHAPE "bf16.bf16" MMA_OPERANDS
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ static inline void multiply_matrices(fp16, float d[4], const uint32_t a[4], const uint32_t b[2]) {
        MMA_ASM(MMA_SHAPE "f16.f16" MMA_OPERANDS
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ static inline void load_matrices(uint32_t r[4], const void *row) {
        uint32_t at = (uint32_t) __cvta_generic_to_shared(row);

        MMA_ASM("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                : "r"(at)
                : "memory");
}
__device__ static inline void load_matrices_transposed(uint32_t r[4], const void *row) {
        uint32_t at = (uint32_t) __cvta_generic_to_shared(row);

        MMA_ASM("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                : "r"(at)
                : "memory");
}

__device__ static inline void copy16(void *to, const void *from, bool there) {
        uint32_t at = (uint32_t) __cvta_generic_to_shared(to);

        MMA_ASM("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ static inline void commit_copies(void) { MMA_ASM("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ static inline void wait_copies(void) {
        MMA_ASM("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Four bytes, each all ones or all zeros as the sign of a byte of (low, high) is, 0 to 7: that which nibble i of `which` names, plus 8. */
__device__ static inline uint32_t spread_signs(uint32_t low, uint32_t high, uint32_t which) {
        uint32_t bits;

        asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bits) : "r"(low), "r"(high), "r"(which));
        return bits;
}

/* 2^x to 2^-22, relative; 0 below 2^-126. */
__device__ static inline float power_of_two(float x) {
        float y;

        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        return y;
}

#else
#include <mma_emulated.h>
#endif

/* D += A · B */
template <class T> __device__ static inline void mma(float d[4], const uint32_t a[4], const uint32_t b[2]) {
        multiply_matrices(T(), d, a, b);
}

template <class T> __device__ static inline float pair_product(uint32_t a, uint32_t b) {
        float2 x = unpack_pair<T>(a), y = unpack_pair<T>(b);

        return x.x * y.x + x.y * y.y;
}

/* A (16, 16) from two neighbouring D's. */
template <class T> __device__ static inline void pack_a(uint32_t a[4], const float left[4], const float right[4]) {
        a[0] = pack_pair<T>(left[0], left[1]);
        a[1] = pack_pair<T>(left[2], left[3]);
        a[2] = pack_pair<T>(right[0], right[1]);
        a[3] = pack_pair<T>(right[2], right[3]);
}

#endif
