/* See source.h. Owns the file and a buffer of it, which source_read gives out with its line ends and its encoding put right. */
#include "trainer/text/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "trainer/text/unicode.h"

#define BUFFER_BYTES ((size_t) 64 << 10)
#define MARK_BYTES_MAX 4
#define WIDE_SAMPLE_MIN 32 /* bytes: of fewer only a clear case counts */

/* ENDS_PENDING: a CR that was the last byte read ended a line: what follows shows whether it was half of a CRLF. */
enum line_ends { ENDS_UNKNOWN, ENDS_PENDING, ENDS_LF, ENDS_CR };

struct source {
        const char *name;
        int fd;
        enum data_encoding encoding;
        enum line_ends ends;
        char buffer[BUFFER_BYTES];
        size_t at, n;
        uint64_t n_bytes;
        bool begun, ended;
        bool in_line;  /* the last byte given out was not LF */
        bool after_cr; /* an LF that comes next belongs to a CR that has ended the line */
        bool is_utf8;  /* though it is read as Latin-1 */
        char second;   /* of a Latin-1 character's two bytes, still to be given out; 0: none */
        const char
                *may_be; /* UTF-16 or UTF-32 that its begin may be, too, if it turns out to be no UTF-8; NULL: none */
};

uint64_t text_count_newlines(const char *text, size_t size) {
        uint64_t n = 0;

        for (size_t i = 0; i < size; i++)
                n += text[i] == '\n';
        return n;
}

/* ---- what is not UTF-8 text at all ---- */

struct wide {
        const char *name, *mark;
        size_t mark_size, unit, low; /* bytes of a unit, and which of them is its lowest */
};

static const struct wide wides[] = { { "UTF-32LE", "\xff\xfe\0\0", 4, 4, 0 },
                                     { "UTF-32BE", "\0\0\xfe\xff", 4, 4, 3 },
                                     { "UTF-16LE", "\xff\xfe", 2, 2, 0 },
                                     { "UTF-16BE", "\xfe\xff", 2, 2, 1 } };

/* What a sample looks like when it is read in units of a wide encoding. */
struct wide_view {
        size_t units, ascii, lf, impossible;
        size_t other_lf, high_lf; /* bytes of 0x0A that are not LF; that are not even the low byte of something */
};

static uint32_t unit_at(const struct wide *w, const unsigned char *p) {
        uint32_t value = 0;

        for (size_t i = 0; i < w->unit; i++)
                value |= (uint32_t) p[i] << 8 * (w->low == 0 ? i : w->unit - 1 - i);
        return value;
}

static struct wide_view view_as(const struct wide *w, const char *sample, size_t size) {
        struct wide_view view = { .units = size / w->unit };
        const unsigned char *p = (const unsigned char *) sample;
        size_t all_lf = text_count_newlines(sample, size);

        view.other_lf = view.high_lf = all_lf;
        for (size_t i = 0; i < view.units; i++) {
                uint32_t value = unit_at(w, p + i * w->unit);
                view.ascii += value > 0 && value < 0x80;
                view.lf += value == '\n';
                view.other_lf -= value == '\n';
                view.high_lf -= (value & 0xff) == '\n';
                view.impossible += value == 0 || value >= 0x110000;
        }
        return view;
}

/* How much of a sample is not UTF-8, in percent. */
static size_t invalid_percent(const char *sample, size_t size) {
        char copy[4096];
        size_t n = MIN(size, sizeof(copy));
        struct invalid_bytes invalid = {};

        memcpy(copy, sample, n);
        (void) text_clean(copy, n, 1, &invalid);
        return n > 0 ? (size_t) (100 * invalid.n + n - 1) / n : 0;
}

/* Units of most scripts hold bytes that are control characters to ASCII; lines that end in NUL do not. */
static bool has_controls(const char *sample, size_t size) {
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) sample[i];
                if ((c < ' ' && c && !strchr("\t\n\r", c)) || c == 0x7f)
                        return true;
        }
        return false;
}

/* A mark alone is none where a line of UTF-8 begins with such bytes: predict has to take it. */
static bool is_wide(const struct wide *w, const char *sample, size_t size, bool marked) {
        struct wide_view view = view_as(w, sample, size);

        if (w->unit == 4)
                return view.units >= (marked ? 1 : 2) && view.impossible == 0;
        if (marked)
                return view.high_lf == 0 && invalid_percent(sample, size) > 0;
        if (view.units < 2)
                return false;
        if (view.other_lf == 0 && 2 * view.ascii > view.units)
                return true;
        if (size < WIDE_SAMPLE_MIN || view.ascii == 0)
                return false;
        return (view.lf > 0 && view.other_lf <= view.lf && 100 * view.ascii >= size &&
                (view.ascii > view.lf || has_controls(sample, size))) ||
               (view.high_lf == 0 && 20 * view.ascii >= view.units && invalid_percent(sample, size) > 20);
}

static int refuse_wide(const struct source *s, struct error *error) {
        for (size_t i = 0; i < ELEMENTSOF(wides); i++) {
                const struct wide *w = &wides[i];
                bool marked = s->n >= w->mark_size && memcmp(s->buffer, w->mark, w->mark_size) == 0;
                size_t mark = marked ? w->mark_size : 0;
                if (is_wide(w, s->buffer + mark, s->n - mark, marked))
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: %s, expected UTF-8; convert it: iconv -f %s -t UTF-8", s->name, w->name,
                                           marked && w->unit == 2   ? "UTF-16"
                                           : marked && w->unit == 4 ? "UTF-32"
                                                                    : w->name);
        }
        return 0;
}

/* What is reported of a text that turns out not to be UTF-8: a mark, or zero bytes where they would be. */
static const char *may_be_wide(const struct source *s) {
        for (size_t i = 0; i < ELEMENTSOF(wides); i++) {
                const struct wide *w = &wides[i];
                if (s->n >= w->mark_size && memcmp(s->buffer, w->mark, w->mark_size) == 0)
                        return w->name;
                struct wide_view view = view_as(w, s->buffer, s->n);
                bool gurmukhi = 2 * view.high_lf > view.units; /* or Gujarati: U+0A01 to U+0AFF */
                if (s->n % w->unit == 0 && view.ascii > 0 && view.impossible == 0 && (view.high_lf == 0 || gurmukhi))
                        return w->name;
        }
        return NULL;
}

static int refuse_compressed(const struct source *s, struct error *error) {
        static const struct {
                const char *magic, *name;
        } formats[] = { { "\x1f\x8b", "gzip" },
                        { "\xfd\x37zXZ", "xz" },
                        { "\x28\xb5\x2f\xfd", "zstd" },
                        { "BZh9", "bzip2" },
                        { "PK\3\4", "zip" } };

        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                size_t n = strlen(formats[i].magic);
                if (s->n >= n && memcmp(s->buffer, formats[i].magic, n) == 0)
                        return error_input(error, BERTD_EXIT_DATA, "%s: compressed with %s, expected plain text",
                                           s->name, formats[i].name);
        }
        return 0;
}

/* A text may quote such a file: it is one if it has the second line, too. */
static int refuse_pointer(const struct source *s, struct error *error) {
        return memmem(s->buffer, s->n, "\noid sha256:", strlen("\noid sha256:"))
                       ? file_refuse_pointer(s->name, s->buffer, s->n, error)
                       : 0;
}

static int skip_mark(struct source *s, struct error *error) {
        if (s->n < 3 || memcmp(s->buffer, "\xef\xbb\xbf", 3) != 0)
                return 0;
        s->at = 3;
        if (s->encoding == ENCODING_LATIN1)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: begins with UTF-8's byte order mark, but the encoding is latin-1", s->name);
        return 0;
}

/* Hardly any Latin-1 text is UTF-8, too, but ASCII. */
static void look_for_utf8(struct source *s) {
        const char *end = memrchr(s->buffer, '\n', s->n); /* no character is cut there */
        size_t size = end ? (size_t) (end - s->buffer) : s->n;
        bool ascii = true;

        for (size_t i = 0; i < size; i++)
                ascii = ascii && (unsigned char) s->buffer[i] < 0x80;
        s->is_utf8 = !ascii && utf8_valid_prefix(s->buffer, size) == size;
}

/* ---- bytes ---- */

static int read_more(struct source *s, struct error *error) {
        ssize_t n;

        do
                n = read(s->fd, s->buffer + s->n, sizeof(s->buffer) - s->n);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return error_errno(error, errno, "%s", s->name);
        s->ended = n == 0;
        s->n += (size_t) n;
        s->n_bytes += (uint64_t) n;
        return 0;
}

/* A mark may come in pieces; a line is never waited for. */
static bool may_be_mark(const struct source *s) {
        return s->n > 0 && s->n < MARK_BYTES_MAX && !s->ended && memchr("\xef\xff\xfe\0", s->buffer[0], 4) &&
               !memchr(s->buffer, '\n', s->n);
}

static int begin(struct source *s, struct error *error) {
        int r = 0;

        s->begun = true;
        while (r >= 0 && may_be_mark(s))
                r = read_more(s, error);
        if (r >= 0)
                r = refuse_compressed(s, error);
        if (r >= 0)
                r = refuse_pointer(s, error);
        if (r >= 0)
                r = refuse_wide(s, error);
        s->may_be = may_be_wide(s);
        if (r >= 0 && s->encoding == ENCODING_LATIN1)
                look_for_utf8(s);
        return r < 0 ? r : skip_mark(s, error);
}

/* Until a line end was seen: CRs are line ends where no LF is near. */
static void choose_ends(struct source *s) {
        const char *p = s->buffer + s->at;
        size_t n = s->n - s->at;

        if (n == 0 || s->ends == ENDS_LF || s->ends == ENDS_CR)
                return;
        if (s->ends == ENDS_PENDING)
                s->ends = *p == '\n' ? ENDS_LF : ENDS_CR;
        else if (memchr(p, '\n', n))
                s->ends = ENDS_LF;
        else if (memchr(p, '\r', n))
                s->ends = memchr(p, '\r', n) == p + n - 1 ? ENDS_PENDING : ENDS_CR;
}

static int refill(struct source *s, struct error *error) {
        s->at = s->n = 0;
        int r = read_more(s, error);
        if (r >= 0 && !s->begun)
                r = begin(s, error);
        if (r >= 0)
                choose_ends(s);
        return r;
}

/* One byte of the buffer; returns how many it became, at most 1. */
static size_t give(struct source *s, char *to) {
        unsigned char c = (unsigned char) s->buffer[s->at++];
        bool drop = s->after_cr && c == '\n', cr = c == '\r' && (s->ends == ENDS_CR || s->ends == ENDS_PENDING);

        s->after_cr = cr;
        if (drop)
                return 0;
        *to = cr ? '\n' : (char) c;
        if (s->encoding == ENCODING_LATIN1 && c >= 0x80) {
                *to = (char) (0xc0 | c >> 6);
                s->second = (char) (0x80 | (c & 0x3f));
        }
        return 1;
}

static size_t take(struct source *s, char *to, size_t size) {
        size_t n = MIN(size, s->n - s->at), used = 0;

        if (s->encoding == ENCODING_UTF8 && (s->ends == ENDS_LF || s->ends == ENDS_UNKNOWN) && !s->after_cr) {
                memcpy(to, s->buffer + s->at, n);
                s->at += n;
                return n;
        }
        while (used < size && (s->second || s->at < s->n)) {
                if (s->second) {
                        to[used++] = s->second;
                        s->second = '\0';
                } else
                        used += give(s, to + used);
        }
        return used;
}

ssize_t source_read(struct source *s, char *to, size_t size, struct error *error) {
        size_t n = take(s, to, size);

        while (n == 0 && !s->ended) {
                int r = refill(s, error);
                if (r < 0)
                        return r;
                n = take(s, to, size);
        }
        if (n == 0 && s->in_line)
                to[n++] = '\n';
        if (n > 0)
                s->in_line = to[n - 1] != '\n';
        return (ssize_t) n;
}

bool source_would_wait(const struct source *s) {
        struct pollfd fd = { .fd = s->fd, .events = POLLIN };

        return s->at == s->n && !s->second && !s->ended && poll(&fd, 1, 0) == 0;
}

uint64_t source_bytes(const struct source *s) { return s->n_bytes; }
const char *source_name(const struct source *s) { return s->name; }

/* ---- opening ---- */

int source_open(const char *path, enum data_encoding encoding, struct source **ret, struct error *error) {
        cleanup_source struct source *s = calloc(1, sizeof(*s));
        bool standard = strcmp(path, "-") == 0;
        struct stat st;

        if (!s)
                return error_errno(error, ENOMEM, "%s", path);
        s->name = standard ? "standard input" : path;
        s->encoding = encoding;
        s->fd = standard ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (s->fd < 0)
                return error_input(error, BERTD_EXIT_INPUT, "%s: %s", s->name, strerror(errno));
        if (fstat(s->fd, &st) >= 0 && S_ISDIR(st.st_mode))
                return error_input(error, BERTD_EXIT_INPUT, "%s: is a folder, expected a text file", s->name);
        *ret = steal_pointer(&s);
        return 0;
}

void source_close(struct source *s) {
        if (!s)
                return;
        if (s->fd >= 0)
                (void) close(s->fd);
        free(s);
}

/* ---- what is not UTF-8 ---- */

static bool is_plain(uint64_t bytes) { /* ASCII without NUL */
        return ((bytes | (bytes - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) == 0;
}

/* Bytes before the first that is NUL or no part of a character. */
static size_t sound_prefix(const char *text, size_t size) {
        size_t i = 0;

        while (i < size) {
                uint64_t bytes;
                int32_t c = 0;
                if (size - i >= sizeof(bytes) && (memcpy(&bytes, text + i, sizeof(bytes)), is_plain(bytes))) {
                        i += sizeof(bytes);
                        continue;
                }
                size_t n = utf8_decode(text + i, size - i, &c);
                if (c == 0 || (c == UNICODE_REPLACEMENT && !(n == 3 && (unsigned char) text[i + 2] == 0xBD)))
                        return i;
                i += n;
        }
        return size;
}

size_t text_clean(char *text, size_t size, uint64_t line, struct invalid_bytes *found) {
        size_t kept = sound_prefix(text, size);

        if (kept < size && found->n == 0) {
                found->line = line + text_count_newlines(text, kept);
                found->first = (unsigned char) text[kept];
        }
        for (size_t at = kept; at < size;) {
                size_t sound = sound_prefix(text + at, size - at);
                memmove(text + kept, text + at, sound);
                kept += sound;
                at += sound;
                found->n += at < size;
                at += at < size;
        }
        return kept;
}

static const char *kind_of(const struct invalid_bytes *found) { return found->first == '\0' ? "text" : "UTF-8"; }

int source_check(const struct source *s, const struct invalid_bytes *found, struct error *error) {
        if (100 * found->n <= s->n_bytes)
                return 0;
        char wide[64] = "encoding latin-1 reads ISO-8859-1, iconv converts others";
        if (s->may_be)
                (void) snprintf(wide, sizeof(wide), "is it %s? iconv -f %s -t UTF-8 converts it", s->may_be, s->may_be);
        return error_input(error, BERTD_EXIT_DATA,
                           "%s:%" PRIu64 ": byte 0x%02x: not %s, as are %" PRIu64 " of %" PRIu64 " bytes; %s", s->name,
                           found->line, found->first, kind_of(found), found->n, s->n_bytes, wide);
}

void text_findings_add(struct text_findings *f, const struct source *s, const struct invalid_bytes *found) {
        if (f->invalid.n == 0 && found->n > 0) {
                f->invalid = *found;
                f->first_invalid = s->name;
        } else
                f->invalid.n += found->n;
        if (s->ends == ENDS_CR && f->n_cr++ == 0)
                f->first_cr = s->name;
        if (s->is_utf8 && !f->first_utf8)
                f->first_utf8 = s->name;
}

void text_findings_print(const struct text_findings *f, FILE *to) {
        if (f->invalid.n > 0)
                (void) fprintf(to,
                               "bert-trainer: %s:%" PRIu64 ": byte 0x%02x: not %s; left out, with %" PRIu64
                               " such bytes in all: is it in another encoding?\n",
                               f->first_invalid, f->invalid.line, f->invalid.first, kind_of(&f->invalid), f->invalid.n);
        if (f->first_utf8)
                (void) fprintf(
                        to, "bert-trainer: %s: read as latin-1, but is UTF-8 beyond ASCII: is encoding utf-8 meant?\n",
                        f->first_utf8);
        if (f->n_cr == 1)
                (void) fprintf(to, "bert-trainer: %s: its lines end in CR alone\n", f->first_cr);
        else if (f->n_cr > 1)
                (void) fprintf(to, "bert-trainer: %s and %" PRIu64 " other files: their lines end in CR alone\n",
                               f->first_cr, f->n_cr - 1);
}
