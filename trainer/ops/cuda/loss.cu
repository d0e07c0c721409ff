/*
 * Softmax cross-entropy: a block a row, which reads its logits twice and writes their gradient over them. Losses of rows go to the
 * workspace and are added up by one block in a fixed order.
 */
#include "trainer/ops/cuda/kernels.cuh"

namespace {
constexpr uint32_t THREADS = 256; /* of a block */
} // namespace

/* The greatest value so far, its first place, and Σ exp(x − value). */
struct peak {
        float value, sum;
        uint32_t at;
};

__device__ static inline struct peak merge(struct peak a, struct peak b) {
        struct peak m = a.value > b.value || (a.value == b.value && a.at < b.at) ? a : b;

        if (m.value == -INFINITY)
                return m;
        m.sum = a.sum * expf(a.value - m.value) + b.sum * expf(b.value - m.value);
        return m;
}

__device__ static inline struct peak warp_peak(struct peak p) {
#pragma unroll
        for (int d = WARP / 2; d > 0; d /= 2) {
                struct peak other = { __shfl_xor_sync(ALL_LANES, p.value, d), __shfl_xor_sync(ALL_LANES, p.sum, d),
                                      __shfl_xor_sync(ALL_LANES, p.at, d) };
                p = merge(p, other);
        }
        return p;
}

__device__ static struct peak block_peak(struct peak p) {
        __shared__ struct peak parts[THREADS / WARP];

        p = warp_peak(p);
        if (threadIdx.x % WARP == 0)
                parts[threadIdx.x / WARP] = p;
        __syncthreads();
        p = parts[0];
        for (uint32_t i = 1; i < THREADS / WARP; i++)
                p = merge(p, parts[i]);
        return p;
}

/* This thread's share of a row. NaN stays in the sum, so it reaches the loss. */
template <class T> __device__ static struct peak thread_peak(const T *x, uint32_t columns) {
        struct peak p = { -INFINITY, 0, UINT32_MAX };
        float v[VECTOR];

        for (uint32_t c = threadIdx.x * VECTOR; c < columns; c += THREADS * VECTOR) {
                load8(x + c, columns - c, v);
                for (uint32_t i = 0; i < VECTOR && c + i < columns; i++) {
                        if (v[i] > p.value) {
                                p.sum = p.sum * expf(p.value - v[i]) + 1;
                                p.value = v[i];
                                p.at = c + i;
                        } else {
                                p.sum += v[i] == -INFINITY ? 0 : expf(v[i] - p.value);
                        }
                }
        }
        return p;
}

template <class T>
__device__ static void write_gradient(T *x, uint32_t columns, uint32_t label, const struct peak &p, float scale) {
        float v[VECTOR], factor = scale / p.sum;

        for (uint32_t c = threadIdx.x * VECTOR; c < columns; c += THREADS * VECTOR) {
                load8(x + c, columns - c, v);
#pragma unroll
                for (uint32_t i = 0; i < VECTOR; i++)
                        v[i] = expf(v[i] - p.value) * factor - (c + i == label ? scale : 0);
                store8(x + c, columns - c, v);
        }
}

template <class T> __device__ static void write_zeros(T *x, uint32_t columns) {
        const float zeros[VECTOR] = {};

        for (uint32_t c = threadIdx.x * VECTOR; c < columns; c += THREADS * VECTOR)
                store8(x + c, columns - c, zeros);
}

/* losses: of each row; correct: whether its first greatest logit is the label. */
template <class T>
__global__ void xent_rows(view<T> logits, const int32_t *labels, float scale, bool gradient, double *losses,
                          uint32_t *correct) {
        uint32_t r = blockIdx.x;
        int32_t label = labels[r];
        T *x = logits.row(r);

        if (label < 0) {
                if (gradient)
                        write_zeros(x, logits.columns);
                if (threadIdx.x == 0)
                        losses[r] = correct[r] = 0;
                return;
        }
        float own = to_float(x[label]); /* before anyone writes over it: block_peak waits for all */
        struct peak p = block_peak(thread_peak(x, logits.columns));
        if (threadIdx.x == 0) {
                losses[r] = (double) (p.value - own) + log((double) p.sum);
                correct[r] = p.at == (uint32_t) label;
        }
        if (gradient)
                write_gradient(x, logits.columns, (uint32_t) label, p, scale);
}

/* One block. */
__global__ void add_losses(const double *losses, const uint32_t *correct, const int32_t *labels, uint32_t n,
                           struct xent_sums *sums) {
        double loss = 0, count = 0, right = 0;

        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
                loss += losses[i];
                count += labels[i] >= 0;
                right += correct[i];
        }
        loss = block_sum(loss);
        count = block_sum(count);
        right = block_sum(right);
        if (threadIdx.x != 0)
                return;
        sums->loss += loss;
        sums->count += (uint64_t) count;
        sums->correct += (uint64_t) right;
}

void cuda_softmax_xent(const struct op_xent *op) {
        uint32_t n = op->logits.rows;
        double *losses = (double *) op->workspace.data;
        uint32_t *correct = (uint32_t *) (losses + n);

        WITH_TYPE(op->logits.dtype, LAUNCH(xent_rows<T>, n, THREADS, 0, view_of<T>(op->logits), op->labels,
                                           (float) op->scale, op->gradient, losses, correct));
        LAUNCH(add_losses, 1, THREADS, 0, losses, correct, op->labels, n, op->sums);
}
