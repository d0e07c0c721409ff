/*
 * Matrix products through cuBLASLt (gemm.cu) with what it fuses, and kernels for the rest: erf GELU, activations' derivatives with the sums of
 * what they make. Where cuBLASLt has no algorithm (the two columns of the sentence head, rows that are not aligned) plain kernels do
 * the product: an output a thread, in the order of the sum.
 */
#include "trainer/ops/cuda/columns.cuh"

namespace {
constexpr uint32_t SIDE = 16;        /* of a block of outputs */
constexpr uint32_t PIECES_MAX = 256; /* of eight elements, of a block */
} // namespace

/* ---- products without cuBLASLt ---- */

/* d (m, n) = a (m, k) · b (k, n), or added to d; operands may lie transposed. */
template <class T, class D>
__global__ void multiply(view<T> a, view<T> b, view<D> d, uint32_t k, bool transpose_a, bool transpose_b, bool add) {
        uint32_t c = blockIdx.x * SIDE + threadIdx.x, r = blockIdx.y * SIDE + threadIdx.y;
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
        dim3 grid(ceil_div(g->d.columns, SIDE), ceil_div(g->d.rows, SIDE)), block(SIDE, SIDE);

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

/* y = act(x + bias), eight elements a thread; the argument of act, as it is stored, goes to pre where given. x may be y or pre; bias may be NULL. */
template <class T, bool ALIGNED>
__global__ void bias_activation(view<T> x, const T *bias, enum activation act, view<T> pre, view<T> y) {
        uint32_t per_row = (y.columns + VECTOR - 1) / VECTOR;
        size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x;
        uint32_t r = (uint32_t) (i / per_row), c = (uint32_t) (i % per_row) * VECTOR, left = y.columns - c;
        float v[VECTOR], b[VECTOR];

        if (r >= y.rows)
                return;
        load8<ALIGNED>(x.row(r) + c, left, v);
        if (bias) {
                load8<ALIGNED>(bias + c, left, b);
#pragma unroll
                for (uint32_t j = 0; j < VECTOR; j++)
                        v[j] += b[j];
        }
        if (pre.data) {
                round8<T>(v);
                store8<ALIGNED>(pre.row(r) + c, left, v);
        }
#pragma unroll
        for (uint32_t j = 0; j < VECTOR; j++)
                v[j] = activate(act, v[j]);
        store8<ALIGNED>(y.row(r) + c, left, v);
}

/* dx *= act′(saved); the sums of its columns, strip by strip, to partial where given. */
template <class T, bool ALIGNED>
__global__ void times_derivative(enum activation act, view<T> saved, view<T> dx, uint32_t strip_rows, float *partial) {
        struct strip s = strip_of(dx.rows, dx.columns, strip_rows);
        float total[VECTOR] = {}, v[VECTOR], argument[VECTOR];

        for (uint32_t r = s.first; r < s.end; r += STRIP_WARPS) {
                load8<ALIGNED>(dx.row(r) + s.column, s.left, v);
                load8<ALIGNED>(saved.row(r) + s.column, s.left, argument);
#pragma unroll
                for (uint32_t i = 0; i < VECTOR; i++) {
                        v[i] *= activate_derivative(act, argument[i]);
                        total[i] += v[i];
                }
                store8<ALIGNED>(dx.row(r) + s.column, s.left, v);
        }
        if (partial)
                store_strip(total, s, dx.columns, partial);
}

/* ---- entries ---- */

/* cuBLASLt's GELU is tanh.approx's, 11 bits: as much as 16 bits keep, but not what fp32 promises. */
static bool may_fuse_gelu(enum activation act, enum dtype dtype) {
        return act == ACTIVATION_GELU_NEW && dtype_size(dtype) == 2;
}

static void launch_activation(struct tensor x, struct tensor bias, enum activation act, struct tensor pre,
                              struct tensor y) {
        uint32_t blocks = ceil_div((size_t) y.rows * ceil_div(y.columns, VECTOR), PIECES_MAX);
        bool aligned = is_whole(x) && is_whole(bias) && is_whole(pre) && is_whole(y);

        WITH_TYPE(y.dtype, WITH_ALIGNED(aligned, {
                          auto kernel = bias_activation<T, ALIGNED>;
                          LAUNCH(kernel, blocks, PIECES_MAX, 0, view_of<T>(x), (const T *) bias.data, act,
                                 view_of<T>(pre), view_of<T>(y));
                  }));
}

static void launch_derivative(enum activation act, struct tensor saved, struct tensor dx, struct tensor dbias) {
        struct strips s = cuda_strips_of(dx.rows, dx.columns);
        struct column_sums sums = {};
        float *partial = dbias.data ? cuda_backend.scratch : NULL;

        WITH_TYPE(dx.dtype, WITH_ALIGNED(is_whole(saved) && is_whole(dx), {
                          auto kernel = times_derivative<T, ALIGNED>;
                          LAUNCH(kernel, s.grid, s.block, 0, act, view_of<T>(saved), view_of<T>(dx), s.rows, partial);
                  }));
        if (!partial)
                return;
        sums.take(dbias);
        cuda_add_parts(partial, s.n, dx.columns, sums);
        cuda_backend.counts.bias_gradients++;
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
                    struct tensor dx, struct tensor dbias) {
        struct gemm g = {};

        if (!dx.rows) {
                cuda_zero_fresh(dbias);
                return;
        }
        g.a = dy;
        g.b = w;
        g.d = dx;
        g.add = add;
        g.saved = saved.data;
        g.saved_stride = saved.stride;
        g.epilogue = GEMM_DGELU_NEW;
        bool fused = may_fuse_gelu(act, dx.dtype) && !add && try_product(&g);
        if (!fused)
                multiply_only(g);
        if (!fused && act != ACTIVATION_NONE)
                launch_derivative(act, saved, dx, dbias);
        else if (dbias.data)
                cuda_add_column_sums(dx, dbias);
}

void cuda_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias) {
        struct gemm g = {};

        if (!dy.rows) {
                cuda_zero_fresh(dw);
                cuda_zero_fresh(dbias);
                return;
        }
        g.a = dy;
        g.b = x;
        g.d = dw;
        g.transpose_a = true;
        g.add = !dw.fresh;
        multiply_only(g);
        if (dbias.data)
                cuda_add_column_sums(dy, dbias);
}

void cuda_activation_backward(enum activation act, struct tensor saved, struct tensor dx) {
        const struct tensor absent = {};

        if (dx.rows)
                launch_derivative(act, saved, dx, absent);
}
