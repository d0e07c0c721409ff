/*
 * CPU backend: the linear entries, with their epilogues run while a piece is in cache.
 *
 * Invariant: how work is cut depends on shapes only, never on the number of threads, and no two threads write one element.
 */
#include "trainer/ops/cpu/linear.h"

#include <string.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/gemm.h"
#include "trainer/ops/cpu/spans.h"

/* What is done to a piece of y or dx while it is in cache. */
struct epilogue {
        struct tensor y, bias, pre, saved;
        enum activation act;
};

static struct cpu_operand along_depth(struct tensor t) { return (struct cpu_operand) { t.data, t.stride, false }; }
static struct cpu_operand across_depth(struct tensor t) { return (struct cpu_operand) { t.data, t.stride, true }; }

static void finish_linear(void *context, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns) {
        const struct epilogue *e = context;
        const struct cpu_kernels *k = cpu_kernels();
        const float *bias = e->bias.data ? cpu_row(e->bias, 0) + column : NULL;

        for (uint32_t r = row; r < row + rows; r++)
                k->bias_activation(cpu_row(e->y, r) + column, bias, e->act,
                                   e->pre.data ? cpu_row(e->pre, r) + column : NULL, columns);
}

void cpu_linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
                struct tensor y) {
        struct epilogue epilogue = { .y = y, .bias = bias, .pre = pre, .act = act };
        struct cpu_gemm gemm = { .a = along_depth(x), .b = along_depth(w), .c = y, .depth = x.columns, .alpha = 1 };

        if (bias.data || pre.data || act != ACTIVATION_NONE)
                gemm.finish = finish_linear, gemm.context = &epilogue;
        cpu_gemm(&gemm);
}

static void finish_linear_dx(void *context, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns) {
        const struct epilogue *e = context;
        const struct cpu_kernels *k = cpu_kernels();

        for (uint32_t r = row; r < row + rows; r++)
                k->activation_backward(cpu_row(e->y, r) + column, cpu_row(e->saved, r) + column, e->act, columns);
}

void cpu_linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                   struct tensor dx, struct tensor dbias) {
        struct epilogue epilogue = { .y = dx, .saved = saved, .act = act };
        struct cpu_gemm gemm = { .a = along_depth(dy), .b = across_depth(w), .c = dx, .depth = dy.columns, .alpha = 1 };

        gemm.add = add;
        if (act != ACTIVATION_NONE)
                gemm.finish = finish_linear_dx, gemm.context = &epilogue;
        cpu_gemm(&gemm);
        cpu_add_column_sums(dx, dbias);
}

void cpu_begin_sum(struct tensor t) {
        for (uint32_t r = 0; t.data && t.fresh && r < t.rows; r++)
                memset(cpu_row(t, r), 0, t.columns * sizeof(float));
}

void cpu_add_column_sums(struct tensor x, struct tensor to) {
        const struct cpu_kernels *k = cpu_kernels();

        cpu_begin_sum(to);
#pragma omp parallel for schedule(static)
        for (uint32_t c = 0; c < (to.data ? x.columns : 0); c += CPU_COLUMNS_MAX)
                k->add_columns(cpu_row(to, 0) + c, cpu_row(x, 0) + c, x.stride, x.rows,
                               MIN((uint32_t) CPU_COLUMNS_MAX, x.columns - c));
}

void cpu_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias) {
        struct cpu_gemm gemm = {
                .a = across_depth(dy), .b = across_depth(x), .c = dw, .depth = dy.rows, .alpha = 1, .add = !dw.fresh
        };

        cpu_gemm(&gemm);
        cpu_add_column_sums(dy, dbias);
}

void cpu_activation_backward(enum activation act, struct tensor saved, struct tensor dx) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (uint32_t r = 0; r < dx.rows; r++)
                k->activation_backward(cpu_row(dx, r), cpu_row(saved, r), act, dx.columns);
}
