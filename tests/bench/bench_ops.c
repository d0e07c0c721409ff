/*
 * Where a step's time goes: a training step of a model, each operation of it timed alone and held against its floor,
 * the greater of its bytes over the memory's measured rate and its FLOPs over the matrix product's. Prints a table for
 * docs/.
 *
 *   bench_ops CONFIG.json LENGTH SAMPLES [fp32|tf32|bf16|fp16]
 *
 * With a precision: on the GPU, by the module that BERTD_CUDA_MODULE names. Without: on the CPU, in CPU time shared out
 * over the threads, which counts neither their waiting for each other nor what else uses the cores. An operation is
 * done REPEATS times between two waits; a backend that waits less is faster than their sum.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "tests/gpu/module.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"
#include "trainer/ops/cpu/peak.h"

#define REPEATS 5
#define ROWS_MAX 128
#define COPY_BYTES ((size_t) 256 << 20)

struct row {
        char name[64];
        unsigned calls;
        double seconds, bytes, flops; /* of all calls */
};

static struct row rows[ROWS_MAX];
static unsigned n_rows;
static const struct ops *real;
static void *flag; /* in the backend's memory: to wait for */

static double now(void) {
        struct timespec t;

        if (!real->host_memory)
                return (double) clock_monotonic_usec() / 1e6;
        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return ((double) t.tv_sec + (double) t.tv_nsec / 1e9) / omp_get_max_threads();
}

static void wait_for_backend(void) {
        char byte;

        real->download(&byte, flag, 1);
}

static void count(const char *name, double seconds, double bytes, double flops) {
        unsigned i = 0;

        while (i < n_rows && strcmp(rows[i].name, name) != 0)
                i++;
        if (i == n_rows) {
                if (n_rows == ROWS_MAX)
                        return;
                rows[n_rows] = (struct row) {};
                (void) snprintf(rows[n_rows++].name, sizeof(rows[0].name), "%s", name);
        }
        rows[i].calls++;
        rows[i].seconds += seconds;
        rows[i].bytes += bytes;
        rows[i].flops += flops;
}

/* The call, timed; `of`: a name that tells shapes apart, `bytes` and `flops` of one call. */
#define TIMED(of, bytes, flops, call)                                    \
        do {                                                             \
                call;                                                    \
                wait_for_backend();                                      \
                double begin_ = now();                                   \
                for (int i_ = 0; i_ < REPEATS; i_++)                     \
                        call;                                            \
                wait_for_backend();                                      \
                count(of, (now() - begin_) / REPEATS, (bytes), (flops)); \
        } while (0)

static double bytes_of(struct tensor t) {
        return t.data ? (double) t.rows * t.columns * (double) dtype_size(t.dtype) : 0;
}

static const char *shaped(const char *name, uint32_t n, uint32_t k) {
        static char text[64];

        (void) snprintf(text, sizeof(text), "%s %u x %u", name, n, k);
        return text;
}

/* ---- the table's entries ---- */

static void embed_forward(const struct op_embed *op, const struct op_norm *norm) {
        TIMED("embed_forward", 5 * bytes_of(op->x), 0, real->embed_forward(op, norm));
}
static void embed_backward(const struct op_embed *op) {
        TIMED("embed_backward", 3 * bytes_of(op->x), 0, real->embed_backward(op));
}
static void linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
                   struct tensor y) {
        TIMED(shaped("linear", w.rows, w.columns), bytes_of(x) + bytes_of(w) + bytes_of(pre) + bytes_of(y),
              2.0 * y.rows * y.columns * x.columns, real->linear(x, w, bias, act, pre, y));
}
static void linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                      struct tensor dx, struct tensor dbias) {
        TIMED(shaped("linear_dx", w.rows, w.columns),
              bytes_of(dy) + bytes_of(w) + bytes_of(saved) + (add ? 2 : 1) * bytes_of(dx),
              2.0 * dy.rows * dy.columns * dx.columns, real->linear_dx(dy, w, add, act, saved, dx, dbias));
}
static void linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias) {
        TIMED(shaped("linear_dw_db", dw.rows, dw.columns), bytes_of(dy) + bytes_of(x) + 2 * bytes_of(dw),
              2.0 * dy.rows * dy.columns * x.columns, real->linear_dw_db(dy, x, dw, dbias));
}
static void activation_backward(enum activation act, struct tensor saved, struct tensor dx) {
        TIMED("activation_backward", bytes_of(saved) + 2 * bytes_of(dx), 0, real->activation_backward(act, saved, dx));
}
/* Full samples: the batch of this bench has no others. */
static double attention_flops(const struct op_attention *op) {
        return 4.0 * op->context.rows * op->context.columns * op->max_length;
}
static void attention_forward(const struct op_attention *op) {
        TIMED("attention_forward", bytes_of(op->qkv) + bytes_of(op->context), attention_flops(op),
              real->attention_forward(op));
}
static void attention_backward(const struct op_attention *op) {
        TIMED("attention_backward", 2 * bytes_of(op->qkv) + 2 * bytes_of(op->context), 2.5 * attention_flops(op),
              real->attention_backward(op));
}
static void add_norm_forward(const struct op_norm *op) {
        TIMED("add_norm_forward", 4 * bytes_of(op->x), 0, real->add_norm_forward(op));
}
static void add_norm_backward(const struct op_norm *op) {
        TIMED("add_norm_backward", 4 * bytes_of(op->x), 0, real->add_norm_backward(op));
}
static void norm_dropout_forward(const struct op_norm *op) {
        TIMED("norm_dropout_forward", 2 * bytes_of(op->x), 0, real->norm_dropout_forward(op));
}
static void norm_dropout_backward(const struct op_norm *op) {
        TIMED("norm_dropout_backward", 3 * bytes_of(op->x), 0, real->norm_dropout_backward(op));
}
static void gather_rows(struct tensor x, const int32_t *at, struct tensor y) {
        TIMED("gather_rows", 2 * bytes_of(y), 0, real->gather_rows(x, at, y));
}
static void scatter_add_rows(struct tensor dy, const int32_t *at, struct tensor dx) {
        TIMED("scatter_add_rows", 3 * bytes_of(dy), 0, real->scatter_add_rows(dy, at, dx));
}
static void softmax_xent(const struct op_xent *op) {
        TIMED("softmax_xent", 2 * bytes_of(op->logits), 0, real->softmax_xent(op));
}
static double sum_squares(const void *x, size_t n) {
        double sum = 0;

        TIMED("sum_squares", (double) n * (double) dtype_size(real->master), 0, sum = real->sum_squares(x, n));
        return sum;
}
static void zero(void *data, size_t size) { TIMED("zero", (double) size, 0, real->zero(data, size)); }
/* Reads gradient, parameter and moments, writes the latter three and, where there are any, the rounded values. */
static void update(const struct op_update *op) {
        double n = 0;

        for (uint32_t i = 0; i < op->n_tensors; i++)
                n += (double) op->tensors[i].n;
        TIMED("update",
              n * (7.0 * (double) dtype_size(real->master) + (op->values ? (double) dtype_size(real->dtype) : 0)), 0,
              real->update(op));
}

static void adamw(const struct op_adam *op, size_t n, const void *g, void *p, void *m, void *v) {
        TIMED("adamw", (double) n * 7 * (double) dtype_size(real->master), 0, real->adamw(op, n, g, p, m, v));
}

static struct ops timed_table(void) {
        struct ops t = *real;

        t.embed_forward = embed_forward;
        t.embed_backward = embed_backward;
        t.linear = linear;
        t.linear_dx = linear_dx;
        t.linear_dw_db = linear_dw_db;
        t.activation_backward = activation_backward;
        t.attention_forward = attention_forward;
        t.attention_backward = attention_backward;
        t.add_norm_forward = add_norm_forward;
        t.add_norm_backward = add_norm_backward;
        t.norm_dropout_forward = norm_dropout_forward;
        t.norm_dropout_backward = norm_dropout_backward;
        t.gather_rows = gather_rows;
        t.scatter_add_rows = scatter_add_rows;
        t.softmax_xent = softmax_xent;
        t.sum_squares = sum_squares;
        t.zero = zero;
        t.adamw = adamw;
        t.update = real->update ? update : NULL;
        return t;
}

/* ---- the report ---- */

/* Bytes read and written a second. */
static double bandwidth(void) {
        char *data = real->allocate(2 * COPY_BYTES);
        struct row copy = {};

        if (!data)
                return 0;
        n_rows = 0;
        TIMED("copy", 2.0 * COPY_BYTES, 0, real->copy(data + COPY_BYTES, data, COPY_BYTES));
        copy = rows[0];
        n_rows = 0;
        real->release(data, 2 * COPY_BYTES);
        return copy.bytes / copy.seconds;
}

static void report(const char *title, double memory, double product) {
        double all = 0, all_floor = 0;

        for (unsigned i = 0; i < n_rows; i++)
                all += rows[i].seconds;
        (void) printf("### %s\nMemory %.0f GB/s, matrix product %.2f TFLOP/s, measured here.\n\n"
                      "| operation | calls | ms | share | floor, ms | time / floor |\n|---|---|---|---|---|---|\n",
                      title, memory / 1e9, product / 1e12);
        for (unsigned i = 0; i < n_rows; i++) {
                const struct row *r = &rows[i];
                double by_bytes = r->bytes / memory, by_flops = r->flops / product,
                       floor = by_bytes > by_flops ? by_bytes : by_flops;
                all_floor += floor;
                (void) printf("| %s | %u | %.3f | %.1f %% | %.3f | %.2f |\n", r->name, r->calls, 1e3 * r->seconds,
                              100 * r->seconds / all, 1e3 * floor, r->seconds / floor);
        }
        (void) printf("| all | | %.3f | | %.3f | %.2f |\n\n", 1e3 * all, 1e3 * all_floor, all / all_floor);
}

static void listen(void *context, uint32_t tensor) {}

/* Seconds of a micro-batch in the midst of a step; `one_by_one`: its operations are not made a graph. */
static double micro_batch(struct model *model, const struct test_batch *t, bool one_by_one) {
        enum { MICRO = 8 };
        struct model_pass pass = helper_pass(&t->batch, true);
        uint64_t begin = 0;

        pass.ready = one_by_one ? listen : NULL;
        model_zero_gradients(model);
        for (int i = -1; i < MICRO; i++) {
                model_forward_backward(model, &t->batch, &pass, NULL);
                if (i >= 0)
                        continue;
                wait_for_backend();
                begin = clock_monotonic_usec();
        }
        wait_for_backend();
        return (double) (clock_monotonic_usec() - begin) / 1e6 / MICRO;
}

static const struct spec_optimizer adam = {
        .name = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-6, .weight_decay = 0.01, .layer_decay = 1
};

static int run(const char *path, uint32_t length, uint32_t samples, const char *precision) {
        struct model_config config;
        struct error error = {};
        char title[256];

        if (config_load(path, &config, &error) < 0)
                return error_report(&error);
        real = real ? real : ops_cpu();
        flag = real->allocate(64);
        double memory = bandwidth(), product = real->host_memory ? cpu_peak(9, now) : real->peak_flops();
        struct ops table = timed_table();
        struct test_batch *t = helper_batch(config.vocab_size, samples, length, 0, false);
        struct model *model = helper_model(&config, &table, &t->batch);
        struct model_pass pass = helper_pass(&t->batch, true);
        model_init(model, 1);
        n_rows = 0;
        model_zero_gradients(model);
        model_forward_backward(model, &t->batch, &pass, NULL);
        (void) optimizer_gradient_norm(model);
        optimizer_update(model, real->update ? &helper_lamb : &adam, 1e-4, 1, 1);
        (void) snprintf(title, sizeof(title), "%s, %u samples of %u tokens, %s",
                        strrchr(path, '/') ? strrchr(path, '/') + 1 : path, samples, length,
                        precision ? precision : "CPU, fp32");
        report(title, memory, product);
        model->ops = real;
        if (real->begin_graph)
                (void) printf("A micro-batch amid a step: %.3f ms one by one, %.3f ms as a graph.\n\n",
                              1e3 * micro_batch(model, t, true), 1e3 * micro_batch(model, t, false));
        model_free(model);
        free(t);
        return 0;
}

int main(int argc, char **argv) {
        static const char *const names[CUDA_PRECISION_MAX] = { "fp32", "tf32", "bf16", "fp16" };
        const struct cuda_module *module = NULL;
        char text[CUDA_TEXT_MAX];

        (void) setvbuf(stdout, NULL, _IOLBF, 0); /* a report that is cut off is one, too */
        if (argc != 4 && argc != 5) {
                (void) fprintf(stderr, "usage: bench_ops CONFIG.json LENGTH SAMPLES [fp32|tf32|bf16|fp16]\n");
                return 2;
        }
        for (int p = 0; argc == 5 && p < CUDA_PRECISION_MAX; p++) {
                if (strcmp(argv[4], names[p]) != 0)
                        continue;
                module = module_load();
                if (!module || module->open((enum cuda_precision) p, 0, &real, text, sizeof(text)) < 0)
                        return fprintf(stderr, "bench_ops: %s\n", module ? text : "no module") < 0 ? 1 : SKIPPED;
        }
        if (argc == 5 && !module)
                return fprintf(stderr, "bench_ops: no precision '%s'\n", argv[4]) < 0 ? 1 : 2;
        int r = run(argv[1], (uint32_t) strtoul(argv[2], NULL, 10), (uint32_t) strtoul(argv[3], NULL, 10),
                    argc == 5 ? argv[4] : NULL);
        if (module) {
                module_print_ways(module);
                module->close();
        }
        return r;
}
