/*
 * Inside of the fp32 CPU backend: the span kernels, which know nothing of threads, and the entries that cpu.c collects.
 * span_kernels.h is compiled twice, plain and for AVX2; neither fuses multiply and add and both work on eight lanes, so
 * the two give the same bits. Matrix products do fuse where the machine can, so "generic" differs from the other two.
 */
#ifndef TRAINER_OPS_CPU_CPU_H
#define TRAINER_OPS_CPU_CPU_H

#include "trainer/ops/ops.h"

/* Spans are contiguous floats without alignment. `mask` holds dropout's factors (0 or scale); NULL: no dropout. */
struct cpu_kernels {
        const char *name;

        /* y = act(y + bias); the argument of act goes to pre where given. bias may be NULL. */
        void (*bias_activation)(float *y, const float *bias, enum activation act, float *pre, size_t n);
        void (*activation_backward)(float *dx, const float *saved, enum activation act, size_t n);

        void (*dropout_mask)(float *mask, size_t n, const struct dropout *dropout, uint64_t k, uint32_t first_block);
        void (*multiply)(float *y, const float *x, const float *mask, size_t n);          /* y = x · mask */
        void (*add_masked)(float *x, const float *residual, const float *mask, size_t n); /* x = residual + x · mask */
        void (*add)(float *y, const float *x, size_t n);                                  /* y += x */
        void (*sum3)(float *y, const float *a, const float *b, const float *c, size_t n); /* y = a + b + c */

        void (*norm)(const float *x, const float *gamma, const float *beta, double epsilon, float *y, float *ret_mean,
                     float *ret_rstd, size_t n);
        /* dx may be dy. dgamma and dbeta are added to. */
        void (*norm_backward)(const float *x, const float *dy, const float *gamma, float mean, float rstd,
                              float *dgamma, float *dbeta, float *dx, size_t n);

        /* s = softmax(s) · mask; returns log Σ exp(s). */
        float (*softmax)(float *s, const float *mask, size_t n);
        /* s: scores in, p · mask out; dp: gradient of p · mask in, gradient of the scores times scale out. */
        void (*softmax_backward)(float *s, float *dp, const float *mask, float lse, float dot, float scale, size_t n);
        float (*dot)(const float *a, const float *b, size_t n);

        /* Greatest value, its first place and log Σ exp. */
        float (*log_sum_exp)(const float *x, size_t n, size_t *ret_best);
        void (*xent_gradient)(float *x, float lse, float scale, size_t n); /* x = scale · exp(x − lse) */

        double (*sum_squares)(const float *x, size_t n);
        void (*adamw)(const struct op_adam *op, const float *g, float *p, float *m, float *v, size_t n);
        void (*adam_direction)(const struct op_adam *op, float *g, const float *p, float *m, float *v, size_t n);
        void (*descend)(float rate, const float *direction, float *p, size_t n); /* p −= rate · direction */

        /* Tested against libm: y = f(x). */
        void (*exp)(float *y, const float *x, size_t n);
        void (*erf)(float *y, const float *x, size_t n);
        void (*tanh)(float *y, const float *x, size_t n);
};

/* to (1, N) += the sums of x's columns, blocks of rows in order; `to` absent: nothing. ops_cpu.c */
void cpu_add_column_sums(struct tensor x, struct tensor to);

/* The machine's kernels; and all that it can run, for tests: `index` from 0, NULL past the last. */
const struct cpu_kernels *cpu_kernels(void);
const struct cpu_kernels *cpu_kernels_variant(unsigned index);

#define CPU_MASK_MAX 512 /* elements of a mask made at a time; a multiple of 8 */

static inline float *cpu_row(struct tensor t, size_t r) { return (float *) t.data + r * t.stride; }

/*
 * gemm.c: c = alpha · a b (added to c where `add`), a (rows, depth), b (depth, columns). An operand's lines (rows of a,
 * columns of b) lie `stride` apart, or, where `depth_first`, element k of all lines lies together and those are `stride` apart.
 */
struct cpu_operand {
        const float *data;
        size_t stride;
        bool depth_first;
};
struct cpu_gemm {
        struct cpu_operand a, b;
        struct tensor c;
        uint32_t depth;
        float alpha;
        bool add;
        /* May be NULL: called by the thread that has just completed these elements of c. */
        void (*finish)(void *context, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns);
        void *context;
};
#define CPU_GEMM_DEPTH 384
#define CPU_GEMM_COLUMNS 512
#define CPU_GEMM_PACKED ((size_t) CPU_GEMM_DEPTH * CPU_GEMM_COLUMNS) /* floats */

/* All threads together, one call at a time in a process; the calling thread alone, with CPU_GEMM_PACKED floats of scratch, 64-byte aligned. */
void cpu_gemm(const struct cpu_gemm *g);
void cpu_gemm_alone(const struct cpu_gemm *g, float *packed);

/* The same by the index-th instruction set, for tests: generic, avx2, avx512; false beyond those that the machine has. */
bool cpu_gemm_variant(unsigned index, const struct cpu_gemm *g, float *packed);

/* attention.c */
size_t cpu_attention_workspace_bytes(const struct ops_shape *shape);
void cpu_attention_forward(const struct op_attention *op);
void cpu_attention_backward(const struct op_attention *op);

/* norm.c */
size_t cpu_norm_workspace_bytes(const struct ops_shape *shape);
void cpu_add_norm_forward(const struct op_norm *op);
void cpu_add_norm_backward(const struct op_norm *op);
void cpu_norm_dropout_forward(const struct op_norm *op);
void cpu_norm_dropout_backward(const struct op_norm *op);

#endif
