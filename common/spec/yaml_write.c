/* See yaml.h: writes a spec with libyaml's emitter. Owns nothing between calls. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/cleanup.h"
#include "common/spec/places.h"
#include "common/spec/yaml.h"

/* `failed` is set by the first event that cannot be made or written; later ones do nothing. */
struct writer {
        yaml_emitter_t emitter;
        bool failed;
};

static void emit(struct writer *writer, int made, yaml_event_t *event) {
        if (writer->failed && made)
                yaml_event_delete(event);
        else
                writer->failed = writer->failed || !made || !yaml_emitter_emit(&writer->emitter, event);
}

static void emit_text(struct writer *writer, const char *text) {
        yaml_scalar_style_t style = yaml_is_null(text) ? YAML_SINGLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE;
        yaml_event_t event;

        emit(writer,
             yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *) text, (int) strlen(text), 1, 1,
                                          style),
             &event);
}

static void begin_mapping(struct writer *writer) {
        yaml_event_t event;
        emit(writer, yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE), &event);
}

static void end_mapping(struct writer *writer) {
        yaml_event_t event;
        emit(writer, yaml_mapping_end_event_initialize(&event), &event);
}

static void begin_list(struct writer *writer) {
        yaml_event_t event;
        emit(writer, yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE), &event);
}

static void end_list(struct writer *writer) {
        yaml_event_t event;
        emit(writer, yaml_sequence_end_event_initialize(&event), &event);
}

static void write_value(struct writer *writer, size_t row, const struct given *given) {
        const struct field *field = &spec_fields[row];
        bool list = is_list(field) && !given->text;

        if (field->entry == 1 || list)
                begin_list(writer);
        if (list)
                for (uint32_t i = 0; i < given->n; i++)
                        emit_text(writer, given->entries[i]);
        else
                emit_text(writer, given->text);
        if (field->entry == 2 || list)
                end_list(writer);
}

/* The section that begins at `row`; its rows are consecutive. */
static void write_section(struct writer *writer, size_t row, const struct part *part) {
        size_t n = strcspn(spec_fields[row].key, ".") + 1;
        char section[NAME_SIZE];
        bool begun = false;

        (void) snprintf(section, sizeof(section), "%.*s", (int) (n - 1), spec_fields[row].key);
        for (size_t i = row; i < spec_n_fields && strncmp(spec_fields[i].key, spec_fields[row].key, n) == 0; i++) {
                if (!part->given[i].name)
                        continue;
                if (!begun) {
                        emit_text(writer, section);
                        begin_mapping(writer);
                }
                begun = true;
                if (spec_fields[i].entry != 2)
                        emit_text(writer, spec_fields[i].key + n);
                write_value(writer, i, &part->given[i]);
        }
        if (begun)
                end_mapping(writer);
}

static void write_part(struct writer *writer, const struct place *place, const struct part *part) {
        char buffer[NAME_SIZE];

        begin_mapping(writer);
        for (size_t row = 0; row < spec_n_fields; row++) {
                const char *name = place_name(place, row, buffer);
                if (name == buffer)
                        write_section(writer, row, part);
                else if (name && part->given[row].name) {
                        emit_text(writer, name);
                        write_value(writer, row, &part->given[row]);
                }
        }
        if (part->n_parts > 0) {
                emit_text(writer, place->parts);
                begin_list(writer);
                for (uint32_t i = 0; i < part->n_parts; i++)
                        write_part(writer, place_of_parts(place), &part->parts[i]);
                end_list(writer);
        }
        end_mapping(writer);
}

static void write_document(struct writer *writer, const struct part *file) {
        yaml_event_t event;

        emit(writer, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING), &event);
        emit(writer, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1), &event);
        write_part(writer, &file_place, file);
        emit(writer, yaml_document_end_event_initialize(&event, 1), &event);
        emit(writer, yaml_stream_end_event_initialize(&event), &event);
}

int yaml_write(const struct part *file, char **ret_text, struct error *error) {
        struct writer writer = {};
        cleanup_free char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);

        if (!stream || !yaml_emitter_initialize(&writer.emitter)) {
                if (stream)
                        (void) fclose(stream);
                return error_errno(error, ENOMEM, "job spec");
        }
        yaml_emitter_set_output_file(&writer.emitter, stream);
        write_document(&writer, file);
        yaml_emitter_delete(&writer.emitter);
        if (fclose(stream) != 0 || writer.failed)
                return error_errno(error, ENOMEM, "job spec");
        *ret_text = steal_pointer(&text);
        return 0;
}
