/*
 * See reader.h. Owns one open file and the text read beyond the last block's end (`rest`). A block grows only while it has
 * no place to be cut, and no further than the bound on a line.
 */
#include "trainer/text/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bertd/exit.h"
#include "common/file.h"

struct reader {
        char *const *paths;
        size_t n_paths, next_path;
        enum reader_cut cut;
        int fd;
        const char *path;
        uint64_t line, n_bytes, n_cuts;
        bool file_begun, file_ended;
        char *rest;
        size_t rest_size, rest_capacity;
        char *first_cut;
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

int reader_open(char *const *paths, size_t n_paths, enum reader_cut cut, struct reader **ret, struct error *error) {
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
        reader->fd = -1;
        *ret = reader;
        return 0;
}

static void close_file(struct reader *reader) {
        if (reader->fd > STDIN_FILENO)
                (void) close(reader->fd);
        reader->fd = -1;
}

void reader_close(struct reader *reader) {
        if (!reader)
                return;
        close_file(reader);
        free(reader->rest);
        free(reader->first_cut);
        free(reader);
}

uint64_t reader_cuts(const struct reader *reader, const char **ret_first) {
        *ret_first = reader->first_cut;
        return reader->n_cuts;
}

uint64_t reader_bytes(const struct reader *reader) { return reader->n_bytes; }

static int open_next_file(struct reader *reader, struct error *error) {
        const char *path = reader->paths[reader->next_path++];
        bool is_stdin = strcmp(path, "-") == 0;

        reader->path = is_stdin ? "standard input" : path;
        reader->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (reader->fd < 0)
                return error_errno(error, errno, "%s", path);
        reader->line = 1;
        reader->file_begun = reader->file_ended = false;
        return 0;
}

static int reserve(char **buffer, size_t *capacity, size_t need) {
        if (need <= *capacity)
                return 0;
        char *grown = realloc(*buffer, need);
        if (!grown)
                return -ENOMEM;
        *buffer = grown;
        *capacity = need;
        return 0;
}

/* Reads until the block has `target` bytes or the file ends. */
static int fill(struct reader *reader, struct block *block, size_t target, struct error *error) {
        if (reserve(&block->text, &block->capacity, target) < 0)
                return error_errno(error, ENOMEM, "%s", reader->path);
        while (block->size < target && !reader->file_ended) {
                ssize_t n = read(reader->fd, block->text + block->size, target - block->size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_errno(error, errno, "%s", reader->path);
                reader->file_ended = n == 0;
                reader->n_bytes += (uint64_t) n;
                block->size += (size_t) n;
        }
        return 0;
}

static int refuse_compressed(const struct block *block, const char *path, struct error *error) {
        static const struct {
                const char *magic, *name;
        } formats[] = {
                { "\x1f\x8b", "gzip" }, { "\xfd\x37zXZ", "xz" }, { "\x28\xb5\x2f\xfd", "zstd" }, { "BZh9", "bzip2" }
        };

        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                size_t n = strlen(formats[i].magic);
                if (block->size >= n && memcmp(block->text, formats[i].magic, n) == 0)
                        return error_input(error, BERTD_EXIT_DATA, "%s: compressed with %s, expected plain text", path,
                                           formats[i].name);
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

/* Where to cut a line that is too long: after its last whitespace, else before its last character. */
static size_t cut_long_line(const char *text, size_t size) {
        size_t end = size;
        while (end > size / 2 && text[end - 1] != ' ' && text[end - 1] != '\t')
                end--;
        if (end > size / 2)
                return end;
        end = size - 1;
        for (int i = 0; i < 3 && ((unsigned char) text[end] & 0xC0) == 0x80; i++)
                end--;
        return end;
}

static int note_cut(struct reader *reader) {
        if (reader->n_cuts++ == 0)
                reader->first_cut = format_string("%s:%" PRIu64, reader->path, reader->line);
        return 0;
}

/* Finds the block's end, reading on where there is none yet. */
static int find_end(struct reader *reader, struct block *block, size_t *ret_end, struct error *error) {
        size_t line_max = reader->cut == READER_RECORDS ? READER_RECORD_BYTES_MAX : READER_LINE_BYTES_MAX;

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
                if (block->size >= line_max && reader->cut == READER_RECORDS)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s:%" PRIu64 ": a record of more than %zu MiB, expected less", reader->path,
                                           reader->line, line_max >> 20);
                if (block->size >= line_max) {
                        *ret_end = cut_long_line(block->text, block->size);
                        block->ends_mid_line = true;
                        return note_cut(reader);
                }
                int r = fill(reader, block, MIN(2 * block->size, line_max), error);
                if (r < 0)
                        return r;
        }
}

static int keep_rest(struct reader *reader, struct block *block, size_t end) {
        reader->rest_size = block->size - end;
        if (reserve(&reader->rest, &reader->rest_capacity, reader->rest_size) < 0)
                return -ENOMEM;
        if (reader->rest_size > 0)
                memcpy(reader->rest, block->text + end, reader->rest_size);
        block->size = end;
        return 0;
}

static uint64_t count_newlines(const char *text, size_t size) {
        uint64_t n = 0;
        for (size_t i = 0; i < size; i++)
                n += text[i] == '\n';
        return n;
}

static int next_block_of_file(struct reader *reader, struct block *block, struct error *error) {
        size_t target = MAX(READER_BLOCK_BYTES, reader->rest_size);

        if (reserve(&block->text, &block->capacity, target) < 0)
                return error_errno(error, ENOMEM, "%s", reader->path);
        block->path = reader->path;
        block->line = reader->line;
        block->begins_file = !reader->file_begun;
        block->ends_mid_line = false;
        block->size = reader->rest_size;
        if (reader->rest_size > 0)
                memcpy(block->text, reader->rest, reader->rest_size);
        reader->rest_size = 0;
        int r = fill(reader, block, target, error);
        if (r >= 0 && block->begins_file)
                r = refuse_compressed(block, reader->path, error);
        size_t end = 0;
        if (r >= 0)
                r = find_end(reader, block, &end, error);
        if (r < 0)
                return r;
        if (keep_rest(reader, block, end) < 0)
                return error_errno(error, ENOMEM, "%s", reader->path);
        reader->file_begun = true;
        reader->line += count_newlines(block->text, block->size);
        return 1;
}

int reader_next(struct reader *reader, struct block *block, struct error *error) {
        if (reader->fd >= 0 && reader->file_ended && reader->rest_size == 0)
                close_file(reader);
        if (reader->fd < 0) {
                if (reader->next_path == reader->n_paths)
                        return 0;
                int r = open_next_file(reader, error);
                if (r < 0)
                        return r;
        }
        return next_block_of_file(reader, block, error);
}
