/* Columns, widths and what becomes of hostile text (ctl/table.c, ctl/term.c), and the drawings of `status`
 * (ctl/status_view.c). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "ctl/format.h"
#include "ctl/status_view.h"
#include "ctl/table.h"

static struct term plain(unsigned width, bool utf8) {
        struct term term;
        term_init(&term, -1);
        return (struct term) { .width = width, .utf8 = utf8 };
}

static char *put(const char *text, size_t width, bool utf8) {
        struct term term = plain(0, utf8);
        char *out = NULL;
        size_t size;
        FILE *f = open_memstream(&out, &size);
        (void) text_put(f, &term, text, width);
        (void) fclose(f);
        return out;
}

static void check_put(const char *text, size_t width, bool utf8, const char *expected) {
        cleanup_free char *got = put(text, width, utf8);
        assert_string_equal(got, expected);
}

static void test_width(void **state) {
        (void) plain(0, true);
        assert_int_equal(text_width(""), 0);
        assert_int_equal(text_width("abc"), 3);
        assert_int_equal(text_width("gr\u00f6\u00dfe"), 5);
        assert_int_equal(text_width("\u65e5\u672c"), 4);
        assert_int_equal(text_width("e\u0301"), 1);
}

static void test_harmless(void **state) {
        check_put("a\033[31mb", 0, true, "a?[31mb");
        check_put("line\nbreak\ttab\r", 0, true, "line?break?tab?");
        check_put("bad \xff\xc3 end", 0, true, "bad ?? end");
        check_put("half \xe6\x97", 0, true, "half ??");
        check_put("c1 \xc2\x9b"
                  "31m",
                  0, true, "c1 ?31m");
        check_put("turn \u202eback", 0, true, "turn ?back");
}

static void test_ellipsis(void **state) {
        check_put("abcdef", 6, true, "abcdef");
        check_put("abcdef", 5, true, "abcd\u2026");
        check_put("abcdef", 5, false, "ab...");
        check_put("\u65e5\u672c\u8a9e", 5, true, "\u65e5\u672c\u2026");
        check_put("\u65e5\u672c\u8a9e", 4, true, "\u65e5\u2026");
        check_put("abcdef", 2, false, "ab");
        check_put("abcdef", 1, true, "\u2026");
}

static void test_bar(void **state) {
        const struct term term = plain(0, false);
        const struct {
                double fraction;
                const char *expected;
        } cases[] = { { 0, "...." }, { 0.5, "##.." }, { 1, "####" }, { 7, "####" }, { -1, "...." }, { 0.99, "###." } };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                cleanup_free char *out = NULL;
                size_t size;
                FILE *f = open_memstream(&out, &size);
                bar_put(f, &term, cases[i].fraction, 4);
                (void) fclose(f);
                assert_string_equal(out, cases[i].expected);
        }
}

static const struct table_column columns[] = {
        { .title = "ID", .flags = TABLE_RIGHT },
        { .title = "NAME", .flags = TABLE_FLEX, .min_width = 6 },
        { .title = "EXTRA", .drop = 1 },
        { .title = "REASON", .flags = TABLE_FLEX, .min_width = 8, .drop = 2 },
};

static char *print(unsigned width, const char *const (*rows)[4], size_t n) {
        const struct term term = plain(width, false);
        cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));
        struct error error = {};
        char *out = NULL;
        size_t size;
        FILE *f = open_memstream(&out, &size);

        for (size_t i = 0; i < n; i++)
                for (size_t c = 0; c < 4; c++)
                        table_cell(table, STYLE_NONE, "%s", rows[i][c]);
        assert_int_equal(table_rows(table), n);
        assert_int_equal(table_print(table, f, &term, 0, &error), 0);
        (void) fclose(f);
        return out;
}

static const char *const rows[][4] = {
        { "7", "a-long-name-of-a-job", "12345", "waits for 4 slots" },
        { "123", "b", "1", "" },
};

static void test_table_unlimited(void **state) {
        cleanup_free char *out = print(0, rows, 2);
        assert_string_equal(out, " ID  NAME                  EXTRA  REASON\n"
                                 "  7  a-long-name-of-a-job  12345  waits for 4 slots\n"
                                 "123  b                     1\n");
}

static void check_fits(unsigned width) {
        cleanup_free char *out = print(width, rows, 2);
        for (char *save = NULL, *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                assert_true(text_width(line) <= width);
}

static void test_table_fits(void **state) {
        for (unsigned width = 11; width < 60; width++)
                check_fits(width);
}

static void test_table_drops(void **state) {
        cleanup_free char *out = print(20, rows, 2);
        assert_null(strstr(out, "REASON"));
        assert_non_null(strstr(out, "EXTRA"));
        assert_non_null(strstr(out, "NAME"));
}

static void test_empty_column_is_left_out(void **state) {
        const char *const one[][4] = { { "7", "name", "", "why" } };
        cleanup_free char *out = print(0, one, 1);
        assert_string_equal(out, "ID  NAME  REASON\n 7  name  why\n");
}

static void test_no_rows(void **state) {
        cleanup_free char *out = print(0, rows, 0);
        assert_string_equal(out, "");
}

static void test_format(void **state) {
        char b[FORMAT_MAX];
        assert_string_equal(format_duration(42, b), "42 s");
        assert_string_equal(format_duration(3599, b), "59 min 59 s");
        assert_string_equal(format_duration(7800, b), "2 h 10 min");
        assert_string_equal(format_short_duration(185, b), "3m05s");
        assert_string_equal(format_short_duration(7800, b), "2h10m");
        assert_string_equal(format_short_duration(5 * 86400 + 3 * 3600, b), "5d03h");
        assert_string_equal(format_bytes(0, b), "0 B");
        assert_string_equal(format_bytes(1536, b), "1.5 KiB");
        assert_string_equal(format_bytes(UINT64_MAX, b), "16.0 EiB");
        assert_string_equal(format_loss(NAN, b), "");
        assert_string_equal(format_rate(0, b), "");
        assert_string_equal(format_age(0, b), "");
        assert_string_equal(format_percent(&(struct job_info) { .step = 999, .steps = 1000 }, b), "99%");
        assert_string_equal(format_percent(&(struct job_info) { .step = 2000, .steps = 1000 }, b), "100%");
        assert_string_equal(format_percent(&(struct job_info) {}, b), "");
}

static char text_running[] = "running", text_failed[] = "failed", text_queued[] = "queued",
            text_evil[] = "evil\033]0;name\007";
static char text_long[] =
        "rank 3 died of SIGSEGV at step 12001 after a bus error in /a/very/long/path/to/a/library/that/is/never/cut.so";

static void check_lines_fit(const char *text, unsigned width) {
        cleanup_free char *copy = strdup(text);
        assert_null(strchr(text, '\033'));
        for (char *save = NULL, *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                assert_true(text_width(line) <= width);
}

static void test_job_block(void **state) {
        const struct job_info job = { .id = 3,
                                      .name = text_evil,
                                      .state = text_failed,
                                      .reason = text_long,
                                      .exit = 1,
                                      .ranks = 2,
                                      .threads = 2,
                                      .step = 5,
                                      .steps = 10,
                                      .loss = 3.25,
                                      .rate = NAN,
                                      .attempts = 2,
                                      .ended = 1,
                                      .submitted = 1 };
        struct error error = {};

        for (unsigned width = 40; width < 130; width += 7) {
                const struct term term = plain(width, true);
                cleanup_free char *out = NULL;
                size_t size;
                FILE *f = open_memstream(&out, &size);
                assert_int_equal(status_draw_job(f, &term, &job, 0, &error), 0);
                (void) fclose(f);
                check_lines_fit(out, width);
                assert_non_null(strstr(out, "50%"));
                assert_non_null(strstr(out, "3.25"));
        }
}

static void test_overview(void **state) {
        struct job_info active[] = {
                { .id = 9, .name = text_evil, .state = text_running, .step = 1, .steps = 3, .loss = NAN, .rate = 12.5 },
                { .id = 8, .name = text_long, .state = text_queued, .reason = text_long, .loss = NAN, .rate = NAN },
        };
        struct job_info ended[] = {
                { .id = 1, .name = text_evil, .state = text_failed, .reason = text_long, .loss = NAN, .rate = NAN }
        };
        const struct overview overview = { .active = { active, 2, 2 }, .ended = { ended, 1, 1 } };
        struct error error = {};

        for (unsigned width = 40; width < 130; width += 7) {
                const struct term term = plain(width, true);
                cleanup_free char *out = NULL;
                size_t size;
                FILE *f = open_memstream(&out, &size);
                assert_int_equal(status_draw_overview(f, &term, &overview, &error), 0);
                (void) fclose(f);
                check_lines_fit(out, width);
                const char *running = strstr(out, "\nrunning\n"), *waiting = strstr(out, "\nwaiting\n"),
                           *last = strstr(out, "\nended\n");
                assert_true(running && waiting && last && running < waiting && waiting < last);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_width),           cmocka_unit_test(test_harmless),
                cmocka_unit_test(test_ellipsis),        cmocka_unit_test(test_bar),
                cmocka_unit_test(test_table_unlimited), cmocka_unit_test(test_table_fits),
                cmocka_unit_test(test_table_drops),     cmocka_unit_test(test_empty_column_is_left_out),
                cmocka_unit_test(test_no_rows),         cmocka_unit_test(test_format),
                cmocka_unit_test(test_job_block),       cmocka_unit_test(test_overview),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
