/*
 * CPU backend: the normalisations with their dropout and residual.
 *
 * Rows are independent; only the column sums dgamma and dbeta cross them. Those are taken in blocks of NORM_ROWS rows, one
 * partial sum a block in the workspace, and the blocks added in order, so no bit depends on the number of threads.
 */
#include "trainer/ops/cpu/norm.h"

#include <string.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/linear.h"
#include "trainer/ops/cpu/spans.h"

#define NORM_ROWS 64
#define NORM_COLUMNS 256

static size_t n_blocks(size_t rows) { return (rows + NORM_ROWS - 1) / NORM_ROWS; }

size_t cpu_norm_workspace_bytes(const struct ops_shape *shape) {
        return n_blocks(MAX(shape->max_tokens, shape->max_masked)) * 2 * shape->hidden_size * sizeof(float);
}

/* y = x · mask(row t), in pieces of CPU_MASK_MAX; without dropout a copy. */
static void mask_row(const struct cpu_kernels *k, const struct op_norm *op, size_t t, float *y, const float *x) {
        uint32_t n = op->x.columns;
        float mask[CPU_MASK_MAX];

        if (!op->dropout.threshold) {
                if (y != x)
                        memcpy(y, x, n * sizeof(float));
                return;
        }
        uint32_t block = dropout_hidden_block((uint32_t) op->rows.position[t], n);
        for (uint32_t c = 0; c < n; c += CPU_MASK_MAX) {
                size_t width = MIN(n - c, (uint32_t) CPU_MASK_MAX);
                k->dropout_mask(mask, width, &op->dropout, op->rows.k[t], block + c / 8);
                k->multiply(y + c, x + c, mask, width);
        }
}

static void add_row(const struct cpu_kernels *k, const struct op_norm *op, size_t t) {
        float *x = cpu_row(op->x, t), *residual = cpu_row(op->residual, t), mask[CPU_MASK_MAX];
        uint32_t n = op->x.columns;

        if (!op->dropout.threshold) {
                k->add_masked(x, residual, NULL, n);
                return;
        }
        uint32_t block = dropout_hidden_block((uint32_t) op->rows.position[t], n);
        for (uint32_t c = 0; c < n; c += CPU_MASK_MAX) {
                size_t width = MIN(n - c, (uint32_t) CPU_MASK_MAX);
                k->dropout_mask(mask, width, &op->dropout, op->rows.k[t], block + c / 8);
                k->add_masked(x + c, residual + c, mask, width);
        }
}

static void norm_row(const struct cpu_kernels *k, const struct op_norm *op, size_t t) {
        k->norm(cpu_row(op->x, t), cpu_row(op->gamma, 0), cpu_row(op->beta, 0), op->epsilon, cpu_row(op->y, t),
                cpu_row(op->mean, 0) + t, cpu_row(op->rstd, 0) + t, op->x.columns);
}

void cpu_add_norm_forward(const struct op_norm *op) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (size_t t = 0; t < op->x.rows; t++) {
                add_row(k, op, t);
                norm_row(k, op, t);
        }
}

void cpu_norm_dropout_forward(const struct op_norm *op) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (size_t t = 0; t < op->x.rows; t++) {
                norm_row(k, op, t);
                mask_row(k, op, t, cpu_row(op->y, t), cpu_row(op->y, t));
        }
}

/* One block of rows: their dx, and their part of dgamma and dbeta into partial (2, H). */
static void backward_block(const struct cpu_kernels *k, const struct op_norm *op, bool add, size_t block,
                           float *partial) {
        uint32_t n = op->x.columns;
        size_t end = MIN((block + 1) * NORM_ROWS, (size_t) op->x.rows);

        memset(partial, 0, 2 * n * sizeof(float));
        for (size_t t = block * NORM_ROWS; t < end; t++) {
                float *dsum = cpu_row(add ? op->dresidual : op->dx, t), *dy = cpu_row(op->dy, t);
                if (!add) {
                        mask_row(k, op, t, dsum, dy);
                        dy = dsum;
                }
                k->norm_backward(cpu_row(op->x, t), dy, cpu_row(op->gamma, 0), cpu_row(op->mean, 0)[t],
                                 cpu_row(op->rstd, 0)[t], partial, partial + n, dsum, n);
                if (add)
                        mask_row(k, op, t, cpu_row(op->dx, t), dsum);
        }
}

static void norm_backward(const struct op_norm *op, bool add) {
        const struct cpu_kernels *k = cpu_kernels();
        size_t blocks = n_blocks(op->x.rows), n = op->x.columns;
        float *partials = op->workspace.data;

        cpu_begin_sum(op->dgamma);
        cpu_begin_sum(op->dbeta);
#pragma omp parallel for schedule(static)
        for (size_t block = 0; block < blocks; block++)
                backward_block(k, op, add, block, partials + block * 2 * n);

#pragma omp parallel for schedule(static)
        for (size_t c = 0; c < n; c += NORM_COLUMNS) {
                size_t width = MIN(n - c, (size_t) NORM_COLUMNS);
                for (size_t block = 0; block < blocks; block++) {
                        k->add(cpu_row(op->dgamma, 0) + c, partials + block * 2 * n + c, width);
                        k->add(cpu_row(op->dbeta, 0) + c, partials + block * 2 * n + n + c, width);
                }
        }
}

void cpu_add_norm_backward(const struct op_norm *op) {
        norm_backward(op, true);
        cpu_add_column_sums(op->dx, op->dbias);
}
void cpu_norm_dropout_backward(const struct op_norm *op) { norm_backward(op, false); }
