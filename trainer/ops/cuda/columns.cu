/*
 * Sums of columns, for the gradients of biases, gamma and beta: a kernel that reads rows anyway leaves the sums of its rows, a part, in scratch; parts are
 * added up here, PART_THREADS threads a column, each every so many-th of them, in ascending order. A gradient that nobody else makes (of q, k and v, and
 * of what cuBLASLt's GELU has made) is read once more, by sum_rows.
 */
#include "trainer/ops/cuda/columns.cuh"

namespace {
constexpr uint32_t PART_THREADS = 16; /* of a column */
constexpr uint32_t STRIPS_MAX = 128;  /* of rows, a block for each and 256 columns */
} // namespace

/* partial (n_parts, n_to · columns): a run of `columns` for each of `to`, which are added to; NULL: nobody asked. */
__global__ void add_parts(const float *partial, uint32_t n_parts, uint32_t columns, struct column_sums to) {
        __shared__ float parts[PART_THREADS][WARP];
        uint32_t i = blockIdx.x * WARP + threadIdx.x, width = to.n * columns;
        float total = 0;

        for (uint32_t p = threadIdx.y; i < width && p < n_parts; p += PART_THREADS)
                total += partial[(size_t) p * width + i];
        parts[threadIdx.y][threadIdx.x] = total;
        __syncthreads();
        if (threadIdx.y > 0 || i >= width)
                return;
        for (uint32_t p = 1; p < PART_THREADS; p++)
                total += parts[p][threadIdx.x];
        float *own = to.run[i / columns];
        if (own)
                own[i % columns] = to.fresh[i / columns] ? total : own[i % columns] + total;
}

void cuda_add_parts(const float *partial, uint32_t n_parts, uint32_t columns, const struct column_sums &to) {
        LAUNCH(add_parts, ceil_div((size_t) to.n * columns, WARP), dim3(WARP, PART_THREADS), 0, partial, n_parts,
               columns, to);
}

template <class T, bool ALIGNED> __global__ void sum_rows(view<T> x, uint32_t strip_rows, float *partial) {
        struct strip s = strip_of(x.rows, x.columns, strip_rows);
        float total[VECTOR] = {}, v[VECTOR];

        for (uint32_t r = s.first; r < s.end; r += STRIP_WARPS) {
                load8<ALIGNED>(x.row(r) + s.column, s.left, v);
#pragma unroll
                for (uint32_t i = 0; i < VECTOR; i++)
                        total[i] += v[i];
        }
        store_strip(total, s, x.columns, partial);
}

struct strips cuda_strips_of(uint32_t rows, uint32_t columns) {
        uint32_t most = (uint32_t) (CUDA_SCRATCH_BYTES / sizeof(float) / columns);
        uint32_t wanted = most < STRIPS_MAX ? most : STRIPS_MAX;
        uint32_t strip_rows = ceil_div(rows, wanted), n = ceil_div(rows, strip_rows);

        return { strip_rows, n, dim3(ceil_div(columns, STRIP_COLUMNS), n), dim3(WARP, STRIP_WARPS) };
}

void cuda_add_column_sums(struct tensor x, struct tensor to) {
        struct strips s = cuda_strips_of(x.rows, x.columns);
        struct column_sums sums = {};
        float *partial = cuda_backend.scratch;

        sums.take(to);
        WITH_TYPE(x.dtype, WITH_ALIGNED(is_whole(x), {
                          auto kernel = sum_rows<T, ALIGNED>;
                          LAUNCH(kernel, s.grid, s.block, 0, view_of<T>(x), s.rows, partial);
                  }));
        cuda_add_parts(partial, s.n, x.columns, sums);
        cuda_backend.counts.column_sums++;
}
