/* See peak.h. A product of full tiles whose b is one packed block. */
#include "trainer/ops/cpu/peak.h"

#include <omp.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/gemm.h"

enum { ROWS = 384, COLUMNS = CPU_GEMM_COLUMNS, DEPTH = CPU_GEMM_DEPTH, ROUNDS = 5, REPEATS = 4 };
enum { A = ROWS * DEPTH, B = DEPTH * COLUMNS, C = ROWS * COLUMNS };

/* `data`: a, b, c, then what is packed of b. */
static void multiply(float *data) {
        const struct cpu_gemm g = { .a = { data, DEPTH, false },
                                    .b = { data + A, DEPTH, false },
                                    .c = { data + A + B, DTYPE_FP32, ROWS, COLUMNS, COLUMNS, false },
                                    .depth = DEPTH,
                                    .alpha = 1 };

        for (int i = 0; i < REPEATS; i++)
                cpu_gemm_alone(&g, data + A + B + C);
}

double cpu_peak(unsigned rounds, double (*now)(void)) {
        size_t n_threads = (size_t) omp_get_max_threads(), each = A + B + C + CPU_GEMM_PACKED;
        cleanup_free float *data = aligned_alloc(64, n_threads * each * sizeof(float));
        double best = 0;

        if (!data)
                return 0;
        for (size_t i = 0; i < n_threads * each; i++)
                data[i] = (float) (i % 7) - 3;
        for (unsigned i = 0; i < rounds; i++) {
                double begin = now();
#pragma omp parallel for schedule(static, 1)
                for (size_t t = 0; t < n_threads; t++)
                        multiply(data + t * each);
                double rate = 2.0 * ROWS * COLUMNS * DEPTH * REPEATS * (double) n_threads / (now() - begin);
                best = MAX(best, rate);
        }
        return best;
}

double cpu_peak_flops(void) { return cpu_peak(ROUNDS, omp_get_wtime); }
