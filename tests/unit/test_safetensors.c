/* safetensors files: what is written is read, byte by byte; what is damaged is refused with exit 65 and the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "trainer/hf/safetensors.h"

static char folder[] = "/tmp/bertd-safetensors.XXXXXX", path[64];

static int set_up(void **state) {
        if (!mkdtemp(folder))
                return -1;
        (void) snprintf(path, sizeof(path), "%s/model.safetensors", folder);
        return 0;
}

static int tear_down(void **state) {
        (void) unlink(path);
        return rmdir(folder);
}

static void test_round_trip(void **state) {
        const float a[6] = { 1, 2, 3, 4, 5, -0.0f }, b[3] = { 7, 8, 9 };
        const struct safetensors_tensor tensors[] = {
                { "z.weight", SAFETENSORS_F32, 2, { 2, 3 }, a, sizeof(a) },
                { "a.bias", SAFETENSORS_F32, 1, { 3 }, b, sizeof(b) },
        };
        struct error error = {};
        cleanup_safetensors struct safetensors *file = NULL;
        char *text;
        size_t size;

        assert_int_equal(safetensors_write(path, tensors, 2, "", &error), 0);
        assert_int_equal(file_read(path, 4096, &text, &size, NULL), 0);
        assert_int_equal((unsigned char) text[0] % 8, 0);
        assert_non_null(strstr(text + 8, "\"__metadata__\":{\"format\":\"pt\"}"));
        free(text);
        assert_int_equal(safetensors_open(path, &file, &error), 0);
        assert_int_equal(safetensors_n(file), 2);
        const struct safetensors_tensor *t = safetensors_tensor(file, 0);
        assert_string_equal(t->name, "z.weight");
        assert_int_equal(t->n_dims, 2);
        assert_int_equal(t->shape[1], 3);
        assert_memory_equal(t->data, a, sizeof(a));
        assert_memory_equal(safetensors_find(file, "a.bias")->data, b, sizeof(b));
        assert_null(safetensors_find(file, "a"));
}

/* A file of that header and `n` bytes after it. */
static void write_file(const char *header, uint64_t length, size_t n) {
        char block[1024] = {};
        size_t size = strlen(header);

        memcpy(block, &length, 8);
        memcpy(block + 8, header, size);
        assert_int_equal(file_write_atomic(path, block, 8 + size + n, 0600, NULL), 0);
}

static void test_damage(void **state) {
        static const struct {
                const char *header, *says;
                size_t n;
        } rows[] = {
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", "header: ", 8 },
                { "[1]", "not a JSON object", 0 },
                { "{\"a\":1}", "tensor a: dtype", 0 },
                { "{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", "tensor a: dtype", 8 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "not a shape", 8 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", "not a shape",
                  8 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", "not a shape",
                  4 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "data_offsets", 7 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-4,4]}}", "data_offsets", 8 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", "data_offsets", 8 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "after the last", 9 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":["
                  "1],"
                  "\"data_offsets\":[2,6]}}",
                  "tensor b does not follow", 6 },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "tensor a does not follow", 8 },
                { "{\"a\":{},\"a\":{}}", "header: ", 0 },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct error error = {};
                struct safetensors *file = NULL;
                write_file(rows[i].header, strlen(rows[i].header), rows[i].n);
                assert_true(safetensors_open(path, &file, &error) < 0);
                assert_int_equal(error.exit, BERTD_EXIT_DATA);
                if (!strstr(error.text, rows[i].says))
                        fail_msg("row %zu: %s", i, error.text);
        }
}

static void test_length(void **state) {
        static const uint64_t lengths[] = { 3, 1 << 20, UINT64_MAX, UINT64_MAX - 7, 100000001 };

        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                struct error error = {};
                struct safetensors *file = NULL;
                write_file("{}", lengths[i], 0);
                assert_true(safetensors_open(path, &file, &error) < 0);
                assert_non_null(strstr(error.text, "not a whole safetensors file"));
        }
        struct error error = {};
        struct safetensors *file = NULL;
        assert_int_equal(file_write_atomic(path, "{}", 2, 0600, NULL), 0);
        assert_true(safetensors_open(path, &file, &error) < 0);
        assert_non_null(strstr(error.text, "not a safetensors file"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_damage),
                cmocka_unit_test(test_length),
        };
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
