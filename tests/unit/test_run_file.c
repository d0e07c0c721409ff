/* RUN_DIR/bertd.json: what is written is read, wherever the folder is; what is out of range, or no such file. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/run_file.h"

#define S(text) ((char[]) { text })

static char folder[] = "/tmp/bertd-run-file.XXXXXX";

static void put(const char *text) {
        cleanup_free char *path = format_string("%s/" RUN_FILE, folder);
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0 && write_all(fd, text, strlen(text)) == 0);
}

static void test_written_and_read(void **state) {
        struct run_checkpoint rows[] = { { 10, RUN_GOOD, NULL },
                                         { 20, RUN_DEMOTED, NULL },
                                         { 30, RUN_UNCONFIRMED, S("/there/run/a b") },
                                         { 40, RUN_GOOD, S("/other/c") } };
        struct run_file a = { .name = S("\xc3\xa4 \"x\""),
                              .host = S("h1"),
                              .job = 42,
                              .attempt = 3,
                              .counters = { 2, 5, 1000, 2000000, 3000000, S("killed=5 oom=7") },
                              .checkpoints = rows,
                              .n = 4,
                              .updated = 17 };
        struct run_file b;
        cleanup_free char *text = run_file_write(&a, "/there/run"), *moved = format_string("%s/a b", folder);

        put(text);
        assert_int_equal(run_file_read(folder, &b, NULL), 0);
        assert_string_equal(b.name, a.name);
        assert_string_equal(b.host, "h1");
        assert_true(b.job == 42 && b.attempt == 3 && b.updated == 17 && b.n == 4);
        assert_true(b.counters.deaths == 2 && b.counters.free_deaths == 5 && b.counters.run_steps == 1000);
        assert_true(b.counters.run_usec == 2000000 && b.counters.active_usec == 3000000);
        assert_string_equal(b.counters.lost, "killed=5 oom=7");
        for (size_t i = 0; i < b.n; i++)
                assert_true(b.checkpoints[i].step == rows[i].step && b.checkpoints[i].state == rows[i].state);
        assert_null(b.checkpoints[0].path);
        assert_string_equal(b.checkpoints[2].path, moved); /* the folder was copied */
        assert_string_equal(b.checkpoints[3].path, "/other/c");
        run_file_clear(&b);
}

static void test_out_of_range(void **state) {
        struct run_file f;

        put("{\"version\": 1, \"name\": \"n\", \"job\": -1, \"future\": [], \"counters\": {\"deaths\": -5, "
            "\"run_steps\": 1e300, \"run_usec\": 9000000000000000000, \"lost\": 7}, \"checkpoints\": [7, "
            "{\"step\": 0, \"state\": \"good\"}, {\"step\": 5, \"state\": \"best\"}, {\"step\": -5, \"state\": "
            "\"good\"}, {\"step\": 6, \"state\": \"good\", \"path\": 5}]}");
        assert_int_equal(run_file_read(folder, &f, NULL), 0);
        assert_true(f.job == 0 && f.counters.deaths == 0 && f.counters.run_steps == 0 && f.counters.run_usec == 0);
        assert_true(!f.counters.lost && f.n == 1 && f.checkpoints[0].step == 6 && !f.checkpoints[0].path);
        run_file_clear(&f);
}

static void test_many(void **state) {
        struct run_checkpoint rows[BERTD_PAST_CHECKPOINTS_MAX + 10];
        struct run_file a = {
                .name = S("n"), .host = S(""), .checkpoints = rows, .n = BERTD_PAST_CHECKPOINTS_MAX + 10
        };
        struct run_file b;

        for (size_t i = 0; i < a.n; i++)
                rows[i] = (struct run_checkpoint) { .step = i + 1 };
        cleanup_free char *text = run_file_write(&a, folder);
        put(text);
        assert_int_equal(run_file_read(folder, &b, NULL), 0);
        assert_int_equal(b.n, BERTD_PAST_CHECKPOINTS_MAX);
        run_file_clear(&b);
}

static void test_not_one(void **state) {
        static const char *const texts[] = { "", "[]", "{", "{\"version\": 2, \"name\": \"n\"}", "{\"version\": 1}" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                struct error error = {};
                struct run_file f;
                put(texts[i]);
                assert_true(run_file_read(folder, &f, &error) < 0);
                assert_int_equal(error.exit, BERTD_EXIT_DATA);
                assert_non_null(strstr(error.text, RUN_FILE));
        }
}

static int setup(void **state) { return mkdtemp(folder) ? 0 : -1; }

static int teardown(void **state) {
        cleanup_free char *path = format_string("%s/" RUN_FILE, folder);

        return unlink(path) + rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_written_and_read),
                                            cmocka_unit_test(test_out_of_range), cmocka_unit_test(test_many),
                                            cmocka_unit_test(test_not_one) };

        return cmocka_run_group_tests(tests, setup, teardown);
}
