/*
 * See reader.h. Owns one open file and the text read beyond the last block's end (`rest`). A block grows only while it has
 * no place to be cut, and no further than the bound on a line.
 */
#include "trainer/text/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bertd/exit.h"
#include "common/array.h"

struct reader {
        char *const *paths;
        size_t n_paths, next_path;
        enum reader_cut cut;
        enum data_encoding encoding;
        struct source *source; /* NULL: none is open */
        const char *path;
        uint64_t line, n_bytes; /* n_bytes: of the files before */
        bool file_begun, file_ended;
        struct invalid_bytes invalid; /* of the file */
        struct text_findings findings;
        char *rest;
        size_t rest_size, rest_capacity;
};

static char *const standard_input[] = { (char *) "-" };

void block_free(struct block *block) {
        free(block->text);
        *block = (struct block) {};
}

static int check_path(const char *path, struct error *error) {
        struct stat st;

        if (strcmp(path, "-") == 0)
                return 0;
        if (stat(path, &st) >= 0 && S_ISDIR(st.st_mode))
                return error_input(error, BERTD_EXIT_INPUT, "%s: is a folder, expected a text file", path);
        if (access(path, R_OK) < 0) {
                int r = error_errno(error, errno, "%s", path);
                if (error)
                        error->exit = BERTD_EXIT_INPUT;
                return r;
        }
        return 0;
}

int reader_open(char *const *paths, size_t n_paths, enum reader_cut cut, enum data_encoding encoding,
                struct reader **ret, struct error *error) {
        for (size_t i = 0; i < n_paths; i++) {
                int r = check_path(paths[i], error);
                if (r < 0)
                        return r;
        }
        struct reader *reader = calloc(1, sizeof(*reader));
        if (!reader)
                return error_errno(error, ENOMEM, "cannot read text");
        reader->paths = n_paths > 0 ? paths : standard_input;
        reader->n_paths = n_paths > 0 ? n_paths : 1;
        reader->cut = cut;
        reader->encoding = encoding;
        *ret = reader;
        return 0;
}

static void close_file(struct reader *reader) {
        if (reader->source)
                reader->n_bytes += source_bytes(reader->source);
        source_close(reader->source);
        reader->source = NULL;
}

void reader_close(struct reader *reader) {
        if (!reader)
                return;
        close_file(reader);
        free(reader->rest);
        free(reader);
}

const struct text_findings *reader_findings(const struct reader *reader) { return &reader->findings; }

uint64_t reader_bytes(const struct reader *reader) {
        return reader->n_bytes + (reader->source ? source_bytes(reader->source) : 0);
}

static int open_next_file(struct reader *reader, struct error *error) {
        int r = source_open(reader->paths[reader->next_path++], reader->encoding, &reader->source, error);
        if (r < 0)
                return r;
        reader->path = source_name(reader->source);
        reader->line = 1;
        reader->file_begun = reader->file_ended = false;
        reader->invalid = (struct invalid_bytes) {};
        return 0;
}

/* Reads until the block has `target` bytes or the file ends. */
static int fill(struct reader *reader, struct block *block, size_t target, struct error *error) {
        if (array_reserve(&block->text, &block->capacity, target, 1) < 0)
                return error_errno(error, ENOMEM, "%s", reader->path);
        while (block->size < target && !reader->file_ended) {
                ssize_t n = source_read(reader->source, block->text + block->size, target - block->size, error);
                if (n < 0)
                        return (int) n;
                reader->file_ended = n == 0;
                block->size += (size_t) n;
        }
        return 0;
}

static size_t after_last_newline(const char *text, size_t size) {
        const char *newline = memrchr(text, '\n', size);
        return newline ? (size_t) (newline - text) + 1 : 0;
}

/* The place before the last run of blank lines, or 0. */
static size_t before_last_blank_line(const char *text, size_t size) {
        for (size_t end = size; end > 1;) {
                const char *newline = memrchr(text, '\n', end - 1);
                if (!newline)
                        return 0;
                end = (size_t) (newline - text) + 1;
                if (end < size && text[end] == '\n') {
                        while (end > 1 && text[end - 2] == '\n')
                                end--;
                        return end > 1 ? end : 0;
                }
        }
        return 0;
}

/* Finds the block's end, reading more while there is none. */
static int find_end(struct reader *reader, struct block *block, size_t *ret_end, struct error *error) {
        for (;;) {
                size_t end = 0;
                if (reader->file_ended && block->size <= READER_BLOCK_BYTES)
                        end = block->size;
                if (end == 0 && reader->cut == READER_PARAGRAPHS)
                        end = before_last_blank_line(block->text, block->size);
                if (end == 0)
                        end = after_last_newline(block->text, block->size);
                if (end == 0 && reader->file_ended)
                        end = block->size;
                *ret_end = end;
                if (end > 0 || block->size == 0)
                        return 0;
                if (block->size >= TEXT_LINE_BYTES_MAX)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s:%" PRIu64 ": a line of more than %zu MiB, expected less", reader->path,
                                           reader->line, TEXT_LINE_BYTES_MAX >> 20);
                int r = fill(reader, block, MIN(2 * block->size, TEXT_LINE_BYTES_MAX), error);
                if (r < 0)
                        return r;
        }
}

static int keep_rest(struct reader *reader, struct block *block, size_t end) {
        reader->rest_size = block->size - end;
        if (array_reserve(&reader->rest, &reader->rest_capacity, reader->rest_size, 1) < 0)
                return -ENOMEM;
        if (reader->rest_size > 0)
                memcpy(reader->rest, block->text + end, reader->rest_size);
        block->size = end;
        return 0;
}

static int end_file(struct reader *reader, struct error *error) {
        text_findings_add(&reader->findings, reader->source, &reader->invalid);
        int r = source_check(reader->source, &reader->invalid, error);
        return r < 0 ? r : 1;
}

static int next_block_of_file(struct reader *reader, struct block *block, struct error *error) {
        size_t target = MAX(READER_BLOCK_BYTES, reader->rest_size);

        if (array_reserve(&block->text, &block->capacity, target, 1) < 0)
                return error_errno(error, ENOMEM, "%s", reader->path);
        block->path = reader->path;
        block->line = reader->line;
        block->begins_file = !reader->file_begun;
        block->size = reader->rest_size;
        if (reader->rest_size > 0)
                memcpy(block->text, reader->rest, reader->rest_size);
        reader->rest_size = 0;
        int r = fill(reader, block, target, error);
        size_t end = 0;
        if (r >= 0)
                r = find_end(reader, block, &end, error);
        if (r < 0)
                return r;
        if (keep_rest(reader, block, end) < 0)
                return error_errno(error, ENOMEM, "%s", reader->path);
        reader->file_begun = true;
        block->size = text_clean(block->text, block->size, block->line, &reader->invalid);
        reader->line += text_count_newlines(block->text, block->size);
        return reader->file_ended && reader->rest_size == 0 ? end_file(reader, error) : 1;
}

int reader_next(struct reader *reader, struct block *block, struct error *error) {
        if (reader->source && reader->file_ended && reader->rest_size == 0)
                close_file(reader);
        if (!reader->source) {
                if (reader->next_path == reader->n_paths)
                        return 0;
                int r = open_next_file(reader, error);
                if (r < 0)
                        return r;
        }
        return next_block_of_file(reader, block, error);
}
