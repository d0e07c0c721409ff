/*
 * See yaml.h. Follows libyaml's events and accepts only the keys and shapes that the table has at each place, so
 * nesting is bounded by the table. Owns the parser and the current event; the caller owns what was read, also after an
 * error.
 */
#include "common/spec/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/cleanup.h"
#include "common/spec/places.h"

bool yaml_is_null(const char *text) {
        static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

        for (size_t i = 0; i < ELEMENTSOF(nulls); i++)
                if (strcmp(text, nulls[i]) == 0)
                        return true;
        return false;
}

/* ---- events ---- */

struct reader {
        const char *path;
        yaml_parser_t parser;
        yaml_event_t event;
        struct error *error;
};

static size_t line_of(const struct reader *reader) { return reader->event.start_mark.line + 1; }

/* "PATH:LINE: NAME: ", then the text; `name` may be NULL. */
__attribute__((format(printf, 4, 5))) static int refuse(struct reader *reader, size_t line, const char *name,
                                                        const char *format, ...) {
        char text[896];
        va_list list;

        va_start(list, format);
        (void) vsnprintf(text, sizeof(text), format, list);
        va_end(list);
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s%s%s", reader->path, line, name ? name : "",
                           name ? ": " : "", text);
}

static int no_memory(struct reader *reader) { return error_errno(reader->error, ENOMEM, "%s", reader->path); }

/* libyaml gives a line for wrong syntax, but only an offset for wrong bytes. */
static int refuse_syntax(struct reader *reader) {
        const yaml_parser_t *parser = &reader->parser;
        size_t line = parser->problem_mark.line + 1;

        if (parser->error == YAML_MEMORY_ERROR)
                return no_memory(reader);
        if (parser->error == YAML_READER_ERROR) {
                const unsigned char *text = parser->input.string.start;
                line = 1;
                for (size_t i = 0; i < parser->problem_offset && text + i < parser->input.string.end; i++)
                        line += text[i] == '\n';
        }
        return refuse(reader, line, NULL, "%s", parser->problem ? parser->problem : "not YAML");
}

static const char *unsupported(const yaml_event_t *event) {
        const yaml_char_t *anchor = NULL, *tag = NULL;

        if (event->type == YAML_ALIAS_EVENT)
                return "YAML aliases are not accepted here";
        if (event->type == YAML_SCALAR_EVENT) {
                anchor = event->data.scalar.anchor;
                tag = event->data.scalar.tag;
                if (memchr(event->data.scalar.value, '\0', event->data.scalar.length))
                        return "a NUL character";
        } else if (event->type == YAML_SEQUENCE_START_EVENT) {
                anchor = event->data.sequence_start.anchor;
                tag = event->data.sequence_start.tag;
        } else if (event->type == YAML_MAPPING_START_EVENT) {
                anchor = event->data.mapping_start.anchor;
                tag = event->data.mapping_start.tag;
        }
        return anchor ? "YAML anchors are not accepted here" : tag ? "YAML tags are not accepted here" : NULL;
}

static int next(struct reader *reader) {
        yaml_event_delete(&reader->event);
        if (!yaml_parser_parse(&reader->parser, &reader->event))
                return refuse_syntax(reader);
        const char *problem = unsupported(&reader->event);
        return problem ? refuse(reader, line_of(reader), NULL, "%s", problem) : 0;
}

static const char *text_of(const struct reader *reader) { return (const char *) reader->event.data.scalar.value; }

static bool is_plain(const struct reader *reader) {
        return reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static int expect(struct reader *reader, yaml_event_type_t type, const char *name) {
        static const char *const shapes[] = { [YAML_SCALAR_EVENT] = "one value",
                                              [YAML_SEQUENCE_START_EVENT] = "a list",
                                              [YAML_MAPPING_START_EVENT] = "a mapping" };

        if (reader->event.type == type)
                return 0;
        return refuse(reader, line_of(reader), name, "expected %s, not %s", shapes[type], shapes[reader->event.type]);
}

/* ---- values ---- */

static int read_text(struct reader *reader, const char *name, char **ret) {
        int r = expect(reader, YAML_SCALAR_EVENT, name);

        if (r < 0)
                return r;
        *ret = strdup(text_of(reader));
        return *ret ? 0 : no_memory(reader);
}

static int read_scalar(struct reader *reader, struct given *given) {
        if (is_plain(reader) && yaml_is_null(text_of(reader)))
                return refuse(reader, line_of(reader), given->name, "null; give a value or leave the key out");
        return read_text(reader, given->name, &given->text);
}

/* A list of `min` to `max` texts. */
static int read_list(struct reader *reader, uint32_t min, uint32_t max, struct given *given) {
        char name[NAME_SIZE + 16];

        int r = expect(reader, YAML_SEQUENCE_START_EVENT, given->name);
        while (r == 0 && (r = next(reader)) == 0 && reader->event.type != YAML_SEQUENCE_END_EVENT) {
                (void) snprintf(name, sizeof(name), "%s[%u]", given->name, given->n);
                if (given->n == max)
                        return refuse(reader, given->line, given->name, "more than %u entries", max);
                if (array_resize(&given->entries, given->n + 2, sizeof(*given->entries)) < 0)
                        return no_memory(reader);
                given->entries[given->n] = given->entries[given->n + 1] = NULL;
                r = read_text(reader, name, &given->entries[given->n]);
                given->n += r == 0;
        }
        if (r == 0 && given->n < min)
                return refuse(reader, given->line, given->name, "too few entries");
        if (r == 0 && !given->entries)
                given->entries = calloc(1, sizeof(*given->entries));
        return r < 0 || given->entries ? r : no_memory(reader);
}

/* {file: FILE} */
static int read_file_of_names(struct reader *reader, struct given *given) {
        char name[NAME_SIZE + 16];

        (void) snprintf(name, sizeof(name), "%s.file", given->name);
        int r = next(reader);
        if (r < 0)
                return r;
        if (reader->event.type != YAML_SCALAR_EVENT || strcmp(text_of(reader), "file") != 0)
                return refuse(reader, line_of(reader), given->name, "expected a list of names, or {file: FILE}");
        r = next(reader);
        if (r == 0)
                r = read_text(reader, name, &given->text);
        if (r == 0)
                r = next(reader);
        if (r < 0 || reader->event.type == YAML_MAPPING_END_EVENT)
                return r;
        return refuse(reader, line_of(reader), given->name, "expected {file: FILE} alone");
}

/* A list, or the word that stands for one. */
static int read_list_or_word(struct reader *reader, const struct field *field, struct given *given) {
        if (!field->word || reader->event.type != YAML_SCALAR_EVENT)
                return read_list(reader, field->required, SPEC_LIST_MAX, given);
        if (strcmp(text_of(reader), field->word) == 0)
                return read_text(reader, given->name, &given->text);
        return refuse(reader, line_of(reader), given->name, "'%.64s' is not %s; expected that or a list",
                      text_of(reader), field->word);
}

/* One name as a text, a list of them, or a file that has them. */
static int read_names(struct reader *reader, struct given *given) {
        if (reader->event.type == YAML_MAPPING_START_EVENT)
                return read_file_of_names(reader, given);
        if (reader->event.type != YAML_SCALAR_EVENT)
                return read_list(reader, 1, SPEC_LIST_MAX, given);
        if (is_plain(reader) && yaml_is_null(text_of(reader)))
                return refuse(reader, line_of(reader), given->name, "null; give a value or leave the key out");
        given->entries = calloc(2, sizeof(*given->entries));
        int r = given->entries ? read_text(reader, given->name, &given->entries[0]) : no_memory(reader);
        given->n = r == 0;
        return r;
}

/* A list of two numbers, each with its row. */
static int read_pair(struct reader *reader, struct given *first) {
        struct given *second = first + 1;

        int r = read_list(reader, 2, 2, first);
        if (r < 0)
                return r;
        second->line = first->line;
        second->name = strdup(first->name);
        first->text = first->entries[0];
        second->text = first->entries[1];
        free(first->entries);
        first->entries = NULL;
        first->n = 0;
        return second->name ? 0 : no_memory(reader);
}

static int read_value(struct reader *reader, size_t row, const char *name, struct part *part) {
        const struct field *field = &spec_fields[row];
        struct given *given = &part->given[row];

        given->line = line_of(reader);
        given->name = strdup(name);
        if (!given->name)
                return no_memory(reader);
        int r = next(reader);
        if (r < 0)
                return r;
        if (field->entry == 1)
                return read_pair(reader, given);
        if (field->type == FIELD_NAMES)
                return read_names(reader, given);
        return is_list(field) ? read_list_or_word(reader, field, given) : read_scalar(reader, given);
}

static int refuse_unknown(struct reader *reader, const struct place *place) {
        char text[896];

        if (is_plain(reader) && strcmp(text_of(reader), "<<") == 0)
                return refuse(reader, line_of(reader), NULL, "YAML merge keys are not accepted here");
        place_describe_unknown(place, text_of(reader), text, sizeof(text));
        return refuse(reader, line_of(reader), NULL, "%s", text);
}

static int read_mapping(struct reader *reader, const struct place *place, const char *path, struct part *part);

/* The stages of a file, the tasks of a stage. */
static int read_parts(struct reader *reader, const struct place *place, const char *name, struct part *part) {
        const struct place *its = place_of_parts(place);
        char path[NAME_SIZE + 16];

        part->line = line_of(reader);
        int r = next(reader);
        if (r == 0)
                r = expect(reader, YAML_SEQUENCE_START_EVENT, name);
        while (r == 0 && (r = next(reader)) == 0 && reader->event.type != YAML_SEQUENCE_END_EVENT) {
                if (part->n_parts == place->parts_max)
                        return refuse(reader, part->line, name, "more than %u entries", place->parts_max);
                if (array_resize(&part->parts, part->n_parts + 1, sizeof(*part->parts)) < 0)
                        return no_memory(reader);
                (void) snprintf(path, sizeof(path), "%s[%u].", name, part->n_parts);
                part->parts[part->n_parts] = (struct part) {};
                r = read_mapping(reader, its, path, &part->parts[part->n_parts++]);
        }
        return r == 0 && part->n_parts == 0 ? refuse(reader, part->line, name, "too few entries") : r;
}

static int read_section(struct reader *reader, const char *word, const char *name, struct part *part) {
        char section[NAME_SIZE + 1], path[NAME_SIZE + 1];

        int r = next(reader);
        if (r < 0 || (is_plain(reader) && yaml_is_null(text_of(reader))))
                return r;
        (void) snprintf(section, sizeof(section), "%s.", word);
        (void) snprintf(path, sizeof(path), "%s.", name);
        return read_mapping(reader, &(struct place) { word, section, NULL, 0 }, path, part);
}

/* A key and its value. `lines`: by row, the line of each key of this mapping so far; 0: not yet given. */
static int read_key(struct reader *reader, const struct place *place, const char *path, size_t *lines,
                    struct part *part) {
        char word[NAME_SIZE / 2], name[NAME_SIZE];

        if (reader->event.type != YAML_SCALAR_EVENT)
                return refuse(reader, line_of(reader), NULL, "expected a key");
        size_t row = place_find(place, text_of(reader));
        if (row > spec_n_fields)
                return refuse_unknown(reader, place);
        (void) snprintf(word, sizeof(word), "%s", text_of(reader));
        (void) snprintf(name, sizeof(name), "%s%s", path, word);
        if (lines[row] > 0)
                return refuse(reader, line_of(reader), name, "given twice, first on line %zu", lines[row]);
        lines[row] = line_of(reader);
        if (row == spec_n_fields)
                return read_parts(reader, place, name, part);
        bool own = strlen(spec_fields[row].key) == strlen(place->section) + strlen(word);
        return own ? read_value(reader, row, name, part) : read_section(reader, word, name, part);
}

/* `path`: prefix of its keys in messages. */
static int read_mapping(struct reader *reader, const struct place *place, const char *path, struct part *part) {
        size_t lines[SPEC_FIELDS_MAX + 1] = {}, n = strlen(path);
        char name[NAME_SIZE];

        (void) snprintf(name, sizeof(name), "%.*s", (int) (n > 0 ? n - 1 : 0), path);
        int r = expect(reader, YAML_MAPPING_START_EVENT, n > 0 ? name : NULL);
        while (r == 0 && (r = next(reader)) == 0 && reader->event.type != YAML_MAPPING_END_EVENT)
                r = read_key(reader, place, path, lines, part);
        return r;
}

static int read_document(struct reader *reader, struct part *file) {
        int r = 0;

        do
                r = next(reader);
        while (r == 0 &&
               (reader->event.type == YAML_STREAM_START_EVENT || reader->event.type == YAML_DOCUMENT_START_EVENT));
        if (r < 0)
                return r;
        if (reader->event.type == YAML_STREAM_END_EVENT || (is_plain(reader) && yaml_is_null(text_of(reader))))
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: empty; expected a job spec", reader->path);
        r = read_mapping(reader, &file_place, "", file);
        if (r == 0)
                r = next(reader); /* the document's end */
        if (r == 0)
                r = next(reader);
        if (r == 0 && reader->event.type != YAML_STREAM_END_EVENT)
                return refuse(reader, line_of(reader), NULL, "a second YAML document; expected one");
        return r;
}

int yaml_read(const char *path, const char *text, size_t size, struct part *file, struct error *error) {
        struct reader reader = { .path = path, .error = error };

        if (!yaml_parser_initialize(&reader.parser))
                return no_memory(&reader);
        yaml_parser_set_input_string(&reader.parser, (const unsigned char *) text, size);
        int r = read_document(&reader, file);
        yaml_event_delete(&reader.event);
        yaml_parser_delete(&reader.parser);
        return r;
}
