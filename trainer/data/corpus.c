/*
 * See corpus.h. Owns two read-only mappings. Everything that a read relies on is checked once in corpus_open, so the
 * accessors check nothing: lengths are not negative, sentence i begins where i-1 ends, the last ends with the .bin file, and
 * documents are in order. Fields of .idx are unaligned (its header is 34 bytes), so they are read by memcpy.
 */
#include "trainer/data/corpus.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/corpus_prefix.h"
#include "common/file.h"
#include "common/hex.h"
#include "trainer/data/corpus_format.h"
#include "trainer/data/corpus_sidecar.h"
#include "trainer/text/content.h"

static_assert(sizeof(struct corpus_header) == 34, "the header's layout is Megatron's");

struct mapping {
        char *path;
        const unsigned char *data; /* NULL where the file is empty */
        size_t size;
        struct timespec opened, modified, changed;
        ino_t inode;
};

struct corpus {
        char *prefix;
        struct mapping idx, bin;
        struct corpus_header header;
        size_t id_bytes;
        const unsigned char *lengths, *offsets, *documents; /* unaligned arrays in idx */
        struct corpus_sidecar sidecar;
        bool has_sidecar;
        char hash[CORPUS_HASH_MAX];
};

static int64_t read_i64(const unsigned char *array, uint64_t i) {
        int64_t v;
        memcpy(&v, array + i * sizeof(v), sizeof(v));
        return v;
}

static int32_t read_i32(const unsigned char *array, uint64_t i) {
        int32_t v;
        memcpy(&v, array + i * sizeof(v), sizeof(v));
        return v;
}

static int mapping_open(const char *prefix, const char *suffix, struct mapping *mapping, struct error *error) {
        struct stat st;

        mapping->path = format_string("%s%s", prefix, suffix);
        if (!mapping->path)
                return error_errno(error, ENOMEM, "%s", prefix);
        cleanup_close int fd = open(mapping->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0) {
                int r = error_errno(error, errno, "%s", mapping->path);
                if (error)
                        error->exit = BERTD_EXIT_INPUT;
                return r;
        }
        if (!S_ISREG(st.st_mode))
                return error_input(error, BERTD_EXIT_DATA, "%s: not a regular file", mapping->path);
        (void) clock_gettime(CLOCK_REALTIME, &mapping->opened);
        mapping->modified = st.st_mtim;
        mapping->changed = st.st_ctim;
        mapping->inode = st.st_ino;
        mapping->size = (size_t) st.st_size;
        if (mapping->size == 0)
                return 0;
        void *data = mmap(NULL, mapping->size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
                return error_errno(error, errno, "%s: cannot map", mapping->path);
        mapping->data = data;
        return 0;
}

static void mapping_close(struct mapping *mapping) {
        if (mapping->data)
                (void) munmap((void *) mapping->data, mapping->size);
        free(mapping->path);
}

static size_t dtype_bytes(uint8_t dtype) {
        switch (dtype) {
        case CORPUS_UINT8:
        case CORPUS_INT8:
                return 1;
        case CORPUS_INT16:
        case CORPUS_UINT16:
                return 2;
        case CORPUS_INT32:
                return 4;
        case CORPUS_INT64:
                return 8;
        default:
                return 0;
        }
}

static int check_header(struct corpus *corpus, struct error *error) {
        const struct mapping *idx = &corpus->idx;
        struct corpus_header *header = &corpus->header;

        int r = file_refuse_pointer(idx->path, idx->data, idx->size, error);
        if (r < 0)
                return r;
        if (idx->size < sizeof(*header))
                return error_input(error, BERTD_EXIT_DATA, "%s: %zu bytes, expected an index of at least %zu",
                                   idx->path, idx->size, sizeof(*header));
        memcpy(header, idx->data, sizeof(*header));
        if (memcmp(header->magic, CORPUS_MAGIC, CORPUS_MAGIC_BYTES) != 0)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: not a Megatron index, expected it to begin with MMIDIDX", idx->path);
        if (header->version != CORPUS_VERSION)
                return error_input(error, BERTD_EXIT_DATA, "%s: version %" PRIu64 ", expected %d", idx->path,
                                   (uint64_t) header->version, CORPUS_VERSION);
        corpus->id_bytes = dtype_bytes(header->dtype);
        if (corpus->id_bytes == 0)
                return error_input(error, BERTD_EXIT_DATA, "%s: dtype code %u, expected one of integers (1 to 5 or 8)",
                                   idx->path, header->dtype);
        if (header->n_sentences == 0 || header->n_document_marks < 2)
                return error_input(error, BERTD_EXIT_DATA, "%s: empty corpus, expected at least one sentence",
                                   idx->path);
        return 0;
}

static int check_index_size(struct corpus *corpus, struct error *error) {
        const struct corpus_header *header = &corpus->header;
        uint64_t room = corpus->idx.size - sizeof(*header);
        uint64_t n = header->n_sentences, marks = header->n_document_marks;

        if (n > room / 12 || marks > room / 8 || n * 12 + marks * 8 != room)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: %zu bytes, expected another size for the %" PRIu64 " sentences and %" PRIu64
                                   " documents that its header states (cut short?)",
                                   corpus->idx.path, corpus->idx.size, n, marks - 1);
        corpus->lengths = corpus->idx.data + sizeof(*header);
        corpus->offsets = corpus->lengths + n * sizeof(int32_t);
        corpus->documents = corpus->offsets + n * sizeof(int64_t);
        return 0;
}

static int check_sentences(const struct corpus *corpus, struct error *error) {
        uint64_t end = 0;

        for (uint64_t i = 0; i < corpus->header.n_sentences; i++) {
                int32_t length = read_i32(corpus->lengths, i);
                int64_t offset = read_i64(corpus->offsets, i);
                if (length < 0)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: sentence %" PRIu64 " has length %d, expected 0 or more",
                                           corpus->idx.path, i, length);
                if (offset < 0 || (uint64_t) offset != end)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: sentence %" PRIu64 " begins at byte %" PRId64 ", expected %" PRIu64,
                                           corpus->idx.path, i, offset, end);
                end += (uint64_t) length * corpus->id_bytes;
        }
        if (end != corpus->bin.size)
                return error_input(error, BERTD_EXIT_DATA, "%s: %zu bytes, expected %" PRIu64 " by its index %s",
                                   corpus->bin.path, corpus->bin.size, end, corpus->idx.path);
        return 0;
}

static int check_documents(const struct corpus *corpus, struct error *error) {
        uint64_t n = corpus->header.n_document_marks;
        int64_t previous = 0;

        for (uint64_t i = 0; i < n; i++) {
                int64_t first = read_i64(corpus->documents, i);
                if (first < previous || (i == 0 && first != 0))
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: document %" PRIu64 " begins at sentence %" PRId64
                                           ", expected %s%" PRId64,
                                           corpus->idx.path, i, first, i == 0 ? "" : "at least ", previous);
                previous = first;
        }
        if ((uint64_t) previous != corpus->header.n_sentences)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: documents end at sentence %" PRId64 ", expected %" PRIu64, corpus->idx.path,
                                   previous, (uint64_t) corpus->header.n_sentences);
        return 0;
}

static int read_sidecar(struct corpus *corpus, struct error *error) {
        cleanup_free char *path = format_string("%s.json", corpus->prefix);
        if (!path)
                return error_errno(error, ENOMEM, "%s", corpus->prefix);
        int r = corpus_sidecar_read(path, &corpus->sidecar, error);
        if (r < 0)
                return r;
        corpus->has_sidecar = r > 0;
        if (r > 0 && corpus->sidecar.n_sentences != corpus->header.n_sentences)
                return error_input(error, BERTD_EXIT_DATA, "%s: %" PRIu64 " sentences, expected %" PRIu64 " as in %s",
                                   path, corpus->sidecar.n_sentences, (uint64_t) corpus->header.n_sentences,
                                   corpus->idx.path);
        return 0;
}

static int validate(struct corpus *corpus, struct error *error) {
        int r = check_header(corpus, error);
        if (r >= 0)
                r = check_index_size(corpus, error);
        if (r >= 0)
                r = check_sentences(corpus, error);
        if (r >= 0)
                r = check_documents(corpus, error);
        return r < 0 ? r : read_sidecar(corpus, error);
}

static void hash_index(const struct corpus *corpus, char hex[CORPUS_HASH_MAX]) {
        XXH128_hash_t hash = XXH3_128bits_withSeed(corpus->idx.data, corpus->idx.size, corpus->bin.size);

        hex_128(hash.high64, hash.low64, hex);
}

int corpus_open(const char *prefix, struct corpus **ret, struct error *error) {
        cleanup_corpus struct corpus *corpus = calloc(1, sizeof(*corpus));
        char expected[512];
        struct error why = {};
        if (!corpus || !(corpus->prefix = strdup(prefix)))
                return error_errno(error, ENOMEM, "%s", prefix);

        int r = mapping_open(prefix, ".idx", &corpus->idx, &why);
        if (r == -ENOENT && corpus_prefix_mistaken(prefix, expected, sizeof(expected)))
                return error_input(error, BERTD_EXIT_INPUT, "%s: %s", prefix, expected);
        if (r < 0 && error)
                *error = why;
        if (r >= 0)
                r = mapping_open(prefix, ".bin", &corpus->bin, error);
        if (r >= 0)
                r = validate(corpus, error);
        if (r < 0)
                return r;
        hash_index(corpus, corpus->hash);
        *ret = steal_pointer(&corpus);
        return 0;
}

void corpus_close(struct corpus *corpus) {
        if (!corpus)
                return;
        mapping_close(&corpus->idx);
        mapping_close(&corpus->bin);
        free(corpus->prefix);
        free(corpus);
}

const char *corpus_prefix(const struct corpus *corpus) { return corpus->prefix; }

uint64_t corpus_n_sentences(const struct corpus *corpus) { return corpus->header.n_sentences; }

uint64_t corpus_n_documents(const struct corpus *corpus) { return corpus->header.n_document_marks - 1; }

uint64_t corpus_n_tokens(const struct corpus *corpus) { return corpus->bin.size / corpus->id_bytes; }

uint64_t corpus_document_begin(const struct corpus *corpus, uint64_t document) {
        return (uint64_t) read_i64(corpus->documents, document);
}

uint32_t corpus_sentence_length(const struct corpus *corpus, uint64_t sentence) {
        return (uint32_t) read_i32(corpus->lengths, sentence);
}

#define WIDEN(type)                                          \
        for (size_t i = 0; i < n; i++) {                     \
                type v;                                      \
                memcpy(&v, from + i * sizeof(v), sizeof(v)); \
                to[i] = (int32_t) v;                         \
        }                                                    \
        break

/* An id of eight bytes that int32 cannot hold becomes -1, which corpus_check_ids refuses. */
static void widen_i64(const unsigned char *from, size_t n, int32_t *to) {
        for (size_t i = 0; i < n; i++) {
                int64_t v = read_i64(from, i);
                to[i] = v >= 0 && v <= INT32_MAX ? (int32_t) v : -1;
        }
}

static void widen(uint8_t dtype, const unsigned char *from, size_t n, int32_t *to) {
        switch (dtype) {
        case CORPUS_UINT8:
                WIDEN(uint8_t);
        case CORPUS_INT8:
                WIDEN(int8_t);
        case CORPUS_INT16:
                WIDEN(int16_t);
        case CORPUS_INT32:
                WIDEN(int32_t);
        case CORPUS_UINT16:
                WIDEN(uint16_t);
        default:
                widen_i64(from, n, to);
        }
}

void corpus_sentence_copy(const struct corpus *corpus, uint64_t sentence, uint32_t from, uint32_t n, int32_t *ids) {
        if (n == 0)
                return;
        uint64_t offset = (uint64_t) read_i64(corpus->offsets, sentence) + from * (uint64_t) corpus->id_bytes;
        widen(corpus->header.dtype, corpus->bin.data + offset, n, ids);
}

static int check_sentence_ids(const struct corpus *corpus, uint64_t sentence, uint32_t vocab_size,
                              struct error *error) {
        int32_t ids[1024];
        uint32_t length = corpus_sentence_length(corpus, sentence);

        for (uint32_t from = 0; from < length; from += ELEMENTSOF(ids)) {
                uint32_t n = MIN(length - from, (uint32_t) ELEMENTSOF(ids));
                corpus_sentence_copy(corpus, sentence, from, n, ids);
                for (uint32_t i = 0; i < n; i++)
                        if ((uint32_t) ids[i] >= vocab_size)
                                return error_input(error, BERTD_EXIT_DATA,
                                                   "%s: sentence %" PRIu64
                                                   ", token %u: id %d, expected 0 to %u by the vocabulary",
                                                   corpus->bin.path, sentence, from + i, ids[i], vocab_size - 1);
        }
        return 0;
}

int corpus_check_ids(const struct corpus *corpus, uint32_t vocab_size, struct error *error) {
        for (uint64_t i = 0; i < corpus->header.n_sentences; i++) {
                int r = check_sentence_ids(corpus, i, vocab_size, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* File systems count time in ticks: two changes within one look like one. */
static bool is_settled(const struct mapping *m) {
        double age = (double) (m->opened.tv_sec - m->changed.tv_sec) +
                     (double) (m->opened.tv_nsec - m->changed.tv_nsec) / 1e9;

        return age > (m->changed.tv_nsec == 0 ? 2 : 0.05);
}

bool corpus_state(const struct corpus *corpus, uint32_t vocab_size, char hex[CORPUS_HASH_MAX]) {
        const struct mapping *bin = &corpus->bin;
        char text[256];

        int n = snprintf(text, sizeof(text), "%s %u %ju %lld.%09ld %lld.%09ld", corpus->hash, vocab_size,
                         (uintmax_t) bin->inode, (long long) bin->modified.tv_sec, bin->modified.tv_nsec,
                         (long long) bin->changed.tv_sec, bin->changed.tv_nsec);
        XXH128_hash_t hash = XXH3_128bits(text, (size_t) n);
        hex_128(hash.high64, hash.low64, hex);
        return is_settled(bin);
}

const char *corpus_vocab_hash(const struct corpus *corpus) {
        return corpus->has_sidecar ? corpus->sidecar.vocab_hash : NULL;
}

const struct text_options *corpus_text_options(const struct corpus *corpus) {
        return corpus->has_sidecar ? &corpus->sidecar.options : NULL;
}

void corpus_hash(const struct corpus *corpus, char hex[CORPUS_HASH_MAX]) { memcpy(hex, corpus->hash, CORPUS_HASH_MAX); }

void corpus_content_hash(const struct corpus *corpus, char hex[CORPUS_HASH_MAX]) {
        char both[2 * CORPUS_HASH_MAX] = "";

        hash_index(corpus, both);
        content_hash(corpus->bin.data, corpus->bin.size, both + CORPUS_HASH_MAX);
        content_hash(both, sizeof(both), hex);
}
