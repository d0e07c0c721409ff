/*
 * See json_read.h. jansson reads the text unchanged; only if it refuses, a copy is parsed in which Python's extensions
 * are replaced. Strings keep their length, a number or word grows by at most two bytes.
 */
#include "common/json_read.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"

#define BOM "\xEF\xBB\xBF"
#define ESCAPE_BYTES 6 /* \ud800 */

struct rewrite {
        const char *from, *end;
        char *to;
};

static void copy(struct rewrite *w, size_t n) {
        memcpy(w->to, w->from, n);
        w->to += n;
        w->from += n;
}

/* Replaces `n` bytes of the source. */
static void replace(struct rewrite *w, size_t n, const char *text) {
        memcpy(w->to, text, strlen(text));
        w->to += strlen(text);
        w->from += n;
}

/* The four digits of a \uXXXX at `at`, or -1. */
static long escaped_unit(const char *at, const char *end) {
        char digits[5] = "", *stop;

        if (end - at < ESCAPE_BYTES || at[0] != '\\' || at[1] != 'u')
                return -1;
        memcpy(digits, at + 2, 4);
        long unit = strtol(digits, &stop, 16);
        return stop == digits + 4 && digits[0] != '-' && digits[0] != '+' ? unit : -1;
}

static void rewrite_escape(struct rewrite *w) {
        long unit = escaped_unit(w->from, w->end), low = -1;

        if (unit >= 0xD800 && unit < 0xDC00)
                low = escaped_unit(w->from + ESCAPE_BYTES, w->end);
        if (low >= 0xDC00 && low < 0xE000)
                copy(w, (size_t) 2 * ESCAPE_BYTES);
        else if (unit >= 0xD800 && unit < 0xE000)
                replace(w, ESCAPE_BYTES, "\\ufffd");
        else
                copy(w, (size_t) MIN(w->end - w->from, (ptrdiff_t) 2));
}

static void rewrite_string(struct rewrite *w) {
        copy(w, 1);
        while (w->from < w->end && *w->from != '"')
                if (*w->from == '\\')
                        rewrite_escape(w);
                else
                        copy(w, 1);
        if (w->from < w->end)
                copy(w, 1);
}

/* A NUL-terminated copy of a number's text: strtod must not read past the end. Caller frees. */
static void rewrite_number(struct rewrite *w) {
        size_t n = 0;
        while (w->from + n < w->end && strchr("+-.0123456789eE", w->from[n]) && w->from[n])
                n++;
        cleanup_free char *text = strndup(w->from, n);
        bool whole = text && !strpbrk(text, ".eE"), beyond = text && !isfinite(strtod(text, NULL));

        errno = 0;
        if (beyond)
                replace(w, n, "null");
        else {
                copy(w, n);
                if (whole && strtoll(text, NULL, 10) && errno == ERANGE)
                        replace(w, 0, ".0");
        }
}

static bool rewrite_word(struct rewrite *w) {
        static const char *const words[] = { "NaN", "Infinity", "-Infinity" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                size_t n = strlen(words[i]);
                if ((size_t) (w->end - w->from) >= n && memcmp(w->from, words[i], n) == 0) {
                        replace(w, n, "null");
                        return true;
                }
        }
        return false;
}

static void rewrite(struct rewrite *w) {
        while (w->from < w->end) {
                char c = *w->from;
                if (c == '"')
                        rewrite_string(w);
                else if (rewrite_word(w))
                        continue;
                else if (c == '-' || (c >= '0' && c <= '9'))
                        rewrite_number(w);
                else
                        copy(w, 1);
        }
}

json_t *json_read(const char *data, size_t size, size_t flags, json_error_t *why) {
        size_t skip = size >= strlen(BOM) && memcmp(data, BOM, strlen(BOM)) == 0 ? strlen(BOM) : 0;

        flags |= JSON_ALLOW_NUL;
        json_t *json = json_loadb(data + skip, size - skip, flags, why);
        if (json)
                return json;
        cleanup_free char *copy = malloc(2 * size + 1);
        if (!copy)
                return NULL;
        struct rewrite w = { .from = data + skip, .end = data + size, .to = copy };
        rewrite(&w);
        return json_loadb(copy, (size_t) (w.to - copy), flags, why);
}

int json_read_file(const char *folder, const char *name, size_t flags, json_t **ret, struct error *error) {
        cleanup_free char *path = format_string("%s/%s", folder, name), *text = NULL;
        json_error_t why = {};
        size_t size = 0;

        *ret = NULL;
        if (!path)
                return error_errno(error, ENOMEM, "%s", folder);
        if (!file_is_there(path))
                return 0;
        int r = file_read(path, JSON_FILE_BYTES_MAX, &text, &size, error);
        if (r >= 0)
                r = file_refuse_pointer(path, text, size, error);
        if (r < 0)
                return r;
        json_t *json = json_read(text, size, flags, &why);
        if (json_is_object(json)) {
                *ret = json;
                return 0;
        }
        r = json ? error_input(error, BERTD_EXIT_DATA, "%s: not a JSON object", path)
                 : error_input(error, BERTD_EXIT_DATA, "%s:%d: %s", path, why.line, why.text);
        json_decref(json);
        return r;
}

const char *json_plain_string(const json_t *value) {
        const char *text = json_string_value(value);

        return text && strlen(text) == json_string_length(value) ? text : NULL;
}

const char *json_text_at(const json_t *object, const char *key) {
        return json_plain_string(json_object_get(object, key));
}
