/*
 * See windows.h. File: one header, then n entries of struct window in host byte order. Invariants: the file appears
 * under its name whole (temporary name, fsync, rename) or not at all; the header's hash covers every entry; the key
 * shows whether it fits this run.
 */
#include "trainer/data/windows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"
#include "trainer/random/philox.h"

#define WINDOWS_MAGIC "BERTDWIN"
#define WINDOWS_VERSION 1u

struct header {
        char magic[8];
        uint32_t version, entry_size;
        uint64_t n;
        uint64_t key[2], hash[2];
        uint64_t reserved;
};
_Static_assert(sizeof(struct window) == 16 && sizeof(struct header) == WINDOWS_HEAD_BYTES, "the map's layout on disk");

struct windows {
        void *map;
        size_t map_size;
        const struct header *header;
        const struct window *entries;
};

struct writer {
        FILE *file;
        XXH3_state_t *hash;
        uint64_t n;
};

static int make_key(const struct corpora *corpora, const struct windows_options *o, uint64_t key[2],
                    struct error *error) {
        char hex[HEX_128_SIZE], text[256];

        int r = corpora_hash(corpora, hex, error);
        if (r < 0)
                return r;
        int n = snprintf(text, sizeof(text), "%s %llu %u %u %d %a", hex, (unsigned long long) o->seed, o->stage,
                         o->max_tokens, o->two_segments, o->short_probability);
        XXH128_hash_t h = XXH3_128bits(text, (size_t) n);
        key[0] = h.low64;
        key[1] = h.high64;
        return 0;
}

static void emit(struct writer *writer, const struct window *window) {
        (void) fwrite(window, sizeof(*window), 1, writer->file);
        (void) XXH3_128bits_update(writer->hash, window, sizeof(*window));
        writer->n++;
}

static uint32_t draw_target(const struct windows_options *o, uint64_t document, uint32_t index) {
        struct philox p = philox(o->seed, index, philox_site(PHILOX_WINDOW, o->stage, 0, 0), document);

        if ((double) philox_unit(p.v[0]) >= o->short_probability)
                return o->max_tokens;
        return 2 + philox_below(p.v[1], o->max_tokens - 1);
}

/* A window closes at its target length once it holds a second sentence; a lone last sentence joins the window
 * before it, since alone it could only ever be the first half of a random pair and would tilt NSP away from even
 * odds. */
static void cut_document(struct writer *writer, const struct corpora *corpora, uint64_t document,
                         const struct windows_options *o) {
        uint64_t begin, end, tokens = 0;
        struct corpus *corpus = corpora_locate(corpora, document, &begin, &end);
        uint32_t least = o->two_segments ? 2 : 1, index = 0;
        struct window now = { .document = (uint32_t) document, .target = draw_target(o, document, 0) }, held = {};

        for (uint64_t s = begin; s < end; s++) {
                now.n_sentences++;
                tokens += corpus_sentence_length(corpus, s);
                if (tokens < now.target || now.n_sentences < least)
                        continue;
                if (held.n_sentences > 0)
                        emit(writer, &held);
                held = now;
                index++;
                now = (struct window) { .document = (uint32_t) document,
                                        .first = (uint32_t) (s + 1 - begin),
                                        .target = draw_target(o, document, index) };
                tokens = 0;
        }
        if (held.n_sentences > 0 && now.n_sentences < least)
                held.n_sentences += now.n_sentences;
        if (held.n_sentences > 0)
                emit(writer, &held);
        if (tokens > 0 && (held.n_sentences == 0 || now.n_sentences >= least))
                emit(writer, &now);
}

static int write_entries(struct writer *writer, const struct corpora *corpora, const struct windows_options *o,
                         struct error *error) {
        for (uint64_t d = 0; d < corpora_n_documents(corpora); d++) {
                uint64_t begin, end;
                (void) corpora_locate(corpora, d, &begin, &end);
                if (end - begin > UINT32_MAX)
                        return error_input(error, BERTD_EXIT_DATA, "%s: document %llu has more than 2^32 sentences",
                                           corpora->prefixes[0], (unsigned long long) d);
                cut_document(writer, corpora, d, o);
                if (ferror(writer->file))
                        return error_errno(error, errno, "window map");
        }
        if (writer->n == 0)
                return error_input(error, BERTD_EXIT_DATA, "%s: holds no text", corpora->prefixes[0]);
        return 0;
}

static int write_map(FILE *file, const struct corpora *corpora, const struct windows_options *o, const uint64_t key[2],
                     struct error *error) {
        struct header header = { .magic = WINDOWS_MAGIC,
                                 .version = WINDOWS_VERSION,
                                 .entry_size = sizeof(struct window),
                                 .key = { key[0], key[1] } };
        struct writer writer = { .file = file, .hash = XXH3_createState() };
        if (!writer.hash)
                return error_errno(error, ENOMEM, "window map");

        (void) XXH3_128bits_reset(writer.hash);
        (void) fwrite(&header, sizeof(header), 1, file);
        int r = write_entries(&writer, corpora, o, error);
        XXH128_hash_t h = XXH3_128bits_digest(writer.hash);
        XXH3_freeState(writer.hash);
        if (r < 0)
                return r;
        header.n = writer.n;
        header.hash[0] = h.low64;
        header.hash[1] = h.high64;
        if (fseek(file, 0, SEEK_SET) < 0 || fwrite(&header, sizeof(header), 1, file) != 1 || fflush(file) != 0 ||
            fsync(fileno(file)) < 0)
                return error_errno(error, errno, "window map");
        return 0;
}

static bool fits(const char *path, const uint64_t key[2]) {
        struct windows *windows = NULL;

        if (windows_open(path, &windows, NULL) < 0)
                return false;
        bool same = windows->header->key[0] == key[0] && windows->header->key[1] == key[1];
        windows_close(windows);
        return same;
}

int windows_build(const char *path, const struct corpora *corpora, const struct windows_options *options,
                  struct error *error) {
        uint64_t key[2];

        int r = make_key(corpora, options, key, error);
        if (r < 0 || fits(path, key))
                return r;
        cleanup_free char *temporary = format_string("%s.tmp", path);
        if (!temporary)
                return error_errno(error, ENOMEM, "%s", path);
        (void) unlink(temporary);
        cleanup_fclose FILE *file = fopen(temporary, "wxe");
        if (!file)
                return error_output(error, errno, path);
        r = write_map(file, corpora, options, key, error);
        if (r >= 0 && rename(temporary, path) < 0)
                r = error_output(error, errno, path);
        if (r < 0) {
                (void) unlink(temporary);
                return r;
        }
        r = fsync_parent(path);
        return r < 0 ? error_output(error, -r, path) : 0;
}

static int check_map(const char *path, const struct windows *w, struct error *error) {
        const struct header *h = w->header;

        if (memcmp(h->magic, WINDOWS_MAGIC, sizeof(h->magic)) != 0 || h->version != WINDOWS_VERSION ||
            h->entry_size != sizeof(struct window))
                return error_input(error, BERTD_EXIT_IO, "%s: not a window map of this version: delete it", path);
        if (h->n == 0 || h->n > w->map_size / sizeof(struct window) ||
            w->map_size != sizeof(*h) + h->n * sizeof(struct window))
                return error_input(error, BERTD_EXIT_IO, "%s: window map cut short: delete it", path);
        XXH128_hash_t got = XXH3_128bits(w->entries, h->n * sizeof(struct window));
        if (got.low64 != h->hash[0] || got.high64 != h->hash[1])
                return error_input(error, BERTD_EXIT_IO, "%s: window map does not match its hash: delete it", path);
        return 0;
}

int windows_take(void *map, size_t size, const char *name, struct windows **ret, struct error *error) {
        struct windows *w = calloc(1, sizeof(*w));

        if (!w) {
                (void) munmap(map, size);
                return error_errno(error, ENOMEM, "%s", name);
        }
        w->map = map;
        w->map_size = size;
        w->header = w->map;
        w->entries = (const struct window *) ((const char *) w->map + sizeof(struct header));
        int r = check_map(name, w, error);
        if (r < 0) {
                windows_close(w);
                return r;
        }
        *ret = w;
        return 0;
}

int windows_open(const char *path, struct windows **ret, struct error *error) {
        struct stat st;
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_errno(error, errno, "%s", path);
        if (st.st_size < (off_t) sizeof(struct header))
                return error_input(error, BERTD_EXIT_IO, "%s: window map cut short: delete it", path);

        void *map = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return error_errno(error, errno, "%s", path);
        return windows_take(map, (size_t) st.st_size, path, ret, error);
}

const void *windows_data(const struct windows *windows, size_t *ret_size) {
        *ret_size = windows->map_size;
        return windows->map;
}

void windows_close(struct windows *windows) {
        if (!windows)
                return;
        (void) munmap(windows->map, windows->map_size);
        free(windows);
}

uint64_t windows_n(const struct windows *windows) { return windows->header->n; }

const struct window *windows_get(const struct windows *windows, uint64_t index) { return &windows->entries[index]; }

void windows_hash(const struct windows *windows, char hex[HEX_128_SIZE]) {
        hex_128(windows->header->hash[1], windows->header->hash[0], hex);
}
