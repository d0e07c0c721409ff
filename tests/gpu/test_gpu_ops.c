/*
 * The CUDA backend's table against the fp64 twins (ops_checks.h), in every precision. With a GPU, or emulated; see
 * module.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/gpu/module.h"
#include "tests/ops/ops_checks.h"

/* Of the NMSE; of bf16 and fp16 four times, so of the error twice, what PyTorch's operations have
 * (tests/gpu/torch_errors.py: 5.2e-6 and 8.4e-8 for attention, 6.0e-6 and 9.4e-8 for a sum with its LayerNorm). */
static const double limits[CUDA_PRECISION_MAX] = {
        [CUDA_FP32] = 2e-12, /* 1.6e-13 measured, emulated */
        [CUDA_TF32] = 1e-5,  /* not measured */
        [CUDA_BF16] = 2e-5,  /* 1.1e-5 measured, emulated */
        [CUDA_FP16] = 3e-7,  /* 2.9e-7 measured, emulated */
};
static const struct ops *ops;
static double limit;
static bool all; /* shapes: the largest, too */

static void test_linear(void **state) { ops_check_linear(ops, limit, all); }
static void test_norm(void **state) { ops_check_norm(ops, limit, all); }
static void test_attention(void **state) { ops_check_attention(ops, limit, all); }
static void test_rows(void **state) { ops_check_rows(ops, limit, all); }
static void test_xent(void **state) { ops_check_xent(ops, limit, all); }
static void test_flat(void **state) { ops_check_flat(ops, limit, all); }
static void test_update(void **state) { ops_check_update(ops, limit, all); }

static int check(const struct cuda_module *module, enum cuda_precision precision, const struct ops *opened) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_linear), cmocka_unit_test(test_norm), cmocka_unit_test(test_attention),
                cmocka_unit_test(test_rows),   cmocka_unit_test(test_xent), cmocka_unit_test(test_flat),
                cmocka_unit_test(test_update),
        };

        ops = opened;
        limit = limits[precision];
        return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
        const char *shapes =
                getenv("GPU_SHAPES"); /* few: for a sanitizer, under which each takes a hundred times as long */

#ifndef EMULATED
        all = !shapes || strcmp(shapes, "few") != 0;
#else
        (void) shapes;
#endif
        return module_in_each_precision(check);
}
