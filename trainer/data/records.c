/* See records.h. Which columns, keys or lines of a row are texts and label; the rows are records_csv.h's. Owns them and the text of one record. */
#include "trainer/data/records.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bertd/exit.h"
#include "common/json_read.h"
#include "common/parse.h"
#include "trainer/data/records_csv.h"

#define NO_COLUMN UINT32_MAX
struct records {
        struct csv row;
        struct records_options options;
        struct csv_bytes text;
        uint32_t n_texts;        /* of the record, that `text` has */
        size_t second;           /* where a pair's second begins in it */
        uint32_t n_columns;      /* of the first row (0: not seen) */
        uint32_t *column, label; /* (n_text) from 0; NO_COLUMN: none */
        uint64_t columns_line;
        bool begun; /* a record was given out, or there is a header */
        json_t *object;
};

static bool is_blank(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) text[i] > ' ')
                        return false;
        return true;
}

/* Around JSON white space does not count. */
static bool is_empty_line(const struct records *r) {
        if (r->row.n_fields == 1 && r->options.format == FORMAT_JSONL)
                return is_blank(r->row.field.data, r->row.field.n);
        return r->row.n_fields == 1 && r->row.field.n == 1;
}

static int read_row(struct records *r, struct error *error) {
        static const struct {
                int separator;
                bool quotes;
        } kinds[FORMAT_MAX] = { [FORMAT_CSV] = { ',', true },
                                [FORMAT_TSV] = { '\t', false },
                                [FORMAT_JSONL] = { CSV_NO_SEPARATOR, false },
                                [FORMAT_LINES] = { CSV_NO_SEPARATOR, false } };
        enum data_format format = r->options.format;
        bool delimited = format == FORMAT_CSV && r->options.delimiter;
        int code;

        do
                code = csv_read(&r->row, delimited ? r->options.delimiter : kinds[format].separator,
                                kinds[format].quotes, error);
        while (code > 0 && is_empty_line(r) && format != FORMAT_LINES && !r->row.lenient);
        if (code > 0)
                csv_clean(&r->row);
        return code;
}

/* ---- columns ---- */

/* A row of one column is often one of several between other delimiters. */
static const char *hint(const struct records *r) {
        return r->row.n_fields == 1 && r->options.format == FORMAT_CSV ? ": is the delimiter another one?" : "";
}

static int no_column(const struct records *r, const char *name, struct error *error) {
        char all[256] = "";
        size_t used = 0;

        if (r->options.header == HEADER_FALSE)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: no column '%.40s': without a header columns are numbers from 1", r->row.path,
                                   name);
        for (uint32_t i = 0; i < r->row.n_fields && used < sizeof(all); i++)
                used += (size_t) snprintf(all + used, sizeof(all) - used, "%s%.40s", i ? ", " : "",
                                          csv_field(&r->row, i));
        const char *key = name == r->options.label ? "label" : "text";
        return error_input(error, BERTD_EXIT_DATA,
                           "%s:%" PRIu64
                           ": no column '%.40s' in the header; it has %s%s; name it in a spec by data.%s, "
                           "of a command by --%s",
                           r->row.path, r->row.first_line, name, all, hint(r), key, key);
}

static int find_column(const struct records *r, const char *name, bool header, uint32_t *ret, struct error *error) {
        uint64_t number = 0;

        for (uint32_t i = 0; header && i < r->row.n_fields; i++)
                if (strcmp(csv_field(&r->row, i), name) == 0) {
                        *ret = i;
                        return 0;
                }
        if (parse_u64(name, 1, CSV_FIELDS_MAX, &number) < 0 || (header && number > r->row.n_fields))
                return no_column(r, name, error);
        *ret = (uint32_t) number - 1;
        return 0;
}

static bool is_number(const char *name) {
        uint64_t number;
        return parse_u64(name, 1, CSV_FIELDS_MAX, &number) == 0;
}

bool records_has_header(const struct records_options *o) {
        bool named = o->label && !is_number(o->label);

        for (uint32_t i = 0; i < o->n_text; i++)
                named = named || !is_number(o->text[i]);
        return o->header == HEADER_TRUE || (o->header == HEADER_AUTO && named);
}

static int find_columns(struct records *r, struct error *error) {
        const struct records_options *o = &r->options;
        bool header = records_has_header(o), lenient = o->lenient;

        r->row.lenient = false; /* a bad header is refused */
        int code = header ? read_row(r, error) : 1;
        r->row.lenient = lenient;
        if (code == 0)
                return 0; /* an empty file: the caller reports it */
        r->begun = header;
        r->n_columns = header ? r->row.n_fields : 0;
        r->columns_line = r->row.first_line;
        for (uint32_t i = 0; code > 0 && i < o->n_text; i++)
                code = find_column(r, o->text[i], header, &r->column[i], error) < 0 ? -EINVAL : 1;
        if (code > 0 && o->pair && r->column[0] == r->column[1])
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: '%.40s' and '%.40s' are the same column; a pair has two", r->row.path,
                                   o->text[0], o->text[1]);
        if (code > 0 && o->label)
                code = find_column(r, o->label, header, &r->label, error) < 0 ? -EINVAL : 1;
        for (uint32_t i = 0; code > 0 && o->label && i < o->n_text; i++)
                if (r->column[i] == r->label)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: '%.40s' and '%.40s' are the same column, text and label", r->row.path,
                                           o->text[i], o->label);
        return code < 0 ? code : 0;
}

/* Without a header the first row that has the columns sets their number. */
static int check_row(struct records *r, struct error *error) {
        if (r->n_columns > 0 && r->row.n_fields != r->n_columns)
                return csv_refuse(&r->row, r->row.first_line, error, "%u columns, line %" PRIu64 " has %u",
                                  r->row.n_fields, r->columns_line, r->n_columns);
        for (uint32_t i = 0; i <= r->options.n_text; i++) {
                uint32_t column = i < r->options.n_text ? r->column[i] : r->label;
                if (column != NO_COLUMN && column >= r->row.n_fields)
                        return csv_refuse(&r->row, r->row.first_line, error, "%s column %u, but the row has %u%s",
                                          i < r->options.n_text ? "text" : "label", column + 1, r->row.n_fields,
                                          hint(r));
        }
        if (r->n_columns == 0)
                r->columns_line = r->row.first_line;
        r->n_columns = r->row.n_fields;
        return 0;
}

/* ---- records ---- */

/* The second of a pair begins behind a NUL. */
static int append_text(struct records *r, const char *text, size_t size, struct error *error) {
        bool second = r->options.pair && r->n_texts++ == 1;
        int code = second ? csv_append(&r->text, "", 1) : r->text.n > 0 ? csv_append(&r->text, " ", 1) : 0;

        if (second)
                r->second = r->text.n;
        if (code >= 0)
                code = csv_append(&r->text, text, size);
        return code < 0 ? error_errno(error, -code, "%s", r->row.path) : 0;
}

static int take_fields(struct records *r, struct record *record, struct error *error) {
        int code = check_row(r, error);

        for (uint32_t i = 0; code >= 0 && !r->row.problem[0] && i < r->options.n_text; i++)
                code = append_text(r, csv_field(&r->row, r->column[i]), r->row.size[r->column[i]], error);
        if (code >= 0 && !r->row.problem[0] && r->label != NO_COLUMN)
                record->label = csv_field(&r->row, r->label);
        record->first = !r->begun;
        return code;
}

static int json_text(struct records *r, const char *key, struct error *error) {
        const json_t *value = json_object_get(r->object, key);

        if (!json_is_string(value))
                return csv_refuse(&r->row, r->row.first_line, error, "key %.40s is %s; expected a string", key,
                                  value ? "not a string" : "missing");
        return append_text(r, json_string_value(value), json_string_length(value), error);
}

/* A label that is not a string becomes one, in place of the line, which is not needed any more. */
static int json_label(struct records *r, struct record *record, struct error *error) {
        const json_t *value = json_object_get(r->object, r->options.label);
        char number[32];

        if (json_is_string(value)) {
                record->label = json_plain_string(value);
                return record->label ? 0
                                     : csv_refuse(&r->row, r->row.first_line, error, "key %.40s holds a NUL",
                                                  r->options.label);
        }
        bool real = json_is_real(value) && r->options.numbers;
        if (!json_is_integer(value) && !json_is_boolean(value) && !real)
                return csv_refuse(&r->row, r->row.first_line, error, "key %.40s is %s; expected %s", r->options.label,
                                  !value               ? "missing"
                                  : r->options.numbers ? "not a number"
                                                       : "neither",
                                  r->options.numbers ? "a number" : "a string or a whole number of at most 64 bits");
        if (real)
                (void) snprintf(number, sizeof(number), "%.17g", json_real_value(value));
        else if (json_is_boolean(value))
                (void) snprintf(number, sizeof(number), "%s", json_is_true(value) ? "true" : "false");
        else
                (void) snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        r->row.field.n = 0;
        if (csv_append(&r->row.field, number, strlen(number) + 1) < 0)
                return error_errno(error, ENOMEM, "%s", r->row.path);
        record->label = r->row.field.data;
        return 0;
}

static int take_json(struct records *r, struct record *record, struct error *error) {
        json_error_t why;
        int code = 0;

        json_decref(r->object);
        r->object = json_read(r->row.field.data, r->row.size[0], 0, &why);
        if (!r->object)
                return csv_refuse(&r->row, r->row.first_line, error, "not JSON: %.120s", why.text);
        if (!json_is_object(r->object))
                return csv_refuse(&r->row, r->row.first_line, error, "not a JSON object");
        for (uint32_t i = 0; code >= 0 && i < r->options.n_text; i++)
                code = json_text(r, r->options.text[i], error);
        return code >= 0 && r->options.label ? json_label(r, record, error) : code;
}

/* A text, or two with a tab between. */
static int take_line(struct records *r, struct error *error) {
        char *line = r->row.field.data, *tab = r->options.pair ? strchr(line, '\t') : NULL;
        size_t size = r->row.size[0];

        if (!r->options.pair)
                return append_text(r, line, size, error);
        if (!tab || strchr(tab + 1, '\t'))
                return csv_refuse(&r->row, r->row.first_line, error, "expected two texts with a tab between them");
        int code = append_text(r, line, (size_t) (tab - line), error);
        return code < 0 ? code : append_text(r, tab + 1, size - (size_t) (tab + 1 - line), error);
}

static int take_row(struct records *r, struct record *record, struct error *error) {
        if (r->row.problem[0] || is_empty_line(r))
                return 0;
        if (r->options.format == FORMAT_JSONL)
                return take_json(r, record, error);
        if (r->options.format == FORMAT_LINES)
                return take_line(r, error);
        return take_fields(r, record, error);
}

static int end_of_file(const struct records *r, struct error *error) {
        if (r->row.unclosed == 0)
                return 0;
        return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": a quoted field is not closed", r->row.path,
                           r->row.unclosed);
}

int records_next(struct records *r, struct record *ret, struct error *error) {
        uint64_t invalid = r->row.invalid.n;
        int code = read_row(r, error);

        if (code <= 0)
                return code < 0 ? code : end_of_file(r, error);
        *ret = (struct record) { .line = r->row.first_line, .n_invalid = r->row.invalid.n - invalid };
        r->text.n = r->n_texts = 0;
        code = take_row(r, ret, error);
        r->begun = true;
        if (code < 0)
                return code;
        bool pair = r->options.pair && r->n_texts == 2;
        size_t size = pair ? r->second - 1 : r->text.n;
        if (r->row.problem[0] || is_blank(r->text.data, size) ||
            (pair && is_blank(r->text.data + r->second, r->text.n - r->second)))
                size = r->text.n = 0;
        else if (ret->label && ret->label[0] == '\0')
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": empty label%s", r->row.path,
                                   r->row.first_line,
                                   r->options.numbers ? "; expected a decimal number such as 1.5" : "");
        if (csv_append(&r->text, "", 1) < 0)
                return error_errno(error, ENOMEM, "%s", r->row.path);
        ret->text = r->text.data;
        ret->size = size;
        if (pair && size > 0) {
                ret->second = r->text.data + r->second;
                ret->second_size = r->text.n - 1 - r->second;
        }
        ret->problem = r->row.problem[0] ? r->row.problem : NULL;
        return 1;
}

int records_finish(const struct records *r, struct text_findings *findings, struct error *error) {
        text_findings_add(findings, r->row.source, &r->row.invalid);
        return source_check(r->row.source, &r->row.invalid, error);
}

bool records_would_wait(const struct records *r) { return csv_would_wait(&r->row); }

/* ---- opening ---- */

enum data_format records_format(const char *path, enum data_format format) {
        static const struct {
                const char *end;
                enum data_format format;
        } ends[] = { { ".csv", FORMAT_CSV },
                     { ".tsv", FORMAT_TSV },
                     { ".jsonl", FORMAT_JSONL },
                     { ".ndjson", FORMAT_JSONL },
                     { ".txt", FORMAT_LINES } };
        const char *dot = strrchr(path, '.');

        for (size_t i = 0; format == FORMAT_AUTO && dot && i < ELEMENTSOF(ends); i++)
                if (strcasecmp(dot, ends[i].end) == 0)
                        format = ends[i].format;
        return format;
}

static int choose_format(struct records *r, struct error *error) {
        r->options.format = records_format(r->row.path, r->options.format);
        if (r->options.format == FORMAT_AUTO)
                return error_input(error, BERTD_EXIT_DATA, "%s: unknown format by its name; give csv, tsv or jsonl",
                                   r->row.path);
        if (r->options.delimiter && r->options.format == FORMAT_TSV && r->options.delimiter != '\t')
                return error_input(error, BERTD_EXIT_DATA, "%s: tsv has tabs: another delimiter needs format csv",
                                   r->row.path);
        if (r->options.format == FORMAT_LINES && r->options.label)
                return error_input(error, BERTD_EXIT_DATA, "%s: plain lines have no labels: expected csv, tsv or jsonl",
                                   r->row.path);
        return 0;
}

int records_open(const char *path, const struct records_options *options, struct records **ret, struct error *error) {
        cleanup_records struct records *r = calloc(1, sizeof(*r));

        if (!r)
                return error_errno(error, ENOMEM, "%s", path);
        r->options = *options;
        r->row.lenient = options->lenient;
        r->label = NO_COLUMN;
        r->column = calloc(options->n_text + 1, sizeof(*r->column));
        if (!r->column)
                return error_errno(error, ENOMEM, "%s", path);
        int code = csv_open(&r->row, path, options->encoding, error);
        if (code >= 0)
                code = choose_format(r, error);
        if (code >= 0 && (r->options.format == FORMAT_CSV || r->options.format == FORMAT_TSV))
                code = find_columns(r, error);
        if (code < 0)
                return code;
        *ret = steal_pointer(&r);
        return 0;
}

void records_close(struct records *r) {
        if (!r)
                return;
        csv_close(&r->row);
        json_decref(r->object);
        free(r->column);
        free(r->text.data);
        free(r);
}
