/*
 * The span kernels of the fp32 CPU backend, which know nothing of threads.
 * span_kernels.h is compiled plain, for AVX2 and for AVX-512; all take sums in eight lanes, and the latter two fuse the same multiplications
 * and additions, as matrix products do: they give the same bits, "generic" others.
 */
#ifndef TRAINER_OPS_CPU_SPANS_H
#define TRAINER_OPS_CPU_SPANS_H

#include "trainer/ops/ops.h"

/* Spans are contiguous floats without alignment. `mask` holds dropout's factors (0 or scale); NULL: no dropout. */
struct cpu_kernels {
        const char *name;

        /* y = act(y + bias), bias may be NULL; what linear keeps goes to pre where given: act′ (ops.h, keeps_slope). */
        void (*bias_activation)(float *y, const float *bias, enum activation act, float *pre, size_t n);
        void (*activation_backward)(float *dx, const float *saved, enum activation act, size_t n);

        void (*dropout_mask)(float *mask, size_t n, const struct dropout *dropout, uint64_t k, uint32_t first_block);
        void (*multiply)(float *y, const float *x, const float *mask, size_t n);          /* y = x · mask */
        void (*add_masked)(float *x, const float *residual, const float *mask, size_t n); /* x = residual + x · mask */
        void (*add)(float *y, const float *x, size_t n);                                  /* y += x */
        /* sums (n) += x (rows, n), n ≤ CPU_COLUMNS_MAX; rows CPU_COLUMNS_ROWS at a time, and the sums of those. */
        void (*add_columns)(float *sums, const float *x, size_t stride, size_t rows, size_t n);
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

/* The machine's kernels; and all that it can run, for tests: `index` from 0, NULL past the last. */
const struct cpu_kernels *cpu_kernels(void);
const struct cpu_kernels *cpu_kernels_variant(unsigned index);

#define CPU_MASK_MAX 512 /* elements of a mask made at a time; a multiple of 8 */

#define CPU_COLUMNS_MAX 64
#define CPU_COLUMNS_ROWS 64

static inline float *cpu_row(struct tensor t, size_t r) { return (float *) t.data + r * t.stride; }

#endif
