/*
 * Speed of the CPU backend: one training step (forward, backward, norm, AdamW) of some models in seconds and its
 * forward and backward
 * (`pass`); GFLOP/s of the product alone on as many threads, measured just before each step (`product`); what share of
 * that the pass does, by RECIPES' formula; the same by the CPU time of all threads, which counts no waiting for each
 * other or for a shared machine; and the process's peak memory in MB. Medians of the repeats; a line of JSON for each
 * model. Prints figures, passes no judgement.
 *
 *   bench_model [MODEL…]   the names below; all without arguments. OMP_NUM_THREADS as given. In `texts` two of three
 * samples have 240 tokens and one 121, as single-segment texts may.
 */
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/cleanup.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"
#include "trainer/ops/cpu/peak.h"

#define REPEATS_MAX 64

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

/* Seconds that all threads together computed. */
static double cpu_time(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static const struct spec_optimizer optimizer = {
        .learning_rate = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-6, .weight_decay = 0.01
};

enum figure { STEP, CPU_STEP, PASS, PRODUCT, SHARE, CPU_SHARE, FIGURES };

/* One step: seconds of it and of its forward and backward; FLOP/s of the product alone just before; and the pass's
 * share of that. */
static void measure(struct model *model, const struct test_batch *t, uint32_t update, double figures[FIGURES]) {
        struct model_pass pass = helper_pass(&t->batch, true);
        double flops = model_batch_flops(model, &t->batch, &pass);
        double product = cpu_peak(2, omp_get_wtime), cpu_product = cpu_peak(2, cpu_time);
        struct model_loss loss = {};
        double begin = omp_get_wtime(), cpu_begin = cpu_time();

        model_zero_gradients(model);
        model_forward_backward(model, &t->batch, &pass, &loss);
        double middle = omp_get_wtime(), cpu_middle = cpu_time(), norm = optimizer_gradient_norm(model);
        optimizer_update(model, &optimizer, 1e-4, update, norm > 1 ? 1 / norm : 1);
        figures[STEP] = omp_get_wtime() - begin;
        figures[CPU_STEP] = cpu_time() - cpu_begin;
        figures[PASS] = middle - begin;
        figures[PRODUCT] = product;
        figures[SHARE] = flops / (middle - begin) / product;
        figures[CPU_SHARE] = flops / (cpu_middle - cpu_begin) / cpu_product;
}

static void run(const struct bench *bench) {
        struct model_config config =
                helper_config(bench->vocab, bench->hidden, bench->layers, bench->heads, bench->ffn, 0.1);
        if (bench->embedding)
                config = helper_albert(config, bench->embedding, SHARING_ALL, 1, 1);
        struct test_batch *t = helper_batch(bench->vocab, bench->samples, bench->length, 0, bench->ragged);
        struct model *model = helper_model(&config, ops_cpu(), &t->batch);
        double figures[FIGURES][REPEATS_MAX], now[FIGURES];
        struct rusage usage;

        model_init(model, 1);
        for (uint32_t i = 0; i < bench->repeats + 1; i++) {
                measure(model, t, i + 1, now);
                for (int f = 0; f < FIGURES; f++)
                        figures[f][i ? i - 1 : 0] = now[f];
        }
        for (int f = 0; f < FIGURES; f++)
                now[f] = median(figures[f], bench->repeats);
        (void) getrusage(RUSAGE_SELF, &usage);
        printf("{\"row\": \"%s\", \"how\": \"bertd\", \"threads\": %d, \"samples\": %u, \"step\": %.6f, \"cpu_step\": "
               "%.6f, "
               "\"pass\": %.6f, \"product\": %.1f, \"share\": %.4f, \"cpu_share\": %.4f, \"memory\": %ld}\n",
               bench->name, omp_get_max_threads(), bench->samples, now[STEP], now[CPU_STEP], now[PASS],
               now[PRODUCT] / 1e9, now[SHARE], now[CPU_SHARE], usage.ru_maxrss * 1024 / 1000000);
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
