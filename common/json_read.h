/*
 * JSON that other programs wrote, read as Python's json module reads it where jansson alone would refuse the whole document:
 * a byte order mark is skipped; integers beyond 64 bits become reals; NaN, Infinity and numbers beyond a double become null;
 * half of a surrogate pair (\ud800) becomes U+FFFD; strings may hold \u0000, so use json_string_length. Of keys given twice the
 * last one counts, unless `flags` has JSON_REJECT_DUPLICATES. Refused as by jansson: what is not UTF-8, nesting beyond its bound.
 */
#ifndef COMMON_JSON_READ_H
#define COMMON_JSON_READ_H

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"

#define JSON_FILE_BYTES_MAX ((size_t) 64 << 20)

/* A new reference; NULL: `why` says where. */
json_t *json_read(const char *data, size_t size, size_t flags, json_error_t *why);

/* The object that FOLDER/NAME holds, a new reference; NULL where there is no such file. Refused by name (exit 65): another value, what
 * is not JSON, a Git LFS pointer; what is larger than JSON_FILE_BYTES_MAX, or cannot be read, as by file_read. */
int json_read_file(const char *folder, const char *name, size_t flags, json_t **ret, struct error *error);

/* The string's text; NULL where `value` is not a string or holds a NUL, which a C string cannot. Borrowed. */
const char *json_plain_string(const json_t *value);

/* The same of the object's value; NULL where it has none. */
const char *json_text_at(const json_t *object, const char *key);

#endif
