/*
 * CPU backend: the flat runs of parameters, gradients and moments.
 *
 * Invariant: how work is cut depends on shapes only, never on the number of threads, and no two threads write one element.
 */
#include "trainer/ops/cpu/flat.h"

#include <string.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/spans.h"

#define SPAN_BLOCK ((size_t) 65536)
#define PARTIALS 1024

void cpu_zero(void *data, size_t size) {
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < size; i += SPAN_BLOCK * sizeof(float))
                memset((char *) data + i, 0, MIN(SPAN_BLOCK * sizeof(float), size - i));
}

double cpu_sum_squares(const void *data, size_t n) {
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

void cpu_adamw(const struct op_adam *op, size_t n, const void *gradient, void *parameter, void *moment1,
               void *moment2) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static) if (n > SPAN_BLOCK)
        for (size_t i = 0; i < n; i += SPAN_BLOCK / 8)
                k->adamw(op, (const float *) gradient + i, (float *) parameter + i, (float *) moment1 + i,
                         (float *) moment2 + i, MIN(SPAN_BLOCK / 8, n - i));
}

void cpu_adam_direction(const struct op_adam *op, size_t n, void *gradient, const void *parameter, void *moment1,
                        void *moment2) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static) if (n > SPAN_BLOCK)
        for (size_t i = 0; i < n; i += SPAN_BLOCK / 8)
                k->adam_direction(op, (float *) gradient + i, (const float *) parameter + i, (float *) moment1 + i,
                                  (float *) moment2 + i, MIN(SPAN_BLOCK / 8, n - i));
}

void cpu_descend(double rate, size_t n, const void *direction, void *parameter) {
        const struct cpu_kernels *k = cpu_kernels();

#pragma omp parallel for schedule(static) if (n > SPAN_BLOCK)
        for (size_t i = 0; i < n; i += SPAN_BLOCK / 8)
                k->descend((float) rate, (const float *) direction + i, (float *) parameter + i,
                           MIN(SPAN_BLOCK / 8, n - i));
}
