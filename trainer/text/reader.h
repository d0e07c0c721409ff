/*
 * Text files as a sequence of blocks in bounded memory. A block holds whole lines, and whole paragraphs where asked for; how a
 * text is cut into blocks depends on the text alone, so a result made block by block does not depend on threads.
 *
 *   struct reader *reader;               reader_open(paths, n_paths, READER_PARAGRAPHS, encoding, &reader, &error)
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
#include "trainer/text/source.h"

#define READER_BLOCK_BYTES ((size_t) 256 << 10)

enum reader_cut {
        READER_LINES,      /* blocks end after a newline */
        READER_PARAGRAPHS, /* blocks end before a blank line where they can, else after a newline */
};

struct block {
        char *text; /* the caller may change it */
        size_t size, capacity;
        const char *path; /* borrowed from the reader's paths; "standard input" for "-" */
        uint64_t line;    /* number of its first line, from 1 */
        bool begins_file; /* the first block of a file; an empty file has one empty block */
};

void block_free(struct block *block);

struct reader;

/* `paths` are borrowed; none means standard input, as does "-". Files that are missing are refused at once with BERTD_EXIT_INPUT. */
int reader_open(char *const *paths, size_t n_paths, enum reader_cut cut, enum data_encoding encoding,
                struct reader **ret, struct error *error);
void reader_close(struct reader *reader);
static inline void cleanup_reader_p(struct reader **reader) { reader_close(*reader); }
#define cleanup_reader cleanup(cleanup_reader_p)

/* 1: the next block, valid UTF-8 without NUL, every line of it with its newline; 0: the end; else an error. BERTD_EXIT_DATA: what source.h
 * refuses, or a line of more than TEXT_LINE_BYTES_MAX. */
int reader_next(struct reader *reader, struct block *block, struct error *error);

/* Of the files read so far. */
const struct text_findings *reader_findings(const struct reader *reader);
uint64_t reader_bytes(const struct reader *reader);

#endif
