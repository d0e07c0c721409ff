/*
 * See corpus_writer.h. The lengths go straight to their place in the .idx file, behind room for the header; the offsets are
 * made from them at the end, by reading them back, and the documents wait in a nameless file beside it. The .idx.tmp file
 * is locked (flock) while it is written, so a leftover of a killed run is written over and a live one is not.
 */
#include "trainer/data/corpus_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "trainer/data/corpus_format.h"

#define STREAM_BUFFER_BYTES ((size_t) 256 << 10)
#define COPY_ITEMS 8192

struct output {
        char *path, *temporary;
        FILE *stream;
};

struct corpus_writer {
        char *prefix;
        struct output bin, idx, json;
        FILE *documents; /* int64 first sentence of each document; has no name */
        uint8_t dtype;
        size_t id_bytes;
        uint64_t n_documents, n_sentences, n_tokens, document_begin;
};

static int output_open(struct output *output, const char *prefix, const char *suffix, struct error *error) {
        output->path = format_string("%s%s", prefix, suffix);
        char *temporary = format_string("%s%s.tmp", prefix, suffix);
        if (!output->path || !temporary) {
                free(temporary);
                return error_errno(error, ENOMEM, "%s", prefix);
        }
        cleanup_close int fd = open(temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        int r = fd < 0 ? -errno : file_claim(fd, temporary);
        if (r == -EWOULDBLOCK)
                (void) error_set(error, EBUSY, "%s: another prepare writes it now", temporary);
        else if (r < 0)
                (void) error_output(error, -r, output->path);
        if (r >= 0 && !(output->stream = fdopen(fd, "w+e")))
                r = error_output(error, errno, output->path);
        if (r < 0) {
                free(temporary);
                return r;
        }
        (void) steal_fd(&fd);
        output->temporary = temporary;
        (void) setvbuf(output->stream, NULL, _IOFBF, STREAM_BUFFER_BYTES);
        return 0;
}

static void output_close(struct output *output) {
        if (output->temporary)
                (void) unlink(output->temporary);
        if (output->stream)
                (void) fclose(output->stream);
        free(output->path);
        free(output->temporary);
}

static int put(struct corpus_writer *writer, FILE *stream, const void *data, size_t size, struct error *error) {
        errno = EIO;
        if (fwrite(data, 1, size, stream) == size)
                return 0;
        return error_output(error, errno,
                            stream == writer->bin.stream    ? writer->bin.path
                            : stream == writer->json.stream ? writer->json.path
                                                            : writer->idx.path);
}

static int open_documents(struct corpus_writer *writer, struct error *error) {
        cleanup_free char *path = format_string("%s.doc.tmp", writer->prefix);
        if (!path)
                return error_errno(error, ENOMEM, "%s", writer->prefix);
        writer->documents = fopen(path, "w+e");
        if (!writer->documents)
                return error_output(error, errno, path);
        (void) unlink(path);
        return 0;
}

int corpus_writer_open(const char *prefix, uint32_t vocab_size, struct corpus_writer **ret, struct error *error) {
        cleanup_corpus_writer struct corpus_writer *writer = calloc(1, sizeof(*writer));
        struct corpus_header room = {};
        int64_t zero = 0;

        if (!writer || !(writer->prefix = strdup(prefix)))
                return error_errno(error, ENOMEM, "%s", prefix);
        writer->dtype = vocab_size < CORPUS_UINT16_VOCAB_MAX ? CORPUS_UINT16 : CORPUS_INT32;
        writer->id_bytes = writer->dtype == CORPUS_UINT16 ? sizeof(uint16_t) : sizeof(int32_t);
        int r = output_open(&writer->idx, prefix, ".idx", error);
        if (r >= 0)
                r = output_open(&writer->bin, prefix, ".bin", error);
        if (r >= 0)
                r = output_open(&writer->json, prefix, ".json", error);
        if (r >= 0)
                r = open_documents(writer, error);
        if (r >= 0)
                r = put(writer, writer->idx.stream, &room, sizeof(room), error);
        if (r >= 0)
                r = put(writer, writer->documents, &zero, sizeof(zero), error);
        if (r < 0)
                return r;
        *ret = steal_pointer(&writer);
        return 0;
}

void corpus_writer_free(struct corpus_writer *writer) {
        if (!writer)
                return;
        output_close(&writer->bin);
        output_close(&writer->idx);
        output_close(&writer->json);
        if (writer->documents)
                (void) fclose(writer->documents);
        free(writer->prefix);
        free(writer);
}

static int put_ids(struct corpus_writer *writer, const int32_t *ids, size_t n, struct error *error) {
        uint16_t narrow[COPY_ITEMS];

        if (writer->dtype == CORPUS_INT32)
                return put(writer, writer->bin.stream, ids, n * sizeof(*ids), error);
        for (size_t from = 0; from < n; from += COPY_ITEMS) {
                size_t part = MIN(n - from, (size_t) COPY_ITEMS);
                for (size_t i = 0; i < part; i++)
                        narrow[i] = (uint16_t) ids[from + i];
                int r = put(writer, writer->bin.stream, narrow, part * sizeof(*narrow), error);
                if (r < 0)
                        return r;
        }
        return 0;
}

int corpus_writer_add(struct corpus_writer *writer, const int32_t *ids, const uint32_t *lengths, size_t n_sentences,
                      struct error *error) {
        size_t n_tokens = 0;

        for (size_t i = 0; i < n_sentences; i++)
                n_tokens += lengths[i];
        int r = put_ids(writer, ids, n_tokens, error);
        if (r >= 0)
                r = put(writer, writer->idx.stream, lengths, n_sentences * sizeof(*lengths), error);
        if (r < 0)
                return r;
        writer->n_tokens += n_tokens;
        writer->n_sentences += n_sentences;
        return 0;
}

int corpus_writer_end_document(struct corpus_writer *writer, struct error *error) {
        int64_t end = (int64_t) writer->n_sentences;

        if (writer->n_sentences == writer->document_begin)
                return 0;
        writer->document_begin = writer->n_sentences;
        writer->n_documents++;
        return put(writer, writer->documents, &end, sizeof(end), error);
}

uint64_t corpus_writer_documents(const struct corpus_writer *writer) { return writer->n_documents; }
uint64_t corpus_writer_sentences(const struct corpus_writer *writer) { return writer->n_sentences; }
uint64_t corpus_writer_tokens(const struct corpus_writer *writer) { return writer->n_tokens; }

static int get(int fd, void *data, size_t size, uint64_t offset) {
        for (size_t done = 0; done < size;) {
                ssize_t n = pread(fd, (char *) data + done, size - done, (off_t) (offset + done));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                done += (size_t) n;
        }
        return 0;
}

static int flush(FILE *stream, const char *path, struct error *error) {
        errno = EIO;
        return fflush(stream) == 0 ? 0 : error_output(error, errno, path);
}

/* Offsets of the sentences, made from the lengths that lie in the file already. */
static int put_offsets(struct corpus_writer *writer, struct error *error) {
        int32_t lengths[COPY_ITEMS];
        int64_t offsets[COPY_ITEMS], end = 0;

        for (uint64_t from = 0; from < writer->n_sentences; from += COPY_ITEMS) {
                size_t n = (size_t) MIN(writer->n_sentences - from, (uint64_t) COPY_ITEMS);
                uint64_t at = sizeof(struct corpus_header) + from * sizeof(*lengths);
                int r = get(fileno(writer->idx.stream), lengths, n * sizeof(*lengths), at);
                if (r < 0)
                        return error_errno(error, -r, "%s: cannot read back", writer->idx.path);
                for (size_t i = 0; i < n; i++) {
                        offsets[i] = end;
                        end += (int64_t) lengths[i] * (int64_t) writer->id_bytes;
                }
                r = put(writer, writer->idx.stream, offsets, n * sizeof(*offsets), error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int put_documents(struct corpus_writer *writer, struct error *error) {
        int64_t marks[COPY_ITEMS];

        for (uint64_t from = 0; from < writer->n_documents + 1; from += COPY_ITEMS) {
                size_t n = (size_t) MIN(writer->n_documents + 1 - from, (uint64_t) COPY_ITEMS);
                int r = get(fileno(writer->documents), marks, n * sizeof(*marks), from * sizeof(*marks));
                if (r < 0)
                        return error_errno(error, -r, "%s: cannot read documents back", writer->idx.path);
                r = put(writer, writer->idx.stream, marks, n * sizeof(*marks), error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int put_header(struct corpus_writer *writer, struct error *error) {
        struct corpus_header header = {
                .version = CORPUS_VERSION,
                .dtype = writer->dtype,
                .n_sentences = writer->n_sentences,
                .n_document_marks = writer->n_documents + 1,
        };
        memcpy(header.magic, CORPUS_MAGIC, CORPUS_MAGIC_BYTES);
        if (fseeko(writer->idx.stream, 0, SEEK_SET) < 0)
                return error_output(error, errno, writer->idx.path);
        return put(writer, writer->idx.stream, &header, sizeof(header), error);
}

static int sync_stream(const struct output *output, struct error *error) {
        int r = flush(output->stream, output->path, error);
        if (r < 0)
                return r;
        return fsync(fileno(output->stream)) == 0 ? 0 : error_output(error, errno, output->path);
}

int corpus_writer_finish(struct corpus_writer *writer, struct error *error) {
        int r = corpus_writer_end_document(writer, error);
        if (r >= 0)
                r = flush(writer->idx.stream, writer->idx.path, error);
        if (r >= 0)
                r = flush(writer->documents, writer->idx.path, error);
        if (r >= 0)
                r = put_offsets(writer, error);
        if (r >= 0)
                r = put_documents(writer, error);
        if (r >= 0)
                r = put_header(writer, error);
        if (r >= 0)
                r = sync_stream(&writer->idx, error);
        return r < 0 ? r : sync_stream(&writer->bin, error);
}

static int output_rename(struct output *output, struct error *error) {
        if (rename(output->temporary, output->path) < 0)
                return error_output(error, errno, output->path);
        free(steal_pointer(&output->temporary));
        return 0;
}

static int put_sidecar(struct corpus_writer *writer, const struct corpus_sidecar *sidecar, struct error *error) {
        cleanup_free char *text = corpus_sidecar_format(sidecar);
        if (!text)
                return error_errno(error, ENOMEM, "%s", writer->prefix);
        int r = put(writer, writer->json.stream, text, strlen(text), error);
        return r < 0 ? r : sync_stream(&writer->json, error);
}

int corpus_writer_commit(struct corpus_writer *writer, struct corpus_sidecar *sidecar, struct error *error) {
        sidecar->n_documents = writer->n_documents;
        sidecar->n_sentences = writer->n_sentences;
        sidecar->n_tokens = writer->n_tokens;
        int r = put_sidecar(writer, sidecar, error);
        if (r >= 0 && unlink(writer->idx.path) < 0 && errno != ENOENT)
                r = error_output(error, errno, writer->idx.path);
        if (r >= 0)
                r = output_rename(&writer->json, error);
        if (r >= 0)
                r = output_rename(&writer->bin, error);
        if (r >= 0)
                r = output_rename(&writer->idx, error);
        if (r < 0)
                return r;
        r = fsync_parent(writer->idx.path);
        return r < 0 ? error_output(error, -r, writer->idx.path) : 0;
}
