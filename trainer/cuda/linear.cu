/*
 * Matrix products through cuBLASLt (gemm.cu) with what it fuses, and kernels for the rest: erf GELU, activations' derivatives, sums
 * of columns. Where cuBLASLt has no algorithm (the two columns of the sentence head, rows that are not aligned) plain kernels do
 * the product: an output a thread, in the order of the sum.
 */
#include "trainer/cuda/kernels.cuh"

#define TILE 16
#define STRIPS_MAX 128

/* ---- products without cuBLASLt ---- */

/* d (m, n) = a (m, k) · b (k, n), or added to d; operands may lie transposed. */
template <class T, class D>
__global__ void multiply(view<T> a, view<T> b, view<D> d, uint32_t k, bool transpose_a, bool transpose_b, bool add) {
        uint32_t c = blockIdx.x * TILE + threadIdx.x, r = blockIdx.y * TILE + threadIdx.y;
        float sum = 0;

        if (r >= d.rows || c >= d.columns)
                return;
        for (uint32_t i = 0; i < k; i++)
                sum += to_float(transpose_a ? a.row(i)[r] : a.row(r)[i]) *
                       to_float(transpose_b ? b.row(c)[i] : b.row(i)[c]);
        d.row(r)[c] = from_float<D>(add ? to_float(d.row(r)[c]) + sum : sum);
}

static void multiply_plainly(const struct gemm *g) {
        uint32_t k = g->transpose_a ? g->a.rows : g->a.columns;
        dim3 grid(ceil_div(g->d.columns, TILE), ceil_div(g->d.rows, TILE)), block(TILE, TILE);

        if (g->a.dtype == g->d.dtype)
                WITH_TYPE(g->a.dtype, {
                        auto kernel = multiply<T, T>;
                        LAUNCH(kernel, grid, block, 0, view_of<T>(g->a), view_of<T>(g->b), view_of<T>(g->d), k,
                               g->transpose_a, g->transpose_b, g->add);
                });
        else
                WITH_TYPE(g->a.dtype, {
                        auto kernel = multiply<T, float>;
                        LAUNCH(kernel, grid, block, 0, view_of<T>(g->a), view_of<T>(g->b), view_of<float>(g->d), k,
                               g->transpose_a, g->transpose_b, g->add);
                });
}

/* By cuBLASLt, if it can. */
static bool try_product(const struct gemm *g) {
        bool done = gemm_run(g);

        cuda_backend.counts.lt_products += done;
        return done;
}

/* The product alone, by cuBLASLt if it can, else by our kernel. */
static void multiply_only(struct gemm g) {
        g.epilogue = GEMM_PLAIN;
        if (try_product(&g))
                return;
        multiply_plainly(&g);
        cuda_backend.counts.plain_products++;
}

/* ---- element by element ---- */

/* A thread takes eight elements of a row. */
struct place8 {
        uint32_t r, c, left; /* left: elements to the row's end; 0: nothing to do */
};
__device__ static inline struct place8 place_of(uint32_t rows, uint32_t columns) {
        uint32_t per_row = (columns + VECTOR - 1) / VECTOR;
        size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x;
        uint32_t r = (uint32_t) (i / per_row), c = (uint32_t) (i % per_row) * VECTOR;

        return { r, c, r < rows ? columns - c : 0 };
}
static uint32_t blocks_of(uint32_t rows, uint32_t columns) {
        return ceil_div((size_t) rows * ceil_div(columns, VECTOR), 256);
}

/* y = act(x + bias); the argument of act, as it is stored, goes to pre where given. x may be y or pre; bias may be NULL. */
template <class T>
__global__ void bias_activation(view<T> x, const T *bias, enum activation act, view<T> pre, view<T> y) {
        struct place8 at = place_of(y.rows, y.columns);
        float v[VECTOR], b[VECTOR];

        if (!at.left)
                return;
        load8(x.row(at.r) + at.c, at.left, v);
        if (bias) {
                load8(bias + at.c, at.left, b);
#pragma unroll
                for (int i = 0; i < VECTOR; i++)
                        v[i] += b[i];
        }
        if (pre.data)
                store8(pre.row(at.r) + at.c, at.left, v);
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
                v[i] = activate(act, pre.data ? rounded<T>(v[i]) : v[i]);
        store8(y.row(at.r) + at.c, at.left, v);
}

template <class T> __global__ void times_derivative(enum activation act, view<T> saved, view<T> dx) {
        struct place8 at = place_of(dx.rows, dx.columns);
        float v[VECTOR], s[VECTOR];

        if (!at.left)
                return;
        load8(dx.row(at.r) + at.c, at.left, v);
        load8(saved.row(at.r) + at.c, at.left, s);
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
                v[i] *= activate_derivative(act, s[i]);
        store8(dx.row(at.r) + at.c, at.left, v);
}

/* ---- sums of columns ---- */

/* Strip blockIdx.y of the rows: partial (strips, N). */
template <class T> __global__ void sum_strip(view<T> dy, uint32_t strip_rows, float *partial) {
        uint32_t c = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * strip_rows;
        float total = 0;

        if (c >= dy.columns)
                return;
        for (uint32_t r = first; r < min(first + strip_rows, dy.rows); r++)
                total += to_float(dy.row(r)[c]);
        partial[(size_t) blockIdx.y * dy.columns + c] = total;
}

__global__ void add_strips(const float *partial, uint32_t n_strips, uint32_t columns, float *to) {
        uint32_t c = blockIdx.x * blockDim.x + threadIdx.x;
        float total = 0;

        if (c >= columns)
                return;
        for (uint32_t s = 0; s < n_strips; s++)
                total += partial[(size_t) s * columns + c];
        to[c] += total;
}

static void add_column_sums(struct tensor dy, struct tensor to) {
        uint32_t most = (uint32_t) (CUDA_SCRATCH_BYTES / sizeof(float) / dy.columns);
        uint32_t wanted = most < STRIPS_MAX ? most : STRIPS_MAX;
        uint32_t strip_rows = ceil_div(dy.rows, wanted), strips = ceil_div(dy.rows, strip_rows);
        dim3 grid(ceil_div(dy.columns, 128), strips);

        WITH_TYPE(dy.dtype, LAUNCH(sum_strip<T>, grid, 128, 0, view_of<T>(dy), strip_rows, cuda_backend.scratch));
        LAUNCH(add_strips, ceil_div(dy.columns, 128), 128, 0, cuda_backend.scratch, strips, dy.columns,
               (float *) to.data);
}

/* ---- entries ---- */

/* cuBLASLt's GELU is tanh.approx's, 11 bits: as much as 16 bits keep, but not what fp32 promises. */
static bool may_fuse_gelu(enum activation act, enum dtype dtype) {
        return act == ACTIVATION_GELU_NEW && dtype_size(dtype) == 2;
}

static void launch_activation(struct tensor x, struct tensor bias, enum activation act, struct tensor pre,
                              struct tensor y) {
        WITH_TYPE(y.dtype, LAUNCH(bias_activation<T>, blocks_of(y.rows, y.columns), 256, 0, view_of<T>(x),
                                  (const T *) bias.data, act, view_of<T>(pre), view_of<T>(y)));
}

/* First with all that cuBLASLt may fuse, then with less. */
void cuda_linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
                 struct tensor y) {
        const struct tensor absent = {};
        struct gemm g = {};

        if (!y.rows)
                return;
        g.a = x;
        g.b = w;
        g.transpose_b = true;
        g.bias = bias.data;
        if (bias.data && pre.data && may_fuse_gelu(act, y.dtype)) {
                g.d = y;
                g.epilogue = GEMM_BIAS_GELU_NEW;
                g.saved = pre.data;
                g.saved_stride = pre.stride;
                if (try_product(&g))
                        return;
        }
        struct tensor argument = pre.data ? pre : y; /* where act's argument lies before it is applied */
        g.d = argument;
        g.epilogue = GEMM_BIAS;
        if (bias.data && try_product(&g)) {
                if (act != ACTIVATION_NONE || pre.data)
                        launch_activation(argument, absent, act, absent, y);
                return;
        }
        multiply_only(g);
        if (bias.data || act != ACTIVATION_NONE || pre.data)
                launch_activation(argument, bias, act, pre, y);
}

void cuda_linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                    struct tensor dx) {
        struct gemm g = {};

        if (!dx.rows)
                return;
        g.a = dy;
        g.b = w;
        g.d = dx;
        g.add = add;
        if (may_fuse_gelu(act, dx.dtype) && !add) {
                g.epilogue = GEMM_DGELU_NEW;
                g.saved = saved.data;
                g.saved_stride = saved.stride;
                if (try_product(&g))
                        return;
        }
        multiply_only(g);
        if (act != ACTIVATION_NONE)
                cuda_activation_backward(act, saved, dx);
}

void cuda_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias) {
        struct gemm g = {};

        if (!dy.rows)
                return;
        g.a = dy;
        g.b = x;
        g.d = dw;
        g.transpose_a = true;
        g.add = true;
        g.epilogue = GEMM_BIAS_GRADIENT;
        g.bias = cuda_backend.scratch;
        if (dbias.data && try_product(&g)) {
                LAUNCH(add_strips, ceil_div(dy.columns, 128), 128, 0, cuda_backend.scratch, 1, dy.columns,
                       (float *) dbias.data);
                cuda_backend.counts.bias_gradients++;
                return;
        }
        multiply_only(g);
        if (!dbias.data)
                return;
        add_column_sums(dy, dbias);
        cuda_backend.counts.column_sums++;
}

void cuda_activation_backward(enum activation act, struct tensor saved, struct tensor dx) {
        WITH_TYPE(dx.dtype, LAUNCH(times_derivative<T>, blocks_of(dx.rows, dx.columns), 256, 0, act, view_of<T>(saved),
                                   view_of<T>(dx)));
}
