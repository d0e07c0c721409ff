/*
 * The write of a checkpoint of BERT base (weights and both moments) beside a plain write and fsync of the same bytes,
 * alternated, on the file system of FOLDER. Prints Markdown: seconds of each pair and the medians. Prints figures,
 * passes no judgement.
 *
 *   bench_checkpoint FOLDER [PAIRS]   7
 */
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "tests/ops/model_helpers.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/checkpoint/writer.h"

static const char *const kinds[] = { "param", "moment1", "moment2" };
enum { PAIRS_MAX = 99 };

static int compare(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return x < y ? -1 : x > y;
}

/* Seconds of a write of `total` bytes, whatever they are, in calls of 1 MiB; negative where it fails. */
static double write_plain(const char *path, const char *bytes, size_t total) {
        double begin = omp_get_wtime();
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        bool failed = fd < 0;

        for (size_t at = 0; !failed && at < total;) {
                ssize_t n = write(fd, bytes + at, MIN((size_t) 1 << 20, total - at));
                failed = n <= 0;
                at += failed ? 0 : (size_t) n;
        }
        failed = failed || fsync(fd) < 0 || close(fd) < 0;
        return failed ? -1 : omp_get_wtime() - begin;
}

static double write_checkpoint(const char *path, const struct checkpoint_tensor *tensors, uint32_t n) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        double begin = omp_get_wtime();

        checkpoint_meta_set(&meta, "step", "1");
        return checkpoint_write(path, &meta, tensors, n, NULL, NULL) < 0 ? -1 : omp_get_wtime() - begin;
}

static uint32_t describe(struct model *model, const char *bytes, struct checkpoint_tensor *tensors) {
        size_t run = model_state(model)->n_elements * model_state(model)->element_size;
        uint32_t n = 0;

        for (uint32_t kind = 0; kind < ELEMENTSOF(kinds); kind++)
                for (uint32_t i = 0; i < model_n_tensors(model); i++) {
                        const struct model_tensor *t = model_tensor(model, i);
                        tensors[n++] =
                                weights_describe(model, t, kinds[kind],
                                                 bytes + kind * run + t->offset * model_state(model)->element_size);
                }
        return n;
}

/* Median rates in MB/s on the last row. */
static int measure(const char *folder, int pairs, const char *bytes, size_t total,
                   const struct checkpoint_tensor *tensors, uint32_t n) {
        cleanup_free char *plain_path = format_string("%s/plain", folder);
        cleanup_free char *path = format_string("%s/step-1.ckpt", folder);
        double plain[PAIRS_MAX], ours[PAIRS_MAX], share[PAIRS_MAX], mb = (double) total / 1e6;

        printf("| pair | plain write + fsync of %.0f MB, MB/s | checkpoint, MB/s | share |\n|---|---|---|---|\n", mb);
        for (int i = 0; i < pairs; i++) {
                plain[i] = write_plain(plain_path, bytes, total);
                (void) unlink(plain_path);
                ours[i] = write_checkpoint(path, tensors, n);
                (void) unlink(path);
                if (plain[i] < 0 || ours[i] < 0) {
                        (void) fprintf(stderr, "bench_checkpoint: %s: %s\n", folder, strerror(errno));
                        return 1;
                }
                share[i] = plain[i] / ours[i];
                printf("| %d | %.0f | %.0f | %.0f %% |\n", i + 1, mb / plain[i], mb / ours[i], 100 * share[i]);
        }
        qsort(plain, (size_t) pairs, sizeof(*plain), compare);
        qsort(ours, (size_t) pairs, sizeof(*ours), compare);
        qsort(share, (size_t) pairs, sizeof(*share), compare);
        printf("| median | %.0f | %.0f | %.0f %% |\n", mb / plain[pairs / 2], mb / ours[pairs / 2],
               100 * share[pairs / 2]);
        return 0;
}

int main(int argc, char **argv) {
        uint64_t pairs = 7;
        if (argc < 2 || (argc > 2 && parse_u64(argv[2], 1, PAIRS_MAX, &pairs) < 0)) {
                (void) fprintf(stderr, "Usage: bench_checkpoint FOLDER [PAIRS]\n");
                return 64;
        }
        struct model_config config = helper_config(30522, 768, 12, 12, 3072, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 1, 8, 0, false);
        struct model *model = helper_model(&config, ops_cpu(), &t->batch);
        size_t total = ELEMENTSOF(kinds) * model_state(model)->n_elements * model_state(model)->element_size;
        cleanup_free char *bytes = malloc(total);
        cleanup_free struct checkpoint_tensor *tensors =
                calloc(ELEMENTSOF(kinds) * model_n_tensors(model), sizeof(*tensors));

        if (!bytes || !tensors)
                return 1;
        for (size_t i = 0; i < total / sizeof(float); i++)
                ((float *) bytes)[i] = (float) (i * 2654435761u % 1000003);
        int r = measure(argv[1], (int) pairs, bytes, total, tensors, describe(model, bytes, tensors));
        model_free(model);
        free(t);
        return r;
}
