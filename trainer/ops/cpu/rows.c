/*
 * CPU backend: the entries that move, sum or judge whole rows: embeddings, gathered rows, the loss.
 *
 * Invariant: how work is cut depends on shapes only, never on the number of threads, and no two threads write one element.
 */
#include "trainer/ops/cpu/rows.h"

#include <string.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/linear.h"
#include "trainer/ops/cpu/norm.h"
#include "trainer/ops/cpu/spans.h"

#define COLUMN_BLOCK 64

void cpu_embed_forward(const struct op_embed *op, const struct op_norm *norm) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (uint32_t t = 0; t < op->x.rows; t++)
                k->sum3(cpu_row(op->x, t), cpu_row(op->word, (size_t) op->ids[t]),
                        cpu_row(op->position, (size_t) op->positions[t]), cpu_row(op->type, (size_t) op->types[t]),
                        op->x.columns);
        cpu_norm_dropout_forward(norm);
}

/* Shared out by columns: every element of a table gets its tokens in ascending order. */
void cpu_embed_backward(const struct op_embed *op) {
        const struct cpu_kernels *k = cpu_kernels();

        cpu_begin_sum(op->word);
        cpu_begin_sum(op->position);
        cpu_begin_sum(op->type);
#pragma omp parallel for schedule(static)
        for (uint32_t c = 0; c < op->x.columns; c += COLUMN_BLOCK)
                for (uint32_t t = 0; t < op->x.rows; t++) {
                        size_t width = MIN((uint32_t) COLUMN_BLOCK, op->x.columns - c);
                        const float *x = cpu_row(op->x, t) + c;
                        k->add(cpu_row(op->word, (size_t) op->ids[t]) + c, x, width);
                        k->add(cpu_row(op->position, (size_t) op->positions[t]) + c, x, width);
                        k->add(cpu_row(op->type, (size_t) op->types[t]) + c, x, width);
                }
}

void cpu_gather_rows(struct tensor x, const int32_t *rows, struct tensor y) {
#pragma omp parallel for schedule(static)
        for (uint32_t i = 0; i < y.rows; i++)
                memcpy(cpu_row(y, i), cpu_row(x, (size_t) rows[i]), y.columns * sizeof(float));
}

void cpu_scatter_add_rows(struct tensor dy, const int32_t *rows, struct tensor dx) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (uint32_t c = 0; c < dy.columns; c += COLUMN_BLOCK)
                for (uint32_t i = 0; i < dy.rows; i++)
                        k->add(cpu_row(dx, (size_t) rows[i]) + c, cpu_row(dy, i) + c,
                               MIN((uint32_t) COLUMN_BLOCK, dy.columns - c));
}

/* ---- loss ---- */

size_t cpu_rows_workspace_bytes(const struct ops_shape *shape) {
        return MAX(shape->max_masked, shape->max_sequences) * 2 * sizeof(double);
}

static double xent_row(const struct cpu_kernels *k, const struct op_xent *op, uint32_t r, bool *ret_correct) {
        float *x = cpu_row(op->logits, r);
        size_t n = op->logits.columns, label = (size_t) op->labels[r], best;
        float lse = k->log_sum_exp(x, n, &best);
        double loss = (double) lse - (double) x[label];

        *ret_correct = best == label;
        if (op->gradient) {
                k->xent_gradient(x, lse, (float) op->scale, n);
                x[label] -= (float) op->scale;
        }
        return loss;
}

void cpu_softmax_xent(const struct op_xent *op) {
        const struct cpu_kernels *k = cpu_kernels();
        uint32_t rows = op->logits.rows;
        double *losses = op->workspace.data, *correct = losses + rows, loss = 0;

#pragma omp parallel for schedule(static)
        for (uint32_t r = 0; r < rows; r++) {
                bool hit = false;
                losses[r] = op->labels[r] >= 0 ? xent_row(k, op, r, &hit) : 0;
                correct[r] = hit;
                if (op->labels[r] < 0 && op->gradient)
                        memset(cpu_row(op->logits, r), 0, op->logits.columns * sizeof(float));
        }
        for (uint32_t r = 0; r < rows; r++) {
                loss += losses[r];
                op->sums->count += op->labels[r] >= 0;
                op->sums->correct += correct[r] > 0;
        }
        op->sums->loss += loss;
}
