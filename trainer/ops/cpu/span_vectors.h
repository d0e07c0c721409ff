/*
 * What the span kernels are written in: LANES floats at a time, in the compilers' vector extension but for what it lacks. Included by
 * span_kernels.h, once for each instruction set; no guard.
 *
 * A tail of fewer elements is loaded into the low lanes of a vector, the rest `fill`, and only n lanes are stored. Sums are taken in eight
 * lanes whatever LANES, element i in lane i % 8, so that all instruction sets that fuse give the same bits.
 */

#define INLINE static inline __attribute__((always_inline)) TARGET
#define FUNCTION static TARGET

#if LANES == 16
#define FLOATS v16f
#define INTS v16i
#else
#define FLOATS v8f
#define INTS v8i
#endif

INLINE FLOATS KERNEL(splat)(float x) { return x - (FLOATS) {}; }

#ifdef KERNEL_AVX512
INLINE FLOATS KERNEL(load_part)(const float *p, size_t n, float fill) {
        if (n >= LANES)
                return (FLOATS) _mm512_loadu_ps(p);
        return (FLOATS) _mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16) ((1u << n) - 1), p);
}
INLINE void KERNEL(store_part)(float *p, FLOATS v, size_t n) {
        if (n >= LANES)
                _mm512_storeu_ps(p, (__m512) v);
        else
                _mm512_mask_storeu_ps(p, (__mmask16) ((1u << n) - 1), (__m512) v);
}
INLINE FLOATS KERNEL(sqrt)(FLOATS x) { return (FLOATS) _mm512_sqrt_ps((__m512) x); }
INLINE FLOATS KERNEL(fma)(FLOATS a, FLOATS b, FLOATS c) {
        return (FLOATS) _mm512_fmadd_ps((__m512) a, (__m512) b, (__m512) c);
}
INLINE FLOATS KERNEL(max)(FLOATS a, FLOATS b) { return (FLOATS) _mm512_max_ps((__m512) a, (__m512) b); }
INLINE FLOATS KERNEL(min)(FLOATS a, FLOATS b) { return (FLOATS) _mm512_min_ps((__m512) a, (__m512) b); }
INLINE FLOATS KERNEL(if_greater)(FLOATS a, FLOATS b, FLOATS yes, FLOATS no) {
        return (FLOATS) _mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512) a, (__m512) b, _CMP_GT_OQ), (__m512) no,
                                             (__m512) yes);
}
#else
INLINE FLOATS KERNEL(load_part)(const float *p, size_t n, float fill) {
        if (n >= LANES)
                return *(const v8f_unaligned *) p;
        FLOATS v = KERNEL(splat)(fill);
        for (size_t i = 0; i < n; i++)
                v[i] = p[i];
        return v;
}
INLINE void KERNEL(store_part)(float *p, FLOATS v, size_t n) {
        if (n >= LANES) {
                *(v8f_unaligned *) p = v;
                return;
        }
        for (size_t i = 0; i < n; i++)
                p[i] = v[i];
}
#ifdef KERNEL_AVX2
INLINE FLOATS KERNEL(sqrt)(FLOATS x) { return (FLOATS) _mm256_sqrt_ps((__m256) x); }
INLINE FLOATS KERNEL(fma)(FLOATS a, FLOATS b, FLOATS c) {
        return (FLOATS) _mm256_fmadd_ps((__m256) a, (__m256) b, (__m256) c);
}
INLINE FLOATS KERNEL(max)(FLOATS a, FLOATS b) { return (FLOATS) _mm256_max_ps((__m256) a, (__m256) b); }
INLINE FLOATS KERNEL(min)(FLOATS a, FLOATS b) { return (FLOATS) _mm256_min_ps((__m256) a, (__m256) b); }
INLINE FLOATS KERNEL(if_greater)(FLOATS a, FLOATS b, FLOATS yes, FLOATS no) {
        return (FLOATS) _mm256_blendv_ps((__m256) no, (__m256) yes, _mm256_cmp_ps((__m256) a, (__m256) b, _CMP_GT_OQ));
}
#else
INLINE FLOATS KERNEL(fma)(FLOATS a, FLOATS b, FLOATS c) { return a * b + c; } /* rounded twice */
INLINE FLOATS KERNEL(sqrt)(FLOATS x) {
        for (int i = 0; i < LANES; i++)
                x[i] = __builtin_sqrtf(x[i]);
        return x;
}
INLINE FLOATS KERNEL(if_greater)(FLOATS a, FLOATS b, FLOATS yes, FLOATS no) {
        INTS mask = a > b;
        return (FLOATS) (((INTS) yes & mask) | ((INTS) no & ~mask));
}
/* b where either is NaN, as the instructions have it. */
INLINE FLOATS KERNEL(max)(FLOATS a, FLOATS b) { return KERNEL(if_greater)(a, b, a, b); }
INLINE FLOATS KERNEL(min)(FLOATS a, FLOATS b) { return KERNEL(if_greater)(b, a, a, b); }
#endif
#endif

/* NaN stays NaN. */
INLINE FLOATS KERNEL(clamp)(FLOATS x, float low, float high) {
        return KERNEL(min)(KERNEL(splat)(high), KERNEL(max)(KERNEL(splat)(low), x));
}

#if LANES == 16
INLINE v8f KERNEL(low)(FLOATS v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7); }
INLINE v8f KERNEL(high)(FLOATS v) { return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15); }
#endif

/* total + the first n of v. */
INLINE v8f KERNEL(add_lanes)(v8f total, FLOATS v, size_t n) {
#if LANES == 16
        total += KERNEL(low)(v);
        return n > 8 ? total + KERNEL(high)(v) : total;
#else
        return total + v;
#endif
}

/* total + the squares of the first n of v, in double. */
INLINE v8d KERNEL(add_squares)(v8d total, FLOATS v, size_t n) {
#if LANES == 16
        v8d low = __builtin_convertvector(KERNEL(low)(v), v8d), high = __builtin_convertvector(KERNEL(high)(v), v8d);
        total += low * low;
        return n > 8 ? total + high * high : total;
#else
        v8d wide = __builtin_convertvector(v, v8d);
        return total + wide * wide;
#endif
}

/* Lanes are added in one fixed tree. */
INLINE float KERNEL(sum)(v8f v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

/* p · x + c, a step of Horner's rule. */
INLINE FLOATS KERNEL(step)(FLOATS p, FLOATS x, float c) { return KERNEL(fma)(p, x, KERNEL(splat)(c)); }

/* Cephes' expf: x = n ln 2 + r, degree 6 in r. Within 2 ulp; below −87.3 the smallest normal number. */
INLINE FLOATS KERNEL(exp_of)(FLOATS x) {
        const float magic = 0x1.8p23f;
        x = KERNEL(clamp)(x, -87.33654f, 88.37626f);
        FLOATS shifted = KERNEL(step)(x, KERNEL(splat)(1.44269504088896341f), magic);
        FLOATS n = shifted - magic;
        FLOATS r = KERNEL(fma)(n, KERNEL(splat)(2.12194440e-4f), KERNEL(fma)(n, KERNEL(splat)(-0.693359375f), x));
        FLOATS p = KERNEL(step)(r, KERNEL(splat)(1.9875691500e-4f), 1.3981999507e-3f);
        p = KERNEL(step)(p, r, 8.3334519073e-3f);
        p = KERNEL(step)(p, r, 4.1665795894e-2f);
        p = KERNEL(step)(p, r, 1.6666665459e-1f);
        p = KERNEL(step)(p, r, 5.0000001201e-1f);
        p = KERNEL(fma)(p, r * r, r) + 1.0f;
        INTS exponent = ((INTS) shifted << 23) + (127 << 23);
        return p * (FLOATS) exponent;
}

/* Below 475/512 an odd polynomial, above it 1 − exp(polynomial) (Juffa's erff); within 2 ulp. */
INLINE FLOATS KERNEL(erf_of)(FLOATS x) {
        INTS sign = (INTS) x & (int) 0x80000000u;
        FLOATS t = KERNEL(clamp)((FLOATS) ((INTS) x ^ sign), 0.0f, 4.0f), z = t * t;
        FLOATS far = KERNEL(step)(t, KERNEL(splat)(-1.72853470e-5f), 3.83197126e-4f);
        far = KERNEL(fma)(far, z, KERNEL(step)(t, KERNEL(splat)(-3.88396438e-3f), 2.42546219e-2f));
        far = KERNEL(step)(far, t, -1.06777877e-1f);
        far = KERNEL(step)(far, t, -6.34846687e-1f);
        far = KERNEL(step)(far, t, -1.28717512e-1f);
        far = 1.0f - KERNEL(exp_of)(KERNEL(fma)(far, t, -t));
        FLOATS near = KERNEL(step)(z, KERNEL(splat)(-5.96761703e-4f), 4.99119423e-3f);
        near = KERNEL(step)(near, z, -2.67681349e-2f);
        near = KERNEL(step)(near, z, 1.12819925e-1f);
        near = KERNEL(step)(near, z, -3.76125336e-1f);
        near = KERNEL(step)(near, z, 1.28379166e-1f);
        near = KERNEL(fma)(near, t, t);
        return (FLOATS) ((INTS) KERNEL(if_greater)(t, KERNEL(splat)(0.927734375f), far, near) | sign);
}

/* Below 0.625 Cephes' odd polynomial, above it 1 − 2 / (exp(2x) + 1); within 3 ulp. */
INLINE FLOATS KERNEL(tanh_of)(FLOATS x) {
        INTS sign = (INTS) x & (int) 0x80000000u;
        FLOATS t = KERNEL(clamp)((FLOATS) ((INTS) x ^ sign), 0.0f, 10.0f), z = t * t;
        FLOATS far = 1.0f - 2.0f / (KERNEL(exp_of)(t + t) + 1.0f);
        FLOATS near = KERNEL(step)(z, KERNEL(splat)(-5.70498872745e-3f), 2.06390887954e-2f);
        near = KERNEL(step)(near, z, -5.37397155531e-2f);
        near = KERNEL(step)(near, z, 1.33314422036e-1f);
        near = KERNEL(step)(near, z, -3.33332819422e-1f);
        near = KERNEL(fma)(near * z, t, t);
        return (FLOATS) ((INTS) KERNEL(if_greater)(t, KERNEL(splat)(0.625f), far, near) | sign);
}

/* ---- philox() of BLOCKS consecutive blocks at once: their halves in the order of the elements, eight a block ---- */

#define BLOCKS LANES

#ifdef KERNEL_AVX2
#if LANES == 16
#define WIDE(name) _mm512_##name
#define WHOLE __m512i
#define OFFSETS _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7)
#define ODD_WORDS(even, odd) _mm512_mask_blend_epi32(0xaaaa, even, odd)
#else
#define WIDE(name) _mm256_##name
#define WHOLE __m256i
#define OFFSETS _mm256_setr_epi64x(0, 2, 1, 3)
#define ODD_WORDS(even, odd) _mm256_blend_epi32(even, odd, 0xaa)
#endif

/* A block in each lane of 64 bits, of whose words only the lower half counts: a product's upper half is the high word, its lower one the
 * low word. Lanes are taken in such an order that two unpacked vectors hold consecutive blocks. */
INLINE void KERNEL(philox_lanes)(WHOLE *to, WHOLE c0, uint64_t key, uint32_t site, uint64_t k) {
        const WHOLE m0 = WIDE(set1_epi32)((int) 0xD2511F53u), m1 = WIDE(set1_epi32)((int) 0xCD9E8D57u);
        WHOLE c1 = WIDE(set1_epi32)((int) site), c2 = WIDE(set1_epi32)((int) (uint32_t) k);
        WHOLE c3 = WIDE(set1_epi32)((int) (uint32_t) (k >> 32));
        uint32_t k0 = (uint32_t) key, k1 = (uint32_t) (key >> 32);

        for (int round = 0; round < 10; round++) {
                WHOLE p0 = WIDE(mul_epu32)(c0, m0), p1 = WIDE(mul_epu32)(c2, m1);
                c0 = (WHOLE) ((INTS) WIDE(srli_epi64)(p1, 32) ^ (INTS) c1 ^ (int) k0);
                c2 = (WHOLE) ((INTS) WIDE(srli_epi64)(p0, 32) ^ (INTS) c3 ^ (int) k1);
                c1 = p1;
                c3 = p0;
                k0 += 0x9E3779B9u;
                k1 += 0xBB67AE85u;
        }
        WHOLE a = ODD_WORDS(c0, WIDE(slli_epi64)(c1, 32)), b = ODD_WORDS(c2, WIDE(slli_epi64)(c3, 32));
        to[0] = WIDE(unpacklo_epi64)(a, b);
        to[1] = WIDE(unpackhi_epi64)(a, b);
}

INLINE void KERNEL(philox)(uint16_t halves[8 * BLOCKS], uint64_t key, uint32_t first_block, uint32_t site, uint64_t k) {
        WHOLE *to = (WHOLE *) halves, block = WIDE(add_epi32)(WIDE(set1_epi32)((int) first_block), OFFSETS);

        KERNEL(philox_lanes)(to, block, key, site, k);
        KERNEL(philox_lanes)(to + 2, WIDE(add_epi32)(block, WIDE(set1_epi32)(BLOCKS / 2)), key, site, k);
}
#undef OFFSETS
#undef ODD_WORDS
#undef WIDE
#undef WHOLE
#else
INLINE void KERNEL(philox)(uint16_t halves[8 * BLOCKS], uint64_t key, uint32_t first_block, uint32_t site, uint64_t k) {
        for (uint32_t block = 0; block < BLOCKS; block++) {
                struct philox r = philox(key, first_block + block, site, k);
                for (uint32_t word = 0; word < 4; word++) {
                        halves[8 * block + 2 * word] = (uint16_t) r.v[word];
                        halves[8 * block + 2 * word + 1] = (uint16_t) (r.v[word] >> 16);
                }
        }
}
#endif

/* LANES halves, from the front on: `scale` where they are at least `threshold`, else 0. */
INLINE FLOATS KERNEL(factors)(const uint16_t *halves, int threshold, float scale) {
#ifdef KERNEL_AVX512
        __m512i half = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *) halves));
        return (FLOATS) _mm512_maskz_mov_ps(_mm512_cmpge_epi32_mask(half, _mm512_set1_epi32(threshold)),
                                            _mm512_set1_ps(scale));
#else
        INTS half = __builtin_convertvector(*(const v8u16_unaligned *) halves, INTS);
        return (FLOATS) ((INTS) KERNEL(splat)(scale) & (half >= threshold));
#endif
}
