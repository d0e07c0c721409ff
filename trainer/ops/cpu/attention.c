/*
 * CPU backend: attention over samples of any length, without padding. One task is one (sample, head); within it queries go in
 * blocks of QUERY_ROWS, so the scores of a block, (QUERY_ROWS, n), stay in cache and the workspace is linear in n. Tasks write
 * disjoint columns and rows: which thread runs which does not show in any bit.
 */
#include "trainer/ops/cpu/attention.h"

#include <math.h>
#include <omp.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/gemm.h"
#include "trainer/ops/cpu/spans.h"

#define QUERY_ROWS 128
#define SLOTS_MAX 64

/* What a product packs, then scores and their gradients of one block of queries. */
static size_t slot_bytes(uint32_t length) {
        return (CPU_GEMM_PACKED + (size_t) 2 * QUERY_ROWS * length) * sizeof(float);
}

size_t cpu_attention_workspace_bytes(const struct ops_shape *shape) {
        int slots = MIN(MAX(omp_get_max_threads(), omp_get_num_procs()), SLOTS_MAX);

        return (size_t) slots * slot_bytes(shape->max_length);
}

/* One (sample, head): pointers to its first row and column. `stride` of q, k, v and their gradients, `width` a head's columns. */
struct head {
        const struct op_attention *op;
        const struct cpu_kernels *kernels;
        uint32_t sample, index, first, length, width;
        int stride, context_stride;
        float scale, *q, *k, *v, *context, *lse, *packed, *scores, *dscores;
};

static struct head head_of(const struct op_attention *op, uint32_t task, float *scratch) {
        uint32_t sample = task / op->n_heads, index = task % op->n_heads, hidden = op->context.columns;
        uint32_t first = (uint32_t) op->cu_seqlens[sample], width = hidden / op->n_heads;
        struct head h = {
                .op = op,
                .kernels = cpu_kernels(),
                .sample = sample,
                .index = index,
                .first = first,
                .length = (uint32_t) op->cu_seqlens[sample + 1] - first,
                .width = width,
                .stride = (int) op->qkv.stride,
                .context_stride = (int) op->context.stride,
                .scale = (float) (1.0 / sqrt((double) width)),
                .q = cpu_row(op->qkv, first) + index * width,
                .context = cpu_row(op->context, first) + index * width,
                .lse = cpu_row(op->lse, index) + first,
                .packed = scratch,
                .scores = scratch + CPU_GEMM_PACKED,
        };
        h.k = h.q + hidden;
        h.v = h.k + hidden;
        h.dscores = h.scores + (size_t) QUERY_ROWS * h.length;
        return h;
}

/* The factors of row q, or NULL without dropout; `mask` holds at least `length`. */
static const float *mask_of(const struct head *h, uint32_t q, uint32_t first_column, uint32_t n,
                            float mask[CPU_MASK_MAX]) {
        const struct dropout *d = &h->op->dropout;

        if (!d->threshold)
                return NULL;
        h->kernels->dropout_mask(mask, n, d, h->op->sample_k[h->sample],
                                 dropout_attention_block(h->index, q, h->length) + first_column / 8);
        return mask;
}

static struct cpu_operand along_depth(const float *data, int stride) {
        return (struct cpu_operand) { data, (size_t) stride, false };
}
static struct cpu_operand across_depth(const float *data, int stride) {
        return (struct cpu_operand) { data, (size_t) stride, true };
}
static struct tensor matrix(float *data, uint32_t rows, uint32_t columns, int stride) {
        return (struct tensor) { data, DTYPE_FP32, rows, columns, (uint32_t) stride, false };
}

/* c = a b, or added to c. */
static void product(const struct head *h, struct cpu_operand a, struct cpu_operand b, uint32_t depth, struct tensor c,
                    bool add) {
        cpu_gemm_alone(&(struct cpu_gemm) { .a = a, .b = b, .c = c, .depth = depth, .alpha = 1, .add = add },
                       h->packed);
}

/* scores (rows, n) = scale · q kᵀ of the block's queries. */
static void block_scores(const struct head *h, uint32_t q, uint32_t rows) {
        cpu_gemm_alone(&(struct cpu_gemm) { .a = along_depth(h->q + (size_t) q * (size_t) h->stride, h->stride),
                                            .b = along_depth(h->k, h->stride),
                                            .c = matrix(h->scores, rows, h->length, (int) h->length),
                                            .depth = h->width,
                                            .alpha = h->scale },
                       h->packed);
}

static void softmax_row(const struct head *h, uint32_t q, float *scores) {
        float mask[CPU_MASK_MAX];

        if (h->length <= CPU_MASK_MAX) {
                h->lse[q] = h->kernels->softmax(scores, mask_of(h, q, 0, h->length, mask), h->length);
                return;
        }
        h->lse[q] = h->kernels->softmax(scores, NULL, h->length);
        for (uint32_t c = 0; c < h->length && h->op->dropout.threshold; c += CPU_MASK_MAX) {
                uint32_t n = MIN(h->length - c, (uint32_t) CPU_MASK_MAX);
                h->kernels->multiply(scores + c, scores + c, mask_of(h, q, c, n, mask), n);
        }
}

static void head_forward(const struct head *h) {
        for (uint32_t q = 0; q < h->length; q += QUERY_ROWS) {
                uint32_t rows = MIN(h->length - q, (uint32_t) QUERY_ROWS);
                block_scores(h, q, rows);
                for (uint32_t i = 0; i < rows; i++)
                        softmax_row(h, q + i, h->scores + (size_t) i * h->length);
                product(h, along_depth(h->scores, (int) h->length), across_depth(h->v, h->stride), h->length,
                        matrix(h->context + (size_t) q * (size_t) h->context_stride, rows, h->width, h->context_stride),
                        false);
        }
}

/* Row q: probabilities and the scores' gradient, in pieces of CPU_MASK_MAX. Σ p·dp is dcontext · context. */
static void backward_row(const struct head *h, uint32_t q, const float *dcontext, float *scores, float *dscores) {
        float dot = h->kernels->dot(dcontext, h->context + (size_t) q * (size_t) h->context_stride, h->width),
              mask[CPU_MASK_MAX];

        for (uint32_t c = 0; c < h->length; c += CPU_MASK_MAX) {
                uint32_t n = MIN(h->length - c, (uint32_t) CPU_MASK_MAX);
                h->kernels->softmax_backward(scores + c, dscores + c, mask_of(h, q, c, n, mask), h->lse[q], dot,
                                             h->scale, n);
        }
}

static void head_backward(const struct head *h) {
        const struct op_attention *op = h->op;
        int n = (int) h->length, dstride = (int) op->dqkv.stride, cstride = (int) op->dcontext.stride;
        float *dq = cpu_row(op->dqkv, h->first) + h->index * h->width, *dk = dq + op->context.columns,
              *dv = dk + op->context.columns;

        for (uint32_t q = 0; q < h->length; q += QUERY_ROWS) {
                uint32_t rows = MIN(h->length - q, (uint32_t) QUERY_ROWS);
                const float *dcontext = cpu_row(op->dcontext, h->first + q) + h->index * h->width;
                const float *queries = h->q + (size_t) q * (size_t) h->stride;

                block_scores(h, q, rows);
                product(h, along_depth(dcontext, cstride), along_depth(h->v, h->stride), h->width,
                        matrix(h->dscores, rows, h->length, n), false);
                for (uint32_t i = 0; i < rows; i++)
                        backward_row(h, q + i, dcontext + (size_t) i * op->dcontext.stride,
                                     h->scores + (size_t) i * h->length, h->dscores + (size_t) i * h->length);
                product(h, across_depth(h->scores, n), across_depth(dcontext, cstride), rows,
                        matrix(dv, h->length, h->width, dstride), q > 0);
                product(h, across_depth(h->dscores, n), across_depth(queries, h->stride), rows,
                        matrix(dk, h->length, h->width, dstride), q > 0);
                product(h, along_depth(h->dscores, n), across_depth(h->k, h->stride), h->length,
                        matrix(dq + (size_t) q * (size_t) dstride, rows, h->width, dstride), false);
        }
}

/* Lengths differ, so tasks are handed out as threads become free. */
static void for_each_head(const struct op_attention *op, void (*f)(const struct head *)) {
        uint32_t longest = 1, n_tasks = op->n_sequences * op->n_heads;

        for (uint32_t s = 0; s < op->n_sequences; s++)
                longest = MAX(longest, (uint32_t) (op->cu_seqlens[s + 1] - op->cu_seqlens[s]));
        size_t slot = slot_bytes(longest) / sizeof(float);
        int slots = (int) MIN((size_t) omp_get_max_threads(), op->workspace.size / (slot * sizeof(float)));
#pragma omp parallel for schedule(dynamic, 1) num_threads(slots)
        for (uint32_t task = 0; task < n_tasks; task++) {
                struct head h = head_of(op, task, (float *) op->workspace.data + (size_t) omp_get_thread_num() * slot);
                f(&h);
        }
}

void cpu_attention_forward(const struct op_attention *op) { for_each_head(op, head_forward); }
void cpu_attention_backward(const struct op_attention *op) { for_each_head(op, head_backward); }
