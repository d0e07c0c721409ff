/* A spec as text and as values of Submit: every key of its kind, by the same table that reads it. Owns nothing between
 * calls. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/hosts.h"
#include "common/parse.h"
#include "common/utf8.h"
#include "common/spec/fields.h"
#include "common/spec/yaml.h"

/* The shortest text that reads back as the same number. */
static void write_double(double v, char *buffer, size_t size) {
        for (int digits = 6; digits <= 17; digits++) {
                (void) snprintf(buffer, size, "%.*g", digits, v);
                if (strtod(buffer, NULL) == v)
                        break;
        }
}

/* Truncated to the buffer. */
static void write_field(const struct field *field, const void *from, char *buffer, size_t size) {
        switch (field->type) {
        case FIELD_I32:
                (void) snprintf(buffer, size, "%" PRId32, *(const int32_t *) from);
                break;
        case FIELD_U32:
                (void) snprintf(buffer, size, "%" PRIu32, *(const uint32_t *) from);
                break;
        case FIELD_U64:
        case FIELD_SIZE:
                (void) snprintf(buffer, size, "%" PRIu64, *(const uint64_t *) from);
                break;
        case FIELD_DOUBLE:
                write_double(*(const double *) from, buffer, size);
                break;
        case FIELD_ENUM:
                (void) snprintf(buffer, size, "%s", field->names[*(const unsigned *) from]);
                break;
        case FIELD_BOOL:
                (void) snprintf(buffer, size, "%s", field->names[*(const bool *) from]);
                break;
        default:
                (void) snprintf(buffer, size, "%s", *(char *const *) from);
                break;
        }
}

static char *format_field(const struct field *field, const void *from) {
        char text[64];

        if (is_text(field))
                return strdup(*(char *const *) from);
        write_field(field, from, text, sizeof(text));
        return strdup(text);
}

/* Does not allocate: the text goes into checkpoints, so this must not fail. */
const char *spec_get(const struct spec *spec, const char *key, char *buffer, size_t size) {
        const struct field *field = &spec_fields[field_of(key)];

        write_field(field, (const char *) spec + field->offset, buffer, size);
        return buffer;
}

static bool has_word(const struct spec *spec, const struct field *field) {
        return field->word && *AT(spec, field->word_at, const bool);
}

static void walk_list(const struct spec *spec, const struct field *field, spec_each_t each, void *userdata) {
        char *const *entries = *AT(spec, field->offset, char **);
        uint32_t n = *AT(spec, field->count, uint32_t);
        char count[16];

        (void) snprintf(count, sizeof(count), "%u", n);
        each(userdata, field->key, false, has_word(spec, field) ? field->word : count);
        for (uint32_t i = 0; i < n; i++)
                each(userdata, field->key, field->type == FIELD_PATHS, entries[i]);
}

static void walk_field(const struct spec *spec, const struct field *field, spec_each_t each, void *userdata) {
        static const char stage[] = STAGE_PREFIX;
        bool path = field->type == FIELD_PATH || field->type == FIELD_PROGRAM;
        const void *from = (const char *) spec + field->offset;
        size_t skip = strncmp(field->key, stage, strlen(stage)) == 0 ? strlen(stage) : 0;
        char text[64];

        if (is_text(field)) {
                each(userdata, field->key + skip, path, *(char *const *) from);
                return;
        }
        write_field(field, from, text, sizeof(text));
        each(userdata, field->key + skip, false, is_absent(field, from) ? NULL : text);
}

void spec_walk(const struct spec *spec, spec_each_t each, void *userdata) {
        for (size_t i = 0; i < spec_n_fields; i++) {
                if (!is_of_kind(&spec_fields[i], spec->kind))
                        continue;
                if (is_list(&spec_fields[i]))
                        walk_list(spec, &spec_fields[i], each, userdata);
                else
                        walk_field(spec, &spec_fields[i], each, userdata);
        }
}

/* ---- values for Submit ---- */

static const char wire_types[FIELD_TYPE_MAX] = {
        [FIELD_TEXT] = 's',   [FIELD_PATH] = 's', [FIELD_PROGRAM] = 's', [FIELD_LIST] = 'a', [FIELD_NAMES] = 's',
        [FIELD_PATHS] = 'a',  [FIELD_I32] = 'i',  [FIELD_U32] = 'u',     [FIELD_U64] = 't',  [FIELD_SIZE] = 't',
        [FIELD_DOUBLE] = 'd', [FIELD_ENUM] = 's', [FIELD_BOOL] = 'u',
};

static bool is_fallback(const struct field *field, const void *from) {
        char text[64];
        uint64_t bytes;

        if (field->type == FIELD_SIZE)
                return parse_size(field->fallback, 0, UINT64_MAX, &bytes) == 0 && bytes == *(const uint64_t *) from;
        write_field(field, from, text, sizeof(text));
        return strcmp(text, field->fallback) == 0;
}

static bool is_sent(const struct field *field, const struct spec *spec, const void *from) {
        bool fits = field->wire && is_of_kind(field, spec->kind);

        if (!fits || is_absent(field, from) || (field->type <= FIELD_PATHS && !*(void *const *) from))
                return false;
        return !field->sparse || !field->fallback || !is_fallback(field, from);
}

int spec_each_sent(const struct spec *spec, spec_sent_t each, void *userdata) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < spec_n_fields; i++) {
                const struct field *field = &spec_fields[i];
                const void *from = (const char *) spec + field->offset, *value = from;
                cleanup_free char *names = NULL;
                unsigned truth = field->type == FIELD_BOOL && *(const bool *) from;
                char text[64];

                if (!is_sent(field, spec, from))
                        continue;
                if (field->type == FIELD_NAMES) {
                        value = names = hosts_join(*(char *const *const *) from, *AT(spec, field->count, uint32_t));
                        r = names ? r : -ENOMEM;
                } else if (field->type == FIELD_BOOL)
                        value = &truth;
                else if (field->type <= FIELD_PATHS)
                        value = *(void *const *) from;
                else if (wire_types[field->type] == 's') {
                        write_field(field, from, text, sizeof(text));
                        value = text;
                }
                if (value)
                        r = each(userdata, field->wire, wire_types[field->type], value);
        }
        return r < 0 ? r : 0;
}

/* ---- as YAML ---- */

static int add_list(const struct spec *spec, const struct field *field, struct given *given, struct error *error) {
        char *const *entries = *AT(spec, field->offset, char **);
        uint32_t n = *AT(spec, field->count, uint32_t);

        if (has_word(spec, field)) {
                given->name = strdup(field->key);
                given->text = strdup(field->word);
                return given->name && given->text ? 0 : error_errno(error, ENOMEM, "job spec");
        }
        if (n == 0)
                return 0;
        given->name = strdup(field->key);
        given->entries = calloc(n + 1, sizeof(char *));
        if (!given->name || !given->entries)
                return error_errno(error, ENOMEM, "job spec");
        for (; given->n < n; given->n++) {
                if (!text_is_utf8(entries[given->n]))
                        return error_input(error, BERTD_EXIT_CONFIG, "%s: entry %u is not UTF-8", field->key,
                                           given->n + 1);
                given->entries[given->n] = strdup(entries[given->n]);
                if (!given->entries[given->n])
                        return error_errno(error, ENOMEM, "job spec");
        }
        return 0;
}

static int add_scalar(const struct spec *spec, const struct field *field, struct given *given, struct error *error) {
        const void *from = (const char *) spec + field->offset;

        if ((is_text(field) && !*(char *const *) from) || is_absent(field, from) ||
            (from == &spec->resources.ranks && !spec->resources.ranks_given))
                return 0;
        given->name = strdup(field->key);
        given->text = format_field(field, from);
        if (!given->name || !given->text)
                return error_errno(error, ENOMEM, "job spec");
        return text_is_utf8(given->text) ? 0 : error_input(error, BERTD_EXIT_CONFIG, "%s: not UTF-8", field->key);
}

/* Every key of the spec, its stages and tasks. */
static int add_all(const struct spec *spec, struct part *part, struct error *error) {
        struct spec *const *parts = spec->n_stages > 0 ? spec->stages : spec->tasks;
        uint32_t n = spec->n_stages > 0 ? spec->n_stages : spec->n_tasks;
        int r = 0;

        for (size_t row = 0; r == 0 && row < spec_n_fields; row++) {
                const struct field *field = &spec_fields[row];
                if (is_of_kind(field, spec->kind))
                        r = is_list(field) ? add_list(spec, field, &part->given[row], error)
                                           : add_scalar(spec, field, &part->given[row], error);
        }
        if (r < 0 || n == 0)
                return r;
        part->parts = calloc(n, sizeof(*part->parts));
        if (!part->parts)
                return error_errno(error, ENOMEM, "job spec");
        for (; r == 0 && part->n_parts < n; part->n_parts++)
                r = add_all(parts[part->n_parts], &part->parts[part->n_parts], error);
        return r;
}

static bool same(const struct given *a, const struct given *b) {
        if (!a->text != !b->text || (a->text && strcmp(a->text, b->text) != 0) || a->n != b->n)
                return false;
        for (uint32_t i = 0; i < a->n; i++)
                if (strcmp(a->entries[i], b->entries[i]) != 0)
                        return false;
        return true;
}

static bool is_given_everywhere(const struct part *file, size_t row) {
        for (uint32_t s = 0; s < file->n_parts; s++) {
                const struct part *stage = &file->parts[s];
                if (!stage->given[row].name)
                        return false;
                for (uint32_t t = 0; t < stage->n_parts; t++)
                        if (!stage->parts[t].given[row].name)
                                return false;
        }
        return true;
}

/* Tasks have all of their data keys, so their stage has none. */
static void leave_to_tasks(struct part *stage) {
        for (size_t row = 0; row < spec_n_fields && stage->n_parts > 0; row++)
                if (strncmp(spec_fields[row].key, "data.", strlen("data.")) == 0)
                        given_clear(&stage->given[row]);
}

/* The file keeps the keys that every stage has, a stage those that differ from the file's. */
static void leave_differences(struct part *file) {
        for (size_t row = 0; row < spec_n_fields && file->n_parts > 0; row++) {
                if (!is_staged(&spec_fields[row]))
                        continue;
                if (!is_given_everywhere(file, row))
                        given_clear(&file->given[row]);
                for (uint32_t s = 0; s < file->n_parts; s++)
                        if (strncmp(spec_fields[row].key, STAGE_PREFIX, strlen(STAGE_PREFIX)) != 0 &&
                            same(&file->parts[s].given[row], &file->given[row]))
                                given_clear(&file->parts[s].given[row]);
        }
        for (uint32_t s = 0; s < file->n_parts; s++)
                leave_to_tasks(&file->parts[s]);
        if (file->n_parts > 0)
                given_clear(&file->parts[0].given[field_of("stages.moments")]);
}

int spec_format(const struct spec *spec, char **ret_text, struct error *error) {
        cleanup_free struct part *file = calloc(1, sizeof(*file));

        if (!file)
                return error_errno(error, ENOMEM, "job spec");
        int r = add_all(spec, file, error);
        if (r == 0) {
                leave_differences(file);
                r = yaml_write(file, ret_text, error);
        }
        part_free(file);
        return r;
}
