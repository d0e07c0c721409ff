/* The peak that MFU is measured against: OpenBLAS' sgemm on cached tiles, one a thread. See run.h. */
#include <cblas.h>
#include <omp.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "trainer/run/run.h"

enum { SIZE = 384, REPEATS = 4 };

static void multiply(float *tiles) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SIZE, SIZE, SIZE, 1, tiles, SIZE, tiles + SIZE * SIZE,
                    SIZE, 0, tiles + 2 * SIZE * SIZE, SIZE);
}

/* FLOP/s of one round over all threads; the best of a few, since the first also wakes the threads. */
static double measure_round(float *tiles, int n_threads) {
        uint64_t begin = clock_monotonic_usec();

#pragma omp parallel for schedule(static, 1) num_threads(n_threads)
        for (int t = 0; t < n_threads; t++)
                for (int i = 0; i < REPEATS; i++)
                        multiply(tiles + (size_t) t * 3 * SIZE * SIZE);
        double seconds = (double) MAX(clock_monotonic_usec() - begin, UINT64_C(1)) / 1e6;
        return 2.0 * SIZE * SIZE * SIZE * REPEATS * n_threads / seconds;
}

double run_measure_peak(void) {
        int n_threads = omp_get_max_threads();
        cleanup_free float *tiles = malloc((size_t) n_threads * 3 * SIZE * SIZE * sizeof(float));
        double best = 0;

        if (!tiles)
                return 0;
        openblas_set_num_threads(1); /* the threads are ours */
        for (size_t i = 0; i < (size_t) n_threads * 3 * SIZE * SIZE; i++)
                tiles[i] = (float) (i % 7) - 3;
        for (int i = 0; i < 5; i++) {
                double now = measure_round(tiles, n_threads);
                best = MAX(best, now);
        }
        return best;
}
