/*
 * The span kernels' bodies. Included once for each instruction set, with KERNEL(name), KERNEL_NAME, TARGET and LANES (8 or 16) defined,
 * and KERNEL_AVX2 or both that and KERNEL_AVX512 where intrinsics may be used. No guard: it is meant to be included more than once.
 */
#include "trainer/ops/cpu/span_vectors.h"

/* act(x); of the activations that keep it act′(x), too, where ret_slope is given. */
INLINE FLOATS KERNEL(activate)(enum activation act, FLOATS x, FLOATS *ret_slope) {
        FLOATS t;

        switch (act) {
        case ACTIVATION_GELU:
                t = 1.0f + KERNEL(erf_of)(x * 0.70710678118654752440f);
                if (ret_slope)
                        *ret_slope = 0.5f * t + x * 0.39894228040143267794f * KERNEL(exp_of)(-0.5f * x * x);
                return 0.5f * x * t;
        case ACTIVATION_GELU_NEW:
                t = KERNEL(tanh_of)(0.79788456080286535588f * (x + 0.044715f * x * x * x));
                if (ret_slope)
                        *ret_slope = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456080286535588f *
                                                                 (1.0f + 3.0f * 0.044715f * x * x);
                return 0.5f * x * (1.0f + t);
        case ACTIVATION_RELU:
                if (ret_slope)
                        *ret_slope = KERNEL(if_greater)(x, KERNEL(splat)(0), KERNEL(splat)(1), KERNEL(splat)(0));
                return KERNEL(if_greater)(KERNEL(splat)(0), x, KERNEL(splat)(0), x);
        case ACTIVATION_TANH:
                return KERNEL(tanh_of)(x);
        default:
                return x;
        }
}

/* `act` is a constant at each call, so that each loop holds one activation. */
INLINE void KERNEL(bias_activation_of)(enum activation act, float *y, const float *bias, float *pre, size_t n) {
        for (size_t i = 0; i < n; i += LANES) {
                FLOATS x = KERNEL(load_part)(y + i, n - i, 0);
                if (bias)
                        x += KERNEL(load_part)(bias + i, n - i, 0);
                FLOATS kept = x;
                KERNEL(store_part)(y + i, KERNEL(activate)(act, x, pre ? &kept : NULL), n - i);
                if (pre)
                        KERNEL(store_part)(pre + i, kept, n - i);
        }
}

FUNCTION void KERNEL(bias_activation)(float *y, const float *bias, enum activation act, float *pre, size_t n) {
        switch (act) {
        case ACTIVATION_GELU:
                KERNEL(bias_activation_of)(ACTIVATION_GELU, y, bias, pre, n);
                break;
        case ACTIVATION_GELU_NEW:
                KERNEL(bias_activation_of)(ACTIVATION_GELU_NEW, y, bias, pre, n);
                break;
        case ACTIVATION_RELU:
                KERNEL(bias_activation_of)(ACTIVATION_RELU, y, bias, pre, n);
                break;
        case ACTIVATION_TANH:
                KERNEL(bias_activation_of)(ACTIVATION_TANH, y, bias, pre, n);
                break;
        default:
                KERNEL(bias_activation_of)(ACTIVATION_NONE, y, bias, pre, n);
        }
}

/* See cpu_linear: of tanh the value was kept, of the others the slope. */
FUNCTION void KERNEL(activation_backward)(float *dx, const float *saved, enum activation act, size_t n) {
        for (size_t i = 0; act != ACTIVATION_NONE && i < n; i += LANES) {
                FLOATS s = KERNEL(load_part)(saved + i, n - i, 0);
                if (act == ACTIVATION_TANH)
                        s = 1.0f - s * s;
                KERNEL(store_part)(dx + i, KERNEL(load_part)(dx + i, n - i, 0) * s, n - i);
        }
}

FUNCTION void KERNEL(dropout_mask)(float *mask, size_t n, const struct dropout *dropout, uint64_t k,
                                   uint32_t first_block) {
        const float scale = (float) dropout->scale;
        uint16_t halves[8 * BLOCKS] __attribute__((aligned(64)));

        for (size_t i = 0; i < n; i += 8 * BLOCKS) {
                KERNEL(philox)(halves, dropout->seed, first_block + (uint32_t) (i / 8), dropout->site, k);
                for (size_t j = 0; j < 8 * BLOCKS && i + j < n; j += LANES)
                        KERNEL(store_part)
                (mask + i + j, KERNEL(factors)(halves + j, (int) dropout->threshold, scale), n - i - j);
        }
}

FUNCTION void KERNEL(multiply)(float *y, const float *x, const float *mask, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)
        (y + i, KERNEL(load_part)(x + i, n - i, 0) * KERNEL(load_part)(mask + i, n - i, 0), n - i);
}

FUNCTION void KERNEL(add_masked)(float *x, const float *residual, const float *mask, size_t n) {
        for (size_t i = 0; i < n; i += LANES) {
                FLOATS v = KERNEL(load_part)(x + i, n - i, 0);
                if (mask)
                        v *= KERNEL(load_part)(mask + i, n - i, 0);
                KERNEL(store_part)(x + i, KERNEL(load_part)(residual + i, n - i, 0) + v, n - i);
        }
}

FUNCTION void KERNEL(add)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)
        (y + i, KERNEL(load_part)(y + i, n - i, 0) + KERNEL(load_part)(x + i, n - i, 0), n - i);
}

/* `vectors` is a constant at each call: sums stay in registers. */
INLINE void KERNEL(add_columns_of)(int vectors, float *sums, const float *x, size_t stride, size_t rows, size_t n) {
        FLOATS total[CPU_COLUMNS_MAX / LANES] = {};

        for (size_t first = 0; first < rows; first += CPU_COLUMNS_ROWS) {
                size_t end = first + CPU_COLUMNS_ROWS < rows ? first + CPU_COLUMNS_ROWS : rows;
                FLOATS part[CPU_COLUMNS_MAX / LANES] = {};
                for (size_t r = first; r < end; r++)
                        for (int v = 0; v < vectors; v++)
                                part[v] += KERNEL(load_part)(x + r * stride + v * LANES, n - v * LANES, 0);
                for (int v = 0; v < vectors; v++)
                        total[v] += part[v];
        }
        for (int v = 0; v < vectors; v++)
                KERNEL(store_part)
        (sums + v * LANES, KERNEL(load_part)(sums + v * LANES, n - v * LANES, 0) + total[v], n - v * LANES);
}

FUNCTION void KERNEL(add_columns)(float *sums, const float *x, size_t stride, size_t rows, size_t n) {
        size_t i = 0;

        if (n == CPU_COLUMNS_MAX)
                KERNEL(add_columns_of)(CPU_COLUMNS_MAX / LANES, sums, x, stride, rows, n);
        else
                for (; i < n; i += LANES)
                        KERNEL(add_columns_of)(1, sums + i, x + i, stride, rows, n - i);
}

FUNCTION void KERNEL(sum3)(float *y, const float *a, const float *b, const float *c, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)
        (y + i,
         KERNEL(load_part)(a + i, n - i, 0) + KERNEL(load_part)(b + i, n - i, 0) + KERNEL(load_part)(c + i, n - i, 0),
         n - i);
}

/* Two passes: the variance of values far from zero does not cancel. */
FUNCTION void KERNEL(norm)(const float *x, const float *gamma, const float *beta, double epsilon, float *y,
                           float *ret_mean, float *ret_rstd, size_t n) {
        v8f total = {}, squares = {};

        for (size_t i = 0; i < n; i += LANES)
                total = KERNEL(add_lanes)(total, KERNEL(load_part)(x + i, n - i, 0), n - i);
        float mean = KERNEL(sum)(total) / (float) n;
        for (size_t i = 0; i < n; i += LANES) {
                FLOATS d = KERNEL(load_part)(x + i, n - i, mean) - mean;
                squares = KERNEL(add_lanes)(squares, d * d, n - i);
        }
        float rstd = (float) (1.0 / __builtin_sqrt((double) KERNEL(sum)(squares) / (double) n + epsilon));
        for (size_t i = 0; i < n; i += LANES) {
                FLOATS v = (KERNEL(load_part)(x + i, n - i, 0) - mean) * rstd * KERNEL(load_part)(gamma + i, n - i, 0);
                KERNEL(store_part)(y + i, v + KERNEL(load_part)(beta + i, n - i, 0), n - i);
        }
        *ret_mean = mean;
        *ret_rstd = rstd;
}

FUNCTION void KERNEL(norm_backward)(const float *x, const float *dy, const float *gamma, float mean, float rstd,
                                    float *dgamma, float *dbeta, float *dx, size_t n) {
        v8f sum = {}, dot = {};

        for (size_t i = 0; i < n; i += LANES) {
                FLOATS xhat = (KERNEL(load_part)(x + i, n - i, mean) - mean) * rstd,
                       d = KERNEL(load_part)(dy + i, n - i, 0);
                FLOATS dg = d * KERNEL(load_part)(gamma + i, n - i, 0);
                KERNEL(store_part)(dgamma + i, KERNEL(load_part)(dgamma + i, n - i, 0) + d * xhat, n - i);
                KERNEL(store_part)(dbeta + i, KERNEL(load_part)(dbeta + i, n - i, 0) + d, n - i);
                sum = KERNEL(add_lanes)(sum, dg, n - i);
                dot = KERNEL(add_lanes)(dot, dg * xhat, n - i);
        }
        float a = KERNEL(sum)(sum) / (float) n, b = KERNEL(sum)(dot) / (float) n;
        for (size_t i = 0; i < n; i += LANES) {
                FLOATS xhat = (KERNEL(load_part)(x + i, n - i, mean) - mean) * rstd;
                FLOATS dg = KERNEL(load_part)(dy + i, n - i, 0) * KERNEL(load_part)(gamma + i, n - i, 0);
                KERNEL(store_part)(dx + i, rstd * (dg - a - xhat * b), n - i);
        }
}

INLINE float KERNEL(greatest)(const float *x, size_t n) {
        FLOATS best = KERNEL(splat)(-__builtin_inff());

        for (size_t i = 0; i < n; i += LANES)
                best = KERNEL(max)(KERNEL(load_part)(x + i, n - i, -__builtin_inff()), best);
        float max = best[0];
        for (int i = 1; i < LANES; i++)
                max = best[i] > max ? best[i] : max;
        return max;
}

FUNCTION float KERNEL(softmax)(float *s, const float *mask, size_t n) {
        float max = KERNEL(greatest)(s, n);
        v8f total = {};

        for (size_t i = 0; i < n; i += LANES) {
                FLOATS e = KERNEL(exp_of)(KERNEL(load_part)(s + i, n - i, 0) - max);
                KERNEL(store_part)(s + i, e, n - i);
                total = KERNEL(add_lanes)(total, KERNEL(load_part)(s + i, n - i, 0), n - i);
        }
        float sum = KERNEL(sum)(total), inverse = 1.0f / sum;
        for (size_t i = 0; i < n; i += LANES) {
                FLOATS p = KERNEL(load_part)(s + i, n - i, 0) * inverse;
                if (mask)
                        p *= KERNEL(load_part)(mask + i, n - i, 0);
                KERNEL(store_part)(s + i, p, n - i);
        }
        return max + (float) __builtin_log((double) sum);
}

FUNCTION void KERNEL(softmax_backward)(float *s, float *dp, const float *mask, float lse, float dot, float scale,
                                       size_t n) {
        for (size_t i = 0; i < n; i += LANES) {
                FLOATS p = KERNEL(exp_of)(KERNEL(load_part)(s + i, n - i, 0) - lse),
                       d = KERNEL(load_part)(dp + i, n - i, 0), kept = p;
                if (mask) {
                        FLOATS m = KERNEL(load_part)(mask + i, n - i, 0);
                        kept *= m;
                        d *= m;
                }
                KERNEL(store_part)(s + i, kept, n - i);
                KERNEL(store_part)(dp + i, p * (d - dot) * scale, n - i);
        }
}

FUNCTION float KERNEL(dot)(const float *a, const float *b, size_t n) {
        v8f total = {};

        for (size_t i = 0; i < n; i += LANES)
                total = KERNEL(add_lanes)(
                        total, KERNEL(load_part)(a + i, n - i, 0) * KERNEL(load_part)(b + i, n - i, 0), n - i);
        return KERNEL(sum)(total);
}

/* The first of n that is `value`; the last one if none is (NaN). */
INLINE size_t KERNEL(find)(const float *x, float value, size_t n) {
        size_t i = 0;

        for (int found = 0; i + 64 < n; i += 64) {
                for (size_t k = 0; k < 64; k++)
                        found |= x[i + k] == value;
                if (found)
                        break;
        }
        while (i + 1 < n && x[i] != value)
                i++;
        return i;
}

/* Blocks of 4096 terms: an fp32 sum over a vocabulary would lose digits. */
FUNCTION float KERNEL(log_sum_exp)(const float *x, size_t n, size_t *ret_best) {
        float max = KERNEL(greatest)(x, n);
        double sum = 0;

        for (size_t first = 0; first < n; first += 4096) {
                size_t end = first + 4096 < n ? first + 4096 : n;
                v8f total = {};
                for (size_t i = first; i < end; i += LANES)
                        total = KERNEL(add_lanes)(
                                total, KERNEL(exp_of)(KERNEL(load_part)(x + i, end - i, -__builtin_inff()) - max),
                                end - i);
                sum += (double) KERNEL(sum)(total);
        }
        *ret_best = KERNEL(find)(x, max, n);
        return max + (float) __builtin_log(sum);
}

FUNCTION void KERNEL(xent_gradient)(float *x, float lse, float scale, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)(x + i, scale * KERNEL(exp_of)(KERNEL(load_part)(x + i, n - i, 0) - lse), n - i);
}

FUNCTION double KERNEL(sum_squares)(const float *x, size_t n) {
        v8d total = {};

        for (size_t i = 0; i < n; i += LANES) {
                total = KERNEL(add_squares)(total, KERNEL(load_part)(x + i, n - i, 0), n - i);
        }
        return ((total[0] + total[4]) + (total[2] + total[6])) + ((total[1] + total[5]) + (total[3] + total[7]));
}

FUNCTION void KERNEL(adamw)(const struct op_adam *op, const float *g, float *p, float *m, float *v, size_t n) {
        const float beta1 = (float) op->beta1, rest1 = (float) (1 - op->beta1), beta2 = (float) op->beta2,
                    rest2 = (float) (1 - op->beta2);
        const float scale = (float) op->gradient_scale, step = (float) (op->rate / op->correction1);
        const float root = (float) __builtin_sqrt(1 / op->correction2), epsilon = (float) op->epsilon;
        const float decay = (float) (op->rate * op->weight_decay);

        for (size_t i = 0; i < n; i += LANES) {
                FLOATS gi = KERNEL(load_part)(g + i, n - i, 0) * scale, pi = KERNEL(load_part)(p + i, n - i, 0);
                FLOATS mi = KERNEL(load_part)(m + i, n - i, 0) * beta1 + rest1 * gi;
                FLOATS vi = KERNEL(load_part)(v + i, n - i, 0) * beta2 + rest2 * gi * gi;
                pi -= step * mi / (KERNEL(sqrt)(vi) * root + epsilon) + decay * pi;
                KERNEL(store_part)(m + i, mi, n - i);
                KERNEL(store_part)(v + i, vi, n - i);
                KERNEL(store_part)(p + i, pi, n - i);
        }
}

FUNCTION void KERNEL(adam_direction)(const struct op_adam *op, float *g, const float *p, float *m, float *v, size_t n) {
        const float beta1 = (float) op->beta1, rest1 = (float) (1 - op->beta1), beta2 = (float) op->beta2,
                    rest2 = (float) (1 - op->beta2);
        const float scale = (float) op->gradient_scale, step = (float) (1 / op->correction1);
        const float root = (float) __builtin_sqrt(1 / op->correction2), epsilon = (float) op->epsilon;
        const float decay = (float) op->weight_decay;

        for (size_t i = 0; i < n; i += LANES) {
                FLOATS gi = KERNEL(load_part)(g + i, n - i, 0) * scale, pi = KERNEL(load_part)(p + i, n - i, 0);
                FLOATS mi = KERNEL(load_part)(m + i, n - i, 0) * beta1 + rest1 * gi;
                FLOATS vi = KERNEL(load_part)(v + i, n - i, 0) * beta2 + rest2 * gi * gi;
                KERNEL(store_part)(m + i, mi, n - i);
                KERNEL(store_part)(v + i, vi, n - i);
                KERNEL(store_part)(g + i, step * mi / (KERNEL(sqrt)(vi) * root + epsilon) + decay * pi, n - i);
        }
}

FUNCTION void KERNEL(descend)(float rate, const float *direction, float *p, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)
        (p + i, KERNEL(load_part)(p + i, n - i, 0) - rate * KERNEL(load_part)(direction + i, n - i, 0), n - i);
}

FUNCTION void KERNEL(exp)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)(y + i, KERNEL(exp_of)(KERNEL(load_part)(x + i, n - i, 0)), n - i);
}

FUNCTION void KERNEL(erf)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)(y + i, KERNEL(erf_of)(KERNEL(load_part)(x + i, n - i, 0)), n - i);
}

FUNCTION void KERNEL(tanh)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += LANES)
                KERNEL(store_part)(y + i, KERNEL(tanh_of)(KERNEL(load_part)(x + i, n - i, 0)), n - i);
}

static const struct cpu_kernels KERNEL(table) = {
        .name = KERNEL_NAME,
        .bias_activation = KERNEL(bias_activation),
        .activation_backward = KERNEL(activation_backward),
        .dropout_mask = KERNEL(dropout_mask),
        .multiply = KERNEL(multiply),
        .add_masked = KERNEL(add_masked),
        .add = KERNEL(add),
        .add_columns = KERNEL(add_columns),
        .sum3 = KERNEL(sum3),
        .norm = KERNEL(norm),
        .norm_backward = KERNEL(norm_backward),
        .softmax = KERNEL(softmax),
        .softmax_backward = KERNEL(softmax_backward),
        .dot = KERNEL(dot),
        .log_sum_exp = KERNEL(log_sum_exp),
        .xent_gradient = KERNEL(xent_gradient),
        .sum_squares = KERNEL(sum_squares),
        .adamw = KERNEL(adamw),
        .adam_direction = KERNEL(adam_direction),
        .descend = KERNEL(descend),
        .exp = KERNEL(exp),
        .erf = KERNEL(erf),
        .tanh = KERNEL(tanh),
};

#undef INLINE
#undef FUNCTION
#undef FLOATS
#undef INTS
#undef BLOCKS
#undef KERNEL
#undef KERNEL_NAME
#undef TARGET
#undef LANES
