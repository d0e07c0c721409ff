/*
 * Attention over samples of any length, without padding; heads of up to 128 columns: on plain cores, in fp32. What tensor cores can do
 * is attention_mma.cu's. A warp has one query (or, for the gradients of keys and values, one key) in registers and goes over its sample
 * 32 positions at a time, a position a lane: scores and probabilities never reach memory. Softmax is taken as it comes, with a running
 * maximum; backward makes the probabilities again from lse. Nothing is added by two warps, so no order is left to chance.
 */
#include "trainer/ops/cuda/attention.cuh"

namespace {
constexpr uint32_t WARPS = 8;                           /* of a block */
constexpr uint32_t LANE_COLUMNS = CUDA_HEAD_MAX / WARP; /* of a head: lane, lane + 32, … */
} // namespace

/* The position of this warp in its sample. */
__device__ static inline uint32_t own_position(void) { return blockIdx.x * WARPS + threadIdx.x / WARP; }

/* 32 rows from `position` on of a matrix's columns into shared memory, rows one longer than they are wide so that lanes which read one
 * column of 32 rows meet no bank twice; zeros past the sample. */
template <class T>
__device__ static void load_tile(const view<T> &from, uint32_t column, const struct site &s, uint32_t position,
                                 uint32_t width, float *tile) {
        for (uint32_t i = threadIdx.x; i < WARP * width; i += WARPS * WARP) {
                uint32_t r = i / width, c = i % width;
                bool there = position + r < s.length;
                tile[r * (width + 1) + c] = there ? to_float(from.row(s.first + position + r)[column + c]) : 0;
        }
}

template <class T>
__device__ static void load_own(const view<T> &from, uint32_t column, const struct site &s, uint32_t width,
                                float *row) {
        uint32_t own = own_position();

        for (uint32_t c = threadIdx.x % WARP; c < width; c += WARP)
                row[c] = own < s.length ? to_float(from.row(s.first + own)[column + c]) : 0;
        __syncwarp();
}

template <class T>
__device__ static void store_own(const view<T> &to, uint32_t column, const struct site &s, uint32_t width,
                                 const float x[LANE_COLUMNS]) {
        uint32_t own = own_position();

#pragma unroll
        for (uint32_t i = 0; i < LANE_COLUMNS; i++) {
                uint32_t c = threadIdx.x % WARP + i * WARP;
                if (c < width)
                        to.row(s.first + own)[column + c] = from_float<T>(x[i]);
        }
}

__device__ static inline float dot(const float *a, const float *b, uint32_t width) {
        float sum = 0;

        for (uint32_t c = 0; c < width; c++)
                sum += a[c] * b[c];
        return sum;
}

/* The lane's share of Σ_j p_j · row j, p_j being lane j's. */
__device__ static inline void add_rows(float p, const float *tile, uint32_t width, float sum[LANE_COLUMNS]) {
        for (uint32_t j = 0; j < WARP; j++) {
                float pj = __shfl_sync(ALL_LANES, p, j);
#pragma unroll
                for (uint32_t i = 0; i < LANE_COLUMNS; i++) {
                        uint32_t c = threadIdx.x % WARP + i * WARP;
                        if (c < width)
                                sum[i] += pj * tile[j * (width + 1) + c];
                }
        }
}

template <class T>
__device__ static inline float mask_of(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv) {
        if (!op.drop.threshold)
                return 1;
        uint32_t block = dropout_attention_block(s.head, q, s.length) + kv / 8;
        struct philox random = philox(op.drop.seed, block, op.drop.site, op.sample_k[s.sample]);
        return is_kept(op.drop, random, kv % 8) ? op.drop.scale : 0;
}

/* Shared memory: two tiles, then a row or two of each warp. */
static size_t shared_bytes(uint32_t width, uint32_t rows_a_warp) {
        return (2 * WARP * (width + 1) + WARPS * rows_a_warp * width) * sizeof(float);
}

template <class T> __global__ void attention_forward(attention<T> op) {
        DYNAMIC_SHARED(float, shared);
        const struct site s = site_of(op.cu_seqlens);
        uint32_t own = own_position(), w = op.width, lane = threadIdx.x % WARP, column = s.head * w;
        float *k = shared, *v = k + WARP * (w + 1), *q = v + WARP * (w + 1) + threadIdx.x / WARP * w;
        float max = -INFINITY, sum = 0, out[LANE_COLUMNS] = {};

        if (blockIdx.x * WARPS >= s.length)
                return;
        load_own(op.qkv, column, s, w, q);
        for (uint32_t at = 0; at < s.length; at += WARP) {
                __syncthreads();
                load_tile(op.qkv, op.hidden + column, s, at, w, k);
                load_tile(op.qkv, 2 * op.hidden + column, s, at, w, v);
                __syncthreads();
                bool there = at + lane < s.length;
                float score = there ? dot(q, k + lane * (w + 1), w) * op.scale : -INFINITY;
                float higher = fmaxf(max, warp_max(score)), shrink = expf(max - higher);
                float p = there ? expf(score - higher) : 0;
                sum = sum * shrink + warp_sum(p);
                max = higher;
#pragma unroll
                for (uint32_t i = 0; i < LANE_COLUMNS; i++)
                        out[i] *= shrink;
                add_rows(there ? p * mask_of(op, s, own, at + lane) : 0, v, w, out);
        }
        if (own >= s.length)
                return;
#pragma unroll
        for (uint32_t i = 0; i < LANE_COLUMNS; i++)
                out[i] /= sum;
        store_own(op.context, column, s, w, out);
        if (lane == 0)
                op.lse[(size_t) s.head * op.lse_stride + s.first + own] = max + logf(sum);
}

/* delta = dcontext · context: a warp a query and head. */
template <class T> __global__ void attention_delta(attention<T> op) {
        uint32_t t = blockIdx.x * WARPS + threadIdx.x / WARP, head = blockIdx.y;
        float sum = 0;

        if (t >= op.context.rows)
                return;
        for (uint32_t c = threadIdx.x % WARP; c < op.width; c += WARP)
                sum += to_float(op.context.row(t)[head * op.width + c]) *
                       to_float(op.dcontext.row(t)[head * op.width + c]);
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0)
                op.delta[(size_t) head * op.lse_stride + t] = sum;
}

/* A warp a query: its gradient is Σ over keys of ds · k. */
template <class T> __global__ void attention_dq(attention<T> op) {
        DYNAMIC_SHARED(float, shared);
        const struct site s = site_of(op.cu_seqlens);
        uint32_t own = own_position(), w = op.width, lane = threadIdx.x % WARP, column = s.head * w;
        float *k = shared, *v = k + WARP * (w + 1), *q = v + WARP * (w + 1) + threadIdx.x / WARP * 2 * w, *dout = q + w;
        float dq[LANE_COLUMNS] = {};

        if (blockIdx.x * WARPS >= s.length)
                return;
        load_own(op.qkv, column, s, w, q);
        load_own(op.dcontext, column, s, w, dout);
        size_t row = (size_t) s.head * op.lse_stride + s.first + min(own, s.length - 1);
        float lse = op.lse[row], delta = op.delta[row];
        for (uint32_t at = 0; at < s.length; at += WARP) {
                __syncthreads();
                load_tile(op.qkv, op.hidden + column, s, at, w, k);
                load_tile(op.qkv, 2 * op.hidden + column, s, at, w, v);
                __syncthreads();
                float ds = 0;
                if (at + lane < s.length && own < s.length) {
                        float p = expf(dot(q, k + lane * (w + 1), w) * op.scale - lse);
                        float dp = dot(dout, v + lane * (w + 1), w) * mask_of(op, s, own, at + lane);
                        ds = p * (dp - delta) * op.scale;
                }
                add_rows(ds, k, w, dq);
        }
        if (own < s.length)
                store_own(op.dqkv, column, s, w, dq);
}

/* A warp a key: gradients of it and of its value, sums over queries. */
template <class T> __global__ void attention_dkv(attention<T> op) {
        DYNAMIC_SHARED(float, shared);
        const struct site s = site_of(op.cu_seqlens);
        uint32_t own = own_position(), w = op.width, lane = threadIdx.x % WARP, column = s.head * w;
        float *q = shared, *dout = q + WARP * (w + 1), *k = dout + WARP * (w + 1) + threadIdx.x / WARP * 2 * w,
              *v = k + w;
        float dk[LANE_COLUMNS] = {}, dv[LANE_COLUMNS] = {};

        if (blockIdx.x * WARPS >= s.length)
                return;
        load_own(op.qkv, op.hidden + column, s, w, k);
        load_own(op.qkv, 2 * op.hidden + column, s, w, v);
        for (uint32_t at = 0; at < s.length; at += WARP) {
                __syncthreads();
                load_tile(op.qkv, column, s, at, w, q);
                load_tile(op.dcontext, column, s, at, w, dout);
                __syncthreads();
                float ds = 0, masked = 0;
                if (at + lane < s.length && own < s.length) {
                        size_t row = (size_t) s.head * op.lse_stride + s.first + at + lane;
                        float mask = mask_of(op, s, at + lane, own);
                        float p = expf(dot(k, q + lane * (w + 1), w) * op.scale - op.lse[row]);
                        masked = p * mask;
                        ds = p * (dot(v, dout + lane * (w + 1), w) * mask - op.delta[row]) * op.scale;
                }
                add_rows(ds, q, w, dk);
                add_rows(masked, dout, w, dv);
        }
        if (own >= s.length)
                return;
        store_own(op.dqkv, op.hidden + column, s, w, dk);
        store_own(op.dqkv, 2 * op.hidden + column, s, w, dv);
}

static bool has_narrow_heads(const struct op_attention *op) {
        if (op->context.columns / op->n_heads <= CUDA_HEAD_MAX)
                return true;
        cuda_fail("attention", "heads of more than 128 columns");
        return false;
}

static dim3 grid_of_warps(const struct op_attention *op) {
        return dim3(ceil_div(op->max_length, WARPS), op->n_heads, op->n_sequences);
}

void cuda_attention_forward(const struct op_attention *op) {
        uint32_t width = op->context.columns / op->n_heads;

        if (!has_narrow_heads(op))
                return;
        if (cuda_attention_mma_forward(op)) {
                cuda_backend.counts.mma_attentions++;
                return;
        }
        cuda_backend.counts.plain_attentions++;
        WITH_TYPE(op->qkv.dtype, LAUNCH(attention_forward<T>, grid_of_warps(op), WARPS * WARP, shared_bytes(width, 1),
                                        attention_of<T>(op)));
}

void cuda_attention_backward(const struct op_attention *op) {
        uint32_t width = op->context.columns / op->n_heads;
        size_t shared = shared_bytes(width, 2);
        dim3 rows(ceil_div(op->context.rows, WARPS), op->n_heads);

        if (!has_narrow_heads(op))
                return;
        if (cuda_attention_mma_backward(op)) {
                cuda_backend.counts.mma_attentions++;
                return;
        }
        cuda_backend.counts.plain_attentions++;
        WITH_TYPE(op->qkv.dtype, {
                LAUNCH(attention_delta<T>, rows, WARPS * WARP, 0, attention_of<T>(op));
                LAUNCH(attention_dq<T>, grid_of_warps(op), WARPS * WARP, shared, attention_of<T>(op));
                LAUNCH(attention_dkv<T>, grid_of_warps(op), WARPS * WARP, shared, attention_of<T>(op));
        });
}
