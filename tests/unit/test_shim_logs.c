/* The files of an attempt's log: what rotation keeps of the beginning and the end, how much all of them take, and what
 * becomes of output when somebody removes, moves, truncates or replaces them, or the disk is full. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/logs.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/shim/log.h"
#include "tests/unit/folder.h"

#define LINE 16 /* bytes of a numbered line */
#define AT_ONCE 37
#define SLACK 1024

static char *folder;
static struct shim_log shim_log;
static uint64_t next; /* line's number */

static char *path_of(const char *suffix) {
        static char path[256];

        (void) snprintf(path, sizeof(path), "%s/log%s", folder, suffix);
        return path;
}

static void open_log(uint64_t max_bytes, unsigned keep) {
        struct error error = {};

        next = 0;
        assert_int_equal(shim_log_open(&shim_log, path_of(""), max_bytes, keep, &error), 0);
}

/* Several at a time, as a pipe is read. */
static void write_lines(uint64_t n) {
        char lines[AT_ONCE * LINE + 1];

        while (n > 0) {
                size_t now = MIN(n, (uint64_t) AT_ONCE);
                for (size_t i = 0; i < now; i++)
                        (void) snprintf(lines + i * LINE, LINE + 1, "%015llu\n", (unsigned long long) next++);
                shim_log_write(&shim_log, lines, now * LINE);
                n -= now;
        }
}

/* The text of a file, "" where there is none; caller frees. */
static char *text_of(const char *suffix) {
        struct error error = {};
        char *text = NULL;
        size_t size;

        if (file_read(path_of(suffix), 8 << 20, &text, &size, &error) < 0)
                text = strdup("");
        assert_non_null(text);
        return text;
}

static bool has(const char *suffix, const char *words) {
        cleanup_free char *text = text_of(suffix);
        return strstr(text, words) != NULL;
}

static void check_line(const char *at, uint64_t number) { assert_int_equal(strtoull(at, NULL, 10), number); }

/* The file ends with the line that was written last. */
static void check_end(void) {
        cleanup_free char *text = text_of("");
        size_t n = strlen(text);

        assert_true(n >= LINE);
        check_line(text + n - LINE, next - 1);
}

/* Bytes of log, log.1, ... */
static uint64_t size_of_all(void) {
        uint64_t sum = 0;
        struct stat st;
        char suffix[8] = "";

        for (int i = 0; i < 20; i++) {
                if (i > 0)
                        (void) snprintf(suffix, sizeof(suffix), ".%d", i);
                if (lstat(path_of(suffix), &st) == 0 && S_ISREG(st.st_mode))
                        sum += (uint64_t) st.st_size;
        }
        return sum;
}

static void test_nothing_is_dropped_below_the_bound(void **state) {
        struct stat st;

        open_log(64 << 10, 2);
        write_lines((64 << 10) / LINE);
        assert_int_equal(size_of_all(), 64 << 10);
        assert_int_equal(lstat(path_of(".first"), &st), -1);
        assert_int_equal(lstat(path_of(".2"), &st), -1);
}

/* With pieces greater and smaller than the beginning that is kept, and files of each allowed number. */
static void check_rotation(uint64_t max_bytes, unsigned keep) {
        open_log(max_bytes, keep);
        write_lines((2 * max_bytes + 3 * BERTD_LOG_FIRST) / LINE + 5);
        cleanup_free char *first = text_of(".first"), *text = text_of("");
        const char *note = strstr(first, "bertd: ");

        assert_true(size_of_all() <= max_bytes);
        assert_true(size_of_all() > max_bytes / keep * (keep - 1));
        check_end();
        assert_non_null(note);
        assert_int_equal(note - first, BERTD_LOG_FIRST);
        for (uint64_t i = 0; i < BERTD_LOG_FIRST / LINE; i++)
                check_line(first + i * LINE, i);
        assert_int_equal(strtoull(note + strlen("bertd: "), NULL, 10), next * LINE - BERTD_LOG_FIRST - size_of_all());
        assert_non_null(strstr(note, BERTD_LOG_DROPPED));
        if (keep > 1) { /* each goes on where the older one ends */
                cleanup_free char *older = text_of(".1");
                check_line(text, strtoull(older + strlen(older) - LINE, NULL, 10) + 1);
        }
        remove_folder(folder);
        shim_log_close(&shim_log);
        folder = make_folder();
}

static void test_rotation(void **state) {
        check_rotation(4 << 20, 2);
        check_rotation(3 << 20, 1);
        check_rotation(128 << 10, 2);
        check_rotation(640 << 10, 5);
        check_rotation(64 << 10, BERTD_LOG_KEEP_MAX);
        open_log(64 << 10, 2);
}

/* Cut in the middle of a line the beginning still ends before the note. */
static void test_no_lines_at_all(void **state) {
        cleanup_free char *data = malloc(100000);

        assert_non_null(data);
        memset(data, 'x', 100000);
        open_log(64 << 10, 2);
        for (int i = 0; i < 20; i++)
                shim_log_write(&shim_log, data, 100000);
        assert_true(size_of_all() <= 64 << 10);
        assert_true(has(".first", "xx\nbertd: "));
}

static void test_removed(void **state) {
        open_log(64 << 10, 2);
        write_lines(100);
        assert_int_equal(unlink(path_of("")), 0);
        shim_log_look(&shim_log); /* the job is silent */
        assert_true(has("", "bertd: the log was removed: 1600 bytes of older output were dropped with it\n"));
        write_lines(10000);
        assert_true(size_of_all() <= (64 << 10) + SLACK);
        check_end();
}

static void test_moved(void **state) {
        cleanup_free char *moved = strdup(path_of(".old"));
        struct stat st;

        open_log(64 << 10, 2);
        write_lines(100);
        assert_int_equal(rename(path_of(""), moved), 0);
        write_lines(1);
        assert_int_equal(lstat(moved, &st), 0);
        assert_int_equal(st.st_size, 100 * LINE);
        assert_true(has("", "bertd: the log was moved or replaced: 1600 bytes of older output went with it\n"));
        check_end();
}

static void test_truncated(void **state) {
        open_log(64 << 10, 2);
        write_lines(100);
        assert_int_equal(truncate(path_of(""), 0), 0);
        write_lines(1);
        cleanup_free char *text = text_of("");
        assert_ptr_equal(strstr(text, "bertd: the log was truncated: 1600 bytes of older output were dropped\n"), text);
        check_end();
}

static void test_others_write_to_it_too(void **state) {
        open_log(64 << 10, 2);
        for (int i = 0; i < 40; i++) {
                cleanup_fclose FILE *f = fopen(path_of(""), "a");
                assert_non_null(f);
                for (int k = 0; k < 100; k++)
                        assert_true(fprintf(f, "another's line\n") > 0);
                (void) fflush(f);
                write_lines(100);
        }
        assert_true(size_of_all() <= (64 << 10) + 4096);
        check_end();
}

static void replace_by_folder(const char *path) { assert_int_equal(mkdir(path, 0755), 0); }
static void replace_by_link(const char *path) { assert_int_equal(symlink("/dev/null", path), 0); }
static void replace_by_fifo(const char *path) { assert_int_equal(mkfifo(path, 0644), 0); }

static void test_something_else_in_its_place(void **state) {
        static void (*const replace[])(const char *) = { replace_by_folder, replace_by_link, replace_by_fifo };
        struct stat st;

        open_log(64 << 10, 2);
        for (size_t i = 0; i < ELEMENTSOF(replace); i++) {
                char aside[32];
                write_lines(5000); /* and rotates */
                assert_int_equal(unlink(path_of("")), 0);
                replace[i](path_of(""));
                write_lines(1);
                assert_int_equal(lstat(path_of(""), &st), 0);
                assert_true(S_ISREG(st.st_mode));
                check_end();
                (void) snprintf(aside, sizeof(aside), ".aside-%zu", i + 1);
                assert_int_equal(lstat(path_of(aside), &st), 0);
                assert_false(S_ISREG(st.st_mode));
        }
        assert_int_equal(unlink(path_of(".1")), 0);
        replace_by_folder(path_of(".1"));
        replace_by_link(path_of(".first.x"));
        write_lines(5000);
        check_end();
        assert_true(size_of_all() <= (64 << 10) + SLACK);
}

static void test_folder_removed(void **state) {
        cleanup_free char *job = strdup(path_of("s/attempt-1/log")), *above = strdup(path_of("s"));
        cleanup_free char *attempt = strdup(path_of("s/attempt-1"));
        struct error error = {};
        struct stat st;

        assert_int_equal(mkdir(above, 0700) + mkdir(attempt, 0700), 0);
        assert_int_equal(shim_log_open(&shim_log, job, 64 << 10, 2, &error), 0);
        write_lines(1);
        assert_int_equal(unlink(job) + rmdir(attempt) + rmdir(above), 0);
        write_lines(1);
        assert_int_equal(lstat(job, &st), 0);
        assert_true(st.st_size > LINE);
}

/* A log of 100 lines, and 100 more that a disk takes for the smaller part. Returns the limit as it was. */
static struct rlimit fill(void) {
        struct rlimit limit, was;

        open_log(256 << 10, 2);
        write_lines(100);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
        limit = was;
        limit.rlim_cur = 2000;
        (void) signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        write_lines(100);
        return was;
}

/* The disk takes no more for a while. */
static void test_full(void **state) {
        const struct rlimit was = fill();

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        shim_log_look(&shim_log); /* said at once, though the job is silent */
        assert_true(has("", "bertd: 1200 bytes of output are missing here: File too large\n"));
        write_lines(1);
        check_end();
}

/* It ends while the disk takes nothing: the end of the log is given up to say so. */
static void test_full_at_end(void **state) {
        const struct rlimit was = fill();

        shim_log_close(&shim_log);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        assert_true(has("", "\nbertd: 1712 bytes of output are missing here: File too large\n"));
        assert_true(size_of_all() <= 2000);
}

/* The log cannot be renamed: output is dropped rather than the bound. */
static void test_stuck(void **state) {
        open_log(64 << 10, 2);
        assert_int_equal(mkdir(path_of(".1"), 0755), 0);
        for (int i = 1; i <= 8; i++) {
                char suffix[32];
                (void) snprintf(suffix, sizeof(suffix), ".1.aside-%d", i);
                assert_int_equal(mkdir(path_of(suffix), 0755), 0);
        }
        write_lines(20000);
        assert_true(size_of_all() <= (64 << 10) + SLACK);
        assert_true(has("", "bytes of older output were dropped: the log cannot be renamed"));
        check_end();
}

static int begin(void **state) {
        folder = make_folder();
        return 0;
}

static int end(void **state) {
        shim_log_close(&shim_log);
        remove_folder(folder);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_nothing_is_dropped_below_the_bound, begin, end),
                cmocka_unit_test_setup_teardown(test_rotation, begin, end),
                cmocka_unit_test_setup_teardown(test_no_lines_at_all, begin, end),
                cmocka_unit_test_setup_teardown(test_removed, begin, end),
                cmocka_unit_test_setup_teardown(test_moved, begin, end),
                cmocka_unit_test_setup_teardown(test_truncated, begin, end),
                cmocka_unit_test_setup_teardown(test_others_write_to_it_too, begin, end),
                cmocka_unit_test_setup_teardown(test_something_else_in_its_place, begin, end),
                cmocka_unit_test_setup_teardown(test_folder_removed, begin, end),
                cmocka_unit_test_setup_teardown(test_full, begin, end),
                cmocka_unit_test_setup_teardown(test_full_at_end, begin, end),
                cmocka_unit_test_setup_teardown(test_stuck, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
