/*
 * See records.h. Owns the file and the fields of one record, one after the other in `field`, each NUL-terminated. Bytes are looked at one
 * by one: a quote may be anywhere.
 */
#include "trainer/data/records.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bertd/exit.h"
#include "common/json_read.h"
#include "common/parse.h"

#define NO_COLUMN UINT32_MAX
enum { END = -1, NO_SEPARATOR = -2 };

/* Growing memory; the owner frees data. */
struct bytes {
        char *data;
        size_t n, capacity;
};

struct records {
        struct source *source;
        const char *path; /* for messages */
        struct records_options options;
        char buffer[1 << 16];
        size_t at, n; /* of the buffer */
        int failed;   /* −errno of a read, 0; then why_failed has the message */
        struct error why_failed;
        uint64_t line, first_line;    /* being read, of the record */
        uint64_t unclosed;            /* the line in which a quote opened that is not closed; 0: none */
        char problem[256];            /* of the record, lenient; "": none */
        struct invalid_bytes invalid; /* of the file */
        struct bytes field, text;
        uint32_t n_texts; /* of the record, that `text` has */
        size_t second;    /* where a pair's second begins in it */
        size_t begin[RECORD_COLUMNS_MAX], size[RECORD_COLUMNS_MAX];
        uint32_t n_fields, n_columns; /* of the record, of the first one (0: not seen) */
        uint32_t *column, label;      /* (n_text) from 0; NO_COLUMN: none */
        uint64_t columns_line;
        bool begun; /* a record was given out, or there is a header */
        json_t *object;
};

/* Of the record being read. Returns 0 if the records are lenient: the caller reads on to the record's end. */
__attribute__((format(printf, 4, 5))) static int refuse(struct records *r, uint64_t line, struct error *error,
                                                        const char *format, ...) {
        char text[sizeof(r->problem)];
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        if (!r->options.lenient)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": %s", r->path, line, text);
        if (!r->problem[0])
                memcpy(r->problem, text, sizeof(text));
        return 0;
}

/* ---- bytes ---- */

static int refill(struct records *r) {
        ssize_t n = source_read(r->source, r->buffer, sizeof(r->buffer), &r->why_failed);

        r->failed = n < 0 ? (int) n : 0;
        r->at = 0;
        r->n = n > 0 ? (size_t) n : 0;
        return r->n > 0;
}

static int peek(struct records *r) {
        if (r->at == r->n && !refill(r))
                return END;
        return (unsigned char) r->buffer[r->at];
}

/* The next byte, or END. CRLF is one line end where `fold`. */
static int next(struct records *r, bool fold) {
        int c = peek(r);

        if (c == END)
                return END;
        r->at++;
        if (fold && c == '\r' && peek(r) == '\n') {
                r->at++;
                c = '\n';
        }
        r->line += c == '\n';
        return c;
}

static int put(struct bytes *b, char c) {
        if (b->n == b->capacity) {
                size_t capacity = b->capacity ? 2 * b->capacity : 4096;
                char *data = realloc(b->data, capacity);
                if (!data)
                        return -ENOMEM;
                b->data = data;
                b->capacity = capacity;
        }
        b->data[b->n++] = c;
        return 0;
}

static int keep(struct records *r, int c, struct error *error) {
        if (r->field.n >= TEXT_LINE_BYTES_MAX)
                return refuse(r, r->first_line, error, "a record of more than %zu MiB", TEXT_LINE_BYTES_MAX >> 20);
        return put(&r->field, (char) c) < 0 ? error_errno(error, ENOMEM, "%s", r->path) : 0;
}

/* ---- fields ---- */

/* Lenient, a field beyond the last takes its place: a row does not grow without bound. */
static int begin_field(struct records *r, struct error *error) {
        int code = 0;

        if (r->n_fields == RECORD_COLUMNS_MAX) {
                code = refuse(r, r->first_line, error, "more than %d columns", RECORD_COLUMNS_MAX);
                r->field.n = r->begin[--r->n_fields];
        }
        r->begin[r->n_fields++] = r->field.n;
        return code;
}

static int end_field(struct records *r, struct error *error) {
        r->size[r->n_fields - 1] = r->field.n - r->begin[r->n_fields - 1];
        return put(&r->field, '\0') < 0 ? error_errno(error, ENOMEM, "%s", r->path) : 0;
}

static int read_plain(struct records *r, int c, int separator, int *ret_next, struct error *error) {
        int code = 0;

        for (; code >= 0 && c != separator && c != '\n' && c != END; c = next(r, true))
                code = keep(r, c, error);
        *ret_next = c;
        return code;
}

/* Behind the opening quote; *ret_next: what follows the closing one. */
static int read_quoted(struct records *r, int separator, int *ret_next, struct error *error) {
        uint64_t opened = r->line;
        int c;

        for (;;) {
                c = next(r, false);
                if (c == '"' && (c = next(r, true)) != '"')
                        break;
                if (c == END) {
                        *ret_next = END;
                        if (r->failed) /* read_fields reports it */
                                return 0;
                        r->unclosed = opened;
                        return refuse(r, opened, error, "a quoted field is not closed");
                }
                int code = keep(r, c, error);
                if (code < 0)
                        return code;
        }
        *ret_next = c;
        if (c == separator || c == '\n' || c == END)
                return 0;
        int code = refuse(r, r->line, error, "text after a closing quote; expected the delimiter or the line's end");
        return code < 0 ? code : read_plain(r, c, separator, ret_next, error);
}

/* A record's fields. 0 at the end of the file. */
static int read_fields(struct records *r, int separator, bool quotes, struct error *error) {
        r->field.n = r->n_fields = 0;
        r->problem[0] = '\0';
        r->first_line = r->line;
        int c = next(r, true), code = 0;

        while (c != END || r->n_fields > 0) {
                code = begin_field(r, error);
                if (code >= 0)
                        code = quotes && c == '"' ? read_quoted(r, separator, &c, error)
                                                  : read_plain(r, c, separator, &c, error);
                if (code >= 0)
                        code = end_field(r, error);
                if (code < 0)
                        return code;
                if (c != separator)
                        break;
                c = next(r, true);
        }
        if (r->failed && error)
                *error = r->why_failed;
        if (r->failed)
                return r->failed;
        return r->n_fields > 0;
}

/* What remains is UTF-8 without NUL. */
static void clean_fields(struct records *r) {
        bool one_line = r->line <= r->first_line + 1;
        uint64_t line = r->first_line;

        for (uint32_t i = 0; i < r->n_fields; i++) {
                char *field = r->field.data + r->begin[i];
                r->size[i] = text_clean(field, r->size[i], line, &r->invalid);
                field[r->size[i]] = '\0';
                line += one_line ? 0 : text_count_newlines(field, r->size[i]);
        }
}

static bool is_blank(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) text[i] > ' ')
                        return false;
        return true;
}

/* Around JSON white space does not count. */
static bool is_empty_line(const struct records *r) {
        if (r->n_fields == 1 && r->options.format == FORMAT_JSONL)
                return is_blank(r->field.data, r->field.n);
        return r->n_fields == 1 && r->field.n == 1;
}

static int read_row(struct records *r, struct error *error) {
        static const struct {
                int separator;
                bool quotes;
        } kinds[FORMAT_MAX] = { [FORMAT_CSV] = { ',', true },
                                [FORMAT_TSV] = { '\t', false },
                                [FORMAT_JSONL] = { NO_SEPARATOR, false },
                                [FORMAT_LINES] = { NO_SEPARATOR, false } };
        enum data_format format = r->options.format;
        bool delimited = format == FORMAT_CSV && r->options.delimiter;
        int code;

        do
                code = read_fields(r, delimited ? r->options.delimiter : kinds[format].separator, kinds[format].quotes,
                                   error);
        while (code > 0 && is_empty_line(r) && format != FORMAT_LINES && !r->options.lenient);
        if (code > 0)
                clean_fields(r);
        return code;
}

/* ---- columns ---- */

static const char *field_at(const struct records *r, uint32_t column) { return r->field.data + r->begin[column]; }

/* A row of one column is often one of several between other delimiters. */
static const char *hint(const struct records *r) {
        return r->n_fields == 1 && r->options.format == FORMAT_CSV ? ": is the delimiter another one?" : "";
}

static int no_column(const struct records *r, const char *name, struct error *error) {
        char all[256] = "";
        size_t used = 0;

        if (r->options.header == HEADER_FALSE)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: no column '%.40s': without a header columns are numbers from 1", r->path, name);
        for (uint32_t i = 0; i < r->n_fields && used < sizeof(all); i++)
                used += (size_t) snprintf(all + used, sizeof(all) - used, "%s%.40s", i ? ", " : "", field_at(r, i));
        return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": no column '%.40s' in the header; it has %s%s",
                           r->path, r->first_line, name, all, hint(r));
}

static int find_column(const struct records *r, const char *name, bool header, uint32_t *ret, struct error *error) {
        uint64_t number = 0;

        for (uint32_t i = 0; header && i < r->n_fields; i++)
                if (strcmp(field_at(r, i), name) == 0) {
                        *ret = i;
                        return 0;
                }
        if (parse_u64(name, 1, RECORD_COLUMNS_MAX, &number) < 0)
                return no_column(r, name, error);
        *ret = (uint32_t) number - 1;
        return 0;
}

static bool is_number(const char *name) {
        uint64_t number;
        return parse_u64(name, 1, RECORD_COLUMNS_MAX, &number) == 0;
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

        r->options.lenient = false; /* a bad header is refused */
        int code = header ? read_row(r, error) : 1;
        r->options.lenient = lenient;
        if (code == 0)
                return 0; /* an empty file: the caller reports it */
        r->begun = header;
        r->n_columns = header ? r->n_fields : 0;
        r->columns_line = r->first_line;
        for (uint32_t i = 0; code > 0 && i < o->n_text; i++)
                code = find_column(r, o->text[i], header, &r->column[i], error) < 0 ? -EINVAL : 1;
        if (code > 0 && o->label)
                code = find_column(r, o->label, header, &r->label, error) < 0 ? -EINVAL : 1;
        return code < 0 ? code : 0;
}

/* Without a header the first row that has the columns sets their number. */
static int check_row(struct records *r, struct error *error) {
        if (r->n_columns > 0 && r->n_fields != r->n_columns)
                return refuse(r, r->first_line, error, "%u columns, line %" PRIu64 " has %u", r->n_fields,
                              r->columns_line, r->n_columns);
        for (uint32_t i = 0; i <= r->options.n_text; i++) {
                uint32_t column = i < r->options.n_text ? r->column[i] : r->label;
                if (column != NO_COLUMN && column >= r->n_fields)
                        return refuse(r, r->first_line, error, "%s column %u, but the row has %u%s",
                                      i < r->options.n_text ? "text" : "label", column + 1, r->n_fields, hint(r));
        }
        if (r->n_columns == 0)
                r->columns_line = r->first_line;
        r->n_columns = r->n_fields;
        return 0;
}

/* ---- records ---- */

/* The second of a pair begins behind a NUL. */
static int append_text(struct records *r, const char *text, size_t size, struct error *error) {
        bool second = r->options.pair && r->n_texts++ == 1;
        int code = second ? put(&r->text, '\0') : r->text.n > 0 ? put(&r->text, ' ') : 0;

        if (second)
                r->second = r->text.n;

        for (size_t i = 0; code >= 0 && i < size; i++)
                code = put(&r->text, text[i]);
        return code < 0 ? error_errno(error, -code, "%s", r->path) : 0;
}

static int take_fields(struct records *r, struct record *record, struct error *error) {
        int code = check_row(r, error);

        for (uint32_t i = 0; code >= 0 && !r->problem[0] && i < r->options.n_text; i++)
                code = append_text(r, field_at(r, r->column[i]), r->size[r->column[i]], error);
        if (code >= 0 && !r->problem[0] && r->label != NO_COLUMN)
                record->label = field_at(r, r->label);
        record->first = !r->begun;
        return code;
}

static int json_text(struct records *r, const char *key, struct error *error) {
        const json_t *value = json_object_get(r->object, key);

        if (!json_is_string(value))
                return refuse(r, r->first_line, error, "key %.40s is %s; expected a string", key,
                              value ? "not a string" : "missing");
        return append_text(r, json_string_value(value), json_string_length(value), error);
}

/* A label that is not a string becomes one, in place of the line, which is not needed any more. */
static int json_label(struct records *r, struct record *record, struct error *error) {
        const json_t *value = json_object_get(r->object, r->options.label);
        char number[32];

        if (json_is_string(value)) {
                record->label = json_plain_string(value);
                return record->label ? 0 : refuse(r, r->first_line, error, "key %.40s holds a NUL", r->options.label);
        }
        bool real = json_is_real(value) && r->options.numbers;
        if (!json_is_integer(value) && !json_is_boolean(value) && !real)
                return refuse(r, r->first_line, error, "key %.40s is %s; expected %s", r->options.label,
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
        r->field.n = 0;
        for (size_t i = 0; i <= strlen(number); i++)
                if (put(&r->field, number[i]) < 0)
                        return error_errno(error, ENOMEM, "%s", r->path);
        record->label = r->field.data;
        return 0;
}

static int take_json(struct records *r, struct record *record, struct error *error) {
        json_error_t why;
        int code = 0;

        json_decref(r->object);
        r->object = json_read(r->field.data, r->size[0], 0, &why);
        if (!r->object)
                return refuse(r, r->first_line, error, "not JSON: %.120s", why.text);
        if (!json_is_object(r->object))
                return refuse(r, r->first_line, error, "not a JSON object");
        for (uint32_t i = 0; code >= 0 && i < r->options.n_text; i++)
                code = json_text(r, r->options.text[i], error);
        return code >= 0 && r->options.label ? json_label(r, record, error) : code;
}

/* A text, or two with a tab between. */
static int take_line(struct records *r, struct error *error) {
        char *line = r->field.data, *tab = r->options.pair ? strchr(line, '\t') : NULL;
        size_t size = r->size[0];

        if (!r->options.pair)
                return append_text(r, line, size, error);
        if (!tab || strchr(tab + 1, '\t'))
                return refuse(r, r->first_line, error, "expected two texts with a tab between them");
        int code = append_text(r, line, (size_t) (tab - line), error);
        return code < 0 ? code : append_text(r, tab + 1, size - (size_t) (tab + 1 - line), error);
}

static int take_row(struct records *r, struct record *record, struct error *error) {
        if (r->problem[0] || is_empty_line(r))
                return 0;
        if (r->options.format == FORMAT_JSONL)
                return take_json(r, record, error);
        if (r->options.format == FORMAT_LINES)
                return take_line(r, error);
        return take_fields(r, record, error);
}

static int end_of_file(const struct records *r, struct error *error) {
        if (r->unclosed == 0)
                return 0;
        return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": a quoted field is not closed", r->path,
                           r->unclosed);
}

int records_next(struct records *r, struct record *ret, struct error *error) {
        uint64_t invalid = r->invalid.n;
        int code = read_row(r, error);

        if (code <= 0)
                return code < 0 ? code : end_of_file(r, error);
        *ret = (struct record) { .line = r->first_line, .n_invalid = r->invalid.n - invalid };
        r->text.n = r->n_texts = 0;
        code = take_row(r, ret, error);
        r->begun = true;
        if (code < 0)
                return code;
        bool pair = r->options.pair && r->n_texts == 2;
        size_t size = pair ? r->second - 1 : r->text.n;
        if (r->problem[0] || is_blank(r->text.data, size) ||
            (pair && is_blank(r->text.data + r->second, r->text.n - r->second)))
                size = r->text.n = 0;
        else if (ret->label && ret->label[0] == '\0')
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": empty label", r->path, r->first_line);
        if (put(&r->text, '\0') < 0)
                return error_errno(error, ENOMEM, "%s", r->path);
        ret->text = r->text.data;
        ret->size = size;
        if (pair && size > 0) {
                ret->second = r->text.data + r->second;
                ret->second_size = r->text.n - 1 - r->second;
        }
        ret->problem = r->problem[0] ? r->problem : NULL;
        return 1;
}

int records_finish(const struct records *r, struct text_findings *findings, struct error *error) {
        text_findings_add(findings, r->source, &r->invalid);
        return source_check(r->source, &r->invalid, error);
}

bool records_would_wait(const struct records *r) {
        return !memchr(r->buffer + r->at, '\n', r->n - r->at) && source_would_wait(r->source);
}

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
        r->options.format = records_format(r->path, r->options.format);
        if (r->options.format == FORMAT_AUTO)
                return error_input(error, BERTD_EXIT_DATA, "%s: unknown format by its name; give csv, tsv or jsonl",
                                   r->path);
        if (r->options.delimiter && r->options.format == FORMAT_TSV && r->options.delimiter != '\t')
                return error_input(error, BERTD_EXIT_DATA, "%s: tsv has tabs: another delimiter needs format csv",
                                   r->path);
        if (r->options.format == FORMAT_LINES && r->options.label)
                return error_input(error, BERTD_EXIT_DATA, "%s: plain lines have no labels: expected csv, tsv or jsonl",
                                   r->path);
        return 0;
}

int records_open(const char *path, const struct records_options *options, struct records **ret, struct error *error) {
        cleanup_records struct records *r = calloc(1, sizeof(*r));

        if (!r)
                return error_errno(error, ENOMEM, "%s", path);
        r->options = *options;
        r->line = 1;
        r->label = NO_COLUMN;
        r->column = calloc(options->n_text + 1, sizeof(*r->column));
        if (!r->column)
                return error_errno(error, ENOMEM, "%s", path);
        int code = source_open(path, options->encoding, &r->source, error);
        if (code < 0)
                return code;
        r->path = source_name(r->source);
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
        source_close(r->source);
        json_decref(r->object);
        free(r->column);
        free(r->field.data);
        free(r->text.data);
        free(r);
}
