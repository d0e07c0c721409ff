/* common/: errors, files, numbers, paths, clock, SQLite helper. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/cpu_list.h"
#include "common/db.h"
#include "common/environment.h"
#include "common/error.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/hex.h"
#include "common/nearest.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/proc_files.h"
#include "common/utf8.h"
#include "tests/unit/folder.h"

static void test_arrays(void **state) {
        uint32_t *items = NULL;
        size_t capacity = 0, n_grown = 0, before;

        for (uint32_t n = 0; n < 10000; n++) {
                before = capacity;
                assert_int_equal(array_reserve(&items, &capacity, n + 1, sizeof(*items)), 0);
                n_grown += capacity != before;
                assert_true(capacity > n);
                items[n] = n;
        }
        assert_true(n_grown < 30);
        for (uint32_t n = 0; n < 10000; n++)
                assert_int_equal(items[n], n);
        before = capacity;
        uint32_t *same = items;
        assert_int_equal(array_reserve(&items, &capacity, SIZE_MAX / 4 + 2, sizeof(*items)), -ENOMEM);
        assert_int_equal(array_resize(&items, SIZE_MAX, sizeof(*items)), -ENOMEM);
        assert_ptr_equal(items, same);
        assert_int_equal(capacity, before);
        assert_int_equal(array_resize(&items, 2, sizeof(*items)), 0);
        assert_int_equal(items[1], 1);
        assert_int_equal(array_resize(&items, 0, sizeof(*items)), 0);
        assert_non_null(items);
        free(items);
}

static void test_hex(void **state) {
        char digits[HEX_128_SIZE];

        hex_64(0, digits);
        assert_string_equal(digits, "0000000000000000");
        hex_64(UINT64_C(0x0123456789abcdef), digits);
        assert_string_equal(digits, "0123456789abcdef");
        hex_128(UINT64_MAX, 1, digits);
        assert_string_equal(digits, "ffffffffffffffff0000000000000001");
}

/* This process, which has a known name, and variables of its start. */
static void test_proc_files(void **state) {
        char name[PROC_NAME_SIZE], program[4096], stat[8];
        cleanup_free char *text = NULL, *beginning = NULL, *list = NULL;

        proc_name(getpid(), name);
        assert_string_equal(name, "test_common");
        proc_name(0, name);
        assert_string_equal(name, "");
        executable_self(program, sizeof(program));
        assert_string_equal(strrchr(program, '/'), "/test_common");
        assert_true(proc_read_text(getpid(), "stat", stat, sizeof(stat)));
        assert_int_equal(strlen(stat), sizeof(stat) - 1);
        assert_false(proc_read_text(getpid(), "none", stat, sizeof(stat)));
        assert_string_equal(stat, "");

        assert_int_equal(proc_read_at(AT_FDCWD, "/proc/self/no such file", 9, &text), -1);
        assert_int_equal(errno, ENOENT);
        assert_int_equal(proc_read_file(getpid(), "stat", 10, &beginning), 10);
        assert_int_equal(strlen(beginning), 10);
        assert_true(proc_read_at(AT_FDCWD, "/proc/kallsyms", 100000, &list) >= 0);
        ssize_t size = proc_read_file(getpid(), "environ", 1 << 20, &text);
        assert_true(size > 0);
        assert_string_equal(proc_variable(text, size, "PATH"), getenv("PATH"));
        assert_null(proc_variable(text, size, "PAT"));
        assert_string_equal(proc_variable("AB=1\0A=2\0A=3", 12, "A"), "2");
        assert_null(proc_variable(NULL, -1, "A"));
}

/* A build folder has no such file; an installed one need not exist. */
static void test_programs_beside(void **state) {
        cleanup_free char *own = executable_beside("test_common", "/installed"),
                          *other = executable_beside("none", "/installed");
        char self[4096];

        executable_self(self, sizeof(self));
        assert_string_equal(own, self);
        assert_string_equal(other, "/installed");
}

static void test_error_keeps_the_first(void **state) {
        struct error e = {};

        assert_int_equal(error_errno(&e, ENOSPC, "/a/%s", "b"), -ENOSPC);
        assert_int_equal(error_set(&e, EIO, "second"), -EIO);
        assert_string_equal(e.text, "/a/b: No space left on device");
        assert_int_equal(error_prefix(&e, "job %d", 7), -ENOSPC);
        assert_string_equal(e.text, "job 7: /a/b: No space left on device");
        assert_int_equal(error_report(&e), BERTD_EXIT_IO);
}

static void test_error_is_one_harmless_line(void **state) {
        struct error e = {};

        assert_int_equal(error_input(&e, BERTD_EXIT_CONFIG, "bad\nname\033[2J"), -EINVAL);
        assert_string_equal(e.text, "bad name [2J");
        assert_int_equal(error_report(&e), BERTD_EXIT_CONFIG);

        char big[4096];
        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        struct error f = {};
        error_set(&f, 0, "%s", big);
        assert_int_equal(f.code, EIO);
        assert_int_equal(strlen(f.text), sizeof(f.text) - 1);
        error_prefix(&f, "%s", big);
        assert_true(strlen(f.text) < sizeof(f.text));
}

static void test_file_replacement(void **state) {
        char folder[] = "/tmp/bertd-test-XXXXXX";
        assert_non_null(mkdtemp(folder));
        cleanup_free char *deep = format_string("%s/a/b", folder), *path = format_string("%s/a/b/f", folder);
        cleanup_free char *data = NULL;
        struct error e = {};
        size_t size;

        assert_int_equal(mkdir_parents(deep, 0700, &e), 0);
        assert_int_equal(mkdir_parents(deep, 0700, &e), 0);
        assert_int_equal(file_write_atomic(path, "one", 3, 0600, &e), 0);
        assert_int_equal(file_write_atomic(path, "three", 5, 0600, &e), 0);
        assert_int_equal(file_read(path, 5, &data, &size, &e), 0);
        assert_int_equal(size, 5);
        assert_string_equal(data, "three");

        char *none = NULL;
        assert_int_equal(file_read(path, 4, &none, NULL, &e), -EFBIG);
        struct error f = {};
        assert_int_equal(file_read(deep, 4, &none, NULL, &f), -EINVAL);
        assert_null(none);
        struct error g = {};
        assert_int_equal(mkdir_parents(path, 0700, &g), -ENOTDIR);

        struct error h = {};
        assert_int_equal(file_write_atomic("/dev/full", "x", 1, 0600, &h), -EINVAL);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(deep), 0); /* no temporary file was left */
        cleanup_free char *a = format_string("%s/a", folder);
        assert_int_equal(rmdir(a), 0);
        assert_int_equal(rmdir(folder), 0);
}

/* One process writes a file at a time, and what it has renamed is not emptied by another that had opened it before. */
static void test_claimed_file(void **state) {
        char *folder = make_folder(), *data;
        cleanup_free char *temporary = format_string("%s/x.tmp", folder), *whole = format_string("%s/x", folder);
        struct error error = {};
        size_t size;

        int first = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_int_equal(write_all(first, "left by one that was killed", 27), 0);
        assert_int_equal(file_claim(first, temporary), 0);
        int second = open(temporary, O_WRONLY | O_CLOEXEC);
        assert_int_equal(file_claim(second, temporary), -EWOULDBLOCK);
        assert_int_equal(pwrite(first, "whole", 5, 0), 5);
        assert_int_equal(rename(temporary, whole), 0);
        assert_int_equal(close(first), 0);
        assert_int_equal(file_claim(second, temporary), -EWOULDBLOCK);
        assert_int_equal(close(second), 0);
        assert_int_equal(file_read(whole, 100, &data, &size, &error), 0);
        assert_string_equal(data, "whole");
        free(data);
        remove_folder(folder);
}

static void test_paths_are_normalised(void **state) {
        static const struct {
                const char *base, *path, *want;
        } cases[] = {
                { "/w", "a", "/w/a" },       { "/w/", "./a//b/.", "/w/a/b" },
                { "/w", "/x/./y", "/x/y" },  { "/", "a", "/a" },
                { "/w", ".", "/w" },         { "/", "/", "/" },
                { "/w", "../a", "/w/../a" }, { "/w", ".hidden", "/w/.hidden" },
                { "/", ".", "/" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                cleanup_free char *got = path_absolute(cases[i].base, cases[i].path);
                assert_string_equal(got, cases[i].want);
        }
}

static void test_home(void **state) {
        static const struct {
                const char *path, *want; /* NULL: refused */
        } cases[] = { { "~", "/home/a" }, { "~/x", "/home/a/x" }, { "./~/x", "/w/~/x" }, { "x~", "/w/x~" },
                      { "/~/x", "/~/x" }, { "~bob/x", NULL },     { "~x", NULL } };
        struct error e = {};

        assert_int_equal(setenv("HOME", "/home/a", 1), 0);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                cleanup_free char *got = NULL;
                struct error error = {};
                assert_int_equal(paths_expand("/w", cases[i].path, &got, &error), cases[i].want ? 0 : -EINVAL);
                if (cases[i].want)
                        assert_string_equal(got, cases[i].want);
        }
        assert_int_equal(mkdir_parents("~/x", 0700, &e), -EINVAL);
        assert_string_equal(e.text, "~/x: a shell leaves ~ as it is after '='; write $HOME/x");
        assert_int_equal(access("~", F_OK), -1);
}

static void test_nearest(void **state) {
        static const char *const names[] = { "status", "list", "grace_sec", "run_dir", "rm" };
        static const struct {
                const char *word, *want;
        } cases[] = { { "sttaus", "status" },
                      { "lsit", "list" },
                      { "lst", "list" },
                      { "grace", "grace_sec" },
                      { "grcae", "grace_sec" },
                      { "run-dir", "run_dir" },
                      { "rundir", "run_dir" },
                      { "rmm", "rm" },
                      { "x", NULL },
                      { "foo", NULL },
                      { "", NULL },
                      { "statement", NULL },
                      { "stat", "status" },
                      { "st", NULL },
                      { "a-word-that-is-longer-than-any-slip-of-a-hand", NULL } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const char *got = nearest_of(cases[i].word, names, ELEMENTSOF(names));
                if (cases[i].want && got)
                        assert_string_equal(got, cases[i].want);
                else
                        assert_ptr_equal(got, cases[i].want);
        }
        assert_string_equal(nearest_of("gpu", (const char *const[]) { "auto", "cpu", "cuda" }, 3), "cuda");
}

static void test_cpu_lists(void **state) {
        static const char *const good[] = { "0", "0-3,8", "1,3,5", "8191", "0-8191" };
        static const char *const bad[] = { "", "x", "3-1", "1,1", "0,", ",0", "-1", "8192", "1-", "0 1", "2,1" };
        struct cpu_list list = {};
        char text[64];

        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(cpu_list_read(good[i], &list), 0);
                assert_string_equal(cpu_list_write(&list, text, sizeof(text)), good[i]);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(cpu_list_read(bad[i], &list), -EINVAL);
        assert_int_equal(cpu_list_read("1,3,5", &list), 0);
        assert_string_equal(cpu_list_write(&list, text, 5), ""); /* none rather than a part */
}

static void test_numbers(void **state) {
        uint64_t u = 7;
        int64_t i = 7;
        double d = 7;

        assert_int_equal(parse_u64("18446744073709551615", 0, UINT64_MAX, &u), 0);
        assert_true(u == UINT64_MAX);
        assert_int_equal(parse_u64("18446744073709551616", 0, UINT64_MAX, &u), -ERANGE);
        assert_int_equal(parse_u64("-1", 0, 10, &u), -EINVAL);
        assert_int_equal(parse_u64("1x", 0, 10, &u), -EINVAL);
        assert_int_equal(parse_u64("", 0, 10, &u), -EINVAL);
        assert_int_equal(parse_u64("11", 0, 10, &u), -ERANGE);
        assert_int_equal(parse_i64("-5", -10, 10, &i), 0);
        assert_int_equal(i, -5);
        assert_int_equal(parse_i64("-", -10, 10, &i), -EINVAL);
        assert_int_equal(parse_i64("--1", -10, 10, &i), -EINVAL);
        assert_int_equal(parse_double("0.15", 0, 1, &d), 0);
        assert_int_equal(parse_double("nan", 0, 1, &d), -EINVAL);
        assert_int_equal(parse_double("inf", 0, 1, &d), -EINVAL);
        assert_int_equal(parse_double("1.5", 0, 1, &d), -ERANGE);
        assert_true(d == 0.15);
}

static void test_state_and_socket(void **state) {
        cleanup_free char *dir = NULL, *socket = NULL, *system = NULL;
        struct error e = {};

        unsetenv("BERTD_SOCKET");
        unsetenv("XDG_RUNTIME_DIR");
        setenv("BERTD_STATE_DIR", "/tmp/./x", 1);
        assert_int_equal(paths_state_dir(NULL, &dir, &e), 0);
        assert_string_equal(dir, "/tmp/x");
        assert_int_equal(paths_socket(NULL, dir, &system, &e), 0);
        assert_string_equal(system, geteuid() == 0 ? BERTD_SYSTEM_SOCKET : "/tmp/x/bertd.sock");
        setenv("BERTD_SOCKET", "/run/other.sock", 1);
        assert_int_equal(paths_socket(NULL, dir, &socket, &e), 0);
        assert_string_equal(socket, "/run/other.sock");

        char *none = NULL, long_path[200];
        memset(long_path, 'a', sizeof(long_path) - 1);
        long_path[0] = '/';
        long_path[sizeof(long_path) - 1] = '\0';
        assert_int_equal(paths_socket(long_path, dir, &none, &e), -ENAMETOOLONG);
        assert_null(none);
        unsetenv("BERTD_SOCKET");
        unsetenv("BERTD_STATE_DIR");
}

static void test_user_socket(void **state) {
        cleanup_free char *runtime = NULL, *home = NULL;
        struct error e = {};

        setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
        assert_int_equal(paths_user_socket(&runtime, &e), 0);
        assert_string_equal(runtime, "/run/user/7/bertd/bertd.sock");
        unsetenv("XDG_RUNTIME_DIR");
        setenv("XDG_STATE_HOME", "/h/state", 1);
        assert_int_equal(paths_user_socket(&home, &e), 0);
        assert_int_equal(strncmp(home, "/h/state/bertd/", 15), 0);
        unsetenv("XDG_STATE_HOME");
}

static void test_times(void **state) {
        char text[CLOCK_ISO8601_MAX];

        assert_string_equal(clock_format_iso8601(0, text), "");
        assert_string_equal(clock_format_iso8601(1700000000 * USEC_PER_SEC + 999999, text), "2023-11-14T22:13:20Z");
        uint64_t before = clock_boottime_usec();
        assert_true(clock_boottime_usec() >= before);
}

static void test_utf8(void **state) {
        static const struct {
                const char *bytes;
                size_t length;
        } rows[] = {
                { "a", 1 },
                { "\xc3\xa9", 2 },
                { "\xc3", 0 },
                { "\xc0\x80", 0 },     /* overlong */
                { "\xed\xa0\x80", 0 }, /* a surrogate */
                { "\xef\xbf\xbd", 3 },
                { "\xef\xbf\xbe", 0 }, /* U+FFFE */
                { "\xef\xb7\x90", 0 }, /* U+FDD0 */
                { "\xef\xb7\x8f", 3 },
                { "\xf0\x9f\x98\x80", 4 },
                { "\xf2\xbf\xbf\xbf", 0 }, /* U+BFFFF */
                { "\xf4\x90\x80\x80", 0 }, /* beyond U+10FFFF */
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                assert_int_equal(utf8_character(rows[i].bytes, strlen(rows[i].bytes)), rows[i].length);
        assert_int_equal(utf8_character("", 0), 0);
}

static void test_variables(void **state) {
        static const struct {
                const char *assignment;
                enum variable_owner owner;
        } rows[] = {
                { "BERTD_NOTICE_REPEATED=1", VARIABLE_BERTD },
                { "LISTEN_ADDR=:80", VARIABLE_JOB },
                { "WATCHDOG_DIR=/w", VARIABLE_JOB },
                { "LISTEN_FDS_X=1", VARIABLE_JOB },
                { "LISTEN_FD=1", VARIABLE_JOB },
                { "NOTIFY_SOCKET_DIR=/n", VARIABLE_JOB },
                { "BERTD_RESUME_LATER=1", VARIABLE_JOB },
                { "BERTD_SOCKET=/s", VARIABLE_JOB },
                { "PMIX_MCA_psec=native", VARIABLE_JOB },
                { "OMPI_MCA_btl=self", VARIABLE_JOB },
                { "LISTEN_FDS=3", VARIABLE_MANAGER },
                { "LISTEN_PID=1", VARIABLE_MANAGER },
                { "LISTEN_FDNAMES=a", VARIABLE_MANAGER },
                { "NOTIFY_SOCKET=/n", VARIABLE_MANAGER },
                { "WATCHDOG_USEC=1", VARIABLE_MANAGER },
                { "WATCHDOG_PID=1", VARIABLE_MANAGER },
                { "INVOCATION_ID=0", VARIABLE_MANAGER },
                { "JOURNAL_STREAM=8:1", VARIABLE_MANAGER },
                { "LINES=24", VARIABLE_MANAGER },
                { "PMIX_RANK=0", VARIABLE_MANAGER },
                { "PMI_SIZE=2", VARIABLE_MANAGER },
                { "SLURM_STEP_NUM_TASKS=2", VARIABLE_MANAGER },
                { "SLURM_JOB_ID=7", VARIABLE_JOB },
                { "SLURM_NODELIST=h[1-2]", VARIABLE_JOB },
                { "MV2_COMM_WORLD_SIZE=2", VARIABLE_MANAGER },
                { "OMPI_COMM_WORLD_RANK=0", VARIABLE_MANAGER },
                { "BERTD_NONCE=n", VARIABLE_BERTD },
                { "BERTD_JOB_ID=1", VARIABLE_BERTD },
                { "BERTD_RESUME=", VARIABLE_BERTD },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (variable_owner(rows[i].assignment) != rows[i].owner)
                        fail_msg("%s", rows[i].assignment);
}

static void test_utf8_texts(void **state) {
        assert_true(text_is_utf8("") && text_is_utf8("caf\xc3\xa9"));
        assert_false(text_is_utf8("caf\xc3"));
        assert_false(text_is_utf8("\xff\xc3\xa9"));
        assert_null(text_as_utf8(NULL));
        assert_null(text_as_utf8("caf\xc3\xa9"));
        cleanup_free char *text = text_as_utf8("\xef\xbf\xbe caf\xc3\xa9, cut: \xe2\x82");
        assert_string_equal(text, "??? caf\xc3\xa9, cut: ??");
}

static void test_db_errors(void **state) {
        cleanup_db sqlite3 *db = NULL;
        struct error e = {};

        assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
        assert_int_equal(db_exec(db, "create table t (a integer primary key)", &e), 0);
        cleanup_statement sqlite3_stmt *insert = NULL;
        assert_int_equal(db_prepare(db, "insert into t values (1)", &insert, &e), 0);
        assert_int_equal(db_run(insert, &e), 0);
        assert_int_equal(db_run(insert, &e), -EEXIST);
        assert_non_null(strstr(e.text, "UNIQUE"));
        struct error f = {};
        assert_int_equal(db_exec(db, "selec", &f), -EIO);
        assert_int_equal(db_errno(SQLITE_FULL), ENOSPC);
        assert_int_equal(db_errno(SQLITE_BUSY_SNAPSHOT), EBUSY);
        assert_int_equal(db_errno(SQLITE_CORRUPT_INDEX), EBADMSG);
}

static void test_checkpoint_names(void **state) {
        static const char *const others[] = { "",
                                              "step-",
                                              "step-12.ckpt",
                                              "step-0000000012.ckpt",
                                              "step-000000012.ckpt.tmp",
                                              "step--00000012.ckpt",
                                              "Step-000000012.ckpt",
                                              "step-9223372036854775808.ckpt",
                                              "step-99999999999999999999.ckpt" };
        uint64_t step = 5;

        errno = 0;
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_false(checkpoint_name_read(others[i], &step));
        assert_true(step == 5 && errno == 0); /* whoever reads a folder looks at errno at its end */
        assert_true(checkpoint_name_read("step-000000012.ckpt", &step) && step == 12);
        assert_true(checkpoint_name_read("step-9223372036854775807.ckpt", &step) && step == INT64_MAX);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_checkpoint_names),
                cmocka_unit_test(test_error_keeps_the_first),
                cmocka_unit_test(test_error_is_one_harmless_line),
                cmocka_unit_test(test_file_replacement),
                cmocka_unit_test(test_claimed_file),
                cmocka_unit_test(test_paths_are_normalised),
                cmocka_unit_test(test_home),
                cmocka_unit_test(test_nearest),
                cmocka_unit_test(test_cpu_lists),
                cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_state_and_socket),
                cmocka_unit_test(test_user_socket),
                cmocka_unit_test(test_arrays),
                cmocka_unit_test(test_hex),
                cmocka_unit_test(test_proc_files),
                cmocka_unit_test(test_programs_beside),
                cmocka_unit_test(test_times),
                cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_variables),
                cmocka_unit_test(test_utf8_texts),
                cmocka_unit_test(test_db_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
