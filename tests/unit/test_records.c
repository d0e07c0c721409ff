/* Files of labelled texts: what each format makes of quotes, line ends and marks, and which line a refusal names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "tests/unit/folder.h"
#include "trainer/data/records.h"

static char *const text_columns[] = { (char[]) { "text" } }, *const second[] = { (char[]) { "2" } },
                   *const two[] = { (char[]) { "a" }, (char[]) { "b" } };
static const struct records_options named = { .text = text_columns, .n_text = 1, .label = "label" };
static const struct records_options numbered = { .header = HEADER_FALSE, .text = second, .n_text = 1, .label = "1" };

static int setup(void **state) { return (*state = make_folder()) ? chdir(*state) : -1; }

static int teardown(void **state) {
        remove_folder(*state);
        return 0;
}

struct expected {
        uint64_t line;
        const char *label, *text;
};

static void write_file(const char *name, const char *text, size_t size) {
        FILE *file = fopen(name, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(text, 1, size, file), size);
        assert_int_equal(fclose(file), 0);
}

/* All records, then the end; or, with `refusal`, a refusal that holds that text. */
static void check(const char *name, const char *content, size_t size, const struct records_options *options,
                  const struct expected *expected, size_t n, const char *refusal) {
        cleanup_records struct records *records = NULL;
        struct record record;
        struct error error = {};

        write_file(name, content, size);
        int r = records_open(name, options, &records, &error);
        for (size_t i = 0; i < n; i++) {
                assert_true(r >= 0);
                r = records_next(records, &record, &error);
                assert_int_equal(r, 1);
                assert_int_equal(record.line, expected[i].line);
                assert_string_equal(record.label, expected[i].label);
                assert_string_equal(record.text, expected[i].text);
                assert_int_equal(record.size, strlen(expected[i].text));
        }
        if (r >= 0)
                r = records_next(records, &record, &error);
        if (!refusal) {
                assert_int_equal(r, 0);
                return;
        }
        assert_true(r < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        if (!strstr(error.text, refusal))
                fail_msg("'%s' is not in '%s'", refusal, error.text);
}
/* { 0 } stands for none. */
static size_t count(const struct expected *all, size_t n) { return n == 1 && all[0].line == 0 ? 0 : n; }
#define CHECK(name, content, options, refusal, ...)                                                               \
        do {                                                                                                      \
                const struct expected all[] = { __VA_ARGS__ };                                                    \
                check(name, content, sizeof(content) - 1, options, all, count(all, sizeof(all) / sizeof(all[0])), \
                      refusal);                                                                                   \
        } while (0)

static void test_csv(void **state) {
        CHECK("a.csv", "label,text\nx,one\ny,two\n", &named, NULL, { 2, "x", "one" }, { 3, "y", "two" });
        CHECK("a.csv", "\xef\xbb\xbfid,text,label\r\n7,\"a \"\"b\"\", c\r\nd\",\"x,y\"\r\n\r\n8,e,z\r\n", &named, NULL,
              { 2, "x,y", "a \"b\", c\r\nd" }, { 5, "z", "e" });
        CHECK("a.csv", "\xef\xbb\xbflabel,text\nx,one\n", &named, NULL, { 2, "x", "one" });
        CHECK("a.csv", "x,it is 5\" wide\n", &numbered, NULL, { 1, "x", "it is 5\" wide" });
        CHECK("A.CSV", "x,one\n", &numbered, NULL, { 1, "x", "one" });
        CHECK("a.csv", "x,last line without an end", &numbered, NULL, { 1, "x", "last line without an end" });
}

static void test_csv_refused(void **state) {
        CHECK("a.csv", "label,text\nx,one\ny,\"two\n", &named, "a.csv:3: a quoted field is not closed",
              { 2, "x", "one" });
        CHECK("a.csv", "label,text\nx,one\ny\n", &named, "a.csv:3: 1 columns", { 2, "x", "one" });
        CHECK("a.csv", "label,words\nx,one\n", &named, "no column 'text'", { 0 });
}

static void test_tsv(void **state) {
        CHECK("a.tsv", "x\t\"quotes\" are text, commas too\ny\ttwo\n", &numbered, NULL,
              { 1, "x", "\"quotes\" are text, commas too" }, { 2, "y", "two" });
        CHECK("a.tsv", "x\tone\ny\ttwo\tthree\n", &numbered, "a.tsv:2: 3 columns, line 1 has 2", { 1, "x", "one" });
}

static void test_jsonl(void **state) {
        struct records_options joined = { .text = two, .n_text = 2, .label = "label" };

        CHECK("a.jsonl", "{\"text\": \"a\\nb\", \"label\": 3}\n\n \t\r\n{\"label\": true, \"text\": \"\\u4e2d\"}\n",
              &named, NULL, { 1, "3", "a\nb" }, { 4, "true", "\xe4\xb8\xad" });
        CHECK("a.jsonl", "{\"a\": \"x\", \"b\": \"y\", \"label\": \"l\"}\n", &joined, NULL, { 1, "l", "x y" });
        CHECK("a.jsonl", "{\"text\": \"a\", \"label\": 3}\n{\"text\": \"a\"}\n", &named,
              "a.jsonl:2: key label is missing", { 1, "3", "a" });
        CHECK("a.jsonl", "{\"text\": \"a\", \"label\": 3}\n[1]\n", &named, "a.jsonl:2:", { 1, "3", "a" });
}

/* As Python's json writes rows. */
static void test_jsonl_of_python(void **state) {
        CHECK("a.jsonl",
              "\xef\xbb\xbf{\"id\": 13444675123456789012, \"text\": \"a\", \"label\": 3}\n"
              "{\"score\": NaN, \"best\": -Infinity, \"text\": \"b\", \"label\": \"x\", \"label\": \"y\"}\n"
              "{\"odd\": \"\\ud800\\u0000\", \"huge\": 1E400, \"text\": \"c\\udc00\", \"label\": \"z\"}\n",
              &named, NULL, { 1, "3", "a" }, { 2, "y", "b" }, { 3, "z", "c\xef\xbf\xbd" });
        CHECK("a.jsonl", "{\"text\": \"a\", \"label\": 13444675123456789012}\n", &named,
              "a.jsonl:1: key label is neither; expected a string or a whole number of at most 64 bits", { 0 });
        CHECK("a.jsonl", "{\"text\": \"a\", \"label\": \"x\\u0000y\"}\n", &named, "a.jsonl:1: key label holds a NUL",
              { 0 });
        CHECK("a.jsonl", "{\"text\": NaN, \"label\": 1}\n", &named, "a.jsonl:1: key text is not a string", { 0 });
}

/* A NUL does not end a text. */
static void test_jsonl_nul(void **state) {
        static const char row[] = "{\"text\": \"a\\u0000b\", \"label\": 1}\n";
        cleanup_records struct records *records = NULL;
        struct record record;
        struct error error = {};

        write_file("a.jsonl", row, sizeof(row) - 1);
        assert_int_equal(records_open("a.jsonl", &named, &records, &error), 0);
        assert_int_equal(records_next(records, &record, &error), 1);
        assert_int_equal(record.size, 3);
        assert_memory_equal(record.text, "a\0b", 3);
}

static void test_encodings(void **state) {
        struct records_options latin = numbered;

        latin.encoding = ENCODING_LATIN1;
        CHECK("a.tsv", "x\tcaf\xe9\n", &latin, NULL, { 1, "x", "caf\xc3\xa9" });
        CHECK("a.tsv", "x\tok\nx\tcaf\xe9\n", &numbered, NULL, { 1, "x", "ok" }, { 2, "x", "caf" });
        CHECK("a.tsv", "x\ta\0b\n", &numbered, NULL, { 1, "x", "ab" });
        CHECK("a.tsv", "x\tone\ry\ttwo\r", &numbered, NULL, { 1, "x", "one" }, { 2, "y", "two" });
        CHECK("a.jsonl", "\xef\xbb\xbf{\"text\": \"a\xff\", \"label\": 1}\n", &named, NULL, { 1, "1", "a" });
        CHECK("a.tsv", "\xef\xbb\xbfx\tcaf\xe9\n", &latin, "UTF-8's byte order mark, but the encoding is latin-1",
              { 0 });
}

static void test_delimiters(void **state) {
        struct records_options other = named;

        other.delimiter = ';';
        CHECK("a.csv", "label;text\nx;\"a;b\", c\ny;two, three\n", &other, "a.csv:2: text after a closing quote",
              { 0 });
        CHECK("a.csv", "label;text\nx;\"a;b\"\ny;two, three\n", &other, NULL, { 2, "x", "a;b" },
              { 3, "y", "two, three" });
        CHECK("a.csv", "label;text\nx;one\n", &named, "it has label;text: is the delimiter another one?", { 0 });
        CHECK("a.tsv", "label\ttext\nx\tone\n", &other, "needs format csv", { 0 });
}

/* How much of a file may be no UTF-8, and what is said of it. */
static void check_share(const char *content, size_t size, const char *refusal, const char *said) {
        cleanup_records struct records *records = NULL;
        struct text_findings findings = {};
        struct record record;
        struct error error = {};
        cleanup_free char *text = NULL;
        size_t n;

        write_file("a.tsv", content, size);
        assert_int_equal(records_open("a.tsv", &numbered, &records, &error), 0);
        while (records_next(records, &record, &error) > 0)
                ;
        int r = records_finish(records, &findings, &error);
        assert_true(refusal ? r < 0 && error.exit == BERTD_EXIT_DATA && strstr(error.text, refusal) : r == 0);
        FILE *to = open_memstream(&text, &n);
        text_findings_print(&findings, to);
        assert_int_equal(fclose(to), 0);
        assert_non_null(strstr(text, said));
}

static void test_share_of_invalid_bytes(void **state) {
        char text[300];

        memset(text, ' ', sizeof(text));
        memcpy(text, "x\tone\ny\tc\xe9\xe9\xe9", 12);
        check_share(text, 300, NULL, "a.tsv:2: byte 0xe9: not UTF-8; left out, with 3 such bytes in all");
        check_share(text, 299, "a.tsv:2: byte 0xe9: not UTF-8, as are 3 of 299 bytes", "3 such bytes");
        check_share("x\tone\ry\ttwo\r", 12, NULL, "a.tsv: its lines end in CR alone");
}

/* A record for each line or row, whatever is in it: its number, why it has no text, or the text. */
struct row {
        uint64_t line;
        const char *problem, *text;
        uint64_t n_invalid;
};

static void check_rows(const char *name, const char *content, size_t size, const struct records_options *options,
                       const struct row *rows, size_t n, const char *refusal) {
        cleanup_records struct records *records = NULL;
        struct record record;
        struct error error = {};

        write_file(name, content, size);
        assert_int_equal(records_open(name, options, &records, &error), 0);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(records_next(records, &record, &error), 1);
                assert_int_equal(record.line, rows[i].line);
                assert_string_equal(record.problem ? record.problem : "", rows[i].problem);
                assert_string_equal(record.text, rows[i].text);
                assert_int_equal(record.size, strlen(rows[i].text));
                assert_int_equal(record.n_invalid, rows[i].n_invalid);
        }
        assert_int_equal(records_next(records, &record, &error) == 0, refusal == NULL);
        assert_true(!refusal || strstr(error.text, refusal));
}
#define CHECK_ROWS(name, content, options, refusal, ...)                                                      \
        do {                                                                                                  \
                const struct row rows[] = { __VA_ARGS__ };                                                    \
                check_rows(name, content, sizeof(content) - 1, options, rows, sizeof(rows) / sizeof(rows[0]), \
                           refusal);                                                                          \
        } while (0)

static void test_lenient(void **state) {
        static char long_row[(34 << 20) + 8], wide_row[5009];
        struct records_options lines = { .format = FORMAT_LINES, .text = text_columns, .n_text = 1, .lenient = true },
                               wanted = lines;
        struct row after_wide[] = { { 2, "more than 4096 columns", "", 0 }, { 3, "", "y", 0 } };
        struct row after_long[] = { { 1, "a record of more than 32 MiB", "", 0 }, { 2, "", "x", 0 } };

        wanted.format = FORMAT_AUTO;
        CHECK_ROWS("a.txt", "\nx\n \t\n\xff\na\0b\r\n\xe2\x80\x8b\n\xffy", &lines, NULL, { 1, "", "", 0 },
                   { 2, "", "x", 0 }, { 3, "", "", 0 }, { 4, "", "", 1 }, { 5, "", "ab", 1 },
                   { 6, "", "\xe2\x80\x8b", 0 }, { 7, "", "y", 1 });
        CHECK_ROWS("a.csv", "n,text\n1,\"\"\n\"\"\n\n2,x,\n\"3\"x,y\n4,\"a\nb\"\n", &wanted, NULL, { 2, "", "", 0 },
                   { 3, "", "", 0 }, { 4, "", "", 0 }, { 5, "3 columns, line 1 has 2", "", 0 },
                   { 6, "text after a closing quote; expected the delimiter or the line's end", "", 0 },
                   { 7, "", "a\nb", 0 });
        CHECK_ROWS("a.csv", "n,text\n1,x\n2,\"y\n3,z\n", &wanted, "a.csv:3: a quoted field is not closed",
                   { 2, "", "x", 0 }, { 3, "a quoted field is not closed", "", 0 });
        CHECK_ROWS("a.tsv", "text\n\n\"x\n", &wanted, NULL, { 2, "", "", 0 }, { 3, "", "\"x", 0 });
        CHECK_ROWS("a.jsonl", "{\"text\": \"x\"}\n \n{\n[]\n{\"text\": 1}\n{\"a\": 1}\n", &wanted, NULL,
                   { 1, "", "x", 0 }, { 2, "", "", 0 },
                   { 3, "not JSON: string or '}' expected near end of file", "", 0 }, { 4, "not a JSON object", "", 0 },
                   { 5, "key text is not a string; expected a string", "", 0 },
                   { 6, "key text is missing; expected a string", "", 0 });
        memcpy(wide_row, "text\n", 5);
        memset(wide_row + 5, ',', 5000);
        memcpy(wide_row + 5005, "x\ny\n", 4);
        check_rows("a.csv", wide_row, 5009, &wanted, after_wide, 2, NULL);
        wanted.text = second;
        CHECK_ROWS("a.csv", "x\n1,y\n2,z\n", &wanted, NULL,
                   { 1, "text column 2, but the row has 1: is the delimiter another one?", "", 0 }, { 2, "", "y", 0 },
                   { 3, "", "z", 0 });
        memset(long_row, 'a', 34 << 20);
        memcpy(long_row + (34 << 20), "\nx\n", 3);
        check_rows("a.txt", long_row, (34 << 20) + 3, &lines, after_long, 2, NULL);
}

struct two {
        uint64_t line;
        const char *problem, *first, *second; /* second NULL: no text */
};

static void check_pairs(const char *name, const char *content, size_t size, const struct records_options *options,
                        const struct two *expected, size_t n) {
        cleanup_records struct records *records = NULL;
        struct record record;
        struct error error = {};

        write_file(name, content, size);
        assert_int_equal(records_open(name, options, &records, &error), 0);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(records_next(records, &record, &error), 1);
                assert_int_equal(record.line, expected[i].line);
                assert_string_equal(record.problem ? record.problem : "", expected[i].problem);
                assert_int_equal(record.size, strlen(expected[i].first));
                assert_memory_equal(record.text, expected[i].first, record.size);
                assert_true(!record.second == !expected[i].second);
                if (!record.second)
                        continue;
                assert_string_equal(record.second, expected[i].second);
                assert_int_equal(record.second_size, strlen(expected[i].second));
        }
        assert_int_equal(records_next(records, &record, &error), 0);
}
#define CHECK_PAIRS(name, content, options, ...)                                                                \
        do {                                                                                                    \
                const struct two rows[] = { __VA_ARGS__ };                                                      \
                check_pairs(name, content, sizeof(content) - 1, options, rows, sizeof(rows) / sizeof(rows[0])); \
        } while (0)

static void test_pairs(void **state) {
        struct records_options pairs = { .text = two, .n_text = 2, .pair = true, .lenient = true };

        CHECK_PAIRS("a.csv", "b,a\n\"x, y\",z\n,z\nx,\n \n\"\"\"\",\"a\nb\"\n", &pairs, { 2, "", "z", "x, y" },
                    { 3, "", "", NULL }, { 4, "", "", NULL }, { 5, "1 columns, line 1 has 2", "", NULL },
                    { 6, "", "a\nb", "\"" });
        CHECK_PAIRS("a.tsv", "a\tb\nx y\t z \n", &pairs, { 2, "", "x y", " z " });
        CHECK_PAIRS("a.jsonl", "{\"a\": \"x\", \"b\": \"y\"}\n{\"a\": \"x\"}\n{\"a\": \"\", \"b\": \"y\"}\n", &pairs,
                    { 1, "", "x", "y" }, { 2, "key b is missing; expected a string", "", NULL }, { 3, "", "", NULL });
        CHECK_PAIRS("a.txt", "x\ty\n\nx\nx\ty\tz\n\ty\n", &pairs, { 1, "", "x", "y" }, { 2, "", "", NULL },
                    { 3, "expected two texts with a tab between them", "", NULL },
                    { 4, "expected two texts with a tab between them", "", NULL }, { 5, "", "", NULL });
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_csv, setup, teardown),
                cmocka_unit_test_setup_teardown(test_csv_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_tsv, setup, teardown),
                cmocka_unit_test_setup_teardown(test_jsonl, setup, teardown),
                cmocka_unit_test_setup_teardown(test_jsonl_of_python, setup, teardown),
                cmocka_unit_test_setup_teardown(test_jsonl_nul, setup, teardown),
                cmocka_unit_test_setup_teardown(test_encodings, setup, teardown),
                cmocka_unit_test_setup_teardown(test_delimiters, setup, teardown),
                cmocka_unit_test_setup_teardown(test_share_of_invalid_bytes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lenient, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pairs, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
