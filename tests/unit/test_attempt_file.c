/* attempt.json as bertd writes it is what the shim reads; one of an older bertd, and what is none. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/attempt_file.h"
#include "common/cleanup.h"
#include "common/file.h"

#define S(text) ((char[]) { text })

static char path[] = "/tmp/bertd-attempt.XXXXXX";

static int read_text(const char *text, struct attempt_spec *ret, struct error *error) {
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0 && write_all(fd, text, strlen(text)) == 0);
        return attempt_file_read(path, ret, error);
}

static void write_and_read(const struct attempt_spec *a, struct attempt_spec *ret) {
        cleanup_free char *text = attempt_file_write(a);

        assert_non_null(text);
        assert_int_equal(read_text(text, ret, NULL), 0);
}

static void test_written_and_read(void **state) {
        struct known_checkpoint rows[] = { { 10, NULL, false }, { 20, S("/r/a b"), false }, { 30, S("/r/c"), true } };
        struct attempt_spec a = {
                .job = 7,
                .number = 3,
                .nonce = S("0a"),
                .kind = JOB_COMMAND,
                .argv = (char *[]) { S("python"), S("train.py"), S("\xc3\xa4"), NULL },
                .environment = (char *[]) { S("A=b=c"), S("E="), NULL },
                .cwd = S("/w"),
                .log = S("/r/log"),
                .socket = S("/s"),
                .umask = 027,
                .nice = -3,
                .cpu_list = S("0-3,8"),
                .scheduling = { .policy = SCHED_BATCH, .io_class = 2, .io_level = 7 },
                .rlimits = { { RLIMIT_NOFILE, { 1024, RLIM_INFINITY } }, { RLIMIT_CORE, { 0, 5 } } },
                .n_rlimits = 2,
                .grace_usec = 30000000,
                .log_max_bytes = 1u << 30,
                .log_keep = 4,
                .hang_sec = -1,
                .start_sec = 60,
                .stop_by_term = true,
                .ends_with = ENDS_WITH_LAST,
                .ran = true,
                .known = { .rows = rows, .n = 3, .aside = (uint64_t[]) { 15, 25 }, .n_aside = 2, .until = 20 }
        };
        struct attempt_spec b;

        write_and_read(&a, &b);
        assert_true(b.job == 7 && b.number == 3 && b.kind == JOB_COMMAND && b.umask == 027 && b.nice == -3);
        assert_string_equal(b.nonce, "0a");
        assert_string_equal(b.cwd, "/w");
        assert_string_equal(b.log, "/r/log");
        assert_string_equal(b.cpu_list, "0-3,8");
        assert_string_equal(b.argv[2], a.argv[2]);
        assert_string_equal(b.environment[0], "A=b=c");
        assert_true(!b.argv[3] && !b.environment[2]);
        assert_memory_equal(&b.scheduling, &a.scheduling, sizeof(a.scheduling));
        assert_int_equal(b.n_rlimits, 2);
        assert_memory_equal(b.rlimits, a.rlimits, 2 * sizeof(a.rlimits[0]));
        assert_true(b.grace_usec == a.grace_usec && b.log_max_bytes == a.log_max_bytes && b.log_keep == 4);
        assert_true(b.hang_sec == -1 && b.start_sec == 60);
        assert_true(b.stop_by_term && b.ends_with == ENDS_WITH_LAST && b.ran && b.lists);
        assert_true(b.known.n == 3 && b.known.until == 20 && b.known.n_aside == 2 && b.known.aside[1] == 25);
        assert_true(!b.known.rows[0].path && b.known.rows[0].step == 10 && b.known.rows[2].unconfirmed);
        assert_string_equal(b.known.rows[1].path, "/r/a b");
        attempt_file_free(&b);
}

static void test_defaults(void **state) {
        struct attempt_spec a = { .job = 1,
                                  .number = 1,
                                  .nonce = S("0"),
                                  .kind = JOB_PRETRAIN,
                                  .cwd = S("/"),
                                  .log = S("/l"),
                                  .socket = S("/s"),
                                  .argv = (char *[]) { S("t"), NULL },
                                  .known.until = UINT64_MAX };
        struct attempt_spec b;

        write_and_read(&a, &b);
        assert_true(!b.stop_by_term && b.ends_with == ENDS_WITH_FIRST && !b.ran && b.nice == 0 && !b.cpu_list);
        assert_true(b.n_rlimits == 0 && b.known.n == 0 && b.known.until == UINT64_MAX && !b.environment[0]);
        attempt_file_free(&b);
        assert_int_equal(read_text("{\"version\": 1, \"nonce\": \"0\", \"kind\": \"command\", \"cwd\": \"/\","
                                   " \"log\": \"/l\", \"argv\": [\"x\"], \"environment\": [], \"later\": 1}",
                                   &b, NULL),
                         0);
        assert_true(!b.lists && b.hang_sec == -1 && b.start_sec == -1 && b.log_keep == 0);
        attempt_file_free(&b);
}

static void test_refused(void **state) {
        static const char *const texts[] = {
                "",
                "[]",
                "{",
                "{\"version\": 2}",
                "{\"version\": 1, \"nonce\": \"\", \"kind\": \"command\", \"cwd\": \"/\", \"log\": \"/l\"}",
                "{\"version\": 1, \"nonce\": \"0\", \"kind\": \"zork\", \"cwd\": \"/\", \"log\": \"/l\"}",
                "{\"version\": 1, \"nonce\": \"0\", \"kind\": \"command\", \"cwd\": \"/\", \"log\": \"/l\","
                " \"argv\": [], \"environment\": []}",
                "{\"version\": 1, \"nonce\": \"0\", \"kind\": \"command\", \"cwd\": \"/\", \"log\": \"/l\","
                " \"argv\": [1], \"environment\": []}",
        };
        struct attempt_spec a;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                struct error error = {};
                assert_true(read_text(texts[i], &a, &error) < 0);
                assert_true(error.exit == BERTD_EXIT_DATA && strstr(error.text, path));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_written_and_read),
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_refused),
        };
        cleanup_close int fd = mkstemp(path);

        if (fd < 0)
                return 99;
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        (void) unlink(path);
        return failed;
}
