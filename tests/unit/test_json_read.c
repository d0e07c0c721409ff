/* JSON as other programs write it: what jansson refuses and Python's json module reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/json_read.h"

/* What comes out, as compact JSON. The text is handed over without a NUL after it. */
static void assert_reads(const char *text, size_t flags, const char *expected) {
        json_error_t why;
        size_t size = strlen(text);
        char *exact = malloc(size);

        memcpy(exact, text, size);
        json_t *json = json_read(exact, size, flags, &why);
        cleanup_free char *got = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
        free(exact);
        json_decref(json);
        if (!expected) {
                assert_null(got);
                assert_true(why.text[0] != '\0');
                return;
        }
        if (!got)
                fail_msg("%s: %s", text, why.text);
        assert_string_equal(got, expected);
}

static void test_numbers(void **state) {
        assert_reads("{\"a\": 1000000000000000019884624838656, \"b\": 7}", 0, "{\"a\":1e30,\"b\":7}");
        assert_reads("[9223372036854775807, -9223372036854775808]", 0, "[9223372036854775807,-9223372036854775808]");
        assert_reads("[9223372036854775808]", 0, "[9.22337203685478e18]");
        assert_reads("[-9223372036854775809,0]", 0, "[-9.22337203685478e18,0]");
        assert_reads("[NaN, Infinity, -Infinity, 1E400, -1e999]", 0, "[null,null,null,null,null]");
        assert_reads("[NaN,1.5e3]", 0, "[null,1500.0]");
        assert_reads("[13444675123456789012", 0, NULL);
        assert_reads("[NaNs]", 0, NULL);
        assert_reads("[1..5e, NaN]", 0, NULL);
}

static void test_strings(void **state) {
        assert_reads("[\"\\ud800\"]", 0, "[\"\xEF\xBF\xBD\"]");
        assert_reads("[\"\\udc00x\\uD83D\\uDE00\"]", 0, "[\"\xEF\xBF\xBDx\xF0\x9F\x98\x80\"]");
        assert_reads("[\"\\ud83d\\ud83d\\ude00\"]", 0, "[\"\xEF\xBF\xBD\xF0\x9F\x98\x80\"]");
        assert_reads("[\"\\\\ud800 \\\" NaN 1E999\", NaN]", 0, "[\"\\\\ud800 \\\" NaN 1E999\",null]");
        assert_reads("[\"\\ud8", 0, NULL);
        assert_reads("[\"\\", 0, NULL);
        assert_reads("[\"a\\u0000b\"]", 0, "[\"a\\u0000b\"]");
        assert_reads("\xEF\xBB\xBF{\"a\": 1}", 0, "{\"a\":1}");
        assert_reads("\xEF\xBB\xBF{\"a\": NaN}", 0, "{\"a\":null}");
        assert_reads("[\"a\xFF\", NaN]", 0, NULL);
}

static void test_keys(void **state) {
        assert_reads("{\"a\": 1, \"a\": 2}", 0, "{\"a\":2}");
        assert_reads("{\"a\": NaN, \"a\": 2}", JSON_REJECT_DUPLICATES, NULL);
}

static void test_plain_string(void **state) {
        json_t *plain = json_string("ab"), *cut = json_stringn("a\0b", 3), *number = json_integer(1);

        assert_string_equal(json_plain_string(plain), "ab");
        assert_null(json_plain_string(cut));
        assert_null(json_plain_string(number));
        json_decref(plain);
        json_decref(cut);
        json_decref(number);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_strings),
                cmocka_unit_test(test_keys),
                cmocka_unit_test(test_plain_string),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
