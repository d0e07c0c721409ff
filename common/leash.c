/*
 * See leash.h. The bytes of a program's output travel as Latin-1: each byte is one character of a JSON string, so any
 * bytes come back unchanged. A reader holds at most one line that is not whole and what one read() added.
 */
#include "common/leash.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/utf8.h"

#define READ_BYTES ((size_t) 64 << 10)

static const char *const type_names[] = LEASH_TYPE_NAMES;
static const char *const class_names[] = LEASH_CLASS_NAMES;
static_assert(ELEMENTSOF(type_names) == LEASH_TYPE_MAX, "a name for each type");
static_assert(ELEMENTSOF(class_names) == LEASH_CLASS_MAX, "a name for each class");

static unsigned index_of(const char *text, const char *const *names, unsigned n) {
        unsigned i = 0;

        while (i < n && (!text || strcmp(text, names[i]) != 0))
                i++;
        return i;
}

/* ---- lines ---- */

json_t *leash_line(enum leash_type type) { return json_pack("{ss}", "type", type_names[type]); }

/* At most `max` bytes of valid UTF-8. Caller frees. */
static char *valid_text(const char *text, size_t max) {
        size_t size = strnlen(text, max + 1);

        if (size > max)
                for (size = max; size > 0 && (text[size] & 0xc0) == 0x80;)
                        size--;
        char *cut = strndup(text, size), *valid = cut ? text_as_utf8(cut) : NULL;
        if (!valid)
                return cut;
        free(cut);
        return valid;
}

static json_t *with_text(enum leash_type type, const char *key, const char *text, size_t max) {
        cleanup_free char *valid = valid_text(text, max);

        return valid ? json_pack("{ssss}", "type", type_names[type], key, valid) : NULL;
}

json_t *leash_refused(enum leash_class class, const char *reason) {
        json_t *line = with_text(LEASH_REFUSED, "reason", reason, LEASH_REASON_MAX);

        if (line && json_object_set_new(line, "class", json_string(class_names[class])) < 0) {
                json_decref(line);
                return NULL;
        }
        return line;
}

json_t *leash_ending(const char *reason) { return with_text(LEASH_ENDING, "reason", reason, LEASH_REASON_MAX); }

json_t *leash_drain(const char *reason, bool move) {
        json_t *line = with_text(LEASH_DRAIN, "reason", reason, LEASH_REASON_MAX);

        if (line && json_object_set_new(line, "move", json_boolean(move)) < 0) {
                json_decref(line);
                return NULL;
        }
        return line;
}

/* Control characters would take six times as many bytes on the line. */
json_t *leash_stacks(const char *text) {
        cleanup_free char *plain = valid_text(text, LEASH_STACKS_MAX);

        for (char *p = plain; p && *p; p++)
                if ((unsigned char) *p < 0x20 && *p != '\n' && *p != '\t')
                        *p = '?';
        return plain ? with_text(LEASH_STACKS, "text", plain, LEASH_STACKS_MAX) : NULL;
}

json_t *leash_output(uint64_t id, int stream, const char *data, size_t size) {
        assert(size <= LEASH_OUTPUT_MAX);
        cleanup_free char *text = malloc(2 * size + 1);
        size_t n = 0;

        if (!text)
                return NULL;
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) data[i];
                if (c >= 0x80)
                        text[n++] = (char) (0xc0 | c >> 6);
                text[n++] = (char) (c >= 0x80 ? 0x80 | (c & 0x3f) : c);
        }
        json_t *string = json_stringn_nocheck(text, n);
        return json_pack("{sssIsiso}", "type", type_names[LEASH_OUTPUT], "id", (json_int_t) id, "stream", stream,
                         "text", string);
}

json_t *leash_exited(uint64_t id, int status) {
        bool signalled = WIFSIGNALED(status);

        return json_pack("{sssIsi}", "type", type_names[LEASH_EXITED], "id", (json_int_t) id,
                         signalled ? "signal" : "code", signalled ? WTERMSIG(status) : WEXITSTATUS(status));
}

json_t *leash_run(uint64_t id, const char *line, json_t *environment) {
        return json_pack("{sssIsssO*}", "type", type_names[LEASH_RUN], "id", (json_int_t) id, "line", line,
                         "environment", environment);
}

json_t *leash_signal(int signal, bool stop) {
        return json_pack("{sssisssb}", "type", type_names[LEASH_SIGNAL], "signal", signal, "to", "ranks", "stop",
                         (int) stop);
}

enum leash_type leash_type_of(const json_t *line) {
        return (enum leash_type) index_of(json_text_at(line, "type"), type_names, LEASH_TYPE_MAX);
}

enum leash_class leash_class_of(const json_t *line) {
        return (enum leash_class) index_of(json_text_at(line, "class"), class_names, LEASH_CLASS_MAX);
}

char *leash_text(const json_t *line, const char *key) {
        const char *text = json_text_at(line, key);
        char *valid = valid_text(text ? text : "", LEASH_REASON_MAX);

        for (char *p = valid; p && *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        *p = '?';
                else if ((unsigned char) p[0] == 0xc2 && (unsigned char) p[1] < 0xa0)
                        p[0] = p[1] = '?'; /* C1: some terminals obey them */
        return valid;
}

bool leash_number(const json_t *line, const char *key, uint64_t max, uint64_t *ret) {
        const json_t *value = json_object_get(line, key);
        json_int_t n = json_integer_value(value);

        if (!json_is_integer(value) || n < 0 || (uint64_t) n > max)
                return false;
        *ret = (uint64_t) n;
        return true;
}

bool leash_read_output(const json_t *line, uint64_t *ret_id, int *ret_stream, char **ret_data, size_t *ret_size) {
        const json_t *value = json_object_get(line, "text");
        const char *text = json_string_value(value);
        size_t size = json_string_length(value), n = 0;
        uint64_t id, stream;

        if (!text || !leash_number(line, "id", INT64_MAX, &id) || !leash_number(line, "stream", 2, &stream) || !stream)
                return false;
        cleanup_free char *data = malloc(size + 1);
        if (!data)
                return false;
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) text[i];
                if (c >= 0x80 && (c > 0xc3 || i + 1 == size))
                        return false;
                data[n++] = (char) (c < 0x80 ? c : c << 6 | (text[++i] & 0x3f));
        }
        data[n] = '\0';
        *ret_id = id;
        *ret_stream = (int) stream;
        *ret_data = steal_pointer(&data);
        *ret_size = n;
        return true;
}

bool leash_read_exited(const json_t *line, uint64_t *ret_id, int *ret_code, int *ret_signal) {
        uint64_t id, code = 0, signal = 0;

        if (!leash_number(line, "id", INT64_MAX, &id))
                return false;
        if (!leash_number(line, "signal", 127, &signal) && !leash_number(line, "code", 255, &code))
                return false;
        *ret_id = id;
        *ret_code = (int) code;
        *ret_signal = (int) signal;
        return true;
}

/* ---- reader ---- */

ssize_t leash_reader_fill(struct leash_reader *r, int fd) {
        if (r->at > 0) {
                memmove(r->data, r->data + r->at, r->used - r->at);
                r->used -= r->at;
                r->scanned -= r->at;
                r->at = 0;
        }
        if (r->used > LEASH_LINE_MAX)
                return -ENOBUFS;
        if (array_reserve(&r->data, &r->room, r->used + READ_BYTES, 1) < 0)
                return -ENOMEM;
        ssize_t n;
        do
                n = read(fd, r->data + r->used, READ_BYTES);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        r->used += (size_t) n;
        return n;
}

/* The next whole line without its newline; 1, 0 or −EBADMSG. */
static int next_line(struct leash_reader *r, const char **ret_line, size_t *ret_size) {
        const char *end = r->used > r->scanned ? memchr(r->data + r->scanned, '\n', r->used - r->scanned) : NULL;
        size_t size = end ? (size_t) (end - r->data) - r->at : r->used - r->at;

        r->scanned = end ? (size_t) (end - r->data) + 1 : r->used;
        if (size >= LEASH_LINE_MAX)
                return -EBADMSG;
        *ret_line = end ? r->data + r->at : NULL;
        *ret_size = size;
        if (end)
                r->at = r->scanned;
        return end ? 1 : 0;
}

int leash_reader_next(struct leash_reader *r, json_t **ret) {
        const char *line;
        size_t size;
        int n;

        while ((n = next_line(r, &line, &size)) > 0) {
                json_error_t why;
                json_t *json = json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
                if (json_is_object(json) && json_text_at(json, "type")) {
                        r->started = true;
                        *ret = json;
                        return 1;
                }
                json_decref(json);
                if (r->started || ++r->noise > LEASH_NOISE_MAX)
                        return -EBADMSG;
        }
        return n;
}

void leash_reader_free(struct leash_reader *r) {
        free(r->data);
        *r = (struct leash_reader) {};
}

/* ---- writer ---- */

size_t leash_writer_left(const struct leash_writer *w) { return w->used - w->at; }

static int append(struct leash_writer *w, const json_t *line, size_t max) {
        cleanup_free char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

        if (!text)
                return -ENOMEM;
        size_t size = strlen(text) + 1;
        if (size > LEASH_LINE_MAX)
                return -EMSGSIZE;
        if (leash_writer_left(w) + size > max)
                return -ENOBUFS;
        if (w->at > 0) {
                memmove(w->data, w->data + w->at, w->used - w->at);
                w->used -= w->at;
                w->at = 0;
        }
        if (array_reserve(&w->data, &w->room, w->used + size, 1) < 0)
                return -ENOMEM;
        text[size - 1] = '\n';
        memcpy(w->data + w->used, text, size);
        w->used += size;
        return 0;
}

int leash_writer_add(struct leash_writer *w, json_t *line) {
        bool needless = line && leash_type_of(line) == LEASH_BEAT && leash_writer_left(w) > 0;
        int r = needless ? 0 : append(w, line, LEASH_QUEUE_HARD);

        json_decref(line);
        return r;
}

static int add_output(struct leash_writer *w, uint64_t id, int stream, const char *data, size_t size) {
        json_t *line = leash_output(id, stream, data, size);
        int r = append(w, line, LEASH_QUEUE_MAX);

        json_decref(line);
        return r;
}

/* What was dropped is reported before the output that follows it, once half of the queue is free again. */
static int note_dropped(struct leash_writer *w, uint64_t id) {
        if (leash_writer_left(w) > LEASH_QUEUE_MAX / 2)
                return -ENOBUFS;
        cleanup_free char *note = format_string("bertd: %llu bytes of output were dropped: the connection is slow\n",
                                                (unsigned long long) w->dropped);
        int r = note ? add_output(w, id, 2, note, strlen(note)) : -ENOMEM;

        if (r >= 0)
                w->dropped = 0;
        return r;
}

int leash_writer_output(struct leash_writer *w, uint64_t id, int stream, const char *data, size_t size) {
        for (size_t n; size > 0; data += n, size -= n) {
                n = MIN(size, LEASH_OUTPUT_MAX);
                int r = w->dropped > 0 ? note_dropped(w, id) : 0;
                if (r >= 0)
                        r = add_output(w, id, stream, data, n);
                if (r == -ENOBUFS)
                        w->dropped += n;
                else if (r < 0)
                        return r;
        }
        return 0;
}

ssize_t leash_writer_push(struct leash_writer *w, int fd) {
        while (w->at < w->used) {
                ssize_t n = write(fd, w->data + w->at, w->used - w->at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0)
                        return -errno;
                w->at += (size_t) n;
        }
        if (w->at == w->used)
                w->at = w->used = 0;
        return (ssize_t) leash_writer_left(w);
}

void leash_writer_free(struct leash_writer *w) {
        free(w->data);
        *w = (struct leash_writer) {};
}
