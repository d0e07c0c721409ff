/*
 * The span kernels' bodies, eight lanes at a time in the compilers' vector extension. Included once for each instruction set,
 * with KERNEL(name) and TARGET defined, and KERNEL_AVX2 where intrinsics may be used. No guard: it is meant to be included twice.
 *
 * A tail of fewer than eight elements is loaded into the low lanes of a vector, the rest `fill`, and only n lanes are stored.
 */

#define INLINE static inline __attribute__((always_inline)) TARGET
#define FUNCTION static TARGET

INLINE v8f KERNEL(load)(const float *p) { return *(const v8f_unaligned *) p; }
INLINE void KERNEL(store)(float *p, v8f v) { *(v8f_unaligned *) p = v; }
INLINE v8f KERNEL(splat)(float x) { return (v8f) { x, x, x, x, x, x, x, x }; }

INLINE v8f KERNEL(load_part)(const float *p, size_t n, float fill) {
        if (n >= 8)
                return KERNEL(load)(p);
        v8f v = KERNEL(splat)(fill);
        for (size_t i = 0; i < n; i++)
                v[i] = p[i];
        return v;
}

INLINE void KERNEL(store_part)(float *p, v8f v, size_t n) {
        if (n >= 8) {
                KERNEL(store)(p, v);
                return;
        }
        for (size_t i = 0; i < n; i++)
                p[i] = v[i];
}

/* mask lanes are all ones or zero, as comparisons give them. */
INLINE v8f KERNEL(select)(v8i mask, v8f yes, v8f no) { return (v8f) (((v8i) yes & mask) | ((v8i) no & ~mask)); }
INLINE v8f KERNEL(max)(v8f a, v8f b) { return KERNEL(select)(a > b, a, b); }

/* NaN stays NaN. */
INLINE v8f KERNEL(clamp)(v8f x, float low, float high) {
        x = KERNEL(select)(x < low, KERNEL(splat)(low), x);
        return KERNEL(select)(x > high, KERNEL(splat)(high), x);
}

/* Lanes are added in one fixed tree. */
INLINE float KERNEL(sum)(v8f v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

INLINE v8f KERNEL(sqrt)(v8f x) {
#ifdef KERNEL_AVX2
        return (v8f) _mm256_sqrt_ps((__m256) x);
#else
        for (int i = 0; i < 8; i++)
                x[i] = __builtin_sqrtf(x[i]);
        return x;
#endif
}

/* Cephes' expf: x = n ln 2 + r, degree 6 in r. Within 2 ulp; below −87.3 the smallest normal number. */
INLINE v8f KERNEL(exp8)(v8f x) {
        const float magic = 0x1.8p23f;
        x = KERNEL(clamp)(x, -87.33654f, 88.37626f);
        v8f shifted = x * 1.44269504088896341f + magic;
        v8f n = shifted - magic;
        v8f r = x - n * 0.693359375f - n * -2.12194440e-4f;
        v8f p = r * 1.9875691500e-4f + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * (r * r) + r + 1.0f;
        v8i exponent = ((v8i) shifted << 23) + (127 << 23);
        return p * (v8f) exponent;
}

/* Below 475/512 an odd polynomial, above it 1 − exp(polynomial) (Juffa's erff); within 2 ulp. */
INLINE v8f KERNEL(erf8)(v8f x) {
        v8i sign = (v8i) x & (int) 0x80000000u;
        v8f t = KERNEL(clamp)((v8f) ((v8i) x ^ sign), 0.0f, 4.0f), z = t * t;
        v8f far = t * -1.72853470e-5f + 3.83197126e-4f;
        far = far * z + (t * -3.88396438e-3f + 2.42546219e-2f);
        far = far * t + -1.06777877e-1f;
        far = far * t + -6.34846687e-1f;
        far = far * t + -1.28717512e-1f;
        far = 1.0f - KERNEL(exp8)(far * t - t);
        v8f near = z * -5.96761703e-4f + 4.99119423e-3f;
        near = near * z + -2.67681349e-2f;
        near = near * z + 1.12819925e-1f;
        near = near * z + -3.76125336e-1f;
        near = near * z + 1.28379166e-1f;
        near = near * t + t;
        return (v8f) ((v8i) KERNEL(select)(t > 0.927734375f, far, near) | sign);
}

/* Below 0.625 Cephes' odd polynomial, above it 1 − 2 / (exp(2x) + 1); within 3 ulp. */
INLINE v8f KERNEL(tanh8)(v8f x) {
        v8i sign = (v8i) x & (int) 0x80000000u;
        v8f t = KERNEL(clamp)((v8f) ((v8i) x ^ sign), 0.0f, 10.0f), z = t * t;
        v8f far = 1.0f - 2.0f / (KERNEL(exp8)(t + t) + 1.0f);
        v8f near = z * -5.70498872745e-3f + 2.06390887954e-2f;
        near = near * z + -5.37397155531e-2f;
        near = near * z + 1.33314422036e-1f;
        near = near * z + -3.33332819422e-1f;
        near = near * z * t + t;
        return (v8f) ((v8i) KERNEL(select)(t > 0.625f, far, near) | sign);
}

INLINE v8f KERNEL(activate)(enum activation act, v8f x) {
        switch (act) {
        case ACTIVATION_GELU:
                return 0.5f * x * (1.0f + KERNEL(erf8)(x * 0.70710678118654752440f));
        case ACTIVATION_GELU_NEW:
                return 0.5f * x * (1.0f + KERNEL(tanh8)(0.79788456080286535588f * (x + 0.044715f * x * x * x)));
        case ACTIVATION_RELU:
                return KERNEL(select)(x < 0.0f, KERNEL(splat)(0), x);
        case ACTIVATION_TANH:
                return KERNEL(tanh8)(x);
        default:
                return x;
        }
}

INLINE v8f KERNEL(activate_derivative)(enum activation act, v8f s) {
        v8f t;

        switch (act) {
        case ACTIVATION_GELU:
                return 0.5f * (1.0f + KERNEL(erf8)(s * 0.70710678118654752440f)) +
                       s * 0.39894228040143267794f * KERNEL(exp8)(-0.5f * s * s);
        case ACTIVATION_GELU_NEW:
                t = KERNEL(tanh8)(0.79788456080286535588f * (s + 0.044715f * s * s * s));
                return 0.5f * (1.0f + t) +
                       0.5f * s * (1.0f - t * t) * 0.79788456080286535588f * (1.0f + 3.0f * 0.044715f * s * s);
        case ACTIVATION_RELU:
                return KERNEL(select)(s > 0.0f, KERNEL(splat)(1), KERNEL(splat)(0));
        case ACTIVATION_TANH:
                return 1.0f - s * s;
        default:
                return KERNEL(splat)(1);
        }
}

/* `act` is a constant at each call, so that each loop holds one activation. */
INLINE void KERNEL(bias_activation_of)(enum activation act, float *y, const float *bias, float *pre, size_t n) {
        for (size_t i = 0; i < n; i += 8) {
                v8f x = KERNEL(load_part)(y + i, n - i, 0);
                if (bias)
                        x += KERNEL(load_part)(bias + i, n - i, 0);
                if (pre)
                        KERNEL(store_part)(pre + i, x, n - i);
                KERNEL(store_part)(y + i, KERNEL(activate)(act, x), n - i);
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

INLINE void KERNEL(activation_backward_of)(enum activation act, float *dx, const float *saved, size_t n) {
        for (size_t i = 0; i < n; i += 8) {
                v8f s = KERNEL(load_part)(saved + i, n - i, 0), d = KERNEL(load_part)(dx + i, n - i, 0);
                KERNEL(store_part)(dx + i, d * KERNEL(activate_derivative)(act, s), n - i);
        }
}

FUNCTION void KERNEL(activation_backward)(float *dx, const float *saved, enum activation act, size_t n) {
        switch (act) {
        case ACTIVATION_GELU:
                KERNEL(activation_backward_of)(ACTIVATION_GELU, dx, saved, n);
                break;
        case ACTIVATION_GELU_NEW:
                KERNEL(activation_backward_of)(ACTIVATION_GELU_NEW, dx, saved, n);
                break;
        case ACTIVATION_RELU:
                KERNEL(activation_backward_of)(ACTIVATION_RELU, dx, saved, n);
                break;
        case ACTIVATION_TANH:
                KERNEL(activation_backward_of)(ACTIVATION_TANH, dx, saved, n);
                break;
        default:
                break;
        }
}

#ifdef KERNEL_AVX2
/* 32 × 32 → 64 bits in each lane, by halves: even lanes, odd lanes, then the high and low words apart. */
INLINE void KERNEL(multiply_wide)(__m256i x, __m256i m, __m256i *high, __m256i *low) {
        __m256i even = _mm256_mul_epu32(x, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), m);

        *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
        *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

/* Eight consecutive blocks of philox() at once: 64 halves in the order of the elements. */
INLINE void KERNEL(philox8)(uint16_t halves[64], uint64_t key, uint32_t first_block, uint32_t site, uint64_t k) {
        const __m256i m0 = _mm256_set1_epi32((int) 0xD2511F53u), m1 = _mm256_set1_epi32((int) 0xCD9E8D57u);
        __m256i c0 = _mm256_add_epi32(_mm256_set1_epi32((int) first_block), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        __m256i c1 = _mm256_set1_epi32((int) site), c2 = _mm256_set1_epi32((int) (uint32_t) k);
        __m256i c3 = _mm256_set1_epi32((int) (uint32_t) (k >> 32));
        uint32_t k0 = (uint32_t) key, k1 = (uint32_t) (key >> 32);

        for (int round = 0; round < 10; round++) {
                __m256i high0, low0, high1, low1;
                KERNEL(multiply_wide)(c0, m0, &high0, &low0);
                KERNEL(multiply_wide)(c2, m1, &high1, &low1);
                c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), _mm256_set1_epi32((int) k0));
                c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), _mm256_set1_epi32((int) k1));
                c1 = low1;
                c3 = low0;
                k0 += 0x9E3779B9u;
                k1 += 0xBB67AE85u;
        }
        __m256i a = _mm256_unpacklo_epi32(c0, c1), b = _mm256_unpackhi_epi32(c0, c1); /* blocks 0 1 | 4 5, 2 3 | 6 7 */
        __m256i c = _mm256_unpacklo_epi32(c2, c3), d = _mm256_unpackhi_epi32(c2, c3);
        __m256i b04 = _mm256_unpacklo_epi64(a, c), b15 = _mm256_unpackhi_epi64(a, c);
        __m256i b26 = _mm256_unpacklo_epi64(b, d), b37 = _mm256_unpackhi_epi64(b, d);
        _mm256_storeu_si256((__m256i *) halves, _mm256_permute2x128_si256(b04, b15, 0x20));
        _mm256_storeu_si256((__m256i *) (halves + 16), _mm256_permute2x128_si256(b26, b37, 0x20));
        _mm256_storeu_si256((__m256i *) (halves + 32), _mm256_permute2x128_si256(b04, b15, 0x31));
        _mm256_storeu_si256((__m256i *) (halves + 48), _mm256_permute2x128_si256(b26, b37, 0x31));
}
#else
INLINE void KERNEL(philox8)(uint16_t halves[64], uint64_t key, uint32_t first_block, uint32_t site, uint64_t k) {
        for (uint32_t block = 0; block < 8; block++) {
                struct philox r = philox(key, first_block + block, site, k);
                for (uint32_t word = 0; word < 4; word++) {
                        halves[8 * block + 2 * word] = (uint16_t) r.v[word];
                        halves[8 * block + 2 * word + 1] = (uint16_t) (r.v[word] >> 16);
                }
        }
}
#endif

FUNCTION void KERNEL(dropout_mask)(float *mask, size_t n, const struct dropout *dropout, uint64_t k,
                                   uint32_t first_block) {
        const v8i scale = (v8i) KERNEL(splat)((float) dropout->scale);
        const int last_dropped = (int) dropout->threshold - 1;
        uint16_t halves[64];

        for (size_t i = 0; i < n; i += 64) {
                KERNEL(philox8)(halves, dropout->seed, first_block + (uint32_t) (i / 8), dropout->site, k);
                for (size_t j = 0; j < 64 && i + j < n; j += 8) {
                        v8i half = __builtin_convertvector(*(const v8u16_unaligned *) (halves + j), v8i);
                        KERNEL(store_part)(mask + i + j, (v8f) (scale & (half > last_dropped)), n - i - j);
                }
        }
}

FUNCTION void KERNEL(multiply)(float *y, const float *x, const float *mask, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)
        (y + i, KERNEL(load_part)(x + i, n - i, 0) * KERNEL(load_part)(mask + i, n - i, 0), n - i);
}

FUNCTION void KERNEL(add_masked)(float *x, const float *residual, const float *mask, size_t n) {
        for (size_t i = 0; i < n; i += 8) {
                v8f v = KERNEL(load_part)(x + i, n - i, 0);
                if (mask)
                        v *= KERNEL(load_part)(mask + i, n - i, 0);
                KERNEL(store_part)(x + i, KERNEL(load_part)(residual + i, n - i, 0) + v, n - i);
        }
}

FUNCTION void KERNEL(add)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)
        (y + i, KERNEL(load_part)(y + i, n - i, 0) + KERNEL(load_part)(x + i, n - i, 0), n - i);
}

FUNCTION void KERNEL(sum3)(float *y, const float *a, const float *b, const float *c, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)
        (y + i,
         KERNEL(load_part)(a + i, n - i, 0) + KERNEL(load_part)(b + i, n - i, 0) + KERNEL(load_part)(c + i, n - i, 0),
         n - i);
}

/* Two passes: the variance of values far from zero does not cancel. */
FUNCTION void KERNEL(norm)(const float *x, const float *gamma, const float *beta, double epsilon, float *y,
                           float *ret_mean, float *ret_rstd, size_t n) {
        v8f total = KERNEL(splat)(0), squares = total;

        for (size_t i = 0; i < n; i += 8)
                total += KERNEL(load_part)(x + i, n - i, 0);
        float mean = KERNEL(sum)(total) / (float) n;
        for (size_t i = 0; i < n; i += 8) {
                v8f d = KERNEL(load_part)(x + i, n - i, mean) - mean;
                squares += d * d;
        }
        float rstd = (float) (1.0 / __builtin_sqrt((double) KERNEL(sum)(squares) / (double) n + epsilon));
        for (size_t i = 0; i < n; i += 8) {
                v8f v = (KERNEL(load_part)(x + i, n - i, 0) - mean) * rstd * KERNEL(load_part)(gamma + i, n - i, 0);
                KERNEL(store_part)(y + i, v + KERNEL(load_part)(beta + i, n - i, 0), n - i);
        }
        *ret_mean = mean;
        *ret_rstd = rstd;
}

FUNCTION void KERNEL(norm_backward)(const float *x, const float *dy, const float *gamma, float mean, float rstd,
                                    float *dgamma, float *dbeta, float *dx, size_t n) {
        v8f sum = KERNEL(splat)(0), dot = sum;

        for (size_t i = 0; i < n; i += 8) {
                v8f xhat = (KERNEL(load_part)(x + i, n - i, mean) - mean) * rstd,
                    d = KERNEL(load_part)(dy + i, n - i, 0);
                v8f dg = d * KERNEL(load_part)(gamma + i, n - i, 0);
                KERNEL(store_part)(dgamma + i, KERNEL(load_part)(dgamma + i, n - i, 0) + d * xhat, n - i);
                KERNEL(store_part)(dbeta + i, KERNEL(load_part)(dbeta + i, n - i, 0) + d, n - i);
                sum += dg;
                dot += dg * xhat;
        }
        float a = KERNEL(sum)(sum) / (float) n, b = KERNEL(sum)(dot) / (float) n;
        for (size_t i = 0; i < n; i += 8) {
                v8f xhat = (KERNEL(load_part)(x + i, n - i, mean) - mean) * rstd;
                v8f dg = KERNEL(load_part)(dy + i, n - i, 0) * KERNEL(load_part)(gamma + i, n - i, 0);
                KERNEL(store_part)(dx + i, rstd * (dg - a - xhat * b), n - i);
        }
}

INLINE float KERNEL(greatest)(const float *x, size_t n) {
        v8f best = KERNEL(splat)(-__builtin_inff());

        for (size_t i = 0; i < n; i += 8)
                best = KERNEL(max)(KERNEL(load_part)(x + i, n - i, -__builtin_inff()), best);
        float max = best[0];
        for (int i = 1; i < 8; i++)
                max = best[i] > max ? best[i] : max;
        return max;
}

FUNCTION float KERNEL(softmax)(float *s, const float *mask, size_t n) {
        float max = KERNEL(greatest)(s, n);
        v8f total = KERNEL(splat)(0);

        for (size_t i = 0; i < n; i += 8) {
                v8f e = KERNEL(exp8)(KERNEL(load_part)(s + i, n - i, 0) - max);
                KERNEL(store_part)(s + i, e, n - i);
                total += KERNEL(load_part)(s + i, n - i, 0);
        }
        float sum = KERNEL(sum)(total), inverse = 1.0f / sum;
        for (size_t i = 0; i < n; i += 8) {
                v8f p = KERNEL(load_part)(s + i, n - i, 0) * inverse;
                if (mask)
                        p *= KERNEL(load_part)(mask + i, n - i, 0);
                KERNEL(store_part)(s + i, p, n - i);
        }
        return max + (float) __builtin_log((double) sum);
}

FUNCTION void KERNEL(softmax_backward)(float *s, float *dp, const float *mask, float lse, float dot, float scale,
                                       size_t n) {
        for (size_t i = 0; i < n; i += 8) {
                v8f p = KERNEL(exp8)(KERNEL(load_part)(s + i, n - i, 0) - lse), d = KERNEL(load_part)(dp + i, n - i, 0),
                    kept = p;
                if (mask) {
                        v8f m = KERNEL(load_part)(mask + i, n - i, 0);
                        kept *= m;
                        d *= m;
                }
                KERNEL(store_part)(s + i, kept, n - i);
                KERNEL(store_part)(dp + i, p * (d - dot) * scale, n - i);
        }
}

FUNCTION float KERNEL(dot)(const float *a, const float *b, size_t n) {
        v8f total = KERNEL(splat)(0);

        for (size_t i = 0; i < n; i += 8)
                total += KERNEL(load_part)(a + i, n - i, 0) * KERNEL(load_part)(b + i, n - i, 0);
        return KERNEL(sum)(total);
}

/* Blocks of 4096 terms: an fp32 sum over a vocabulary would lose digits. */
FUNCTION float KERNEL(log_sum_exp)(const float *x, size_t n, size_t *ret_best) {
        float max = KERNEL(greatest)(x, n);
        double sum = 0;
        size_t best = 0;

        for (size_t first = 0; first < n; first += 4096) {
                size_t end = first + 4096 < n ? first + 4096 : n;
                v8f total = KERNEL(splat)(0);
                for (size_t i = first; i < end; i += 8)
                        total += KERNEL(exp8)(KERNEL(load_part)(x + i, end - i, -__builtin_inff()) - max);
                sum += (double) KERNEL(sum)(total);
        }
        while (best + 1 < n && x[best] != max)
                best++;
        *ret_best = best;
        return max + (float) __builtin_log(sum);
}

FUNCTION void KERNEL(xent_gradient)(float *x, float lse, float scale, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)(x + i, scale * KERNEL(exp8)(KERNEL(load_part)(x + i, n - i, 0) - lse), n - i);
}

FUNCTION double KERNEL(sum_squares)(const float *x, size_t n) {
        v8d total = {};

        for (size_t i = 0; i < n; i += 8) {
                v8d v = __builtin_convertvector(KERNEL(load_part)(x + i, n - i, 0), v8d);
                total += v * v;
        }
        return ((total[0] + total[4]) + (total[2] + total[6])) + ((total[1] + total[5]) + (total[3] + total[7]));
}

FUNCTION void KERNEL(adamw)(const struct op_adam *op, const float *g, float *p, float *m, float *v, size_t n) {
        const float beta1 = (float) op->beta1, rest1 = (float) (1 - op->beta1), beta2 = (float) op->beta2,
                    rest2 = (float) (1 - op->beta2);
        const float scale = (float) op->gradient_scale, step = (float) (op->rate / op->correction1);
        const float root = (float) __builtin_sqrt(1 / op->correction2), epsilon = (float) op->epsilon;
        const float decay = (float) (op->rate * op->weight_decay);

        for (size_t i = 0; i < n; i += 8) {
                v8f gi = KERNEL(load_part)(g + i, n - i, 0) * scale, pi = KERNEL(load_part)(p + i, n - i, 0);
                v8f mi = KERNEL(load_part)(m + i, n - i, 0) * beta1 + rest1 * gi;
                v8f vi = KERNEL(load_part)(v + i, n - i, 0) * beta2 + rest2 * gi * gi;
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

        for (size_t i = 0; i < n; i += 8) {
                v8f gi = KERNEL(load_part)(g + i, n - i, 0) * scale, pi = KERNEL(load_part)(p + i, n - i, 0);
                v8f mi = KERNEL(load_part)(m + i, n - i, 0) * beta1 + rest1 * gi;
                v8f vi = KERNEL(load_part)(v + i, n - i, 0) * beta2 + rest2 * gi * gi;
                KERNEL(store_part)(m + i, mi, n - i);
                KERNEL(store_part)(v + i, vi, n - i);
                KERNEL(store_part)(g + i, step * mi / (KERNEL(sqrt)(vi) * root + epsilon) + decay * pi, n - i);
        }
}

FUNCTION void KERNEL(descend)(float rate, const float *direction, float *p, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)
        (p + i, KERNEL(load_part)(p + i, n - i, 0) - rate * KERNEL(load_part)(direction + i, n - i, 0), n - i);
}

FUNCTION void KERNEL(exp)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)(y + i, KERNEL(exp8)(KERNEL(load_part)(x + i, n - i, 0)), n - i);
}

FUNCTION void KERNEL(erf)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)(y + i, KERNEL(erf8)(KERNEL(load_part)(x + i, n - i, 0)), n - i);
}

FUNCTION void KERNEL(tanh)(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i += 8)
                KERNEL(store_part)(y + i, KERNEL(tanh8)(KERNEL(load_part)(x + i, n - i, 0)), n - i);
}

static const struct cpu_kernels KERNEL(table) = {
        .name = KERNEL_NAME,
        .bias_activation = KERNEL(bias_activation),
        .activation_backward = KERNEL(activation_backward),
        .dropout_mask = KERNEL(dropout_mask),
        .multiply = KERNEL(multiply),
        .add_masked = KERNEL(add_masked),
        .add = KERNEL(add),
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
#undef KERNEL
#undef KERNEL_NAME
#undef TARGET
