/*
 * Files of labelled texts, a record at a time:
 *
 *   csv    RFC 4180: fields in double quotes may hold commas, line ends and doubled quotes; a quote inside an unquoted field is text;
 *          another delimiter may stand for the comma
 *   tsv    fields between tabs, a record a line, no quoting
 *   jsonl  an object a line; texts are strings, labels strings, whole numbers or truth values
 *   lines  a text a line, no labels
 *
 * Columns are names (of a header line, or of JSON keys) or numbers from 1. Empty lines are passed over, but in `lines`. Bytes are read as
 * source.h describes. Every refusal (exit 65; 66 without the file) names file and line.
 *
 *   records_open → { records_next } → records_finish → records_close
 *
 * Lenient, there is a record for each line, of csv for each row or empty line, whatever is in it: `problem` is why one has no text.
 */
#ifndef TRAINER_DATA_RECORDS_H
#define TRAINER_DATA_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/spec/spec.h"
#include "trainer/text/source.h"

struct records_options {
        enum data_format format; /* auto: by the file's name */
        enum data_encoding encoding;
        enum data_header header;
        char delimiter; /* of csv; NUL: a comma */
        bool lenient;
        char *const *text; /* (n_text) columns whose texts are joined by a space, or a pair; borrowed */
        uint32_t n_text;
        bool pair;         /* two columns are two texts; of `lines`, a line is, with a tab between */
        const char *label; /* NULL: labels are not wanted */
        bool numbers;      /* labels of jsonl may be any number */
};

struct record {
        uint64_t line; /* its first one, from 1 */
        char *text;    /* NUL-terminated, valid until the next call, as are all */
        size_t size;   /* 0: nothing but white space, in either text of a pair */
        char *second;  /* of a pair; else NULL */
        size_t second_size;
        const char *label;   /* NULL if not wanted; of an empty text it may be empty, too */
        const char *problem; /* lenient: why there is no text; else NULL */
        uint64_t n_invalid;  /* bytes of it that were skipped */
        bool first;          /* of a file of columns without a header */
};

struct records;

/* `format`, or if that is auto the format of the file's name: auto if it has none. */
enum data_format records_format(const char *path, enum data_format format);

/* Whether files of columns have a header, which may follow from the label's name. */
bool records_has_header(const struct records_options *options);

/* "-" is standard input. Options are borrowed. */
int records_open(const char *path, const struct records_options *options, struct records **ret, struct error *error);
void records_close(struct records *records);
static inline void cleanup_records_p(struct records **records) { records_close(*records); }
#define cleanup_records cleanup(cleanup_records_p)

/* 1: the next record; 0: the end; else an error. */
int records_next(struct records *records, struct record *ret, struct error *error);

/* Adds what to report of the file. Refused (exit 65): too much of it is not UTF-8. */
int records_finish(const struct records *records, struct text_findings *findings, struct error *error);

/* Whether the next call would wait for a slow writer. */
bool records_would_wait(const struct records *records);

#endif
