/*
 * CPU backend: attention over samples of any length, without padding. One task is one (sample, head); within it queries go in
 * blocks of QUERY_ROWS, so the scores of a block, (QUERY_ROWS, n), stay in cache and the workspace is linear in n. Tasks write
 * disjoint columns and rows: which thread runs which does not show in any bit.
 */
#include "trainer/ops_cpu.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>

#include "common/cleanup.h"

#define QUERY_ROWS 128
#define SLOTS_MAX 64

/* Scores and their gradients of one block of queries. */
static size_t slot_bytes(uint32_t length) { return ((size_t) 2 * QUERY_ROWS * length * sizeof(float) + 63) / 64 * 64; }

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
        float scale, *q, *k, *v, *context, *lse, *scores, *dscores;
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
                .scores = scratch,
        };
        h.k = h.q + hidden;
        h.v = h.k + hidden;
        h.dscores = scratch + (size_t) QUERY_ROWS * h.length;
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

/* scores (rows, n) = scale · q kᵀ of the block's queries. */
static void block_scores(const struct head *h, uint32_t q, uint32_t rows) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int) rows, (int) h->length, (int) h->width, h->scale,
                    h->q + (size_t) q * (size_t) h->stride, h->stride, h->k, h->stride, 0, h->scores, (int) h->length);
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
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int) rows, (int) h->width, (int) h->length, 1,
                            h->scores, (int) h->length, h->v, h->stride, 0,
                            h->context + (size_t) q * (size_t) h->context_stride, h->context_stride);
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
        int n = (int) h->length, width = (int) h->width, dstride = (int) op->dqkv.stride,
            cstride = (int) op->dcontext.stride;
        float *dq = cpu_row(op->dqkv, h->first) + h->index * h->width, *dk = dq + op->context.columns,
              *dv = dk + op->context.columns;

        for (uint32_t q = 0; q < h->length; q += QUERY_ROWS) {
                int rows = (int) MIN(h->length - q, (uint32_t) QUERY_ROWS);
                const float *dcontext = cpu_row(op->dcontext, h->first + q) + h->index * h->width;
                const float *queries = h->q + (size_t) q * (size_t) h->stride;
                float beta = q ? 1 : 0;

                block_scores(h, q, (uint32_t) rows);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, width, 1, dcontext, cstride, h->v,
                            h->stride, 0, h->dscores, n);
                for (int i = 0; i < rows; i++)
                        backward_row(h, q + (uint32_t) i, dcontext + (size_t) i * op->dcontext.stride,
                                     h->scores + (size_t) i * h->length, h->dscores + (size_t) i * h->length);
                cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, width, rows, 1, h->scores, n, dcontext, cstride,
                            beta, dv, dstride);
                cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, width, rows, 1, h->dscores, n, queries,
                            h->stride, beta, dk, dstride);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, width, n, 1, h->dscores, n, h->k,
                            h->stride, 0, dq + (size_t) q * (size_t) dstride, dstride);
        }
}

/* Lengths differ, so tasks are handed out as threads become free. */
static void for_each_head(const struct op_attention *op, void (*f)(const struct head *)) {
        uint32_t longest = 1, n_tasks = op->n_samples * op->n_heads;

        for (uint32_t s = 0; s < op->n_samples; s++)
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
