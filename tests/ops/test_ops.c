/*
 * Every entry of the fp32 backend against its naive fp64 twin on the same random numbers, NMSE at most 1e-7, at odd shapes and
 * at shapes of several tiles; the vector functions against libm; the two instruction sets bit for bit; dropout masks element
 * by element against their definition.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "tests/ops/model_helpers.h"
#include "trainer/ops_cpu.h"

#define PAIRS_MAX 32

/* One tensor in both backends, equal at first; freed together by drop(). */
struct pair {
        struct tensor fast, twin;
        size_t n;
};
static struct pair pairs[PAIRS_MAX];
static unsigned n_pairs;

static struct pair make(uint32_t rows, uint32_t columns, double low, double high) {
        struct pair p = { .n = (size_t) rows * columns };

        assert_true(n_pairs < PAIRS_MAX);
        p.fast = (struct tensor) { ops_cpu()->allocate(p.n * sizeof(float)), DTYPE_FP32, rows, columns, columns };
        p.twin = (struct tensor) { ops_fp64()->allocate(p.n * sizeof(double)), DTYPE_FP64, rows, columns, columns };
        assert_non_null(p.fast.data);
        assert_non_null(p.twin.data);
        for (size_t i = 0; i < p.n; i++) {
                float x = (float) (low + (high - low) * (0.5 + 0.5 * helper_random(n_pairs + 1, (uint32_t) i)));
                ((float *) p.fast.data)[i] = x;
                ((double *) p.twin.data)[i] = x;
        }
        return pairs[n_pairs++] = p;
}

static void drop(void) {
        while (n_pairs) {
                struct pair p = pairs[--n_pairs];
                ops_cpu()->release(p.fast.data, p.n * sizeof(float));
                ops_fp64()->release(p.twin.data, p.n * sizeof(double));
        }
}

static void check(const char *what, struct pair p) {
        const float *x = p.fast.data;
        const double *y = p.twin.data;
        double error = 0, power = 0;

        for (size_t i = 0; i < p.n; i++) {
                error += (x[i] - y[i]) * (x[i] - y[i]);
                power += y[i] * y[i];
        }
        if (!(error <= 1e-7 * power + 1e-30))
                fail_msg("%s (%u, %u): NMSE %g", what, p.twin.rows, p.twin.columns, error / power);
}

static const struct tensor absent = {};
static const enum activation all_activations[] = { ACTIVATION_NONE, ACTIVATION_GELU, ACTIVATION_GELU_NEW,
                                                   ACTIVATION_RELU, ACTIVATION_TANH };

static void check_linear(uint32_t t, uint32_t k, uint32_t n, enum activation act) {
        struct pair x = make(t, k, -1, 1), w = make(n, k, -0.3, 0.3), b = make(1, n, -1, 1), pre = make(t, n, 0, 0),
                    y = make(t, n, 5, 6);
        struct pair dx = make(t, k, -1, 1), saved = make(t, k, -1, 1), dw = make(n, k, -1, 1), db = make(1, n, -1, 1);
        bool add = n % 2;

        ops_cpu()->linear(x.fast, w.fast, b.fast, act, pre.fast, y.fast);
        ops_fp64()->linear(x.twin, w.twin, b.twin, act, pre.twin, y.twin);
        check("linear", y);
        check("linear's pre", pre);
        ops_cpu()->linear(x.fast, w.fast, absent, act, absent, y.fast);
        ops_fp64()->linear(x.twin, w.twin, absent, act, absent, y.twin);
        check("linear without bias", y);
        ops_cpu()->linear_dx(y.fast, w.fast, add, act, saved.fast, dx.fast);
        ops_fp64()->linear_dx(y.twin, w.twin, add, act, saved.twin, dx.twin);
        check("linear_dx", dx);
        ops_cpu()->linear_dw_db(y.fast, x.fast, dw.fast, db.fast);
        ops_fp64()->linear_dw_db(y.twin, x.twin, dw.twin, db.twin);
        check("linear_dw_db's dw", dw);
        check("linear_dw_db's db", db);
        ops_cpu()->activation_backward(act, saved.fast, dx.fast);
        ops_fp64()->activation_backward(act, saved.twin, dx.twin);
        check("activation_backward", dx);
        drop();
}

static void test_linear(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(all_activations); i++) {
                check_linear(1, 1, 1, all_activations[i]);
                check_linear(7, 13, 5, all_activations[i]);
                check_linear(33, 64, 100, all_activations[i]);
        }
        check_linear(531, 70, 401, ACTIVATION_GELU);
        check_linear(130, 9, 1030, ACTIVATION_NONE);
        check_linear(64, 128, 2, ACTIVATION_NONE);
}

static void check_norm(uint32_t t, uint32_t h, double probability, bool add) {
        uint64_t k[1024];
        int32_t positions[1024];
        struct pair x = make(t, h, -2, 3), r = make(t, h, -1, 1), gamma = make(1, h, 0.5, 1.5),
                    beta = make(1, h, -1, 1), y = make(t, h, 0, 0);
        struct pair mean = make(1, t, 0, 0), rstd = make(1, t, 0, 0), dy = make(t, h, -1, 1), dx = make(t, h, 0, 0),
                    dr = make(t, h, 0, 0);
        struct pair dgamma = make(1, h, -1, 1), dbeta = make(1, h, -1, 1),
                    scratch = make(1, (t / 64 + 1) * 2 * h, 0, 0);
        struct op_norm fast = {
                .x = x.fast, .residual = r.fast, .gamma = gamma.fast, .beta = beta.fast, .y = y.fast, .mean = mean.fast, .rstd = rstd.fast,
                .dy = dy.fast, .dx = dx.fast, .dresidual = dr.fast, .dgamma = dgamma.fast, .dbeta = dbeta.fast, .epsilon = 1e-12,
                .dropout = dropout_new(probability, 9, 1, 3, DROPOUT_ATTENTION_OUTPUT), .rows = { k, positions },
                .workspace = { scratch.fast.data, scratch.n * sizeof(float) },
        }, twin = fast;
        twin.x = x.twin, twin.residual = r.twin, twin.gamma = gamma.twin, twin.beta = beta.twin, twin.y = y.twin,
        twin.mean = mean.twin;
        twin.rstd = rstd.twin, twin.dy = dy.twin, twin.dx = dx.twin, twin.dresidual = dr.twin,
        twin.dgamma = dgamma.twin, twin.dbeta = dbeta.twin;
        for (uint32_t i = 0; i < t; i++) {
                k[i] = 1000 + i / 50;
                positions[i] = (int32_t) (i % 50);
        }
        (add ? ops_cpu()->add_norm_forward : ops_cpu()->norm_dropout_forward)(&fast);
        (add ? ops_fp64()->add_norm_forward : ops_fp64()->norm_dropout_forward)(&twin);
        check("norm's y", y);
        check("norm's sum", x);
        check("norm's mean", mean);
        check("norm's rstd", rstd);
        (add ? ops_cpu()->add_norm_backward : ops_cpu()->norm_dropout_backward)(&fast);
        (add ? ops_fp64()->add_norm_backward : ops_fp64()->norm_dropout_backward)(&twin);
        check("norm's dx", dx);
        check("norm's dresidual", dr);
        check("norm's dgamma", dgamma);
        check("norm's dbeta", dbeta);
        drop();
}

static void test_norm(void **state) {
        for (int add = 0; add < 2; add++) {
                check_norm(3, 9, 0, add);
                check_norm(3, 8, 0.1, add);
                check_norm(65, 61, 0.3, add);
                check_norm(129, 768, 0.1, add);
                check_norm(5, 1031, 0.1, add);
        }
}

static void check_attention(uint32_t n_samples, uint32_t length, uint32_t heads, uint32_t width, double probability) {
        int32_t cu_seqlens[16] = {};
        uint64_t k[16];
        uint32_t h = heads * width;

        for (uint32_t s = 0; s < n_samples; s++) {
                cu_seqlens[s + 1] = cu_seqlens[s] + (int32_t) (s % 2 ? length / 3 + 1 : length);
                k[s] = (1ull << 40) + s;
        }
        uint32_t t = (uint32_t) cu_seqlens[n_samples];
        struct ops_shape shape = { t, 1, length, h, heads, n_samples };
        size_t scratch_size = ops_cpu()->workspace_bytes(&shape), twin_size = ops_fp64()->workspace_bytes(&shape);
        struct pair qkv = make(t, 3 * h, -1.5, 1.5), context = make(t, h, 0, 0), lse = make(heads, t, 0, 0),
                    dcontext = make(t, h, -1, 1);
        struct pair dqkv = make(t, 3 * h, 7, 8);
        void *scratch = ops_cpu()->allocate(scratch_size), *twin_scratch = ops_fp64()->allocate(twin_size);
        struct op_attention fast = {
                .qkv = qkv.fast, .context = context.fast, .lse = lse.fast, .dcontext = dcontext.fast, .dqkv = dqkv.fast, .cu_seqlens = cu_seqlens,
                .sample_k = k, .n_samples = n_samples, .n_heads = heads, .workspace = { scratch, scratch_size },
                .dropout = dropout_new(probability, 5, 0, 2, DROPOUT_ATTENTION_PROBABILITIES),
        }, twin = fast;
        twin.qkv = qkv.twin, twin.context = context.twin, twin.lse = lse.twin, twin.dcontext = dcontext.twin,
        twin.dqkv = dqkv.twin;
        twin.workspace = (struct workspace) { twin_scratch, twin_size };
        ops_cpu()->attention_forward(&fast);
        ops_fp64()->attention_forward(&twin);
        check("attention's context", context);
        check("attention's lse", lse);
        ops_cpu()->attention_backward(&fast);
        ops_fp64()->attention_backward(&twin);
        check("attention's dqkv", dqkv);
        ops_cpu()->release(scratch, scratch_size);
        ops_fp64()->release(twin_scratch, twin_size);
        drop();
}

static void test_attention(void **state) {
        check_attention(1, 1, 1, 1, 0);
        check_attention(3, 17, 2, 5, 0);
        check_attention(3, 17, 2, 5, 0.2);
        check_attention(4, 130, 3, 16, 0.1);
        check_attention(2, 301, 2, 64, 0.1);
        check_attention(1, 531, 1, 8, 0.1);
}

static void test_rows(void **state) {
        int32_t ids[] = { 4, 0, 4, 18, 4, 7, 7 }, positions[] = { 0, 1, 2, 3, 0, 1, 2 },
                types[] = { 0, 0, 1, 1, 0, 0, 1 };
        struct pair word = make(19, 75, -1, 1), position = make(4, 75, -1, 1), type = make(2, 75, -1, 1),
                    x = make(7, 75, 0, 0);
        struct op_embed fast = { ids, positions, types, word.fast, position.fast, type.fast, x.fast };
        struct op_embed twin = { ids, positions, types, word.twin, position.twin, type.twin, x.twin };
        struct pair y = make(7, 75, 0, 0);

        ops_cpu()->embed_forward(&fast);
        ops_fp64()->embed_forward(&twin);
        check("embed_forward", x);
        ops_cpu()->embed_backward(&fast);
        ops_fp64()->embed_backward(&twin);
        check("embed_backward's words", word);
        check("embed_backward's positions", position);
        check("embed_backward's types", type);
        ops_cpu()->gather_rows(word.fast, ids, y.fast);
        ops_fp64()->gather_rows(word.twin, ids, y.twin);
        check("gather_rows", y);
        ops_cpu()->scatter_add_rows(y.fast, ids, word.fast);
        ops_fp64()->scatter_add_rows(y.twin, ids, word.twin);
        check("scatter_add_rows", word);
        drop();
}

static void check_xent(uint32_t m, uint32_t v) {
        double scratch[2 * 64];
        int32_t labels[64];
        struct pair logits = make(m, v, -4, 4);
        struct op_xent fast = { .logits = logits.fast,
                                .labels = labels,
                                .scale = 0.25,
                                .gradient = true,
                                .workspace = { scratch, sizeof(scratch) } };

        for (uint32_t i = 0; i < m; i++) {
                labels[i] = i % 5 == 4 ? -1 : (int32_t) (i * 7 % v);
                if (i % 3 == 0 && labels[i] >= 0) {
                        cpu_row(logits.fast, i)[labels[i]] = 5;
                        ((double *) logits.twin.data)[(size_t) i * v + (size_t) labels[i]] = 5;
                }
        }
        struct op_xent twin = fast;
        twin.logits = logits.twin;
        ops_cpu()->softmax_xent(&fast);
        ops_fp64()->softmax_xent(&twin);
        check("softmax_xent's gradient", logits);
        assert_true(fabs(fast.loss_sum - twin.loss_sum) <= 1e-6 * twin.loss_sum + 1e-6);
        assert_int_equal(fast.count, twin.count);
        assert_int_equal(fast.correct, twin.correct);
        drop();
}

static void test_xent(void **state) {
        check_xent(1, 2);
        check_xent(9, 2);
        check_xent(64, 30522);
        check_xent(13, 101);
}

static void test_flat(void **state) {
        struct pair g = make(1, 200003, -1, 1), p = make(1, 200003, -1, 1), m = make(1, 200003, -0.1, 0.1),
                    v = make(1, 200003, 0, 0.1);
        struct op_adam op = { 1e-2, 0.9, 0.999, 1e-6, 0.01, 1 - pow(0.9, 3), 1 - pow(0.999, 3), 0.7 };

        double fast = ops_cpu()->sum_squares(g.fast.data, g.n), twin = ops_fp64()->sum_squares(g.twin.data, g.n);
        assert_true(fabs(fast - twin) <= 1e-12 * twin);
        ops_cpu()->adamw(&op, g.n, g.fast.data, p.fast.data, m.fast.data, v.fast.data);
        ops_fp64()->adamw(&op, g.n, g.twin.data, p.twin.data, m.twin.data, v.twin.data);
        check("adamw's parameters", p);
        check("adamw's first moments", m);
        check("adamw's second moments", v);
        ops_cpu()->adam_direction(&op, g.n, g.fast.data, p.fast.data, m.fast.data, v.fast.data);
        ops_fp64()->adam_direction(&op, g.n, g.twin.data, p.twin.data, m.twin.data, v.twin.data);
        check("adam's direction", g);
        check("adam's first moments", m);
        check("adam's second moments", v);
        ops_cpu()->descend(0.3, g.n, g.fast.data, p.fast.data);
        ops_fp64()->descend(0.3, g.n, g.twin.data, p.twin.data);
        check("descend", p);
        ops_cpu()->zero(g.fast.data, g.n);
        ops_fp64()->zero(g.twin.data, g.n);
        check("zero", g);
        assert_true(ops_cpu()->sum_squares(g.fast.data, g.n) == 0);
        drop();
}

static double ulps(double y, double exact) {
        int exponent;

        (void) frexp(exact, &exponent);
        return fabs(y - exact) / ldexp(1, exponent < -125 ? -149 : exponent - 24);
}

/* Greatest error of f over n points of [low, high], in ulp of fp32. */
static void check_function(const char *name, void (*f)(float *, const float *, size_t), double (*exact)(double),
                           double low, double high, double limit) {
        float x[1024], y[1024];
        double worst = 0, at = 0;

        for (int chunk = 0; chunk < 1000; chunk++) {
                for (int i = 0; i < 1024; i++)
                        x[i] = (float) (low + (high - low) * (chunk * 1024 + i) / (1000 * 1024 - 1));
                f(y, x, 1024);
                for (int i = 0; i < 1024; i++)
                        if (ulps(y[i], exact(x[i])) > worst) {
                                worst = ulps(y[i], exact(x[i]));
                                at = x[i];
                        }
        }
        print_message("%s: greatest error %.2f ulp at %g\n", name, worst, at);
        assert_true(worst <= limit);
}

static void test_functions(void **state) {
        float special[3] = { NAN, INFINITY, -INFINITY }, y[3];

        for (unsigned i = 0; cpu_kernels_variant(i); i++) {
                const struct cpu_kernels *k = cpu_kernels_variant(i);
                check_function("exp", k->exp, exp, -87, 88, 2);
                check_function("erf", k->erf, erf, -5, 5, 2);
                check_function("tanh", k->tanh, tanh, -12, 12, 3);
                k->exp(y, special, 3);
                assert_true(isnan(y[0]) && y[1] > 1e38f && y[2] < 1e-37f);
                k->erf(y, special, 3);
                assert_true(isnan(y[0]) && fabsf(y[1] - 1) < 1e-6f && fabsf(y[2] + 1) < 1e-6f);
        }
}

static void test_masks(void **state) {
        struct dropout d = dropout_new(0.1, 0x123456789abcdefull, 1, 7, DROPOUT_FEED_FORWARD_OUTPUT);
        float mask[333];
        double kept = 0, n = 0;

        for (unsigned i = 0; cpu_kernels_variant(i); i++)
                for (uint64_t k = 1ull << 35; k < (1ull << 35) + 40; k++) {
                        size_t length = 333 - k % 9;
                        cpu_kernels_variant(i)->dropout_mask(mask, length, &d, k, 1000);
                        for (uint32_t c = 0; c < length; c++) {
                                assert_true(mask[c] == (dropout_keeps(&d, k, 1000, c) ? (float) d.scale : 0));
                                kept += mask[c] != 0;
                                n++;
                        }
                }
        assert_true(fabs(kept / n - 0.9) < 0.01);
}

/* c (rows, 37) = a (rows, 401) b by an instruction set, operands along or across the depth; false: the machine lacks it. */
static bool multiply(unsigned variant, uint32_t rows, unsigned layout, float *c) {
        static float a[29 * 401], b[37 * 401], packed[CPU_GEMM_PACKED] __attribute__((aligned(64)));
        bool a_across = layout & 1, b_across = layout & 2;
        struct cpu_gemm gemm = { .a = { a, a_across ? 29 : 401, a_across },
                                 .b = { b, b_across ? 37 : 401, b_across },
                                 .c = { c, DTYPE_FP32, rows, 37, 37 },
                                 .depth = 401,
                                 .alpha = 0.125f,
                                 .add = true };

        for (uint32_t k = 0; k < 401; k++) {
                for (uint32_t r = 0; r < 29; r++)
                        a[a_across ? k * 29 + r : r * 401 + k] = (float) helper_random(1, r * 401 + k);
                for (uint32_t i = 0; i < 37; i++)
                        b[b_across ? k * 37 + i : i * 401 + k] = (float) helper_random(2, i * 401 + k);
        }
        for (uint32_t i = 0; i < rows * 37; i++)
                c[i] = (float) helper_random(3, i);
        return cpu_gemm_variant(variant, &gemm, packed);
}

/* An element's bits depend on neither layout nor number of rows, nor on the instruction set where it fuses. */
static void test_products(void **state) {
        float first[29 * 37], c[29 * 37];

        for (unsigned variant = 0; multiply(variant, 29, 0, c); variant++) {
                if (variant <= 1)
                        memcpy(first, c, sizeof(c));
                for (unsigned layout = 0; layout < 4; layout++)
                        for (uint32_t rows = 1; rows <= 29; rows++) {
                                assert_true(multiply(variant, rows, layout, c));
                                assert_memory_equal(c, first, rows * 37 * sizeof(float));
                        }
                for (uint32_t r = 0; r < 29; r++)
                        for (uint32_t i = 0; i < 37; i++) {
                                double exact = helper_random(3, r * 37 + i);
                                for (uint32_t k = 0; k < 401; k++)
                                        exact += 0.125 * (float) helper_random(1, r * 401 + k) *
                                                 (float) helper_random(2, i * 401 + k);
                                assert_true(fabs(first[r * 37 + i] - exact) < 1e-4);
                        }
        }
}

/* The two instruction sets: same bits, whatever the tail. */
static void test_variants(void **state) {
        const struct cpu_kernels *a = cpu_kernels_variant(0), *b = cpu_kernels_variant(1);
        float x[203], y[203], u[203], v[203], mean[2], rstd[2];

        if (!b)
                skip();
        for (size_t n = 190; n < 203; n++) {
                for (uint32_t i = 0; i < n; i++) {
                        x[i] = (float) (4 * helper_random(1, i));
                        y[i] = (float) (4 * helper_random(2, i));
                }
                a->norm(x, y, y, 1e-12, u, &mean[0], &rstd[0], n);
                b->norm(x, y, y, 1e-12, v, &mean[1], &rstd[1], n);
                assert_memory_equal(u, v, n * sizeof(float));
                assert_true(mean[0] == mean[1] && rstd[0] == rstd[1]);
                a->bias_activation(u, x, ACTIVATION_GELU, NULL, n);
                b->bias_activation(v, x, ACTIVATION_GELU, NULL, n);
                assert_memory_equal(u, v, n * sizeof(float));
                a->activation_backward(u, y, ACTIVATION_GELU, n);
                b->activation_backward(v, y, ACTIVATION_GELU, n);
                assert_memory_equal(u, v, n * sizeof(float));
                assert_true(a->softmax(u, NULL, n) == b->softmax(v, NULL, n));
                assert_memory_equal(u, v, n * sizeof(float));
                assert_true(a->sum_squares(x, n) == b->sum_squares(x, n));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_linear),    cmocka_unit_test(test_norm),  cmocka_unit_test(test_attention),
                cmocka_unit_test(test_rows),      cmocka_unit_test(test_xent),  cmocka_unit_test(test_flat),
                cmocka_unit_test(test_functions), cmocka_unit_test(test_masks), cmocka_unit_test(test_variants),
                cmocka_unit_test(test_products),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
