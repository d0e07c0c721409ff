/*
 * CPU backend, fp32: the linear entries, with their epilogues run while a piece is in cache; and the small entries.
 *
 * Invariant: how work is cut depends on shapes only, never on the number of threads, and no two threads write one element.
 */
#include "trainer/ops/cpu/cpu.h"

#include <string.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/host.h"

#define COLUMN_BLOCK 64
#define SUM_ROWS 64
#define SPAN_BLOCK ((size_t) 65536)
#define HUGE_PAGE ((size_t) 2 << 20)

/* ---- memory ---- */

/* Whole pages from the kernel, huge where it gives them: activations and weights are walked with large strides. */
static size_t rounded_size(size_t size) {
        size_t unit = size >= HUGE_PAGE ? HUGE_PAGE : 4096;

        return (size + unit - 1) / unit * unit;
}

static void *cpu_allocate(size_t size) {
        void *data = mmap(NULL, rounded_size(MAX(size, (size_t) 1)), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (data == MAP_FAILED)
                return NULL;
        (void) madvise(data, rounded_size(size), MADV_HUGEPAGE);
        return data;
}

static void cpu_release(void *data, size_t size) { (void) munmap(data, rounded_size(MAX(size, (size_t) 1))); }

static size_t cpu_workspace_bytes(const struct ops_shape *shape) {
        size_t xent = MAX(shape->max_masked, shape->max_samples) * 2 * sizeof(double);

        return MAX(xent, MAX(cpu_norm_workspace_bytes(shape), cpu_attention_workspace_bytes(shape)));
}

static void cpu_zero(void *data, size_t size) {
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < size; i += SPAN_BLOCK * sizeof(float))
                memset((char *) data + i, 0, MIN(SPAN_BLOCK * sizeof(float), size - i));
}

static void cpu_store(enum dtype of, void *data, size_t first, const double *values, size_t n) {
        (void) of;
        for (size_t i = 0; i < n; i++)
                ((float *) data)[first + i] = (float) values[i];
}

static void cpu_load(enum dtype of, const void *data, size_t first, double *values, size_t n) {
        (void) of;
        for (size_t i = 0; i < n; i++)
                values[i] = ((const float *) data)[first + i];
}

/* ---- linear ---- */

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

static void cpu_linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
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

static void cpu_linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                          struct tensor dx, struct tensor dbias) {
        struct epilogue epilogue = { .y = dx, .saved = saved, .act = act };
        struct cpu_gemm gemm = { .a = along_depth(dy), .b = across_depth(w), .c = dx, .depth = dy.columns, .alpha = 1 };

        gemm.add = add;
        if (act != ACTIVATION_NONE)
                gemm.finish = finish_linear_dx, gemm.context = &epilogue;
        cpu_gemm(&gemm);
        cpu_add_column_sums(dx, dbias);
}

/* Columns first_column… of dy summed over all rows, SUM_ROWS rows at a time, then added to dbias. */
static void column_sums(const struct cpu_kernels *k, struct tensor dy, uint32_t first_column, float *dbias) {
        size_t width = MIN((uint32_t) COLUMN_BLOCK, dy.columns - first_column);
        float total[COLUMN_BLOCK] = {};

        for (uint32_t r = 0; r < dy.rows; r += SUM_ROWS) {
                float part[COLUMN_BLOCK] = {};
                for (uint32_t i = r; i < MIN(dy.rows, r + SUM_ROWS); i++)
                        k->add(part, cpu_row(dy, i) + first_column, width);
                k->add(total, part, width);
        }
        k->add(dbias + first_column, total, width);
}

void cpu_add_column_sums(struct tensor x, struct tensor to) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (uint32_t c = 0; c < (to.data ? x.columns : 0); c += COLUMN_BLOCK)
                column_sums(k, x, c, cpu_row(to, 0));
}

static void cpu_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias) {
        struct cpu_gemm gemm = {
                .a = across_depth(dy), .b = across_depth(x), .c = dw, .depth = dy.rows, .alpha = 1, .add = true
        };

        cpu_gemm(&gemm);
        cpu_add_column_sums(dy, dbias);
}

static void cpu_activation_backward(enum activation act, struct tensor saved, struct tensor dx) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (uint32_t r = 0; r < dx.rows; r++)
                k->activation_backward(cpu_row(dx, r), cpu_row(saved, r), act, dx.columns);
}

/* ---- rows ---- */

static void cpu_embed_forward(const struct op_embed *op, const struct op_norm *norm) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (uint32_t t = 0; t < op->x.rows; t++)
                k->sum3(cpu_row(op->x, t), cpu_row(op->word, (size_t) op->ids[t]),
                        cpu_row(op->position, (size_t) op->positions[t]), cpu_row(op->type, (size_t) op->types[t]),
                        op->x.columns);
        cpu_norm_dropout_forward(norm);
}

/* Shared out by columns: every element of a table gets its tokens in ascending order. */
static void cpu_embed_backward(const struct op_embed *op) {
        const struct cpu_kernels *k = cpu_kernels();

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

static void cpu_gather_rows(struct tensor x, const int32_t *rows, struct tensor y) {
#pragma omp parallel for schedule(static)
        for (uint32_t i = 0; i < y.rows; i++)
                memcpy(cpu_row(y, i), cpu_row(x, (size_t) rows[i]), y.columns * sizeof(float));
}

static void cpu_scatter_add_rows(struct tensor dy, const int32_t *rows, struct tensor dx) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static)
        for (uint32_t c = 0; c < dy.columns; c += COLUMN_BLOCK)
                for (uint32_t i = 0; i < dy.rows; i++)
                        k->add(cpu_row(dx, (size_t) rows[i]) + c, cpu_row(dy, i) + c,
                               MIN((uint32_t) COLUMN_BLOCK, dy.columns - c));
}

/* ---- loss ---- */

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

static void cpu_softmax_xent(const struct op_xent *op) {
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

/* ---- flat runs ---- */

#define PARTIALS 1024

static double cpu_sum_squares(const void *data, size_t n) {
        const struct cpu_kernels *k = cpu_kernels();
        const float *x = data;
        double total = 0, partials[PARTIALS];

        for (size_t first = 0; first < n; first += PARTIALS * SPAN_BLOCK) {
                size_t blocks = MIN((size_t) PARTIALS, (n - first + SPAN_BLOCK - 1) / SPAN_BLOCK);
#pragma omp parallel for schedule(static)
                for (size_t b = 0; b < blocks; b++) {
                        size_t at = first + b * SPAN_BLOCK;
                        partials[b] = k->sum_squares(x + at, MIN(SPAN_BLOCK, n - at));
                }
                for (size_t b = 0; b < blocks; b++)
                        total += partials[b];
        }
        return total;
}

static void cpu_adamw(const struct op_adam *op, size_t n, const void *gradient, void *parameter, void *moment1,
                      void *moment2) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static) if (n > SPAN_BLOCK)
        for (size_t i = 0; i < n; i += SPAN_BLOCK / 8)
                k->adamw(op, (const float *) gradient + i, (float *) parameter + i, (float *) moment1 + i,
                         (float *) moment2 + i, MIN(SPAN_BLOCK / 8, n - i));
}

static void cpu_adam_direction(const struct op_adam *op, size_t n, void *gradient, const void *parameter, void *moment1,
                               void *moment2) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static) if (n > SPAN_BLOCK)
        for (size_t i = 0; i < n; i += SPAN_BLOCK / 8)
                k->adam_direction(op, (float *) gradient + i, (const float *) parameter + i, (float *) moment1 + i,
                                  (float *) moment2 + i, MIN(SPAN_BLOCK / 8, n - i));
}

static void cpu_descend(double rate, size_t n, const void *direction, void *parameter) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static) if (n > SPAN_BLOCK)
        for (size_t i = 0; i < n; i += SPAN_BLOCK / 8)
                k->descend((float) rate, (const float *) direction + i, (float *) parameter + i,
                           MIN(SPAN_BLOCK / 8, n - i));
}

/* ---- table ---- */

static const struct ops table = {
        .name = "cpu",
        .dtype = DTYPE_FP32,
        .master = DTYPE_FP32,
        .host_memory = true,
        .variant = ops_cpu_variant,
        .allocate = cpu_allocate,
        .release = cpu_release,
        .workspace_bytes = cpu_workspace_bytes,
        .allocate_host = host_allocate,
        .release_host = host_release,
        .upload = host_copy,
        .download = host_copy,
        .copy = host_copy,
        .allocate_spare = host_allocate_spare,
        .mark = host_mark,
        .fetch = host_fetch,
        .hash = host_hash,
        .zero = cpu_zero,
        .store = cpu_store,
        .load = cpu_load,
        .embed_forward = cpu_embed_forward,
        .embed_backward = cpu_embed_backward,
        .linear = cpu_linear,
        .linear_dx = cpu_linear_dx,
        .linear_dw_db = cpu_linear_dw_db,
        .activation_backward = cpu_activation_backward,
        .attention_forward = cpu_attention_forward,
        .attention_backward = cpu_attention_backward,
        .add_norm_forward = cpu_add_norm_forward,
        .add_norm_backward = cpu_add_norm_backward,
        .norm_dropout_forward = cpu_norm_dropout_forward,
        .norm_dropout_backward = cpu_norm_dropout_backward,
        .gather_rows = cpu_gather_rows,
        .scatter_add_rows = cpu_scatter_add_rows,
        .softmax_xent = cpu_softmax_xent,
        .sum_squares = cpu_sum_squares,
        .adamw = cpu_adamw,
        .adam_direction = cpu_adam_direction,
        .descend = cpu_descend,
};

const struct ops *ops_cpu(void) { return &table; }
