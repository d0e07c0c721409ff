/*
 * A file as rows of fields, for records.c: lines, fields between separators, in double quotes or not. Owns the open file and the row being read,
 * whose fields lie one after the other in `field`, each with a NUL.
 *
 *   csv_open → { csv_read → csv_clean } → csv_close
 */
#ifndef TRAINER_DATA_RECORDS_CSV_H
#define TRAINER_DATA_RECORDS_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"
#include "trainer/text/source.h"

#define CSV_FIELDS_MAX 4096
enum { CSV_NO_SEPARATOR = -2 };

/* Growing memory; the owner frees data. */
struct csv_bytes {
        char *data;
        size_t n, capacity;
};
int csv_append(struct csv_bytes *bytes, const char *text, size_t size); /* 0 or −ENOMEM */

struct csv {
        struct source *source;
        const char *path; /* for messages */
        bool lenient;     /* what is wrong with a row is its problem; else it is refused */
        char buffer[1 << 16];
        size_t at, n; /* of the buffer */
        int failed;   /* −errno of a read, 0; then why_failed has the message */
        struct error why_failed;
        uint64_t line, first_line;    /* being read, of the row */
        uint64_t unclosed;            /* the line in which a quote opened that is not closed; 0: none */
        char problem[256];            /* of the row, lenient; "": none */
        struct invalid_bytes invalid; /* of the file */
        struct csv_bytes field;
        size_t begin[CSV_FIELDS_MAX], size[CSV_FIELDS_MAX];
        uint32_t n_fields;
};

/* Zeroed = closed. "-" is standard input. */
int csv_open(struct csv *csv, const char *path, enum data_encoding encoding, struct error *error);
void csv_close(struct csv *csv);

/* The next row; 1, 0 at the end of the file, or an error. `quotes`: a field may be in double quotes. */
int csv_read(struct csv *csv, int separator, bool quotes, struct error *error);

/* Bytes that are not UTF-8, and NUL, go from its fields. */
void csv_clean(struct csv *csv);

static inline const char *csv_field(const struct csv *csv, uint32_t i) { return csv->field.data + csv->begin[i]; }

/* Exit 65 naming file and line; lenient, the row's problem, and 0: the caller reads on to the row's end. */
int csv_refuse(struct csv *csv, uint64_t line, struct error *error, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Whether the next row would wait for a slow writer. */
bool csv_would_wait(const struct csv *csv);

#endif
