/* bf16 and fp16 by their bits, rounded to nearest even: for tests on the host. C and C++. */
#ifndef TESTS_NARROW_H
#define TESTS_NARROW_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t narrow_bits(float x) {
        uint32_t u;

        memcpy(&u, &x, sizeof(u));
        return u;
}
static inline float narrow_float(uint32_t u) {
        float x;

        memcpy(&x, &u, sizeof(x));
        return x;
}

static inline uint16_t bf16_from(float x) {
        uint32_t u = narrow_bits(x);

        if (isnan(x))
                return 0x7fff;
        return (uint16_t) ((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static inline float bf16_to(uint16_t b) { return narrow_float((uint32_t) b << 16); }

/* Adding a power of two that is 2^10 times the last place kept lets the float addition round. */
static inline uint16_t fp16_from(float x) {
        uint16_t sign = narrow_bits(x) >> 16 & 0x8000;
        float a = fabsf(x);
        int exponent;

        if (isnan(x))
                return 0x7fff;
        if (a >= 65520)
                return sign | 0x7c00;
        (void) frexpf(a, &exponent);
        exponent = exponent < -13 ? -13 : exponent; /* below: subnormal, steps of 2^-24 */
        float steps = rintf(ldexpf(a, 11 - exponent));
        if (steps >= 2048)
                return (uint16_t) (sign | (exponent + 15) << 10);
        return steps < 1024 ? (uint16_t) (sign | (uint16_t) steps)
                            : (uint16_t) (sign | (exponent + 14) << 10 | ((uint16_t) steps - 1024));
}
static inline float fp16_to(uint16_t h) {
        uint32_t exponent = h >> 10 & 31, m = h & 1023;
        float x = exponent == 0 ? (float) m * 0x1p-24f
                                : narrow_float((exponent == 31 ? 255 : exponent + 112) << 23 | m << 13);
        return h & 0x8000 ? -x : x;
}

#endif
