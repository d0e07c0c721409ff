/*
 * The fp32 backend of the CPU: every entry against its twin (ops_checks.h); the vector functions against libm; the
 * instruction sets bit for bit; dropout masks element by element against their definition.
 */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "tests/close.h"
#include "tests/ops/model_helpers.h"
#include "tests/ops/ops_checks.h"
#include "trainer/ops/cpu/gemm.h"
#include "trainer/ops/cpu/peak.h"
#include "trainer/ops/cpu/spans.h"

#define LIMIT 2e-12 /* of the NMSE; 1.9e-13 measured */

static void test_linear(void **state) { ops_check_linear(ops_cpu(), LIMIT, true); }
static void test_norm(void **state) { ops_check_norm(ops_cpu(), LIMIT, true); }
static void test_attention(void **state) { ops_check_attention(ops_cpu(), LIMIT, true); }
static void test_rows(void **state) { ops_check_rows(ops_cpu(), LIMIT, true); }
static void test_xent(void **state) { ops_check_xent(ops_cpu(), LIMIT, true); }
static void test_flat(void **state) { ops_check_flat(ops_cpu(), LIMIT, true); }

static double ulps(double y, double exact) {
        int exponent;

        (void) frexp(exact, &exponent);
        return fabs(y - exact) / ldexp(1, exponent < -125 ? -149 : exponent - 24);
}

/* Greatest error of f over n points of [low, high], in ulp of fp32. */
static void check_function(const char *name, void (*f)(float *, const float *, size_t), double (*exact)(double),
                           double low, double high, double limit) {
        float x[1024], y[1024];
        double worst = 0;

        for (int chunk = 0; chunk < 1000; chunk++) {
                for (int i = 0; i < 1024; i++)
                        x[i] = (float) (low + (high - low) * (chunk * 1024 + i) / (1000 * 1024 - 1));
                f(y, x, 1024);
                for (int i = 0; i < 1024; i++) {
                        double error = ulps(y[i], exact(x[i]));
                        if (!(error <= limit))
                                fail_msg("%s(%g) is %g: %g ulp from %g", name, x[i], y[i], error, exact(x[i]));
                        worst = worse(worst, error);
                }
        }
        print_message("%s: greatest error %.2f ulp\n", name, worst);
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

/* c (rows, 37) = a (rows, 401) b by an instruction set, operands along or across the depth; false: the machine lacks
 * it. */
static bool multiply(unsigned variant, uint32_t rows, unsigned layout, float *c) {
        static float a[29 * 401], b[37 * 401], packed[CPU_GEMM_PACKED] __attribute__((aligned(64)));
        bool a_across = layout & 1, b_across = layout & 2;
        struct cpu_gemm gemm = { .a = { a, a_across ? 29 : 401, a_across },
                                 .b = { b, b_across ? 37 : 401, b_across },
                                 .c = { c, DTYPE_FP32, rows, 37, 37, false },
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
                                assert_true(is_close(first[r * 37 + i], exact, 2e-5)); /* 2.2e-6 measured */
                        }
        }
}

enum { CUT_ROWS = 110, CUT_COLUMNS = 530, CUT_DEPTH = 800 };

/* An element as gemm.c defines it: runs of the depth, each a chain, one added after the other. */
static float element_of(const float *a, const float *b, uint32_t row, uint32_t column, bool fused) {
        float c = 0;

        for (uint32_t first = 0; first < CUT_DEPTH; first += CPU_GEMM_DEPTH) {
                float sum = 0;
                for (uint32_t k = first; k < MIN(first + CPU_GEMM_DEPTH, (uint32_t) CUT_DEPTH); k++) {
                        float x = a[row * CUT_DEPTH + k], y = b[column * CUT_DEPTH + k];
                        sum = fused ? fmaf(x, y, sum) : sum + x * y;
                }
                c = first ? c + 0.5f * sum : 0.5f * sum;
        }
        return c;
}

static void transpose(float *to, const float *from, uint32_t rows, uint32_t columns) {
        for (uint32_t r = 0; r < rows; r++)
                for (uint32_t c = 0; c < columns; c++)
                        to[c * rows + r] = from[r * columns + c];
}

/* A product that is packed in several parts, by columns and by depth, has the bits of its definition: alone by each
 * instruction set, and by all threads together. */
static void test_cuts(void **state) {
        static float a[2][CUT_ROWS * CUT_DEPTH], b[2][CUT_COLUMNS * CUT_DEPTH], c[CUT_ROWS * CUT_COLUMNS];
        static float packed[CPU_GEMM_PACKED] __attribute__((aligned(64)));

        for (uint32_t i = 0; i < CUT_ROWS * CUT_DEPTH; i++)
                a[0][i] = (float) helper_random(1, i);
        for (uint32_t i = 0; i < CUT_COLUMNS * CUT_DEPTH; i++)
                b[0][i] = (float) helper_random(2, i);
        transpose(a[1], a[0], CUT_ROWS, CUT_DEPTH);
        transpose(b[1], b[0], CUT_COLUMNS, CUT_DEPTH);
        for (unsigned way = 0; way < 4 * 4; way++) {
                bool a_across = way & 1, b_across = way & 2, together = way / 4 == 3;
                struct cpu_gemm gemm = { .a = { a[a_across], a_across ? CUT_ROWS : CUT_DEPTH, a_across },
                                         .b = { b[b_across], b_across ? CUT_COLUMNS : CUT_DEPTH, b_across },
                                         .c = { c, DTYPE_FP32, CUT_ROWS, CUT_COLUMNS, CUT_COLUMNS, false },
                                         .depth = CUT_DEPTH,
                                         .alpha = 0.5f };
                memset(c, 0xff, sizeof(c));
                if (!together && !cpu_gemm_variant(way / 4, &gemm, packed))
                        continue;
                if (together)
                        cpu_gemm(&gemm);
                bool fused = together ? strcmp(ops_cpu_variant(), "generic") != 0 : way / 4 > 0;
                for (uint32_t i = 0; i < CUT_ROWS * CUT_COLUMNS; i += 7)
                        assert_true(c[i] == element_of(a[0], b[0], i / CUT_COLUMNS, i % CUT_COLUMNS, fused));
        }
}

#define SPAN_MAX 208

/* What each kernel makes of spans of n: rows of SPAN_MAX in `to`; returns how many. */
static unsigned every_kernel(const struct cpu_kernels *k, size_t n, float to[][SPAN_MAX]) {
        static const struct op_adam adam = { 1e-3, 0.9, 0.999, 1e-6, 0.01, 0.1, 0.001, 0.5 };
        const struct dropout dropout = dropout_new(0.3, 77, 0, 3, DROPOUT_ATTENTION_OUTPUT);
        float x[SPAN_MAX], y[SPAN_MAX], z[SPAN_MAX], mask[SPAN_MAX];
        unsigned row = 0;
        size_t best;

        for (uint32_t i = 0; i < SPAN_MAX; i++) {
                x[i] = (float) (4 * helper_random(1, i));
                y[i] = (float) (4 * helper_random(2, i));
                z[i] = (float) (1 + helper_random(3, i));
        }
        x[n / 2] = 100; /* beyond what exp reaches */
        k->dropout_mask(mask, n, &dropout, 5, 9);
        memset(to, 0, 64 * sizeof(to[0]));
        for (unsigned i = 0; i < 60; i++)
                memcpy(to[i], x, n * sizeof(float));
        for (enum activation act = 0; act < ACTIVATION_MAX; act++) {
                k->bias_activation(to[row], y, act, to[row + 1], n);
                k->bias_activation(to[row + 2], NULL, act, NULL, n);
                k->activation_backward(to[row + 3], y, act, n);
                row += 4;
        }
        memcpy(to[row++], mask, n * sizeof(float));
        k->multiply(to[row++], y, mask, n);
        k->add_masked(to[row++], y, mask, n);
        k->add_masked(to[row++], y, NULL, n);
        k->add(to[row++], y, n);
        k->sum3(to[row++], x, y, z, n);
        k->norm(x, y, z, 1e-12, to[row], &to[63][0], &to[63][1], n);
        k->norm_backward(x, y, z, to[63][0], to[63][1], to[row + 1], to[row + 2], to[row + 3], n);
        row += 4;
        to[63][2] = k->softmax(to[row++], mask, n);
        k->softmax_backward(to[row], to[row + 1], mask, 3, 0.5f, 0.125f, n);
        row += 2;
        k->softmax_backward(to[row], to[row + 1], NULL, 3, 0.5f, 0.125f, n);
        row += 2;
        to[63][3] = k->dot(x, y, n);
        to[63][4] = k->log_sum_exp(x, n, &best);
        to[63][5] = (float) best;
        k->xent_gradient(to[row++], 2, 0.25f, n);
        double squares = k->sum_squares(x, n);
        memcpy(&to[63][6], &squares, sizeof(squares));
        memcpy(to[row], z, n * sizeof(float));
        k->adamw(&adam, y, to[row + 1], to[row + 2], to[row], n);
        row += 3;
        memcpy(to[row], z, n * sizeof(float));
        k->adam_direction(&adam, to[row + 1], y, to[row + 2], to[row], n);
        row += 3;
        k->descend(0.25f, y, to[row++], n);
        k->add_columns(to[row++], x, 1, 67, n < 64 ? n : 64);
        return row;
}

static bool is_near(float a, float b) { return a == b || fabs((double) a - b) <= 2e-5 * fmax(1, fabs((double) b)); }

/* Instruction sets that fuse: same bits, whatever the tail. The plain one: near them. */
static void test_variants(void **state) {
        static float plain[64][SPAN_MAX], first[64][SPAN_MAX], now[64][SPAN_MAX];

        if (!cpu_kernels_variant(1))
                skip();
        for (size_t n = 1; n <= SPAN_MAX; n += n < 40 ? 1 : 3) {
                assert_true(every_kernel(cpu_kernels_variant(1), n, first) <= 60);
                (void) every_kernel(cpu_kernels_variant(0), n, plain);
                for (unsigned row = 0; row < 63; row++)
                        for (size_t i = 0; i < n; i++)
                                if (!is_near(plain[row][i], first[row][i]))
                                        fail_msg("generic: row %u, element %zu of %zu: %g, not %g", row, i, n,
                                                 plain[row][i], first[row][i]);
                for (unsigned i = 2; cpu_kernels_variant(i); i++) {
                        (void) every_kernel(cpu_kernels_variant(i), n, now);
                        for (unsigned row = 0; row < 64; row++)
                                if (memcmp(first[row], now[row], sizeof(first[row])) != 0)
                                        fail_msg("%s differs in row %u of spans of %zu", cpu_kernels_variant(i)->name,
                                                 row, n);
                }
        }
}

/* Each round begins and ends with a look at the clock: rounds of 4, 1 and 2 units. */
static double clock_of_rounds(void) {
        static const double times[] = { 0, 4, 10, 11, 20, 22 };
        static unsigned at;

        return times[at++];
}

static void test_peak(void **state) {
        double round = 4 * 2.0 * 384 * 512 * 384 * omp_get_max_threads();

        assert_true(cpu_peak(3, clock_of_rounds) == round);
        for (int i = 0; i < 2; i++) {
                double peak = (i ? ops_fp64() : ops_cpu())->peak_flops();
                assert_true(isfinite(peak) && peak > 0);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_linear),    cmocka_unit_test(test_norm),  cmocka_unit_test(test_attention),
                cmocka_unit_test(test_rows),      cmocka_unit_test(test_xent),  cmocka_unit_test(test_flat),
                cmocka_unit_test(test_functions), cmocka_unit_test(test_masks), cmocka_unit_test(test_variants),
                cmocka_unit_test(test_products),  cmocka_unit_test(test_cuts),  cmocka_unit_test(test_peak),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
