/* See records_csv.h. Invariant: `line` counts the LFs that were read, so first_line and messages name the right one. */
#include "trainer/data/records_csv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/array.h"

enum { END = -1 };

int csv_refuse(struct csv *r, uint64_t line, struct error *error, const char *format, ...) {
        char text[sizeof(r->problem)];
        va_list arguments;

        va_start(arguments, format);
        (void) vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        if (!r->lenient)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": %s", r->path, line, text);
        if (!r->problem[0])
                memcpy(r->problem, text, sizeof(text));
        return 0;
}

/* ---- bytes ---- */

static int refill(struct csv *r) {
        ssize_t n = source_read(r->source, r->buffer, sizeof(r->buffer), &r->why_failed);

        r->failed = n < 0 ? (int) n : 0;
        r->at = 0;
        r->n = n > 0 ? (size_t) n : 0;
        return r->n > 0;
}

static int peek(struct csv *r) {
        if (r->at == r->n && !refill(r))
                return END;
        return (unsigned char) r->buffer[r->at];
}

/* The next byte, or END. CRLF is one line end where `fold`. */
static int next(struct csv *r, bool fold) {
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

int csv_append(struct csv_bytes *b, const char *text, size_t size) {
        if (array_reserve(&b->data, &b->capacity, b->n + size, 1) < 0)
                return -ENOMEM;
        if (size > 0)
                memcpy(b->data + b->n, text, size);
        b->n += size;
        return 0;
}

static int put(struct csv_bytes *b, char c) {
        if (b->n == b->capacity)
                return csv_append(b, &c, 1);
        b->data[b->n++] = c;
        return 0;
}

static int keep(struct csv *r, int c, struct error *error) {
        if (r->field.n >= TEXT_LINE_BYTES_MAX)
                return csv_refuse(r, r->first_line, error, "a record of more than %zu MiB", TEXT_LINE_BYTES_MAX >> 20);
        return put(&r->field, (char) c) < 0 ? error_errno(error, ENOMEM, "%s", r->path) : 0;
}

/* ---- fields ---- */

/* Lenient, a field beyond the last takes its place: a row does not grow without bound. */
static int begin_field(struct csv *r, struct error *error) {
        int code = 0;

        if (r->n_fields == CSV_FIELDS_MAX) {
                code = csv_refuse(r, r->first_line, error, "more than %d columns", CSV_FIELDS_MAX);
                r->field.n = r->begin[--r->n_fields];
        }
        r->begin[r->n_fields++] = r->field.n;
        return code;
}

static int end_field(struct csv *r, struct error *error) {
        r->size[r->n_fields - 1] = r->field.n - r->begin[r->n_fields - 1];
        return put(&r->field, '\0') < 0 ? error_errno(error, ENOMEM, "%s", r->path) : 0;
}

static int read_plain(struct csv *r, int c, int separator, int *ret_next, struct error *error) {
        int code = 0;

        for (; code >= 0 && c != separator && c != '\n' && c != END; c = next(r, true))
                code = keep(r, c, error);
        *ret_next = c;
        return code;
}

/* Behind the opening quote; *ret_next: what follows the closing one. */
static int read_quoted(struct csv *r, int separator, int *ret_next, struct error *error) {
        uint64_t opened = r->line;
        int c;

        for (;;) {
                c = next(r, false);
                if (c == '"' && (c = next(r, true)) != '"')
                        break;
                if (c == END) {
                        *ret_next = END;
                        if (r->failed) /* csv_read reports it */
                                return 0;
                        r->unclosed = opened;
                        return csv_refuse(r, opened, error, "a quoted field is not closed");
                }
                int code = keep(r, c, error);
                if (code < 0)
                        return code;
        }
        *ret_next = c;
        if (c == separator || c == '\n' || c == END)
                return 0;
        int code =
                csv_refuse(r, r->line, error, "text after a closing quote; expected the delimiter or the line's end");
        return code < 0 ? code : read_plain(r, c, separator, ret_next, error);
}

int csv_read(struct csv *r, int separator, bool quotes, struct error *error) {
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

void csv_clean(struct csv *r) {
        bool one_line = r->line <= r->first_line + 1;
        uint64_t line = r->first_line;

        for (uint32_t i = 0; i < r->n_fields; i++) {
                char *field = r->field.data + r->begin[i];
                r->size[i] = text_clean(field, r->size[i], line, &r->invalid);
                field[r->size[i]] = '\0';
                line += one_line ? 0 : text_count_newlines(field, r->size[i]);
        }
}

/* ---- opening ---- */

int csv_open(struct csv *r, const char *path, enum data_encoding encoding, struct error *error) {
        int code = source_open(path, encoding, &r->source, error);

        if (code < 0)
                return code;
        r->path = source_name(r->source);
        r->line = 1;
        return 0;
}

void csv_close(struct csv *r) {
        source_close(r->source);
        free(r->field.data);
}

bool csv_would_wait(const struct csv *r) {
        return !memchr(r->buffer + r->at, '\n', r->n - r->at) && source_would_wait(r->source);
}
