/* Sums of columns: columns.cu. A kernel that makes rows by strips, a warp of a block a row, leaves their sums with store_strip. */
#ifndef TRAINER_CUDA_COLUMNS_CUH
#define TRAINER_CUDA_COLUMNS_CUH

#include "trainer/ops/cuda/kernels.cuh"

/* Where sums go that were taken side by side: up to three runs of as many columns. */
struct column_sums {
        float *run[3];
        bool fresh[3]; /* the sums replace what they hold */
        uint32_t n;

        void take(struct tensor t) {
                fresh[n] = t.fresh;
                run[n++] = (float *) t.data;
        }
};
void cuda_add_parts(const float *partial, uint32_t n_parts, uint32_t columns, const struct column_sums &to);

/* to += the sums of x's columns, in a separate pass. */
void cuda_add_column_sums(struct tensor x, struct tensor to);

constexpr uint32_t STRIP_WARPS = 8, STRIP_COLUMNS = WARP * VECTOR; /* of a block */

/* How a matrix is cut: blocks of `rows` rows and STRIP_COLUMNS columns, `n` one below the other; the scratch memory has room for their sums. */
struct strips {
        uint32_t rows, n;
        dim3 grid, block;
};
struct strips cuda_strips_of(uint32_t rows, uint32_t columns);

/* A thread's eight columns, of which `left` exist, and its rows, every STRIP_WARPS-th. */
struct strip {
        uint32_t column, left, first, end;
};
__device__ static inline struct strip strip_of(uint32_t rows, uint32_t columns, uint32_t strip_rows) {
        uint32_t column = (blockIdx.x * WARP + threadIdx.x) * VECTOR, first = blockIdx.y * strip_rows;

        return { column, column < columns ? columns - column : 0, first + threadIdx.y, min(first + strip_rows, rows) };
}

/* The block's sums, warp by warp, to partial (strips, columns). */
__device__ static inline void store_strip(const float total[VECTOR], const struct strip &s, uint32_t columns,
                                          float *partial) {
        __shared__ float parts[STRIP_WARPS][VECTOR][WARP];
        float sum = 0;

#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                parts[threadIdx.y][i][threadIdx.x] = total[i];
        __syncthreads();
        uint32_t own = s.column + threadIdx.y; /* of the lane's eight columns this warp has the threadIdx.y-th */
        for (uint32_t w = 0; w < STRIP_WARPS; w++)
                sum += parts[w][threadIdx.y][threadIdx.x];
        if (own < columns)
                partial[(size_t) blockIdx.y * columns + own] = sum;
}
static_assert(STRIP_WARPS == VECTOR, "a warp for each of a lane's columns");

#endif
