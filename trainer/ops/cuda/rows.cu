/*
 * Rows moved and added: the embeddings' gradients, gather, scatter.
 *
 * The gradient of a table adds rows of tokens that share an index, in ascending order of tokens and without atomics. Tokens go in
 * chunks of CHUNK_TOKENS. First each token that is the first of its index in its chunk, its head there, adds up the chunk's tokens of that
 * index; then each head that has no head before it adds up those of the later chunks and adds the sum to the table.
 */
#include "trainer/ops/cuda/kernels.cuh"

namespace {
constexpr uint32_t THREADS = 128;      /* of a block */
constexpr uint32_t CHUNK_TOKENS = 512; /* whose rows are added up first */
constexpr uint32_t ROWS_AHEAD = 8;     /* that are read before they are added */
} // namespace

/* Whether any token from `first` on, before t, has t's index; with `heads`, any head. The answer is the block's. */
__device__ static bool has_earlier(const int32_t *index, const uint8_t *heads, uint32_t first, uint32_t t) {
        int found = 0;

        for (uint32_t u = first + threadIdx.x; u < t && !found; u += blockDim.x)
                found = index[u] == index[t] && (!heads || heads[u]);
        return __syncthreads_or(found) != 0;
}

__device__ static inline bool is_alike(const int32_t *index, uint32_t u, uint32_t end, uint32_t t) {
        return u < end && index[u] == index[t];
}

/* A block a token. heads: whether it is one; sums (T, H): then the sum of its chunk's rows of that index. */
template <class T> __global__ void sum_chunk(const int32_t *index, view<T> x, uint8_t *heads, float *sums) {
        uint32_t t = blockIdx.x, first = t / CHUNK_TOKENS * CHUNK_TOKENS, end = min(first + CHUNK_TOKENS, x.rows);
        bool head = !has_earlier(index, NULL, first, t);

        if (threadIdx.x == 0)
                heads[t] = head;
        for (uint32_t c = threadIdx.x * VECTOR; head && c < x.columns; c += blockDim.x * VECTOR) {
                float total[VECTOR] = {}, row[ROWS_AHEAD][VECTOR];
                for (uint32_t u = t; u < end; u += ROWS_AHEAD) {
#pragma unroll
                        for (uint32_t j = 0; j < ROWS_AHEAD; j++)
                                load8(x.row(min(u + j, end - 1)) + c,
                                      is_alike(index, u + j, end, t) ? x.columns - c : 0, row[j]);
#pragma unroll
                        for (uint32_t j = 0; j < ROWS_AHEAD; j++)
                                for (uint32_t i = 0; i < VECTOR && is_alike(index, u + j, end, t); i++)
                                        total[i] += row[j][i];
                }
                store8(sums + (size_t) t * x.columns + c, x.columns - c, total);
        }
}

/* The head of t's index in the chunk that begins at `first`, or n without one. The answer is the block's. */
__device__ static uint32_t find_head(const int32_t *index, const uint8_t *heads, uint32_t first, uint32_t n,
                                     uint32_t t) {
        __shared__ uint32_t found;

        __syncthreads();
        if (threadIdx.x == 0)
                found = n;
        __syncthreads();
        for (uint32_t u = first + threadIdx.x; u < min(first + CHUNK_TOKENS, n); u += blockDim.x)
                if (heads[u] && index[u] == index[t])
                        found = u; /* at most one thread */
        __syncthreads();
        return found;
}

/* A block a token, of which only first heads do anything. */
__global__ void add_to_table(const int32_t *index, const uint8_t *heads, const float *sums, view<float> table,
                             uint32_t n) {
        uint32_t t = blockIdx.x, columns = table.columns;
        float *to = table.row(index[t]);

        if (!heads[t] || has_earlier(index, heads, 0, t))
                return;
        for (uint32_t first = t / CHUNK_TOKENS * CHUNK_TOKENS; first < n; first += CHUNK_TOKENS) {
                uint32_t head = find_head(index, heads, first, n, t);
                for (uint32_t c = threadIdx.x; head < n && c < columns; c += blockDim.x)
                        to[c] += sums[(size_t) head * columns + c]; /* each thread its own columns */
        }
}

template <class T> __global__ void gather_rows(view<T> x, const int32_t *rows, view<T> y) {
        const T *from = x.row(rows[blockIdx.x]);
        T *to = y.row(blockIdx.x);

        for (uint32_t c = threadIdx.x; c < y.columns; c += blockDim.x)
                to[c] = from[c];
}

template <class T> __global__ void scatter_add_rows(view<T> dy, const int32_t *rows, view<T> dx) {
        const T *from = dy.row(blockIdx.x);
        T *to = dx.row(rows[blockIdx.x]);

        for (uint32_t c = threadIdx.x; c < dy.columns; c += blockDim.x)
                to[c] = from_float<T>(to_float(to[c]) + to_float(from[c]));
}

void cuda_embed_backward(const struct op_embed *op) {
        const struct {
                const int32_t *index;
                struct tensor table;
        } tables[] = { { op->ids, op->word }, { op->positions, op->position }, { op->types, op->type } };
        uint32_t n = op->x.rows;
        float *sums = (float *) op->workspace.data;
        uint8_t *heads = (uint8_t *) (sums + (size_t) n * op->x.columns);

        for (int i = 0; i < 3; i++) {
                const int32_t *index = tables[i].index;
                view<float> table = view_of<float>(tables[i].table);
                cuda_zero_fresh(tables[i].table);
                WITH_TYPE(op->x.dtype, LAUNCH(sum_chunk<T>, n, THREADS, 0, index, view_of<T>(op->x), heads, sums));
                LAUNCH(add_to_table, n, THREADS, 0, index, heads, sums, table, n);
        }
}

void cuda_gather_rows(struct tensor x, const int32_t *rows, struct tensor y) {
        WITH_TYPE(x.dtype, LAUNCH(gather_rows<T>, y.rows, THREADS, 0, view_of<T>(x), rows, view_of<T>(y)));
}

void cuda_scatter_add_rows(struct tensor dy, const int32_t *rows, struct tensor dx) {
        WITH_TYPE(dy.dtype, LAUNCH(scatter_add_rows<T>, dy.rows, THREADS, 0, view_of<T>(dy), rows, view_of<T>(dx)));
}
