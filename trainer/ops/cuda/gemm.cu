/*
 * cuBLASLt. Its matrices are column-major, so a row-major (r, c) is its (c, r): D = A · B is asked for as Dᵀ = Bᵀ · Aᵀ, and a
 * bias over our columns is one over its rows, as its epilogue wants.
 *
 * Algorithms come from the heuristic alone (T11), one for each shape, layout, alignment and epilogue, and are kept with their
 * descriptions: lengths of micro-batches repeat. None adds parts of a sum in 16 bits. What the library refuses, by its heuristic or when it
 * is asked for it, is the caller's to do otherwise; that it refused what its heuristic had found is counted.
 */
#include "trainer/ops/cuda/backend.h"

#include <cublasLt.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifndef PEAK_SIZE
#define PEAK_SIZE 8192 /* of the product that measures the peak; a test's is smaller */
#endif

namespace {
constexpr unsigned PLANS =
        16384; /* a power of two: a dozen products for each length of a micro-batch, hundreds of lengths at 512 */
constexpr int PEAK_REPEATS = 10;
} // namespace

/* What an algorithm depends on; compared byte by byte, so made from zeroes. */
struct key {
        uint32_t m, n, k, lda, ldb, ldd, ld_saved;
        uint8_t input, output, transpose_a, transpose_b, add, epilogue, align_a, align_b, align_d, align_bias,
                align_saved;
        uint8_t unused;
};

/* The library's descriptions of one product. */
struct description {
        cublasLtMatmulDesc_t operation;
        cublasLtMatrixLayout_t a, b, d;
};

struct plan {
        struct key key;
        bool used, found; /* found: cuBLASLt has an algorithm */
        cublasLtMatmulAlgo_t algorithm;
        struct description description;
};

static struct {
        cublasLtHandle_t handle;
        void *workspace;
        struct plan plans[PLANS];
        unsigned n_plans;
        char version[32];
} gemm;

const char *gemm_version(void) { return gemm.version; }

static cudaDataType_t type_of(enum dtype dtype) {
        return dtype == DTYPE_BF16 ? CUDA_R_16BF : dtype == DTYPE_FP16 ? CUDA_R_16F : CUDA_R_32F;
}

/* log2 of the greatest power of two, at most 256, that divides an address. */
static uint8_t alignment_of(const void *p) {
        uint8_t log = 0;

        while (log < 8 && !((uintptr_t) p >> log & 1))
                log++;
        return log;
}

static struct key key_of(const struct gemm *g) {
        struct key key;

        memset(&key, 0, sizeof(key));
        key.m = g->d.rows;
        key.n = g->d.columns;
        key.k = g->transpose_a ? g->a.rows : g->a.columns;
        key.lda = g->a.stride;
        key.ldb = g->b.stride;
        key.ldd = g->d.stride;
        key.ld_saved = g->epilogue == GEMM_PLAIN ? 0 : g->saved_stride;
        key.input = (uint8_t) g->a.dtype;
        key.output = (uint8_t) g->d.dtype;
        key.transpose_a = g->transpose_a;
        key.transpose_b = g->transpose_b;
        key.add = g->add;
        key.epilogue = (uint8_t) g->epilogue;
        key.align_a = alignment_of(g->a.data);
        key.align_b = alignment_of(g->b.data);
        key.align_d = alignment_of(g->d.data);
        key.align_bias = g->epilogue == GEMM_PLAIN ? 0 : alignment_of(g->bias);
        key.align_saved = g->epilogue == GEMM_PLAIN ? 0 : alignment_of(g->saved);
        return key;
}

static void forget(struct description *d) {
        if (d->operation)
                (void) cublasLtMatmulDescDestroy(d->operation);
        if (d->a)
                (void) cublasLtMatrixLayoutDestroy(d->a);
        if (d->b)
                (void) cublasLtMatrixLayoutDestroy(d->b);
        if (d->d)
                (void) cublasLtMatrixLayoutDestroy(d->d);
}

template <class V>
static bool set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name, const V &value) {
        return cublasLtMatmulDescSetAttribute(operation, name, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
}

/* What differs from one use of a plan to the next. */
static bool set_pointers(const struct gemm *g, cublasLtMatmulDesc_t operation) {
        bool ok = true;

        if (g->epilogue == GEMM_BIAS || g->epilogue == GEMM_BIAS_GELU_NEW)
                ok = set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g->bias);
        if (g->epilogue == GEMM_BIAS_GELU_NEW || g->epilogue == GEMM_DGELU_NEW)
                ok = ok && set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, g->saved);
        return ok;
}

static bool describe_epilogue(const struct gemm *g, cublasLtMatmulDesc_t operation) {
        static const cublasLtEpilogue_t epilogues[GEMM_EPILOGUE_MAX] = { CUBLASLT_EPILOGUE_DEFAULT,
                                                                         CUBLASLT_EPILOGUE_BIAS,
                                                                         CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                                                                         CUBLASLT_EPILOGUE_DGELU };
        cublasLtEpilogue_t epilogue = epilogues[g->epilogue];
        bool ok = set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) && set_pointers(g, operation);

        if (g->epilogue == GEMM_BIAS_GELU_NEW || g->epilogue == GEMM_DGELU_NEW) {
                int64_t ld = g->saved_stride;
                ok = ok && set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
        }
        return ok;
}

static bool new_layout(cublasLtMatrixLayout_t *ret, struct tensor t) {
        return cublasLtMatrixLayoutCreate(ret, type_of(t.dtype), t.columns, t.rows, t.stride) == CUBLAS_STATUS_SUCCESS;
}

/* The library's A is our B, and the other way round. */
static bool describe(const struct gemm *g, struct description *d) {
        cublasComputeType_t compute =
                cuda_backend.precision == CUDA_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
        cublasOperation_t first = g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                          second = g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;

        return cublasLtMatmulDescCreate(&d->operation, compute, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
               set(d->operation, CUBLASLT_MATMUL_DESC_TRANSA, first) &&
               set(d->operation, CUBLASLT_MATMUL_DESC_TRANSB, second) && describe_epilogue(g, d->operation) &&
               new_layout(&d->a, g->b) && new_layout(&d->b, g->a) && new_layout(&d->d, g->d);
}

static bool prefer(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name, uint32_t value) {
        return cublasLtMatmulPreferenceSetAttribute(p, name, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
}

static bool find_algorithm(const struct description *d, const struct key *key, cublasLtMatmulAlgo_t *ret) {
        cublasLtMatmulPreference_t preference = NULL;
        cublasLtMatmulHeuristicResult_t result;
        size_t workspace = CUDA_PRODUCT_BYTES;
        int n = 0;

        if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
                return false;
        bool ok = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                       sizeof(workspace)) == CUBLAS_STATUS_SUCCESS &&
                  prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                         CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) &&
                  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 1u << key->align_b) &&
                  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 1u << key->align_a) &&
                  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 1u << key->align_d) &&
                  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 1u << key->align_d) &&
                  cublasLtMatmulAlgoGetHeuristic(gemm.handle, d->operation, d->a, d->b, d->d, d->d, preference, 1,
                                                 &result, &n) == CUBLAS_STATUS_SUCCESS &&
                  n > 0 && result.state == CUBLAS_STATUS_SUCCESS;
        (void) cublasLtMatmulPreferenceDestroy(preference);
        if (ok)
                *ret = result.algo;
        return ok;
}

static void forget_plans(void) {
        for (struct plan &plan : gemm.plans)
                forget(&plan.description);
        memset(gemm.plans, 0, sizeof(gemm.plans));
        gemm.n_plans = 0;
}

/* Its place in the table, which is emptied when it is three quarters full. */
static struct plan *plan_of(const struct key *key) {
        uint32_t hash = 2166136261u;

        for (size_t i = 0; i < sizeof(*key); i++)
                hash = (hash ^ ((const uint8_t *) key)[i]) * 16777619u;
        if (gemm.n_plans >= PLANS / 4 * 3)
                forget_plans();
        struct plan *p;
        for (uint32_t i = hash;; i++) {
                p = &gemm.plans[i % PLANS];
                if (!p->used || memcmp(&p->key, key, sizeof(*key)) == 0)
                        return p;
        }
}

static bool is_aligned(const void *p) { return (uintptr_t) p % 16 == 0; }

/* What an epilogue asks for beside the product, and the heuristic does not look at. */
static bool may_have_epilogue(const struct gemm *g) {
        bool gelu = g->epilogue == GEMM_BIAS_GELU_NEW || g->epilogue == GEMM_DGELU_NEW;

        if (gelu && (g->saved_stride % 8 != 0 || !is_aligned(g->saved) || !is_aligned(g->d.data)))
                return false;
        return g->epilogue == GEMM_PLAIN || is_aligned(g->bias);
}

/* "STATUS: which product", for people who look the status up. */
static void describe_failure(const struct gemm *g, cublasStatus_t status, char *text, size_t size) {
        static const char *const types[DTYPE_MAX] = { "fp32", "fp64", "bf16", "fp16" };
        static const char *const epilogues[GEMM_EPILOGUE_MAX] = { "plain", "bias", "bias and GELU",
                                                                  "GELU's derivative" };

        snprintf(text, size, "%s: (%u, %u, %u), %s%s times %s%s%s %s, rows of %u, %u and %u, %s",
                 cublasLtGetStatusString(status), g->d.rows, g->d.columns, g->transpose_a ? g->a.rows : g->a.columns,
                 types[g->a.dtype], g->transpose_a ? " transposed" : "", types[g->b.dtype],
                 g->transpose_b ? " transposed" : "", g->add ? ", added to" : " to", types[g->d.dtype], g->a.stride,
                 g->b.stride, g->d.stride, epilogues[g->epilogue]);
}

static void refuse(struct plan *plan, const struct gemm *g, cublasStatus_t status) {
        struct cuda_counts *counts = &cuda_backend.counts;

        plan->found = false;
        if (counts->refused_products++ == 0)
                describe_failure(g, status, counts->refusal, sizeof(counts->refusal));
}

/* Whether what was asked for is done, or something broke. */
static bool run_plan(struct plan *plan, const struct gemm *g) {
        const float one = 1, zero = 0;
        const struct description *d = &plan->description;
        char text[CUDA_TEXT_MAX];
        cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;

        if (set_pointers(g, d->operation))
                status = cublasLtMatmul(gemm.handle, d->operation, &one, g->b.data, d->a, g->a.data, d->b,
                                        g->add ? &one : &zero, g->d.data, d->d, g->d.data, d->d, &plan->algorithm,
                                        gemm.workspace, CUDA_PRODUCT_BYTES, cuda_backend.stream);
        if (status == CUBLAS_STATUS_SUCCESS)
                return true;
        if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
                refuse(plan, g, status); /* nothing was launched */
                return false;
        }
        describe_failure(g, status, text, sizeof(text));
        cuda_fail("cuBLASLt", text);
        return true;
}

bool gemm_run(const struct gemm *g) {
        struct key key = key_of(g);
        struct plan *plan = plan_of(&key);

        if (!cuda_works())
                return true;
        if (!plan->used) {
                plan->key = key;
                plan->used = true;
                plan->found = may_have_epilogue(g) && describe(g, &plan->description) &&
                              find_algorithm(&plan->description, &key, &plan->algorithm);
                gemm.n_plans++;
        }
        return plan->found && run_plan(plan, g);
}

int gemm_open(char *text, size_t size) {
        cublasStatus_t r = cublasLtCreate(&gemm.handle);

        if (r != CUBLAS_STATUS_SUCCESS) {
                snprintf(text, size, "cuBLASLt cannot be started: %s", cublasLtGetStatusString(r));
                return -ENODEV;
        }
        if (cudaMalloc(&gemm.workspace, CUDA_PRODUCT_BYTES) != cudaSuccess) {
                snprintf(text, size, "no memory for cuBLASLt");
                return -ENOMEM;
        }
        snprintf(gemm.version, sizeof(gemm.version), "cublasLt %zu", cublasLtGetVersion());
        return 0;
}

void gemm_close(void) {
        forget_plans();
        if (gemm.workspace)
                (void) cudaFree(gemm.workspace);
        if (gemm.handle)
                (void) cublasLtDestroy(gemm.handle);
        memset(&gemm, 0, sizeof(gemm));
}

/* Milliseconds of a square product, the mean of a few after one that warms up; 0 where it cannot be run. */
static float time_product(const struct gemm *g) {
        cudaEvent_t begin = NULL, end = NULL;
        float milliseconds = 0;

        if (cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess && gemm_run(g)) {
                (void) cudaEventRecord(begin, cuda_backend.stream);
                for (int i = 0; i < PEAK_REPEATS; i++)
                        (void) gemm_run(g);
                (void) cudaEventRecord(end, cuda_backend.stream);
                if (cudaEventSynchronize(end) != cudaSuccess ||
                    cudaEventElapsedTime(&milliseconds, begin, end) != cudaSuccess)
                        milliseconds = 0;
        }
        if (begin)
                (void) cudaEventDestroy(begin);
        if (end)
                (void) cudaEventDestroy(end);
        return milliseconds / PEAK_REPEATS;
}

/* Numbers from 1/2 to 2 of either sign, all bits of which but the exponent's are random: of zeros, for which a GPU draws less power, a product
 * is an eighth faster than any of a run's. The piece that repeats is not a whole number of rows. */
static void fill_randomly(char *data, enum dtype dtype, size_t size) {
        uint32_t piece[16381];
        const uint32_t taken = dtype == DTYPE_BF16   ? 0x80ff80ffu
                               : dtype == DTYPE_FP16 ? 0x87ff87ffu
                                                     : 0x80ffffffu,
                       set = dtype == DTYPE_BF16   ? 0x3f003f00u
                             : dtype == DTYPE_FP16 ? 0x38003800u
                                                   : 0x3f000000u;

        for (uint32_t i = 0; i < sizeof(piece) / sizeof(*piece); i++)
                piece[i] = (philox(1, i / 4, 0, 0).v[i % 4] & taken) | set;
        size_t done = size < sizeof(piece) ? size : sizeof(piece);
        cuda_upload(data, piece, done);
        for (; done < size; done *= 2)
                cuda_copy(data + done, data, size - done < done ? size - done : done);
}

double gemm_peak_flops(void) {
        enum dtype dtype = cuda_backend.precision == CUDA_BF16   ? DTYPE_BF16
                           : cuda_backend.precision == CUDA_FP16 ? DTYPE_FP16
                                                                 : DTYPE_FP32;
        size_t bytes = (size_t) PEAK_SIZE * PEAK_SIZE * dtype_size(dtype);
        char *data = (char *) cuda_allocate(3 * bytes);
        struct gemm g = {};
        float milliseconds = 0;

        if (!data)
                return 0;
        g.a = { data, dtype, PEAK_SIZE, PEAK_SIZE, PEAK_SIZE };
        g.b = { data + bytes, dtype, PEAK_SIZE, PEAK_SIZE, PEAK_SIZE };
        g.d = { data + 2 * bytes, dtype, PEAK_SIZE, PEAK_SIZE, PEAK_SIZE };
        g.transpose_b = true;
        fill_randomly(data, dtype, 2 * bytes);
        milliseconds = time_product(&g);
        cuda_release(data, 3 * bytes);
        return milliseconds > 0 ? 2.0 * PEAK_SIZE * PEAK_SIZE * PEAK_SIZE / (milliseconds * 1e-3) : 0;
}
