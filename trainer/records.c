/*
 * See records.h. Owns the file and the fields of one record, one after the other in `field`, each NUL-terminated. Bytes are looked at one
 * by one: a quote may be anywhere.
 */
#include "trainer/records.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/json_read.h"
#include "common/parse.h"
#include "trainer/text/unicode.h"

#define NO_COLUMN UINT32_MAX
enum { END = -1, NO_SEPARATOR = -2 };

/* Growing memory; the owner frees data. */
struct bytes {
        char *data;
        size_t n, capacity;
};

struct records {
        const char *path; /* borrowed, for messages */
        struct records_options options;
        int fd;
        char buffer[1 << 16];
        size_t at, n;              /* of the buffer */
        int failed;                /* errno of a read, 0 */
        uint64_t line, first_line; /* being read, of the record */
        struct bytes field, text;
        size_t begin[RECORD_COLUMNS_MAX];
        uint32_t n_fields, n_columns; /* of the record, of the first one (0: not seen) */
        uint32_t *column, label;      /* (n_text) from 0; NO_COLUMN: none */
        uint64_t columns_line;
        json_t *object;
};

/* ---- bytes ---- */

static int refill(struct records *r) {
        ssize_t n;

        do
                n = read(r->fd, r->buffer, sizeof(r->buffer));
        while (n < 0 && errno == EINTR);
        r->failed = n < 0 ? errno : 0;
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
        char wide[2] = { (char) (0xc0 | c >> 6), (char) (0x80 | (c & 0x3f)) };
        int code;

        if (r->field.n >= RECORD_BYTES_MAX)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": a record of more than %zu MB", r->path,
                                   r->first_line, RECORD_BYTES_MAX >> 20);
        if (r->options.encoding == ENCODING_LATIN1 && c >= 0x80) {
                code = put(&r->field, wide[0]);
                code = code < 0 ? code : put(&r->field, wide[1]);
        } else
                code = put(&r->field, (char) c);
        return code < 0 ? error_errno(error, -code, "%s", r->path) : 0;
}

/* ---- fields ---- */

static int begin_field(struct records *r, struct error *error) {
        if (r->n_fields == RECORD_COLUMNS_MAX)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": more than %d columns", r->path,
                                   r->first_line, RECORD_COLUMNS_MAX);
        r->begin[r->n_fields++] = r->field.n;
        return 0;
}

static int end_field(struct records *r, struct error *error) {
        return put(&r->field, '\0') < 0 ? error_errno(error, ENOMEM, "%s", r->path) : 0;
}

/* Behind the opening quote; *ret_next: what follows the closing one. */
static int read_quoted(struct records *r, int *ret_next, struct error *error) {
        uint64_t opened = r->line;

        for (;;) {
                int c = next(r, false);
                if (c == '"' && (c = next(r, true)) != '"') {
                        *ret_next = c;
                        break;
                }
                if (c == END)
                        return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": a quoted field is not closed",
                                           r->path, opened);
                int code = keep(r, c, error);
                if (code < 0)
                        return code;
        }
        if (*ret_next != ',' && *ret_next != '\n' && *ret_next != END)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s:%" PRIu64 ": text behind a closing quote; expected a comma or the line's end",
                                   r->path, r->line);
        return 0;
}

static int read_plain(struct records *r, int c, int separator, int *ret_next, struct error *error) {
        int code = 0;

        for (; code >= 0 && c != separator && c != '\n' && c != END; c = next(r, true))
                code = keep(r, c, error);
        *ret_next = c;
        return code;
}

/* A record's fields. 0 at the end of the file. */
static int read_fields(struct records *r, int separator, bool quotes, struct error *error) {
        r->field.n = r->n_fields = 0;
        r->first_line = r->line;
        int c = next(r, true), code = 0;

        if (c == END)
                return r->failed ? error_errno(error, r->failed, "%s", r->path) : 0;
        for (;;) {
                code = begin_field(r, error);
                if (code >= 0)
                        code = quotes && c == '"' ? read_quoted(r, &c, error) : read_plain(r, c, separator, &c, error);
                if (code >= 0)
                        code = end_field(r, error);
                if (code < 0)
                        return code;
                if (c != separator)
                        return r->failed ? error_errno(error, r->failed, "%s", r->path) : 1;
                c = next(r, true);
        }
}

/* Whatever the encoding, what goes on is UTF-8 without NUL. */
static int check_bytes(const struct records *r, struct error *error) {
        for (uint32_t i = 0; i < r->n_fields; i++) {
                const char *text = r->field.data + r->begin[i];
                size_t size = (i + 1 < r->n_fields ? r->begin[i + 1] : r->field.n) - r->begin[i] - 1;
                size_t valid = MIN(utf8_valid_prefix(text, size), strlen(text));
                uint64_t line = r->first_line;
                if (valid == size)
                        continue;
                for (const char *p = r->field.data; p < text + valid; p++)
                        line += *p == '\n';
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": byte 0x%02x: not UTF-8%s", r->path, line,
                                   (unsigned char) text[valid],
                                   text[valid] == '\0' ? "" : " (encoding: latin-1 reads ISO-8859-1)");
        }
        return 0;
}

static int read_row(struct records *r, struct error *error) {
        static const struct {
                int separator;
                bool quotes;
        } kinds[FORMAT_MAX] = { [FORMAT_CSV] = { ',', true },
                                [FORMAT_TSV] = { '\t', false },
                                [FORMAT_JSONL] = { NO_SEPARATOR, false },
                                [FORMAT_LINES] = { NO_SEPARATOR, false } };
        int code;

        do
                code = read_fields(r, kinds[r->options.format].separator, kinds[r->options.format].quotes, error);
        while (code > 0 && r->n_fields == 1 && r->field.n == 1 && r->options.format != FORMAT_LINES &&
               r->line > r->first_line);
        if (code <= 0)
                return code;
        code = check_bytes(r, error);
        return code < 0 ? code : 1;
}

/* ---- columns ---- */

static const char *field_at(const struct records *r, uint32_t column) { return r->field.data + r->begin[column]; }

static int no_column(const struct records *r, const char *name, struct error *error) {
        char all[256] = "";
        size_t used = 0;

        if (r->options.header == HEADER_FALSE)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: no column '%.40s': without a header columns are numbers from 1", r->path, name);
        for (uint32_t i = 0; i < r->n_fields && used < sizeof(all); i++)
                used += (size_t) snprintf(all + used, sizeof(all) - used, "%s%.40s", i ? ", " : "", field_at(r, i));
        return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": no column '%.40s' in the header; it has %s",
                           r->path, r->first_line, name, all);
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

static bool has_header(const struct records_options *o) {
        bool named = o->label && !is_number(o->label);

        for (uint32_t i = 0; i < o->n_text; i++)
                named = named || !is_number(o->text[i]);
        return o->header == HEADER_TRUE || (o->header == HEADER_AUTO && named);
}

static int find_columns(struct records *r, struct error *error) {
        const struct records_options *o = &r->options;
        bool header = has_header(o);
        int code = header ? read_row(r, error) : 1;

        if (code == 0)
                return 0; /* an empty file: its reader says so */
        r->n_columns = header ? r->n_fields : 0;
        r->columns_line = r->first_line;
        for (uint32_t i = 0; code > 0 && i < o->n_text; i++)
                code = find_column(r, o->text[i], header, &r->column[i], error) < 0 ? -EINVAL : 1;
        if (code > 0 && o->label)
                code = find_column(r, o->label, header, &r->label, error) < 0 ? -EINVAL : 1;
        return code < 0 ? code : 0;
}

static int check_row(struct records *r, struct error *error) {
        if (r->n_columns == 0) {
                r->n_columns = r->n_fields;
                r->columns_line = r->first_line;
        }
        if (r->n_fields != r->n_columns)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": %u columns, line %" PRIu64 " has %u",
                                   r->path, r->first_line, r->n_fields, r->columns_line, r->n_columns);
        for (uint32_t i = 0; i <= r->options.n_text; i++) {
                uint32_t column = i < r->options.n_text ? r->column[i] : r->label;
                if (column != NO_COLUMN && column >= r->n_fields)
                        return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": %s column %u, but the row has %u",
                                           r->path, r->first_line, i < r->options.n_text ? "text" : "label", column + 1,
                                           r->n_fields);
        }
        return 0;
}

/* ---- records ---- */

static int append_text(struct records *r, const char *text, size_t size, struct error *error) {
        int code = r->text.n > 0 ? put(&r->text, ' ') : 0;

        for (size_t i = 0; code >= 0 && i < size; i++)
                code = put(&r->text, text[i]);
        return code < 0 ? error_errno(error, -code, "%s", r->path) : 0;
}

static int take_fields(struct records *r, struct record *record, struct error *error) {
        int code = check_row(r, error);

        for (uint32_t i = 0; code >= 0 && i < r->options.n_text; i++)
                code = append_text(r, field_at(r, r->column[i]), strlen(field_at(r, r->column[i])), error);
        if (code >= 0 && r->label != NO_COLUMN)
                record->label = field_at(r, r->label);
        return code;
}

static int json_text(struct records *r, const char *key, struct error *error) {
        const json_t *value = json_object_get(r->object, key);

        if (!json_is_string(value))
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": key %.40s is %s; expected a string",
                                   r->path, r->first_line, key, value ? "no string" : "missing");
        return append_text(r, json_string_value(value), json_string_length(value), error);
}

/* A label that is no string becomes one, in place of the line, which is not needed any more. */
static int json_label(struct records *r, struct record *record, struct error *error) {
        const json_t *value = json_object_get(r->object, r->options.label);
        char number[32];

        if (json_is_string(value)) {
                record->label = json_plain_string(value);
                return record->label ? 0
                                     : error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": key %.40s holds a NUL",
                                                   r->path, r->first_line, r->options.label);
        }
        if (!json_is_integer(value) && !json_is_boolean(value))
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s:%" PRIu64 ": key %.40s is %s; expected a string or a whole number of at most 64 bits",
                                   r->path, r->first_line, r->options.label, value ? "neither" : "missing");
        if (json_is_boolean(value))
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
        r->object = json_read(r->field.data, r->field.n - 1, 0, &why);
        if (!r->object)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": %.120s", r->path, r->first_line, why.text);
        if (!json_is_object(r->object))
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": not a JSON object", r->path, r->first_line);
        for (uint32_t i = 0; code >= 0 && i < r->options.n_text; i++)
                code = json_text(r, r->options.text[i], error);
        return code >= 0 && r->options.label ? json_label(r, record, error) : code;
}

static bool is_blank(const struct bytes *text) {
        for (size_t i = 0; i < text->n; i++)
                if ((unsigned char) text->data[i] > ' ')
                        return false;
        return true;
}

int records_next(struct records *r, struct record *ret, struct error *error) {
        int code = read_row(r, error);

        if (code <= 0)
                return code;
        *ret = (struct record) { .line = r->first_line };
        r->text.n = 0;
        if (r->options.format == FORMAT_JSONL)
                code = take_json(r, ret, error);
        else if (r->options.format == FORMAT_LINES)
                code = append_text(r, r->field.data, strlen(r->field.data), error);
        else
                code = take_fields(r, ret, error);
        if (code < 0)
                return code;
        if (is_blank(&r->text))
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": empty text", r->path, r->first_line);
        if (ret->label && ret->label[0] == '\0')
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": empty label", r->path, r->first_line);
        if (put(&r->text, '\0') < 0)
                return error_errno(error, ENOMEM, "%s", r->path);
        ret->text = r->text.data;
        ret->size = r->text.n - 1;
        return 1;
}

bool records_would_wait(const struct records *r) {
        struct pollfd fd = { .fd = r->fd, .events = POLLIN };

        return r->at == r->n && poll(&fd, 1, 0) == 0;
}

/* ---- opening ---- */

static int choose_format(struct records *r, struct error *error) {
        static const struct {
                const char *end;
                enum data_format format;
        } ends[] = { { ".csv", FORMAT_CSV },
                     { ".tsv", FORMAT_TSV },
                     { ".jsonl", FORMAT_JSONL },
                     { ".ndjson", FORMAT_JSONL },
                     { ".txt", FORMAT_LINES } };
        const char *dot = strrchr(r->path, '.');

        for (size_t i = 0; r->options.format == FORMAT_AUTO && dot && i < ELEMENTSOF(ends); i++)
                if (strcmp(dot, ends[i].end) == 0)
                        r->options.format = ends[i].format;
        if (r->options.format == FORMAT_AUTO)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: its name does not tell its format: say csv, tsv or jsonl", r->path);
        if (r->options.format == FORMAT_LINES && r->options.label)
                return error_input(error, BERTD_EXIT_DATA, "%s: plain lines have no labels: expected csv, tsv or jsonl",
                                   r->path);
        return 0;
}

static int skip_mark(struct records *r, struct error *error) {
        if (r->options.encoding != ENCODING_UTF8 || peek(r) == END)
                return 0;
        if (r->n >= 3 && memcmp(r->buffer, "\xef\xbb\xbf", 3) == 0)
                r->at = 3;
        else if (r->n >= 2 && (memcmp(r->buffer, "\xff\xfe", 2) == 0 || memcmp(r->buffer, "\xfe\xff", 2) == 0))
                return error_input(error, BERTD_EXIT_DATA, "%s:1: UTF-16; expected UTF-8", r->path);
        return 0;
}

static int open_file(struct records *r, const char *path, struct error *error) {
        bool standard = strcmp(path, "-") == 0;

        r->path = standard ? "standard input" : path;
        r->fd = standard ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
        if (r->fd < 0)
                return error_input(error, BERTD_EXIT_INPUT, "%s: %s", r->path, strerror(errno));
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
        int code = open_file(r, path, error);
        if (code >= 0)
                code = choose_format(r, error);
        if (code >= 0)
                code = skip_mark(r, error);
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
        if (r->fd > 0)
                (void) close(r->fd);
        json_decref(r->object);
        free(r->column);
        free(r->field.data);
        free(r->text.data);
        free(r);
}
