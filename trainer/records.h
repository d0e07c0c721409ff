/*
 * Files of labelled texts, a record at a time:
 *
 *   csv    RFC 4180: fields in double quotes may hold commas, line ends and doubled quotes; a quote inside an unquoted field is text
 *   tsv    fields between tabs, a record a line, no quoting
 *   jsonl  an object a line; texts are strings, labels strings, whole numbers or truth values
 *   lines  a text a line, no labels
 *
 * Columns are names (of a header line, or of JSON keys) or numbers from 1. Lines end in LF or CRLF; empty ones are passed over, but in
 * `lines`. UTF-8 with or without a byte order mark, checked, or Latin-1. Every refusal (exit 65, 66 where there is no file) names file
 * and line.
 *
 *   records_open → { records_next } → records_close
 */
#ifndef TRAINER_RECORDS_H
#define TRAINER_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/spec/spec.h"

#define RECORD_BYTES_MAX ((size_t) 64 << 20)
#define RECORD_COLUMNS_MAX 4096

struct records_options {
        enum data_format format; /* auto: by the file's name */
        enum data_encoding encoding;
        enum data_header header;
        char *const *text; /* (n_text) columns whose texts are joined by a space; borrowed */
        uint32_t n_text;
        const char *label; /* NULL: labels are not wanted */
};

struct record {
        uint64_t line; /* its first one, from 1 */
        char *text;    /* NUL-terminated, never empty, valid until the next call */
        size_t size;
        const char *label; /* NULL where not wanted */
};

struct records;

/* "-" is standard input. Options are borrowed. */
int records_open(const char *path, const struct records_options *options, struct records **ret, struct error *error);
void records_close(struct records *records);
static inline void cleanup_records_p(struct records **records) { records_close(*records); }
#define cleanup_records cleanup(cleanup_records_p)

/* 1: the next record; 0: the end; else an error. */
int records_next(struct records *records, struct record *ret, struct error *error);

/* Whether the next call would wait for a slow writer. */
bool records_would_wait(const struct records *records);

#endif
