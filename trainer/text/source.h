/*
 * The bytes of one file of text, or of standard input, as every command reads them: UTF-8, or made so from Latin-1, without a byte order
 * mark, each line ending in LF (CRLF stays CRLF; the last line gets an LF if it has none).
 *
 * Where a file has no LF but CRs, each CR is a line end. Refused by name (exit 65): UTF-16 and UTF-32, detected by their mark or their zero
 * bytes, compressed files and Git LFS pointers.
 *
 *   source_open → { source_read } → source_check → source_close
 *
 * What is not UTF-8 is left to the reader of lines, which knows where they are: text_clean removes and counts it, source_check refuses a
 * file with too much of it, text_findings gather what to report of all files.
 */
#ifndef TRAINER_TEXT_SOURCE_H
#define TRAINER_TEXT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/spec/spec.h"

#define TEXT_LINE_BYTES_MAX ((size_t) 32 << 20) /* of a line or a record; a longer one is refused */

struct source;

/* "-" is standard input. Exit 66 if the file does not exist. The path is borrowed. */
int source_open(const char *path, enum data_encoding encoding, struct source **ret, struct error *error);
void source_close(struct source *source);
static inline void cleanup_source_p(struct source **source) { source_close(*source); }
#define cleanup_source cleanup(cleanup_source_p)

const char *source_name(const struct source *source); /* for messages */

/* How many bytes of 1 to `size` there are at `to`; 0: the end. Waits only if there is nothing yet. */
ssize_t source_read(struct source *source, char *to, size_t size, struct error *error);

/* Whether source_read would wait for a slow writer. */
bool source_would_wait(const struct source *source);

uint64_t text_count_newlines(const char *text, size_t size);
uint64_t source_bytes(const struct source *source); /* of the file, read so far */

/* ---- what is not UTF-8 ---- */

struct invalid_bytes {
        uint64_t n, line; /* of the first one */
        unsigned char first;
};

/* Takes bytes that are not part of a UTF-8 character, and NUL, out of a text that begins in `line`; returns its new
 * size and adds to *found. */
size_t text_clean(char *text, size_t size, uint64_t line, struct invalid_bytes *found);

/* Refused (exit 65) where `found` is more than 1 % of the bytes read. */
int source_check(const struct source *source, const struct invalid_bytes *found, struct error *error);

/* What to report of the files read; zeroed = nothing. Paths are borrowed. */
struct text_findings {
        struct invalid_bytes invalid;         /* `line` is of first_invalid */
        uint64_t n_cr;                        /* files whose line ends are CRs */
        const char *first_invalid, *first_cr; /* files */
        const char *first_utf8;               /* read as Latin-1, but it is UTF-8 and has more than ASCII; NULL: none */
};

void text_findings_add(struct text_findings *findings, const struct source *source, const struct invalid_bytes *found);

/* A line for each finding. */
void text_findings_print(const struct text_findings *findings, FILE *to);

#endif
