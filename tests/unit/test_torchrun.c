/* torchrun's report of its first failure, in outputs that are long, cut, or made up, and its error file. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/shim/torchrun.h"
#include "tests/unit/folder.h"

/* As PyTorch 2.8 writes it. */
#define REPORT(rank, code)                                               \
        "============================================================\n" \
        "train.py FAILED\n"                                              \
        "------------------------------------------------------------\n" \
        "Failures:\n"                                                    \
        "[1]:\n"                                                         \
        "  time      : 2026-11-29_20:11:12\n"                            \
        "  host      : node\n"                                           \
        "  rank      : 9 (local_rank: 1)\n"                              \
        "  exitcode  : 9 (pid: 8)\n"                                     \
        "------------------------------------------------------------\n" \
        "Root Cause (first observed failure):\n"                         \
        "[0]:\n"                                                         \
        "  time      : 2026-11-29_20:11:11\n"                            \
        "  host      : node\n"                                           \
        "  rank      : " rank " (local_rank: 0)\n"                       \
        "  exitcode  : " code " (pid: 7)\n"                              \
        "  error_file: /tmp/error.json\n"                                \
        "  traceback : ValueError: shapes differ\n"

/* Exactly `text`, without a NUL after it, so that a sanitizer sees what is read beyond. */
static bool cause(const char *text, struct torchrun_cause *ret) {
        size_t n = strlen(text);
        cleanup_free char *copy = n > 0 ? malloc(n) : NULL;

        if (n > 0)
                memcpy(copy, text, n);
        return torchrun_cause(copy, n, ret);
}

static void test_cause(void **state) {
        struct torchrun_cause c = {};

        assert_false(cause("", &c));
        assert_false(cause("train.py FAILED\n", &c));
        assert_true(cause("step 1\n" REPORT("3", "1"), &c));
        assert_true(c.rank == 3 && c.exit_code == 1 && c.signal == 0);
        assert_true(cause(REPORT("0", "-11"), &c));
        assert_true(c.rank == 0 && c.exit_code == -1 && c.signal == 11);
        assert_true(cause(REPORT("1", "1") REPORT("5", "-9") "exit\n", &c)); /* of several the last */
        assert_true(c.rank == 5 && c.signal == 9);
}

/* A report that is cut anywhere before its exit code is none, and nothing is changed. */
static void test_cut(void **state) {
        static const char whole[] = REPORT("3", "1");
        const size_t until = (size_t) (strstr(whole, "  exitcode  : 1") + strlen("  exitcode  : ") - whole);
        static const char nul[] = "Root Cause (first observed failure):\0\n  rank : 1\n  exitcode : 1";
        struct torchrun_cause c = { .rank = 77 };

        for (size_t n = 0; n <= until; n++) {
                cleanup_free char *text = strndup(whole, n);
                assert_false(cause(text, &c));
                assert_int_equal(c.rank, 77);
        }
        cleanup_free char *text = strndup(whole, until + 1);
        assert_true(cause(text, &c));
        assert_int_equal(c.rank, 3);
        /* What comes too late, or after a NUL, is not of this report. */
        cleanup_free char *late = malloc(8192);
        memset(late, ' ', 8192);
        memcpy(late, "Root Cause (first observed failure):\n  rank : 1", 47);
        memcpy(late + 8000, "\n  exitcode : 1 ", 16);
        assert_false(torchrun_cause(late, 8192, &c));
        assert_false(torchrun_cause(nul, sizeof(nul), &c));
}

static void test_hostile_numbers(void **state) {
        static const char *const reports[] = {
                REPORT("-1", "1"),
                REPORT("", "1"),
                REPORT("x", "1"),
                REPORT("1000001", "1"),
                REPORT("99999999999999999999999", "1"),
                REPORT("1", ""),
                REPORT("1", "N/A"),
                REPORT("1", "256"),
                REPORT("1", "-65"),
                REPORT("1", "-2147483648"),
                REPORT("1", "-9223372036854775808"),
        };
        struct torchrun_cause c = {};

        for (size_t i = 0; i < ELEMENTSOF(reports); i++)
                if (cause(reports[i], &c))
                        fail_msg("%zu: rank %d, exit code %d, signal %d", i, c.rank, c.exit_code, c.signal);
        assert_true(cause(REPORT("1000000", "255"), &c) && c.rank == 1000000 && c.exit_code == 255);
        assert_true(cause(REPORT("1", "-64"), &c) && c.signal == 64);
}

static void test_child_code(void **state) {
        static const struct {
                const char *text;
                int code; /* 0: none */
        } rows[] = {
                { "step 1\nsubprocess.CalledProcessError: Command '['python', 'a']' returned non-zero exit status "
                  "75.\n",
                  75 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 255.\r\n\n", 255 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 256.", 0 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 0.", 0 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status -9.", 0 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 75", 0 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status .", 0 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 75. ' died", 0 },
                { "subprocess.CalledProcessError: Command 'x' died with <Signals.SIGKILL: 9>.", 0 },
                { "subprocess.CalledProcessError: Command ", 0 },
                { "subprocess.CalledProcessError: Command 'x' returned non-zero exit status 75.\nstep 2\n", 0 },
                { " returned non-zero exit status 75.", 0 },
                { "\n", 0 },
                { "", 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                size_t n = strlen(rows[i].text);
                cleanup_free char *copy = malloc(n + (n == 0)); /* without a NUL */
                memcpy(copy, rows[i].text, n);
                int code = 0;
                if (torchrun_child_code(copy, n, &code) != (rows[i].code != 0) || code != rows[i].code)
                        fail_msg("%s: %d", rows[i].text, code);
        }
}

static void test_exception(void **state) {
        static const struct {
                const char *text, *expected; /* NULL: none */
        } files[] = {
                { "{\"message\": {\"message\": \"ValueError: a\", \"extraInfo\": {\"timestamp\": \"1\"}}}",
                  "ValueError: a" },
                { "{\"message\": \"RuntimeError: b\"}", "RuntimeError: b" },
                { "{\"message\": {\"message\": \"\"}}", NULL },
                { "{\"message\": {\"message\": 7}}", NULL },
                { "{\"message\": [\"x\"]}", NULL },
                { "{\"message\": {\"message\": \"cut", NULL },
                { "\"text\"", NULL },
                { "", NULL },
        };
        char *folder = make_folder();
        cleanup_free char *path = format_string("%s/" TORCHRUN_ERROR_FILE, folder);
        cleanup_close int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_null(torchrun_exception(dir));
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                assert_int_equal(file_write_atomic(path, files[i].text, strlen(files[i].text), 0600, NULL), 0);
                cleanup_free char *text = torchrun_exception(dir);
                if (files[i].expected)
                        assert_string_equal(text, files[i].expected);
                else
                        assert_null(text);
        }
        assert_int_equal(unlink(path), 0);
        assert_int_equal(symlink("/etc/passwd", path), 0);
        assert_null(torchrun_exception(dir));
        remove_folder(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cause),           cmocka_unit_test(test_cut),
                cmocka_unit_test(test_hostile_numbers), cmocka_unit_test(test_child_code),
                cmocka_unit_test(test_exception),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
