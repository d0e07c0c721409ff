/* See reader.h: converts and checks the text of one key. Owns nothing. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/names.h"
#include "common/nearest.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/spec/reader.h"

/* The name in messages of a key that is not given. */
static void name_key(const struct spec_reader *reader, const struct field *field, char *buffer, size_t size) {
        static const char stage[] = STAGE_PREFIX, data[] = "data.";
        const char *key = field->key;

        if (strncmp(key, stage, strlen(stage)) == 0)
                key += strlen(stage);
        else if (reader->task && strncmp(key, data, strlen(data)) == 0)
                key += strlen(data);
        (void) snprintf(buffer, size, "%s%s", is_staged(field) ? reader->prefix : "", key);
}

int spec_refuse(struct spec_reader *reader, const char *key, const char *format, ...) {
        const struct given *given = given_for(reader, key);
        char text[512], name[160];
        va_list list;

        va_start(list, format);
        (void) vsnprintf(text, sizeof(text), format, list);
        va_end(list);
        if (given->name && given->line == 0)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s", given->name, text);
        if (given->name)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s: %s", reader->path, given->line,
                                   given->name, text);
        name_key(reader, &spec_fields[field_of(key)], name, sizeof(name));
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: %s", reader->path, name, text);
}

static int wrong_type(struct spec_reader *reader, const char *key, const char *text, const char *expected) {
        return spec_refuse(reader, key, "'%.64s' is not %s", text, expected);
}

static int parse_integer(struct spec_reader *reader, const char *key, const char *text, double min, double max,
                         int64_t *ret) {
        int64_t high = max >= SEED_MAX ? INT64_MAX : (int64_t) max;
        int r = parse_i64(text, (int64_t) min, high, ret);

        if (r == -ERANGE)
                return spec_refuse(reader, key, "%.64s is not between %" PRId64 " and %" PRId64, text, (int64_t) min,
                                   high);
        return r < 0 ? wrong_type(reader, key, text, "a whole number") : 0;
}

static int read_number(struct spec_reader *reader, const struct field *field, const char *text, void *to) {
        int64_t v = 0;
        int r = parse_integer(reader, field->key, text, field->min, field->max, &v);

        if (r < 0)
                return r;
        if (field->type == FIELD_I32)
                *(int32_t *) to = (int32_t) v;
        else if (field->type == FIELD_U32)
                *(uint32_t *) to = (uint32_t) v;
        else
                *(uint64_t *) to = (uint64_t) v;
        return 0;
}

static int read_double(struct spec_reader *reader, const struct field *field, const char *text, double *to) {
        int r = parse_double(text, field->min, field->max, to);

        if (r == -ERANGE)
                return spec_refuse(reader, field->key, "%.64s is not between %.10g and %.10g", text, field->min,
                                   field->max);
        return r < 0 ? wrong_type(reader, field->key, text, "a number") : 0;
}

/* "64K", "4096T", of a whole number of them */
static const char *size_text(uint64_t bytes, char buffer[32]) {
        static const char units[] = "\0KMGT";
        unsigned unit = 0;

        for (; bytes >= 1024 && bytes % 1024 == 0 && unit < 4; unit++)
                bytes /= 1024;
        (void) snprintf(buffer, 32, "%" PRIu64 "%.1s", bytes, &units[unit]);
        return buffer;
}

/* "16G" */
static int read_size(struct spec_reader *reader, const struct field *field, const char *text, uint64_t *to) {
        char low[32], high[32];
        int r = parse_size(text, (uint64_t) field->min, (uint64_t) field->max, to);

        if (r == -ERANGE)
                return spec_refuse(reader, field->key, "%.64s is not between %s and %s", text,
                                   size_text((uint64_t) field->min, low), size_text((uint64_t) field->max, high));
        return r < 0 ? wrong_type(reader, field->key, text, "a whole number of bytes, or one with K, M, G or T") : 0;
}

static void set_absent(const struct field *field, void *to) {
        if (field->type == FIELD_I32)
                *(int32_t *) to = field->absent;
        else if (field->type == FIELD_U32)
                *(uint32_t *) to = (uint32_t) field->absent;
        else if (field->type == FIELD_DOUBLE)
                *(double *) to = field->absent;
        else
                *(uint64_t *) to = (uint64_t) field->absent;
}

/* The boolean words of YAML 1.1. */
static const char *plain_truth(const char *text) {
        static const char *const words[] = { "yes", "on", "true", "no", "off", "false" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcasecmp(text, words[i]) == 0)
                        return i < 3 ? "true" : "false";
        return text;
}

static int read_enum(struct spec_reader *reader, const struct field *field, const char *text, unsigned *to) {
        int choice = parse_choice(text, field->names, (unsigned) field->n_names);
        char names[128];

        if (choice < 0)
                choice = parse_choice(plain_truth(text), field->names, (unsigned) field->n_names);
        if (choice >= 0) {
                *to = (unsigned) choice;
                return 0;
        }
        const char *nearest = nearest_of(text, field->names, field->n_names);
        join_choices(field->names, (unsigned) field->n_names, names, sizeof(names));
        return spec_refuse(reader, field->key, "'%.64s' is not %s%s%s%s", text, names, nearest ? ": did you mean " : "",
                           nearest ? nearest : "", nearest ? "?" : "");
}

static int read_truth(struct spec_reader *reader, const struct field *field, const char *text, bool *to) {
        unsigned value = 0;
        int r = read_enum(reader, field, text, &value);

        if (r == 0)
                *to = value;
        return r;
}

/* Makes a path absolute. A program without a slash that the folder does not have is left to PATH. */
static int read_path(struct spec_reader *reader, const struct field *field, const char *text, char **to) {
        bool left_to_path = field->type == FIELD_PROGRAM && !strchr(text, '/') && text[0] != '~';
        cleanup_free char *path = NULL;
        struct error error = {};

        if (text[0] == '\0')
                return spec_refuse(reader, field->key, "empty");
        if (paths_expand(reader->folder, text, &path, &error) < 0)
                return spec_refuse(reader, field->key, "%s", error.text);
        if (left_to_path && access(path, F_OK) < 0) {
                free(path);
                path = strdup(text);
        }
        if (!path)
                return spec_no_memory(reader);
        if (strlen(path) > BERTD_PATH_MAX)
                return spec_refuse(reader, field->key, "%zu bytes, at most %d are allowed; use a shorter path",
                                   strlen(path), BERTD_PATH_MAX);
        *to = steal_pointer(&path);
        return 0;
}

/* A text with a bound is shown on one line, so it may not contain control characters. */
static int read_text(struct spec_reader *reader, const struct field *field, const char *text, char **to) {
        if (text[0] == '\0')
                return spec_refuse(reader, field->key, "empty");
        if (field->max > 0 && strlen(text) > (size_t) field->max)
                return spec_refuse(reader, field->key, "%zu bytes, at most %.0f are allowed; give a shorter one",
                                   strlen(text), field->max);
        for (const char *p = text; field->max > 0 && *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return spec_refuse(reader, field->key, "contains a control character");
        *to = strdup(text);
        return *to ? 0 : spec_no_memory(reader);
}

static int missing(struct spec_reader *reader, const struct field *field) {
        char names[128] = "a whole number";

        if (field->type == FIELD_ENUM)
                join_choices(field->names, (unsigned) field->n_names, names, sizeof(names));
        return spec_refuse(reader, field->key, "missing; expected %s", is_list(field) ? "a list" : names);
}

int spec_read_value(struct spec_reader *reader, const struct field *field, const char *text, void *to) {
        if (field->type == FIELD_TEXT || field->type == FIELD_LIST)
                return read_text(reader, field, text, to);
        if (field->type <= FIELD_PATHS)
                return read_path(reader, field, text, to);
        if (field->type == FIELD_ENUM)
                return read_enum(reader, field, text, to);
        if (field->type == FIELD_BOOL)
                return read_truth(reader, field, text, to);
        if (field->type == FIELD_SIZE)
                return read_size(reader, field, text, to);
        if (field->type == FIELD_DOUBLE)
                return read_double(reader, field, text, to);
        return read_number(reader, field, text, to);
}

static int read_list(struct spec_reader *reader, const struct field *field, const struct given *given,
                     struct spec *spec) {
        char **to = calloc(given->n + 1, sizeof(char *)); /* NULL at the end, for execvp */
        int r = 0;

        if (!to)
                return spec_no_memory(reader);
        *AT(spec, field->offset, char **) = to;
        *AT(spec, field->count, uint32_t) = given->n;
        for (uint32_t i = 0; r == 0 && i < given->n; i++) {
                bool empty_argument = field->type == FIELD_LIST && i > 0 && given->entries[i][0] == '\0';
                if (empty_argument)
                        r = (to[i] = strdup("")) ? 0 : spec_no_memory(reader);
                else
                        r = spec_read_value(reader, field, given->entries[i], &to[i]);
        }
        return r;
}

int spec_read_field(struct spec_reader *reader, size_t row, struct spec *spec) {
        const struct field *field = &spec_fields[row];
        const struct given *given = &reader->given[row];
        bool fits = is_of_kind(field, spec->kind);
        void *to = AT(spec, field->offset, void);

        if (given->text || given->n > 0) {
                if (!fits)
                        return spec_refuse(reader, field->key, "not a key of kind %s", job_kind_name(spec->kind));
                if (field->type == FIELD_NAMES)
                        return spec_read_names(reader, field, given, spec);
                if (is_list(field) && given->text) { /* its word */
                        *AT(spec, field->word_at, bool) = true;
                        return 0;
                }
                return is_list(field) ? read_list(reader, field, given, spec)
                                      : spec_read_value(reader, field, given->text, to);
        }
        if (is_list(field))
                return fits && field->required ? missing(reader, field) : 0;
        if (field->optional) {
                set_absent(field, to);
                return 0;
        }
        if (field->fallback)
                return spec_read_value(reader, field, field->fallback, to);
        return is_text(field) || !fits ? 0 : missing(reader, field);
}
