/* Philox4x32-10 against Random123's known answers, the helpers' ranges, and that every part of the site keeps uses
 * apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/random/dropout.h"
#include "trainer/random/philox.h"

static void expect(struct philox r, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
        assert_int_equal(r.v[0], a);
        assert_int_equal(r.v[1], b);
        assert_int_equal(r.v[2], c);
        assert_int_equal(r.v[3], d);
}

/* Random123 kat_vectors, philox4x32 10: counter words are (block, site, low k, high k). */
static void test_known_answers(void **state) {
        expect(philox(0, 0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
        expect(philox(UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT64_MAX), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
        expect(philox(0x299f31d0a4093822ull, 0x243f6a88, 0x85a308d3, 0x0370734413198a2eull), 0xd16cfe09, 0x94fdcceb,
               0x5001e420, 0x24126ea1);
}

static void test_below(void **state) {
        uint32_t seen[10] = {};

        assert_int_equal(philox_below(UINT32_MAX, 7), 6);
        assert_int_equal(philox_below(0, 7), 0);
        assert_int_equal(philox_below(UINT32_MAX, 1), 0);
        for (uint32_t i = 0; i < 10000; i++)
                seen[philox_below(philox(1, i, 0, 0).v[0], 10)]++;
        for (int i = 0; i < 10; i++)
                assert_in_range(seen[i], 850, 1150);
        assert_true(philox_unit(UINT32_MAX) < 1.0f);
        assert_true(philox_unit(0) == 0.0f);
}

static void test_sites(void **state) {
        uint32_t base = philox_site(PHILOX_DROPOUT, 1, 2, 3);

        assert_int_equal(base, 0x11000203);
        assert_int_not_equal(base, philox_site(PHILOX_MASKING, 1, 2, 3));
        assert_int_not_equal(base, philox_site(PHILOX_DROPOUT, 0, 2, 3));
        assert_int_not_equal(base, philox_site(PHILOX_DROPOUT, 1, 3, 3));
        assert_int_not_equal(base, philox_site(PHILOX_DROPOUT, 1, 2, 2));
}

static void test_dropout(void **state) {
        struct dropout off = dropout_new(0, 1, 0, 0, DROPOUT_EMBEDDINGS),
                       half = dropout_new(0.5, 1, 0, 0, DROPOUT_EMBEDDINGS);
        struct dropout most = dropout_new(0.999999, 1, 0, 0, DROPOUT_EMBEDDINGS);
        struct philox r = philox(1, 5, half.site, 77);

        assert_int_equal(off.threshold, 0);
        assert_true(off.scale == 1);
        assert_true(dropout_keeps(&off, 3, 0, 4));
        assert_int_equal(half.threshold, 32768);
        assert_true(half.scale == 2);
        assert_int_equal(most.threshold, 65535);
        for (uint32_t c = 0; c < 8; c++) {
                uint32_t bits = c & 1 ? r.v[c / 2] >> 16 : r.v[c / 2] & 0xffff;
                assert_int_equal(dropout_keeps(&half, 77, 4, 8 + c), bits >= 32768);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known_answers),
                cmocka_unit_test(test_below),
                cmocka_unit_test(test_sites),
                cmocka_unit_test(test_dropout),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
