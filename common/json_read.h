/*
 * JSON from other programs, read like Python's json module in cases that jansson would refuse:
 * a byte order mark is skipped; integers beyond 64 bits become reals; NaN, Infinity and numbers beyond a double become
 * null; half of a surrogate pair (\ud800) becomes U+FFFD; strings may hold \u0000, so use json_string_length. Of keys
 * given twice the last one counts, unless `flags` has JSON_REJECT_DUPLICATES. Refused, like by jansson: invalid UTF-8,
 * nesting beyond its bound.
 */
#ifndef COMMON_JSON_READ_H
#define COMMON_JSON_READ_H

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"

#define JSON_FILE_BYTES_MAX ((size_t) 64 << 20)

/* A new reference; NULL: `why` has the reason and the place. */
json_t *json_read(const char *data, size_t size, size_t flags, json_error_t *why);

/* The object in FOLDER/NAME, a new reference; NULL if the file does not exist. Errors name the file (exit 65): another
 * value, not JSON, a Git LFS pointer; larger than JSON_FILE_BYTES_MAX or not readable, like file_read. */
int json_read_file(const char *folder, const char *name, size_t flags, json_t **ret, struct error *error);

/* The string's text; NULL if `value` is not a string or contains a NUL. Borrowed. */
const char *json_plain_string(const json_t *value);

/* The same for a value of the object; NULL if it is missing. */
const char *json_text_at(const json_t *object, const char *key);
static inline const char *json_text_or_empty(const json_t *object, const char *key) {
        const char *text = object ? json_text_at(object, key) : NULL;

        return text ? text : "";
}

#endif
