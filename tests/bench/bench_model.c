/*
 * Speed of the CPU backend: one training step (forward, backward, norm, AdamW) of some models in seconds, its forward
 * and backward (`pass`) in seconds and in GFLOP/s by RECIPES' formula, the sgemm peak measured just before with the
 * same number of threads (one single-threaded sgemm of 512 × 384 × 768 a thread), and the process's peak memory in MB.
 * Medians of the repeats; a line of JSON for each model. Prints figures, passes no judgement.
 *
 *   bench_model [MODEL…]   the names below; all without arguments. OMP_NUM_THREADS as given. In `texts` two of three
 * samples have 240 tokens and one 121, as single-segment texts may.
 */
#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "common/cleanup.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"

struct bench {
        const char *name;
        uint32_t vocab, hidden, layers, heads, ffn, samples, length, repeats;
        uint32_t embedding; /* ALBERT, all layers sharing; 0: BERT */
        bool ragged;
};

static const struct bench benches[] = {
        { "tiny", 8192, 128, 2, 2, 512, 32, 128, 15, 0, false },
        { "tiny-512", 8192, 128, 2, 2, 512, 8, 512, 15, 0, false },
        { "small", 30522, 512, 4, 8, 2048, 16, 128, 5, 0, false },
        { "small-512", 30522, 512, 4, 8, 2048, 4, 512, 5, 0, false },
        { "base", 30522, 768, 12, 12, 3072, 8, 128, 3, 0, false },
        { "base-512", 30522, 768, 12, 12, 3072, 2, 512, 3, 0, false },
        { "texts", 30522, 768, 12, 12, 3072, 3, 240, 3, 0, true },
        { "albert", 30000, 768, 12, 12, 3072, 8, 128, 3, 128, false },
};

static int compare(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return x < y ? -1 : x > y;
}

static double median(double *values, size_t n) {
        qsort(values, n, sizeof(*values), compare);
        return values[n / 2];
}

static double sgemm_once(const float *a, const float *b, float *c) {
        const int rounds = 60;
        double start = omp_get_wtime();

#pragma omp parallel
        {
                float *own = c + (size_t) omp_get_thread_num() * 512 * 384;
                for (int i = 0; i < rounds; i++)
                        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, 512, 384, 768, 1, a, 768, b, 768, 0, own,
                                    384);
        }
        return 2.0 * 512 * 384 * 768 * rounds * omp_get_max_threads() / (omp_get_wtime() - start) / 1e9;
}

/* GFLOP/s of all threads together. */
static double sgemm_peak(void) {
        size_t n = 512 * 768, threads = (size_t) omp_get_max_threads();
        cleanup_free float *a = calloc(n, sizeof(float)), *b = calloc(n, sizeof(float)),
                           *c = calloc(n * threads, sizeof(float));
        double rates[7];

        openblas_set_num_threads(1); /* the threads are ours */
        for (size_t i = 0; i < n; i++) {
                a[i] = (float) helper_random(1, (uint32_t) i);
                b[i] = (float) helper_random(2, (uint32_t) i);
        }
        (void) sgemm_once(a, b, c);
        for (size_t i = 0; i < ELEMENTSOF(rates); i++)
                rates[i] = sgemm_once(a, b, c);
        return median(rates, ELEMENTSOF(rates));
}

static const struct spec_optimizer optimizer = {
        .learning_rate = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-6, .weight_decay = 0.01
};

static void run(const struct bench *bench) {
        struct model_config config =
                helper_config(bench->vocab, bench->hidden, bench->layers, bench->heads, bench->ffn, 0.1);
        if (bench->embedding)
                config = helper_albert(config, bench->embedding, SHARING_ALL, 1, 1);
        struct test_batch *t = helper_batch(bench->vocab, bench->samples, bench->length, 0, bench->ragged);
        struct model *model = helper_model(&config, ops_cpu(), &t->batch);
        struct model_pass pass = helper_pass(&t->batch, true);
        double seconds[64], passes[64], peak = sgemm_peak(), flops = model_batch_flops(model, &t->batch, &pass);

        model_init(model, 1);
        for (uint32_t i = 0; i < bench->repeats + 1; i++) {
                struct model_loss loss = {};
                double start = omp_get_wtime();
                model_zero_gradients(model);
                model_forward_backward(model, &t->batch, &pass, &loss);
                double middle = omp_get_wtime();
                double norm = optimizer_gradient_norm(model);
                optimizer_update(model, &optimizer, 1e-4, i + 1, norm > 1 ? 1 / norm : 1);
                passes[i ? i - 1 : 0] = middle - start;
                seconds[i ? i - 1 : 0] = omp_get_wtime() - start;
        }
        struct rusage usage;
        (void) getrusage(RUSAGE_SELF, &usage);
        double step = median(seconds, bench->repeats), pass_seconds = median(passes, bench->repeats);
        printf("{\"row\": \"%s\", \"how\": \"bertd\", \"threads\": %d, \"samples\": %u, \"step\": %.6f, "
               "\"pass\": %.6f, \"gflops\": %.1f, \"sgemm\": %.1f, \"memory\": %ld}\n",
               bench->name, omp_get_max_threads(), bench->samples, step, pass_seconds, flops / pass_seconds / 1e9, peak,
               usage.ru_maxrss * 1024 / 1000000);
        model_free(model);
        free(t);
}

static bool wanted(const char *name, int argc, char **argv) {
        for (int i = 1; i < argc; i++)
                if (strcmp(name, argv[i]) == 0)
                        return true;
        return argc == 1;
}

int main(int argc, char **argv) {
        for (size_t i = 0; i < ELEMENTSOF(benches); i++)
                if (wanted(benches[i].name, argc, argv))
                        run(&benches[i]);
        return 0;
}
