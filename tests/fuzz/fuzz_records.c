/* A file of texts in every format. The first byte says how it is read: lenient there is a record for each line,
 * whatever is in it. */
#include <stdbool.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/data/records.h"
#include "trainer/text/unicode.h"

static char *const columns[] = { (char[]) { "text" }, (char[]) { "2" }, (char[]) { "text" } };

static struct records_options options_of(uint8_t how) {
        return (struct records_options) { .format = FORMAT_CSV + how % 4,
                                          .encoding = how & 4 ? ENCODING_LATIN1 : ENCODING_UTF8,
                                          .delimiter = (how & 11) == 8 ? ';' : '\0',
                                          .lenient = how & 16,
                                          .text = columns + (how >> 5 & 1),
                                          .n_text = 1 + (how >> 6 & 1),
                                          .pair = how & 64,
                                          .label = how & 16 || how % 4 == 3 ? NULL : "label" };
}

static void check(const struct record *record, const struct records_options *options, uint64_t line) {
        assert(record->line > line && record->text[record->size] == '\0');
        assert(utf8_valid_prefix(record->text, record->size) == record->size);
        assert(options->format == FORMAT_JSONL || strlen(record->text) == record->size);
        if (record->second)
                assert(options->pair && record->size > 0 && record->second[record->second_size] == '\0' &&
                       utf8_valid_prefix(record->second, record->second_size) == record->second_size);
        assert(!record->problem || (options->lenient && record->size == 0));
        assert(!options->label || record->problem || record->size == 0 || record->label[0]);
}

/* Lines of the file as they are counted where nothing but LF ends them. */
static uint64_t count_lines(const uint8_t *data, size_t size) {
        uint64_t n = size > 0 && data[size - 1] != '\n';

        for (size_t i = 0; i < size; i++)
                n += data[i] == '\n';
        return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path;
        cleanup_records struct records *records = NULL;
        struct text_findings findings = {};
        struct error error = {};
        struct record record = {};
        uint64_t n = 0;

        if (!path)
                path = fuzz_path("texts");
        if (size == 0)
                return 0;
        struct records_options options = options_of(data[0]);
        fuzz_write(path, data + 1, size - 1);
        int r = records_open(path, &options, &records, &error);
        for (uint64_t line = 0; r >= 0 && (r = records_next(records, &record, &error)) > 0; n++, line = record.line)
                check(&record, &options, line);
        if (r < 0)
                assert(error.exit == BERTD_EXIT_DATA && strstr(error.text, path));
        else if (options.lenient && options.format == FORMAT_LINES && !memchr(data + 1, '\r', size - 1))
                assert(n == count_lines(data + 1, size - 1) || n == count_lines(data + 4, size < 4 ? 0 : size - 4));
        if (records)
                (void) records_finish(records, &findings, &error);
        return 0;
}
