/*
 * What the module makes of a GPU that fails: every call of the runtime, cuBLASLt and NCCL fails in turn, from each
 * place that calls it in a small run (emulation/fail.h), as tests/fault/sweep does it to malloc and write. A run then
 * ends as it would have, by another way, or says which call failed; it never goes on with other numbers. Also what no
 * status shows: a rank that died, kinds of graphs, who is first of several threads.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "tests/gpu/module.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"

enum { UPDATES = 2, MICRO = 2 };

void emulated_set_busy(bool busy);
void emulated_break_as(const char *text);
void emulated_count_products(uint64_t *n, uint64_t *odd, uint64_t *flat);

struct outcome {
        bool ended;      /* else `text` says what broke */
        char text[1024]; /* of open, of what had no memory, or of the backend */
        struct cuda_counts counts;
        uint64_t hash;
        double loss;
};

static void train(struct model *model, struct test_batch *const t[MICRO], struct outcome *ret) {
        const struct ops *ops = model->ops;
        const struct model_state *state = model_state(model);
        struct model_pass pass = helper_pass(&t[0]->batch, true);
        struct model_loss loss = {};

        model_init(model, 11);
        for (uint64_t update = 1; update <= UPDATES; update++) {
                model_zero_gradients(model);
                for (uint32_t i = 0; i < MICRO; i++)
                        model_forward_backward(model, &t[i]->batch, &pass, NULL);
                if (ops->collective) {
                        ops->collective->sum(state->gradients, state->n_elements);
                        ops->collective->finish();
                }
                model_take_loss(model, &loss);
                optimizer_update(model, &helper_lamb, 1e-2, update, fmin(1, 1 / optimizer_gradient_norm(model)));
        }
        float *copy = ops->allocate_host(state->run_bytes);
        ops->mark();
        if (copy && ops->fetch(copy, state->parameters, state->run_bytes))
                ret->loss = loss.mlm_sum + copy[0];
        else
                (void) snprintf(ret->text, sizeof(ret->text), "no copy");
        ops->release_host(copy, state->run_bytes);
        ret->hash = state_hash(state);
        if (model_failed(model))
                (void) snprintf(ret->text, sizeof(ret->text), "%s", model_failed(model));
}

/* One rank that sums over itself, so that NCCL's calls fail, too. */
static int start_collective(const struct ops *ops, char *text, size_t size) {
        char id[OPS_COLLECTIVE_ID_BYTES];

        int r = ops->collective->prepare(text, size);
        if (r >= 0)
                r = ops->collective->make_id(id, text, size);
        return r < 0 ? r : ops->collective->start(id, 0, 1, text, size);
}

static struct outcome run(enum cuda_precision precision) {
        struct model_config config = helper_config(40, 32, 1, 1, 32, 0.1);
        struct test_batch *t[MICRO];
        struct model_limits limits = { 64, 4, 16, 16, true, false, false };
        struct outcome o = {};
        struct error error = {};
        struct model *model = NULL;
        const struct ops *ops;

        for (uint32_t i = 0; i < MICRO; i++)
                t[i] = helper_batch(config.vocab_size, 1 + i, 9, 1000 + i, true);
        if (module_load()->open(precision, 0, &ops, o.text, sizeof(o.text)) >= 0) {
                (void) ops->location(); /* what fails there has no consequences */
                if (start_collective(ops, o.text, sizeof(o.text)) >= 0) {
                        if (model_new(&config, ops, &limits, &model, &error) >= 0)
                                train(model, t, &o);
                        else
                                (void) snprintf(o.text, sizeof(o.text), "%s", error.text);
                        model_free(model);
                }
                ops->collective->stop();
                o.counts = *module_load()->counts();
                module_load()->close();
        }
        for (uint32_t i = 0; i < MICRO; i++)
                free(t[i]);
        o.ended = !o.text[0];
        return o;
}

/* The call at `place` (fail.h) fails with this status. False: it never came to that. */
static bool run_failing(const char *call, const char *place, int status, enum cuda_precision precision,
                        struct outcome *ret) {
        char spec[64];

        (void) snprintf(spec, sizeof(spec), "%s:%s:%d", call, place, status);
        (void) unsetenv("EMULATED_FAILED");
        (void) setenv("EMULATED_FAIL", spec, 1);
        *ret = run(precision);
        (void) unsetenv("EMULATED_FAIL");
        return getenv("EMULATED_FAILED");
}

static const struct {
        const char *call;
        int statuses[4];
} calls[] = {
        { "cudaGetDeviceCount", { 3, 35, 100 } },
        { "cudaGetDeviceProperties", { 1 } },
        { "cudaSetDevice", { 1, 719 } },
        { "cudaDeviceGetPCIBusId", { 1 } },
        { "cudaMalloc", { 2, 719 } },
        { "cudaHostAlloc", { 2 } },
        { "cudaPointerGetAttributes", { 1 } },
        { "cudaMemcpyAsync", { 1, 719 } },
        { "cudaMemsetAsync", { 1, 719 } },
        { "cudaMemGetInfo", { 1 } },
        { "cudaStreamCreateWithFlags", { 2 } },
        { "cudaStreamWaitEvent", { 1, 719 } },
        { "cudaStreamSynchronize", { 719 } },
        { "cudaStreamQuery", { 1, 719 } },
        { "cudaEventCreate", { 2 } },
        { "cudaEventRecord", { 1, 719 } },
        { "cudaEventRecordWithFlags", { 1, 719 } },
        { "cudaEventSynchronize", { 719 } },
        { "cudaEventElapsedTime", { 1 } },
        { "cudaFuncSetAttribute", { 1 } },
        { "launch", { 1, 719 } },
        { "cudaStreamBeginCapture", { 901 } },
        { "cudaStreamEndCapture", { 901, 719 } },
        { "cudaGraphGetNodes", { 1 } },
        { "cudaGraphInstantiate", { 2 } },
        { "cudaGraphExecUpdate", { 910, 719 } },
        { "cudaGraphLaunch", { 1, 719 } },
        { "cublasLtCreate", { 1, 3 } },
        { "cublasLtMatmulDescCreate", { 3 } },
        { "cublasLtMatmulDescSetAttribute", { 7 } },
        { "cublasLtMatrixLayoutCreate", { 3 } },
        { "cublasLtMatmulPreferenceCreate", { 3 } },
        { "cublasLtMatmulPreferenceSetAttribute", { 7 } },
        { "cublasLtMatmulAlgoGetHeuristic", { 7, 15 } },
        { "cublasLtMatmul", { 7, 13, 14, 15 } },
        { "ncclGetUniqueId", { 2 } },
        { "ncclCommInitRank", { 2 } },
        { "ncclAllReduce", { 2, 6 } },
};

static bool is_close_to(const struct outcome *o, const struct outcome *as) {
        return fabs(o->loss - as->loss) <= 5e-3 * fabs(as->loss);
}

/* Products that cuBLASLt does not do are done otherwise: rounded elsewhere, so with other bits. Returns whether it
 * failed. */
static bool check_place(const char *call, const char *place, int status, const struct outcome *whole, unsigned *said) {
        bool product = strncmp(call, "cublasLt", 8) == 0;
        struct outcome o;

        if (!run_failing(call, place, status, CUDA_BF16, &o))
                return false;
        *said += !o.ended;
        if (o.ended && o.hash != whole->hash && !(product && is_close_to(&o, whole)))
                fail_msg("%s, call %s, status %d: it ended with other numbers: %g, not %g", call, place, status, o.loss,
                         whole->loss);
        return true;
}

static unsigned counted(const char *what, const char *call) {
        char name[64];

        (void) snprintf(name, sizeof(name), "EMULATED_%s_%s", what, call);
        const char *n = getenv(name);
        return n ? (unsigned) strtoul(n, NULL, 10) : 0;
}

/* The first call from each place, and one that a graph has; with another status than the first, three places do. */
static unsigned check_call(size_t i, const struct outcome *whole) {
        const char *call = calls[i].call;
        unsigned places = counted("PLACES", call), all = counted("CALLS", call), failed = 0, said = 0;
        char place[16];

        for (unsigned s = 0; s < ELEMENTSOF(calls[i].statuses) && calls[i].statuses[s]; s++) {
                for (unsigned n = 1; n <= places && (s == 0 || n <= 3); n++) {
                        (void) snprintf(place, sizeof(place), "@%u", n);
                        failed += check_place(call, place, calls[i].statuses[s], whole, &said);
                }
                (void) snprintf(place, sizeof(place), "%u", all - all / 4);
                failed += all > 4 && check_place(call, place, calls[i].statuses[s], whole, &said);
        }
        (void) printf("%-36s %4u calls from %2u places, failed %2u times: said %2u times\n", call, all, places, failed,
                      said);
        return failed;
}

/* Calls of long copies and whole runs, not of this one. */
static bool is_elsewhere(const char *call) {
        static const char *const names[] = { "cudaPointerGetAttributes", "cudaMemGetInfo", "cudaEventElapsedTime" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(names[i], call) == 0)
                        return true;
        return false;
}

static void test_every_call(void **state) {
        const struct outcome whole = run(CUDA_BF16);
        (void) setenv("EMULATED_FAIL", "count", 1);
        const struct outcome again = run(CUDA_BF16);

        (void) unsetenv("EMULATED_FAIL");
        assert_string_equal(whole.text, "");
        assert_true(isfinite(whole.loss));
        assert_true(whole.hash == again.hash);
        assert_int_equal(whole.counts.refused_products, 0);
        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                assert_true(check_call(i, &whole) > 0 || is_elsewhere(calls[i].call));
}

/* Refused though the heuristic had found it: done by the module's own kernel, counted, and said. */
static void test_refused_product(void **state) {
        struct outcome o, whole = run(CUDA_BF16);

        assert_true(run_failing("cublasLtMatmul", "1", 15, CUDA_BF16, &o));
        assert_true(o.ended && is_close_to(&o, &whole));
        assert_int_equal(o.counts.refused_products, 1);
        assert_string_equal(o.counts.refusal, "emulated status 15: (9, 96, 32), bf16 times bf16 transposed to bf16, "
                                              "rows of 32, 32 and 96, bias");
}

/* It broke: the status, which product, and nothing else after it. */
static void test_broken_product(void **state) {
        struct outcome o;

        assert_true(run_failing("cublasLtMatmul", "1", 13, CUDA_BF16, &o));
        assert_string_equal(o.text, "CUDA: cuBLASLt: emulated status 13: (9, 96, 32), bf16 times bf16 transposed to "
                                    "bf16, rows of 32, 32 and 96, bias");
        assert_int_equal(o.counts.refused_products, 0);
}

/* The device waits for a rank that does not come: the host learns it of NCCL. */
static void test_dead_rank(void **state) {
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];
        float x[4];

        assert_int_equal(module_load()->open(CUDA_FP32, 0, &ops, text, sizeof(text)), 0);
        assert_int_equal(start_collective(ops, text, sizeof(text)), 0);
        void *data = ops->allocate(sizeof(x));
        ops->collective->sum(data, 4);
        ops->collective->finish();
        emulated_set_busy(true);
        (void) setenv("EMULATED_FAIL", "ncclCommGetAsyncError:3:6", 1);
        ops->download(x, data, sizeof(x));
        (void) unsetenv("EMULATED_FAIL");
        emulated_set_busy(false);
        assert_non_null(ops->failed());
        assert_string_equal(ops->failed(), "CUDA: NCCL: emulated result 6");
        assert_true(isnan(x[0]));
        ops->release(data, sizeof(x));
        ops->collective->stop();
        module_load()->close();
}

/* More than all slots hold, to memory of either kind. */
static void test_large_download(void **state) {
        const size_t size = ((size_t) 33 << 20) + 12345;
        cleanup_free char *from = malloc(size), *to = malloc(size);
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];

        assert_int_equal(module_load()->open(CUDA_FP32, 0, &ops, text, sizeof(text)), 0);
        for (size_t i = 0; i < size; i++)
                from[i] = (char) (i * 2654435761u >> 13);
        void *data = ops->allocate(size);
        char *pinned = ops->allocate_host(size);
        ops->upload(data, from, size);
        ops->download(to, data, size);
        assert_memory_equal(from, to, size);
        ops->download(pinned, data, size);
        assert_memory_equal(from, pinned, size);
        assert_null(ops->failed());
        ops->release_host(pinned, size);
        ops->release(data, size);
        module_load()->close();
}

/* Micro-batches of two kinds in turn, whose products are other kernels though there are as many: each kind keeps its
 * graph. */
static void test_kinds_of_graphs(void **state) {
        struct model_config config = helper_config(40, 32, 1, 1, 32, 0.1);
        struct test_batch *t[2] = { helper_batch(40, 6, 30, 0, false), helper_batch(40, 2, 30, 0, false) };
        struct model_pass pass = helper_pass(&t[0]->batch, true);
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];

        assert_int_equal(module_load()->open(CUDA_BF16, 0, &ops, text, sizeof(text)), 0);
        struct model *model = helper_model(&config, ops, &t[0]->batch);
        model_init(model, 11);
        model_zero_gradients(model);
        for (int i = 0; i < 9; i++)
                model_forward_backward(model, &t[i % 2]->batch, &pass, NULL);
        assert_null(model_failed(model));
        assert_int_equal(module_load()->counts()->graphs, 8);
        assert_int_equal(module_load()->counts()->graphs_made, 2);
        model_free(model);
        module_load()->close();
        free(t[0]);
        free(t[1]);
}

/* The product that MFU is held against is one of numbers, as a run's are. */
static void test_peak(void **state) {
        uint64_t before, n, odd, flat_before, flat;
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];

        for (enum cuda_precision p = CUDA_FP32; p < CUDA_PRECISION_MAX; p++) {
                assert_int_equal(module_load()->open(p, 0, &ops, text, sizeof(text)), 0);
                emulated_count_products(&before, &odd, &flat_before);
                assert_true(ops->peak_flops() > 0);
                emulated_count_products(&n, &odd, &flat);
                assert_true(n > before);
                assert_true(flat == flat_before);
                assert_null(ops->failed());
                module_load()->close();
        }
}

/* A V100: no bf16, no tf32, and attention on plain cores. */
static void test_old_gpu(void **state) {
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];

        (void) setenv("EMULATED_SM", "70", 1);
        assert_int_equal(module_load()->open(CUDA_BF16, 0, &ops, text, sizeof(text)), -ENOSYS);
        assert_string_equal(text,
                            "train.precision: bf16 needs compute capability 8.0, emulated has 7.0; use fp16 there");
        assert_int_equal(module_load()->open(CUDA_TF32, 0, &ops, text, sizeof(text)), -ENOSYS);
        struct outcome half = run(CUDA_FP16), single = run(CUDA_FP32);
        (void) unsetenv("EMULATED_SM");
        struct outcome later = run(CUDA_FP16);
        assert_true(half.ended && single.ended && later.ended);
        assert_true(half.counts.plain_attentions > 0 && half.counts.mma_attentions == 0);
        assert_true(later.counts.plain_attentions == 0 && later.counts.mma_attentions > 0);
        assert_true(is_close_to(&half, &single) && is_close_to(&half, &later));
}

static void *break_it(void *text) {
        emulated_break_as(text);
        return NULL;
}

static void test_first_of_threads(void **state) {
        enum { THREADS = 8 };
        char texts[THREADS][200];
        pthread_t threads[THREADS];
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];
        bool found = false;

        assert_int_equal(module_load()->open(CUDA_FP32, 0, &ops, text, sizeof(text)), 0);
        for (int i = 0; i < THREADS; i++) {
                memset(texts[i], 'a' + i, sizeof(texts[i]) - 1);
                texts[i][sizeof(texts[i]) - 1] = '\0';
                assert_int_equal(pthread_create(&threads[i], NULL, break_it, texts[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
                (void) pthread_join(threads[i], NULL);
        for (int i = 0; i < THREADS; i++)
                found = found || strcmp(ops->failed() + strlen("CUDA: emulation: "), texts[i]) == 0;
        assert_true(found);
        module_load()->close();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_call),     cmocka_unit_test(test_refused_product),
                cmocka_unit_test(test_broken_product), cmocka_unit_test(test_dead_rank),
                cmocka_unit_test(test_large_download), cmocka_unit_test(test_kinds_of_graphs),
                cmocka_unit_test(test_peak),           cmocka_unit_test(test_first_of_threads),
                cmocka_unit_test(test_old_gpu),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
