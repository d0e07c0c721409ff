/*
 * See cublasLt.h. Its heuristic has no algorithm for small products, so the module's own kernels are tried too;
 * products of many rows come of another kernel, whose node in a graph takes no other's place, as Hopper's clusters do;
 * its GELU has the error of the GPU's tanh.approx; and where the caller lets it, sums of parts are added in the type of
 * D.
 */
#include "trainer/ops/cuda/kernels.cuh"

#include <cublasLt.h>

#include <vector>

#define SMALLEST 8
#define CLUSTERED 96 /* columns of D, so rows of ours, from which on another kernel has it */
#define PARTS 4

struct emulated_lt {
        char unused;
};
struct emulated_layout {
        cudaDataType_t type;
        uint64_t rows, columns;
        int64_t ld;
};
struct emulated_operation {
        cublasOperation_t a, b;
        cublasLtEpilogue_t epilogue;
        void *bias, *saved;
        int64_t saved_ld;
};
struct emulated_preference {
        uint32_t scheme, alignment[4]; /* of A, B, C, D */
        size_t workspace;
};
/* One product, with all that its caller may change afterwards. */
struct product {
        struct emulated_operation operation;
        struct emulated_layout la, lb, ld;
        const void *a, *b;
        void *d;
        float beta;
        bool by_parts;
};

#define LT_CALL(call)                                    \
        do {                                             \
                if (int status_ = emulated_fails(#call)) \
                        return (cublasStatus_t) status_; \
        } while (0)

const char *cublasLtGetStatusString(cublasStatus_t status) {
        static char text[48];

        (void) snprintf(text, sizeof(text), "emulated status %d", (int) status);
        return text;
}
size_t cublasLtGetVersion(void) { return 0; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *ret) {
        LT_CALL(cublasLtCreate);
        return *ret = new emulated_lt {}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return delete handle, CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *ret, cublasComputeType_t, cudaDataType_t) {
        LT_CALL(cublasLtMatmulDescCreate);
        *ret = new emulated_operation {};
        (*ret)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
        return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return delete d, CUBLAS_STATUS_SUCCESS; }

template <class V> static cublasStatus_t take(V *to, const void *value, size_t size) {
        if (size != sizeof(V))
                return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(to, value, size);
        return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t size) {
        LT_CALL(cublasLtMatmulDescSetAttribute);
        switch (name) {
        case CUBLASLT_MATMUL_DESC_TRANSA:
                return take(&d->a, value, size);
        case CUBLASLT_MATMUL_DESC_TRANSB:
                return take(&d->b, value, size);
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
                return take(&d->epilogue, value, size);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
                return take(&d->bias, value, size);
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
                return take(&d->saved, value, size);
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
                return take(&d->saved_ld, value, size);
        }
        return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *ret, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
        LT_CALL(cublasLtMatrixLayoutCreate);
        if (ld < (int64_t) rows)
                return CUBLAS_STATUS_INVALID_VALUE;
        return *ret = new emulated_layout { type, rows, columns, ld }, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
        return delete layout, CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *ret) {
        LT_CALL(cublasLtMatmulPreferenceCreate);
        return *ret = new emulated_preference { 7, { 256, 256, 256, 256 }, 0 }, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { return delete p, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t size) {
        LT_CALL(cublasLtMatmulPreferenceSetAttribute);
        if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
                return take(&p->workspace, value, size);
        if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
                return take(&p->scheme, value, size);
        return take(&p->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, size);
}

static size_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }
static bool has_gelu(const struct emulated_operation *o) {
        return o->epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || o->epilogue == CUBLASLT_EPILOGUE_DGELU;
}

/* What cublasLt.h and the library's own texts refuse. */
static cublasStatus_t check(const struct emulated_operation *o, const struct emulated_layout *la,
                            const struct emulated_layout *lb, const struct emulated_layout *ld) {
        uint64_t m = o->a == CUBLAS_OP_N ? la->rows : la->columns, k = o->a == CUBLAS_OP_N ? la->columns : la->rows,
                 n = o->b == CUBLAS_OP_N ? lb->columns : lb->rows, kb = o->b == CUBLAS_OP_N ? lb->rows : lb->columns;

        if (m != ld->rows || n != ld->columns || k != kb || la->type != lb->type)
                return CUBLAS_STATUS_INVALID_VALUE;
        if (has_gelu(o) && (o->saved_ld % 8 || o->saved_ld < (int64_t) ld->rows || !o->saved))
                return CUBLAS_STATUS_INVALID_VALUE;
        return m < SMALLEST || n < SMALLEST || k < SMALLEST ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t to, cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t *ret, int *n) {
        LT_CALL(cublasLtMatmulAlgoGetHeuristic);
        *n = 0;
        cublasStatus_t status = check(d, a, b, to);
        if (status != CUBLAS_STATUS_SUCCESS)
                return status;
        *n = 1;
        ret->state = CUBLAS_STATUS_SUCCESS;
        memcpy(ret->algo.alignment, preference->alignment, sizeof(ret->algo.alignment));
        ret->algo.by_parts = preference->scheme & CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
        return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ---- */

template <class T>
static std::vector<float> widened(const void *data, const struct emulated_layout &l, bool transposed, uint64_t rows,
                                  uint64_t columns) {
        std::vector<float> x(rows * columns); /* row-major */

        for (uint64_t r = 0; r < rows; r++)
                for (uint64_t c = 0; c < columns; c++)
                        x[r * columns + c] = to_float(
                                ((const T *) data)[transposed ? c + r * (size_t) l.ld : r + c * (size_t) l.ld]);
        return x;
}

/* tanh.approx: 11 bits of it are right. */
static float rough(float x) { return fp16_to(fp16_from(x)); }
static float rough_gelu(float x) { return 0.5f * x * (1 + rough(tanhf(SQRT_2_OVER_PI * (x + 0.044715f * x * x * x)))); }

template <class D> static float finish(const struct emulated_operation &o, uint64_t r, uint64_t c, float sum) {
        D *saved = (D *) o.saved + r + c * (size_t) o.saved_ld;

        if (o.epilogue & CUBLASLT_EPILOGUE_BIAS)
                sum += to_float(((const D *) o.bias)[r]);
        if (o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
                *saved = from_float<D>(sum);
                return rough_gelu(to_float(*saved));
        }
        return o.epilogue == CUBLASLT_EPILOGUE_DGELU ? sum * activate_derivative(ACTIVATION_GELU_NEW, to_float(*saved))
                                                     : sum;
}

template <class D> static float product_of(const float *a, const float *b, size_t stride_b, uint64_t k, bool by_parts) {
        float whole = 0;

        for (uint64_t at = 0; at < k;) {
                uint64_t end = by_parts ? at + (k + PARTS - 1) / PARTS : k;
                float sum = 0;
                for (; at < (end < k ? end : k); at++)
                        sum += a[at] * b[at * stride_b];
                whole = by_parts ? rounded<D>(whole + rounded<D>(sum)) : sum;
        }
        return whole;
}

template <class T, class D> static void multiply(const struct product &p) {
        const struct emulated_operation &o = p.operation;
        uint64_t m = p.ld.rows, n = p.ld.columns, k = o.a == CUBLAS_OP_N ? p.la.columns : p.la.rows;
        std::vector<float> a = widened<T>(p.a, p.la, o.a == CUBLAS_OP_T, m, k),
                           b = widened<T>(p.b, p.lb, o.b == CUBLAS_OP_T, k, n);

        for (uint64_t c = 0; c < n; c++)
                for (uint64_t r = 0; r < m; r++) {
                        D *to = (D *) p.d + r + c * (size_t) p.ld.ld;
                        float sum = product_of<D>(&a[r * k], &b[c], n, k, p.by_parts);
                        *to = from_float<D>(finish<D>(o, r, c, sum) + (p.beta != 0 ? p.beta * to_float(*to) : 0));
                }
}

static void touch_matrix(const void *data, const struct emulated_layout &l, int64_t ld, bool writes) {
        for (uint64_t c = 0; c < l.columns; c++)
                emulated_touch((const char *) data + c * (size_t) ld * size_of(l.type), l.rows * size_of(l.type),
                               writes);
}

/* As if each matrix went once between the memory and the GPU. */
static void watch(const struct product &p) {
        const struct emulated_operation &o = p.operation;

        emulated_watcher->begin("products");
        touch_matrix(p.a, p.la, p.la.ld, false);
        touch_matrix(p.b, p.lb, p.lb.ld, false);
        if (p.beta != 0)
                touch_matrix(p.d, p.ld, p.ld.ld, false);
        touch_matrix(p.d, p.ld, p.ld.ld, true);
        if (has_gelu(&o))
                touch_matrix(o.saved, p.ld, o.saved_ld, o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
}

/* A kernel of its own, as a graph sees it, with and without clusters. */
template <bool CLUSTERS> struct kernel {
        struct product p;

        void operator()(void) const {
                if (emulated_watcher) /* what is in the matrices does not matter then */
                        watch(p);
                else if (p.la.type == CUDA_R_16BF)
                        p.ld.type == CUDA_R_16BF ? multiply<bf16, bf16>(p) : multiply<bf16, float>(p);
                else if (p.la.type == CUDA_R_16F)
                        p.ld.type == CUDA_R_16F ? multiply<fp16, fp16>(p) : multiply<fp16, float>(p);
                else
                        multiply<float, float>(p);
        }
};

static bool is_aligned(const void *p, uint32_t alignment) { return (uintptr_t) p % alignment == 0; }

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t, void *to, cublasLtMatrixLayout_t lto,
                              const cublasLtMatmulAlgo_t *algorithm, void *, size_t, cudaStream_t stream) {
        LT_CALL(cublasLtMatmul);
        cublasStatus_t status = check(d, la, lb, lto);
        if (status != CUBLAS_STATUS_SUCCESS)
                return status;
        const uint32_t *needs = algorithm->alignment;
        if (!is_aligned(a, needs[0]) || !is_aligned(b, needs[1]) || !is_aligned(c, needs[2]) ||
            !is_aligned(to, needs[3]) || *(const float *) alpha != 1 || c != to)
                return CUBLAS_STATUS_INVALID_VALUE;
        if (d->epilogue != CUBLASLT_EPILOGUE_DEFAULT && (!is_aligned(d->bias, 16) || !is_aligned(d->saved, 16)))
                return CUBLAS_STATUS_NOT_SUPPORTED;
        emulated_note_product(a, b, to, (size_t) la->ld * size_of(la->type), (size_t) lb->ld * size_of(lb->type),
                              (size_t) lto->ld * size_of(lto->type));
        if (emulated_dry)
                return CUBLAS_STATUS_SUCCESS;
        const struct product p = { *d, *la, *lb, *lto, a, b, to, *(const float *) beta, algorithm->by_parts };
        if (lto->columns >= CLUSTERED)
                emulated_do(kernel<true> { p }, stream);
        else
                emulated_do(kernel<false> { p }, stream);
        return CUBLAS_STATUS_SUCCESS;
}
