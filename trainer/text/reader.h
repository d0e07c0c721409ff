/*
 * Text files as a sequence of blocks in bounded memory. A block holds whole lines, and whole paragraphs where asked for; how a
 * text is cut into blocks depends on the text alone, so a result made block by block does not depend on threads.
 *
 *   struct reader *reader;               reader_open(paths, n_paths, READER_PARAGRAPHS, &reader, &error)
 *   struct block block = {};             reader_next(reader, &block, &error) == 1: a block, its buffer is used again
 *   block_free(&block); reader_close(reader);
 */
#ifndef TRAINER_TEXT_READER_H
#define TRAINER_TEXT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"

#define READER_BLOCK_BYTES ((size_t) 256 << 10)
#define READER_LINE_BYTES_MAX ((size_t) 1 << 20)    /* a longer line is cut at whitespace, else between characters */
#define READER_RECORD_BYTES_MAX ((size_t) 32 << 20) /* a longer record cannot be cut and is refused */

enum reader_cut {
        READER_LINES,      /* blocks end after a newline */
        READER_PARAGRAPHS, /* blocks end before a blank line where they can, else after a newline */
        READER_RECORDS,    /* as lines, but none is ever cut */
};

struct block {
        char *text; /* the caller may change it */
        size_t size, capacity;
        const char *path;   /* borrowed from the reader's paths; "standard input" for "-" */
        uint64_t line;      /* number of its first line, from 1 */
        bool begins_file;   /* the first block of a file; an empty file has one empty block */
        bool ends_mid_line; /* the line goes on in the next block */
};

void block_free(struct block *block);

struct reader;

/* `paths` are borrowed; none means standard input, as does "-". Files that are missing or no text (gzip, xz, zstd) are
 * refused at once with BERTD_EXIT_INPUT or BERTD_EXIT_DATA. */
int reader_open(char *const *paths, size_t n_paths, enum reader_cut cut, struct reader **ret, struct error *error);
void reader_close(struct reader *reader);
static inline void cleanup_reader_p(struct reader **reader) { reader_close(*reader); }
#define cleanup_reader cleanup(cleanup_reader_p)

/* 1: the next block; 0: the end; else an error. */
int reader_next(struct reader *reader, struct block *block, struct error *error);

/* How often a line was cut, and where first ("file:line", borrowed; NULL where none was). */
uint64_t reader_cuts(const struct reader *reader, const char **ret_first);
uint64_t reader_bytes(const struct reader *reader);

#endif
