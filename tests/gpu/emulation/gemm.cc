/*
 * trainer/cuda/gemm.cu without cuBLASLt: products with their epilogues as backend.h says. It has no algorithm for small
 * ones, so the module's own kernels are tried too.
 */
#include "trainer/cuda/kernels.cuh"

#define SMALLEST 8

template <class T> static float element(struct tensor t, bool transposed, uint32_t r, uint32_t c) {
        return to_float(transposed ? view_of<T>(t).row(c)[r] : view_of<T>(t).row(r)[c]);
}

template <class D> static float finish(const struct gemm *g, uint32_t r, uint32_t c, float sum) {
        D *saved = (D *) g->saved + (size_t) r * g->saved_stride + c;

        if (g->epilogue == GEMM_BIAS || g->epilogue == GEMM_BIAS_GELU_NEW)
                sum += to_float(((const D *) g->bias)[c]);
        if (g->epilogue == GEMM_BIAS_GELU_NEW) {
                *saved = from_float<D>(sum);
                return activate(ACTIVATION_GELU_NEW, to_float(*saved));
        }
        return g->epilogue == GEMM_DGELU_NEW ? sum * activate_derivative(ACTIVATION_GELU_NEW, to_float(*saved)) : sum;
}

template <class T, class D> static void multiply(const struct gemm *g, uint32_t k) {
        view<D> d = view_of<D>(g->d);

        for (uint32_t r = 0; r < d.rows; r++)
                for (uint32_t c = 0; c < d.columns; c++) {
                        float sum = 0;
                        for (uint32_t i = 0; i < k; i++)
                                sum += element<T>(g->a, g->transpose_a, r, i) * element<T>(g->b, g->transpose_b, i, c);
                        d.row(r)[c] = from_float<D>(finish<D>(g, r, c, sum) + (g->add ? to_float(d.row(r)[c]) : 0));
                }
        for (uint32_t r = 0; g->epilogue == GEMM_BIAS_GRADIENT && r < d.rows; r++) {
                float sum = 0;
                for (uint32_t i = 0; i < k; i++)
                        sum += element<T>(g->a, g->transpose_a, r, i);
                ((float *) g->bias)[r] = sum;
        }
}

static void run(const struct gemm *g) {
        uint32_t k = g->transpose_a ? g->a.rows : g->a.columns;

        if (g->a.dtype == g->d.dtype)
                WITH_TYPE(g->a.dtype, (multiply<T, T>(g, k)));
        else
                WITH_TYPE(g->a.dtype, (multiply<T, float>(g, k)));
}

bool gemm_run(const struct gemm *g) {
        const struct gemm own = *g;
        uint32_t k = g->transpose_a ? g->a.rows : g->a.columns;

        if (k < SMALLEST || g->d.rows < SMALLEST || g->d.columns < SMALLEST)
                return false;
        if (!emulated_dry)
                emulated_do([own] { run(&own); }, cuda_backend.stream);
        return true;
}

int gemm_open(char *text, size_t size) { return 0; }
void gemm_close(void) {}
double gemm_peak_flops(void) { return 0; }
const char *gemm_version(void) { return "no cublasLt"; }
