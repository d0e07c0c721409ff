/*
 * Attention on tensor cores, in the manner of FlashAttention 2 (Dao 2023): bf16 and fp16, heads of 32, 64 and 128 columns, sm_80 on. A
 * block of four warps has 64 queries (or keys, for the gradients of keys and values) of one head, 16 a warp, in registers, and goes over
 * its sample 64 positions at a time, the next of which are copied meanwhile. Softmax is taken as it comes, with a running maximum, in
 * powers of two; backward makes the probabilities again from lse. Scores and probabilities stay in fp32 until they are an operand. The gradient of queries and those of keys
 * and values are two kernels, so that nothing is added by two blocks.
 *
 * Elements of a product are at a lane's (g, t) = (lane / 4, lane % 4), as mma.cuh has it: rows g and g + 8, columns 2t and 2t + 1 of each
 * eight. `h` below is which of the two rows, `e` which of the two columns.
 */
#include "trainer/cuda/attention.cuh"
#include "trainer/cuda/mma.cuh"

#define WARPS 4
#define THREADS (WARPS * WARP)
#define TILE (16 * WARPS) /* positions */
#define LOG2E 1.44269504088896340736f
#define LN2 0.69314718055994530942f

/* 64 rows of a head, each 16 bytes longer than it is wide: eight rows then lie in different banks. */
template <class T, int WIDTH> struct alignas(16) tile { T row[TILE][WIDTH + 8]; };
/* Which probabilities dropout keeps: a bit for each of 64 queries and 64 keys, bit kv % 8 of byte (q, kv / 8). */
struct alignas(8) kept {
        uint8_t bits[TILE][TILE / 8];
};

struct lane {
        uint32_t warp, g, t, matrix, row; /* matrix, row: whose address it gives to load_matrices */
};
__device__ static inline struct lane this_lane(void) {
        uint32_t i = threadIdx.x % WARP;

        return { threadIdx.x / WARP, i / 4, i % 4, i / 8, i % 8 };
}

/* ---- shared memory ---- */

/* Two stages: while a block computes on one, the copies into the other continue. */
template <class T, int WIDTH> struct staged {
        tile<T, WIDTH> x[2], y[2]; /* keys and values; for their gradients queries and the context's gradient */
        struct kept kept[2];
        float lse[2][TILE], delta[2][TILE]; /* of the queries, where they are staged */
};

/* Rows from position `at` of the sample on; zeros behind its end. */
template <class T, int WIDTH>
__device__ static inline void copy_tile(const view<T> &from, uint32_t column, const struct site &s, uint32_t at,
                                        tile<T, WIDTH> *to) {
        for (uint32_t i = threadIdx.x; i < TILE * WIDTH / VECTOR; i += THREADS) {
                uint32_t r = i / (WIDTH / VECTOR), c = i % (WIDTH / VECTOR) * VECTOR;
                copy16(&to->row[r][c], from.row(s.first + at + r) + column + c, at + r < s.length);
        }
}

/* Keys and values from `at` on, as a group. */
template <class T, int WIDTH>
__device__ static inline void copy_keys(const attention<T> &op, const struct site &s, uint32_t at, staged<T, WIDTH> *to,
                                        uint32_t stage) {
        copy_tile(op.qkv, op.hidden + s.head * WIDTH, s, at, &to->x[stage]);
        copy_tile(op.qkv, 2 * op.hidden + s.head * WIDTH, s, at, &to->y[stage]);
        commit_copies();
}

/* Queries and the gradient of their context. */
template <class T, int WIDTH>
__device__ static inline void copy_queries(const attention<T> &op, const struct site &s, uint32_t at,
                                           staged<T, WIDTH> *to, uint32_t stage) {
        copy_tile(op.qkv, s.head * WIDTH, s, at, &to->x[stage]);
        copy_tile(op.dcontext, s.head * WIDTH, s, at, &to->y[stage]);
        commit_copies();
}

/* One call of Philox decides eight keys of a query (dropout.h), which is a byte. */
template <class T>
__device__ static inline void make_kept(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv,
                                        struct kept *to) {
        for (uint32_t i = threadIdx.x; op.dropout.threshold && i < TILE * TILE / 8; i += THREADS) {
                uint32_t r = i / (TILE / 8), c = i % (TILE / 8), bits = 0;
                uint32_t block = dropout_attention_block(s.head, q + r, s.length) + kv / 8 + c;
                struct philox random = philox(op.dropout.seed, block, op.dropout.site, op.sample_k[s.sample]);
#pragma unroll
                for (int j = 0; j < 8; j++) {
                        uint32_t half = j & 1 ? random.v[j >> 1] >> 16 : random.v[j >> 1] & 0xffff;
                        bits |= (uint32_t) (half >= op.dropout.threshold) << j;
                }
                to->bits[r][c] = (uint8_t) bits;
        }
}

/* Where the bits of query q and the 64 keys from kv on are between forward and backward. */
template <class T>
__device__ static inline uint64_t *kept_at(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv) {
        size_t row = (size_t) s.head * op.context.rows + s.first + q;

        return (uint64_t *) (op.kept + row * op.kept_stride + kv / 8);
}

/* In forward, once they are all there. */
template <class T>
__device__ static inline void keep(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv,
                                   const struct kept *from) {
        uint32_t r = threadIdx.x;

        if (op.kept && op.dropout.threshold && r < TILE && q + r < s.length)
                *kept_at(op, s, q + r, kv) = *(const uint64_t *) from->bits[r];
}

/* In backward. */
template <class T>
__device__ static inline void load_kept(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv,
                                        struct kept *to) {
        uint32_t r = threadIdx.x;

        if (!op.kept)
                make_kept(op, s, q, kv, to);
        else if (op.dropout.threshold && r < TILE && q + r < s.length)
                *(uint64_t *) to->bits[r] = *kept_at(op, s, q + r, kv);
}

/* What a probability is multiplied by. */
template <class T>
__device__ static inline float factor(const attention<T> &op, const struct kept *kept, uint32_t q, uint32_t kv) {
        if (!op.dropout.threshold)
                return 1;
        return kept->bits[q][kv / 8] >> kv % 8 & 1 ? (float) op.dropout.scale : 0;
}

/* ---- operands ---- */

/* A: 16 rows of a tile, all its columns. */
template <class T, int WIDTH>
__device__ static inline void load_a(uint32_t a[WIDTH / 16][4], const tile<T, WIDTH> *from, uint32_t first,
                                     const struct lane &l) {
#pragma unroll
        for (int k = 0; k < WIDTH / 16; k++)
                load_matrices(a[k], &from->row[first + l.matrix % 2 * 8 + l.row][16 * k + l.matrix / 2 * 8]);
}

/* score (16, 16) += A · (16 rows of the tile from `first` on)ᵀ */
template <class T, int WIDTH>
__device__ static inline void add_scores(float score[2][4], const uint32_t a[WIDTH / 16][4], const tile<T, WIDTH> *from,
                                         uint32_t first, const struct lane &l) {
#pragma unroll
        for (int k = 0; k < WIDTH / 16; k++) {
                uint32_t b[4];
                load_matrices(b, &from->row[first + l.matrix / 2 * 8 + l.row][16 * k + l.matrix % 2 * 8]);
                mma<T>(score[0], a[k], b);
                mma<T>(score[1], a[k], b + 2);
        }
}

/* sum (16, WIDTH) += p (16, 16) · (16 rows of the tile from `first` on) */
template <class T, int WIDTH>
__device__ static inline void add_product(float sum[WIDTH / 8][4], const float p[2][4], const tile<T, WIDTH> *from,
                                          uint32_t first, const struct lane &l) {
        uint32_t a[4];

        pack_a<T>(a, p[0], p[1]);
#pragma unroll
        for (int n = 0; n < WIDTH / 16; n++) {
                uint32_t b[4];
                load_matrices_transposed(b, &from->row[first + l.matrix % 2 * 8 + l.row][16 * n + l.matrix / 2 * 8]);
                mma<T>(sum[2 * n], a, b);
                mma<T>(sum[2 * n + 1], a, b + 2);
        }
}

/* 16 rows from position `first` of the sample on, times `scale` of each of the lane's two. */
template <class T, int WIDTH>
__device__ static inline void store_rows(const view<T> &to, uint32_t column, const struct site &s, uint32_t first,
                                         const float sum[WIDTH / 8][4], const float scale[2], const struct lane &l) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
                uint32_t position = first + l.g + 8 * h;
                if (position >= s.length)
                        continue;
                T *row = to.row(s.first + position) + column + 2 * l.t;
#pragma unroll
                for (int n = 0; n < WIDTH / 8; n++)
                        *(uint32_t *) (row + 8 * n) =
                                pack_pair<T>(sum[n][2 * h] * scale[h], sum[n][2 * h + 1] * scale[h]);
        }
}

/* Over the four lanes that have a row's columns. */
__device__ static inline float row_max(float x) {
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
        return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
__device__ static inline float row_sum(float x) {
        x += __shfl_xor_sync(ALL_LANES, x, 1);
        return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* ---- kernels ---- */

/* Scores of a tile become probabilities before dropout, but for their common factor; what came before shrinks. */
template <int WIDTH> struct softmax {
        float max[2], sum[2]; /* of the lane's rows; sum: of the lane's columns */

        __device__ void take(float score[TILE / 8][4], float out[WIDTH / 8][4], float scale, uint32_t left,
                             const struct lane &l) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                        float higher = max[h];
#pragma unroll
                        for (int i = 0; i < TILE / 8 * 2; i++) {
                                float *x = &score[i / 2][2 * h + i % 2];
                                *x = 8 * (i / 2) + 2 * l.t + i % 2 < left ? *x * scale : -INFINITY;
                                higher = fmaxf(higher, *x);
                        }
                        higher = row_max(higher);
                        float shrink = exp2f(max[h] - higher);
                        max[h] = higher;
                        sum[h] *= shrink;
#pragma unroll
                        for (int n = 0; n < WIDTH / 8; n++) {
                                out[n][2 * h] *= shrink;
                                out[n][2 * h + 1] *= shrink;
                        }
#pragma unroll
                        for (int i = 0; i < TILE / 8 * 2; i++) {
                                float *x = &score[i / 2][2 * h + i % 2];
                                *x = exp2f(*x - higher);
                                sum[h] += *x;
                        }
                }
        }
};

template <class T, int WIDTH> __global__ void __launch_bounds__(THREADS) attention_mma_forward(attention<T> op) {
        typedef staged<T, WIDTH> memory;
        DYNAMIC_SHARED(memory, m);
        const struct site s = site_of(op.cu_seqlens);
        const struct lane l = this_lane();
        uint32_t first = blockIdx.x * TILE, own = 16 * l.warp, column = s.head * WIDTH, q[WIDTH / 16][4];
        softmax<WIDTH> soft = { { -INFINITY, -INFINITY }, {} };
        float out[WIDTH / 8][4] = {};

        if (first >= s.length)
                return;
        copy_tile(op.qkv, column, s, first, &m->x[1]);
        commit_copies();
        copy_keys(op, s, 0, m, 0);
        wait_copies<1>();
        __syncthreads();
        load_a(q, &m->x[1], own, l);
        for (uint32_t at = 0, stage = 0; at < s.length; at += TILE, stage ^= 1) {
                const tile<T, WIDTH> *k = &m->x[stage], *v = &m->y[stage];
                const struct kept *kept = &m->kept[stage];
                float score[TILE / 8][4] = {};
                make_kept(op, s, first, at, &m->kept[stage]);
                wait_copies<0>();
                __syncthreads();
                if (at + TILE < s.length)
                        copy_keys(op, s, at + TILE, m, stage ^ 1);
                keep(op, s, first, at, kept);
#pragma unroll
                for (int i = 0; i < TILE / 16; i++)
                        add_scores(&score[2 * i], q, k, 16 * i, l);
                soft.take(score, out, op.scale * LOG2E, s.length - at, l);
#pragma unroll
                for (int i = 0; i < TILE / 16; i++) {
                        float(*p)[4] = &score[2 * i];
#pragma unroll
                        for (int j = 0; j < 8; j++) {
                                int n = j / 4, h = j / 2 % 2, e = j % 2;
                                p[n][2 * h + e] *= factor(op, kept, own + l.g + 8 * h, 16 * i + 8 * n + 2 * l.t + e);
                        }
                        add_product(out, p, v, 16 * i, l);
                }
        }
        float scale[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
                uint32_t position = first + own + l.g + 8 * h;
                float sum = row_sum(soft.sum[h]);
                scale[h] = 1 / sum;
                if (l.t == 0 && position < s.length)
                        op.lse[(size_t) s.head * op.lse_stride + s.first + position] = LN2 * (soft.max[h] + log2f(sum));
        }
        store_rows<T, WIDTH>(op.context, column, s, first + own, out, scale, l);
}

/* Gradient of 64 queries: Σ over keys of ds · k. */
template <class T, int WIDTH> __global__ void __launch_bounds__(THREADS) attention_mma_dq(attention<T> op) {
        typedef staged<T, WIDTH> memory;
        DYNAMIC_SHARED(memory, m);
        const struct site s = site_of(op.cu_seqlens);
        const struct lane l = this_lane();
        const float one[2] = { 1, 1 };
        uint32_t first = blockIdx.x * TILE, own = 16 * l.warp, column = s.head * WIDTH, q[WIDTH / 16][4],
                 dout[WIDTH / 16][4];
        float dq[WIDTH / 8][4] = {}, lse[2], delta[2];

        if (first >= s.length)
                return;
        copy_queries(op, s, first, m, 1);
        copy_keys(op, s, 0, m, 0);
        wait_copies<1>();
        __syncthreads();
        load_a(q, &m->x[1], own, l);
        load_a(dout, &m->y[1], own, l);
#pragma unroll
        for (int h = 0; h < 2; h++) {
                size_t row = (size_t) s.head * op.lse_stride + s.first + min(first + own + l.g + 8 * h, s.length - 1);
                lse[h] = op.lse[row] * LOG2E;
                delta[h] = op.delta[row];
        }
        for (uint32_t at = 0, stage = 0; at < s.length; at += TILE, stage ^= 1) {
                const tile<T, WIDTH> *k = &m->x[stage], *v = &m->y[stage];
                const struct kept *kept = &m->kept[stage];
                load_kept(op, s, first, at, &m->kept[stage]);
                wait_copies<0>();
                __syncthreads();
                if (at + TILE < s.length)
                        copy_keys(op, s, at + TILE, m, stage ^ 1);
                for (uint32_t i = 0; i < TILE && at + i < s.length; i += 16) {
                        float p[2][4] = {}, dp[2][4] = {};
                        add_scores(p, q, k, i, l);
                        add_scores(dp, dout, v, i, l);
#pragma unroll
                        for (int j = 0; j < 8; j++) {
                                int n = j / 4, h = j / 2 % 2, c = 2 * h + j % 2;
                                uint32_t kv = i + 8 * n + 2 * l.t + j % 2;
                                float probability =
                                        at + kv < s.length ? exp2f(p[n][c] * (op.scale * LOG2E) - lse[h]) : 0;
                                float d = dp[n][c] * factor(op, kept, own + l.g + 8 * h, kv) - delta[h];
                                p[n][c] = probability * d * op.scale;
                        }
                        add_product(dq, p, k, i, l);
                }
        }
        store_rows<T, WIDTH>(op.dqkv, column, s, first + own, dq, one, l);
}

/* Gradients of 64 keys and of their values, sums over queries. Scores are had transposed, a row a key. */
template <class T, int WIDTH> __global__ void __launch_bounds__(THREADS) attention_mma_dkv(attention<T> op) {
        typedef staged<T, WIDTH> memory;
        DYNAMIC_SHARED(memory, m);
        const struct site s = site_of(op.cu_seqlens);
        const struct lane l = this_lane();
        const float one[2] = { 1, 1 };
        uint32_t first = blockIdx.x * TILE, own = 16 * l.warp, column = s.head * WIDTH, k[WIDTH / 16][4],
                 v[WIDTH / 16][4];
        float dk[WIDTH / 8][4] = {}, dv[WIDTH / 8][4] = {};

        if (first >= s.length)
                return;
        copy_keys(op, s, first, m, 1);
        copy_queries(op, s, 0, m, 0);
        wait_copies<1>();
        __syncthreads();
        load_a(k, &m->x[1], own, l);
        load_a(v, &m->y[1], own, l);
        for (uint32_t at = 0, stage = 0; at < s.length; at += TILE, stage ^= 1) {
                const tile<T, WIDTH> *q = &m->x[stage], *dout = &m->y[stage];
                const struct kept *kept = &m->kept[stage];
                float *lse = m->lse[stage], *delta = m->delta[stage];
                load_kept(op, s, at, first, &m->kept[stage]);
                for (uint32_t i = threadIdx.x; i < TILE && at + i < s.length; i += THREADS) {
                        size_t row = (size_t) s.head * op.lse_stride + s.first + at + i;
                        lse[i] = op.lse[row] * LOG2E;
                        delta[i] = op.delta[row];
                }
                wait_copies<0>();
                __syncthreads();
                if (at + TILE < s.length)
                        copy_queries(op, s, at + TILE, m, stage ^ 1);
                for (uint32_t i = 0; i < TILE && at + i < s.length; i += 16) {
                        float p[2][4] = {}, dp[2][4] = {};
                        add_scores(p, k, q, i, l);
                        add_scores(dp, v, dout, i, l);
#pragma unroll
                        for (int j = 0; j < 8; j++) {
                                int n = j / 4, h = j / 2 % 2, c = 2 * h + j % 2;
                                uint32_t query = i + 8 * n + 2 * l.t + j % 2;
                                bool there = at + query < s.length;
                                float probability = there ? exp2f(p[n][c] * (op.scale * LOG2E) - lse[query]) : 0;
                                float mask = factor(op, kept, query, own + l.g + 8 * h);
                                p[n][c] = probability * mask;
                                dp[n][c] = there ? probability * (dp[n][c] * mask - delta[query]) * op.scale : 0;
                        }
                        add_product(dv, p, dout, i, l);
                        add_product(dk, dp, q, i, l);
                }
        }
        store_rows<T, WIDTH>(op.dqkv, op.hidden + column, s, first + own, dk, one, l);
        store_rows<T, WIDTH>(op.dqkv, 2 * op.hidden + column, s, first + own, dv, one, l);
}

/* ---- entries ---- */

/* Rows are read 16 bytes at a time. */
static bool is_aligned(struct tensor t) { return (uintptr_t) t.data % 16 == 0 && t.stride % VECTOR == 0; }

static bool can_run(const struct op_attention *op) {
        uint32_t width = op->context.columns / op->n_heads;

        return op->qkv.dtype != DTYPE_FP32 && cuda_backend.sm >= MMA_SM &&
               (width == 32 || width == 64 || width == 128) && is_aligned(op->qkv) && is_aligned(op->context) &&
               is_aligned(op->dcontext) && is_aligned(op->dqkv);
}

size_t cuda_attention_kept_bytes(const struct ops_shape *shape) {
        uint32_t width = shape->hidden_size / shape->n_heads;
        bool half = cuda_backend.precision == CUDA_BF16 || cuda_backend.precision == CUDA_FP16;

        if (!half || cuda_backend.sm < MMA_SM || (width != 32 && width != 64 && width != 128))
                return 0;
        return (size_t) shape->n_heads * shape->max_tokens * kept_stride_of(shape->max_length);
}

static dim3 grid_of(const struct op_attention *op) {
        return dim3(ceil_div(op->max_length, TILE), op->n_heads, op->n_samples);
}

/* More than 48 KiB of shared memory, for wide heads, is a kernel's to ask for. */
template <class T, int WIDTH> static void launch(void (*kernel)(attention<T>), const struct op_attention *op) {
        size_t shared = sizeof(staged<T, WIDTH>);

        if (cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int) shared),
                       "attention"))
                LAUNCH(kernel, grid_of(op), THREADS, shared, attention_of<T>(op));
}

template <class T, int WIDTH> static void launch_forward(const struct op_attention *op) {
        launch<T, WIDTH>(attention_mma_forward<T, WIDTH>, op);
}

template <class T, int WIDTH> static void launch_backward(const struct op_attention *op) {
        launch<T, WIDTH>(attention_mma_dq<T, WIDTH>, op);
        launch<T, WIDTH>(attention_mma_dkv<T, WIDTH>, op);
}

template <class T> static void forward(const struct op_attention *op) {
        uint32_t width = op->context.columns / op->n_heads;

        (width == 32 ? launch_forward<T, 32> : width == 64 ? launch_forward<T, 64> : launch_forward<T, 128>) (op);
}

template <class T> static void backward(const struct op_attention *op) {
        uint32_t width = op->context.columns / op->n_heads;

        (width == 32 ? launch_backward<T, 32> : width == 64 ? launch_backward<T, 64> : launch_backward<T, 128>) (op);
}

bool cuda_attention_mma_forward(const struct op_attention *op) {
        if (!can_run(op))
                return false;
        op->qkv.dtype == DTYPE_BF16 ? forward<bf16>(op) : forward<fp16>(op);
        return true;
}

bool cuda_attention_mma_backward(const struct op_attention *op) {
        if (!can_run(op))
                return false;
        op->qkv.dtype == DTYPE_BF16 ? backward<bf16>(op) : backward<fp16>(op);
        return true;
}
