/*
 * See yaml.h. libyaml walks the text once for what libcyaml lets pass or tells without a line; libcyaml then maps it onto
 * struct raw. libcyaml's own numbers are not used: it takes "5x" for 5 and "010" for 8. Nothing is kept between calls.
 */
#include "common/spec/yaml.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/nearest.h"

#define DEPTH_MAX 8 /* of nested YAML collections; a spec has 5 */

#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(structure, member) CYAML_FIELD_STRING_PTR(#member, OPTIONAL, structure, member, 0, CYAML_UNLIMITED)
#define LIST(structure, member, min, max) \
        CYAML_FIELD_SEQUENCE_COUNT(#member, OPTIONAL, structure, member, n_##member, &list_entry, min, max)
#define SECTION_OF(structure, member) \
        CYAML_FIELD_MAPPING_PTR(#member, OPTIONAL | CYAML_FLAG_POINTER_NULL, structure, member, member##_schema)
#define SECTION(member) SECTION_OF(struct raw, member)

static const cyaml_schema_value_t list_entry = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED) };

static const cyaml_schema_field_t resources_schema[] = {
        TEXT(struct raw_resources, ranks),  TEXT(struct raw_resources, gpus), TEXT(struct raw_resources, threads),
        TEXT(struct raw_resources, memory), TEXT(struct raw_resources, cpus), CYAML_FIELD_END
};
static const cyaml_schema_field_t restart_schema[] = { TEXT(struct raw_restart, max_without_progress),
                                                       LIST(struct raw_restart, backoff_sec, 2, 2),
                                                       TEXT(struct raw_restart, grace_sec),
                                                       TEXT(struct raw_restart, hang_sec),
                                                       TEXT(struct raw_restart, start_sec),
                                                       TEXT(struct raw_restart, on_nan),
                                                       CYAML_FIELD_END };
static const cyaml_schema_field_t checkpoint_schema[] = { TEXT(struct raw_checkpoint, every_steps),
                                                          TEXT(struct raw_checkpoint, every_sec),
                                                          TEXT(struct raw_checkpoint, keep),
                                                          TEXT(struct raw_checkpoint, keep_every), CYAML_FIELD_END };
static const cyaml_schema_field_t log_schema[] = { TEXT(struct raw_log, max_size), TEXT(struct raw_log, keep),
                                                   CYAML_FIELD_END };
static const cyaml_schema_field_t model_schema[] = { TEXT(struct raw_model, config), TEXT(struct raw_model, vocab),
                                                     TEXT(struct raw_model, init), TEXT(struct raw_model, head),
                                                     CYAML_FIELD_END };
static const cyaml_schema_field_t data_schema[] = { LIST(struct raw_data, train, 1, SPEC_LIST_MAX),
                                                    LIST(struct raw_data, train_weights, 0, SPEC_LIST_MAX),
                                                    LIST(struct raw_data, validation, 0, SPEC_LIST_MAX),
                                                    TEXT(struct raw_data, sequence_length),
                                                    TEXT(struct raw_data, objective),
                                                    TEXT(struct raw_data, masked_fraction),
                                                    TEXT(struct raw_data, max_predictions),
                                                    TEXT(struct raw_data, short_sequence_probability),
                                                    TEXT(struct raw_data, masking),
                                                    TEXT(struct raw_data, dupe_factor),
                                                    TEXT(struct raw_data, mask_unit),
                                                    LIST(struct raw_data, test, 0, SPEC_LIST_MAX),
                                                    LIST(struct raw_data, text, 0, SPEC_LIST_MAX),
                                                    LIST(struct raw_data, labels, 0, SPEC_LIST_MAX),
                                                    TEXT(struct raw_data, task),
                                                    TEXT(struct raw_data, label),
                                                    TEXT(struct raw_data, format),
                                                    TEXT(struct raw_data, encoding),
                                                    TEXT(struct raw_data, header),
                                                    TEXT(struct raw_data, delimiter),
                                                    TEXT(struct raw_data, empty),
                                                    TEXT(struct raw_data, split),
                                                    TEXT(struct raw_data, fraction),
                                                    TEXT(struct raw_data, per_class),
                                                    TEXT(struct raw_data, truncation),
                                                    TEXT(struct raw_data, head_tokens),
                                                    TEXT(struct raw_data, max_segments),
                                                    TEXT(struct raw_data, shuffle),
                                                    TEXT(struct raw_data, lowercase),
                                                    CYAML_FIELD_END };
static const cyaml_schema_value_t task_entry = { CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_data,
                                                                     data_schema) };
static const cyaml_schema_field_t classifier_schema[] = {
        TEXT(struct raw_classifier, layers),   TEXT(struct raw_classifier, combine), TEXT(struct raw_classifier, input),
        TEXT(struct raw_classifier, segments), TEXT(struct raw_classifier, dropout), CYAML_FIELD_END
};
static const cyaml_schema_field_t optimizer_schema[] = { TEXT(struct raw_optimizer, name),
                                                         TEXT(struct raw_optimizer, learning_rate),
                                                         TEXT(struct raw_optimizer, warmup_ratio),
                                                         TEXT(struct raw_optimizer, warmup_steps),
                                                         TEXT(struct raw_optimizer, schedule),
                                                         TEXT(struct raw_optimizer, power),
                                                         TEXT(struct raw_optimizer, decay_from),
                                                         TEXT(struct raw_optimizer, step_count),
                                                         TEXT(struct raw_optimizer, beta1),
                                                         TEXT(struct raw_optimizer, beta2),
                                                         TEXT(struct raw_optimizer, epsilon),
                                                         TEXT(struct raw_optimizer, weight_decay),
                                                         TEXT(struct raw_optimizer, clip_norm),
                                                         TEXT(struct raw_optimizer, clip_by),
                                                         TEXT(struct raw_optimizer, layer_decay),
                                                         TEXT(struct raw_optimizer, freeze),
                                                         CYAML_FIELD_END };
static const cyaml_schema_field_t train_schema[] = { TEXT(struct raw_train, global_batch),
                                                     TEXT(struct raw_train, micro_batch),
                                                     TEXT(struct raw_train, steps),
                                                     TEXT(struct raw_train, epochs),
                                                     TEXT(struct raw_train, precision),
                                                     TEXT(struct raw_train, recompute_activations),
                                                     TEXT(struct raw_train, seed),
                                                     TEXT(struct raw_train, evaluate_every),
                                                     TEXT(struct raw_train, evaluate_samples),
                                                     TEXT(struct raw_train, log_every),
                                                     CYAML_FIELD_END };
static const cyaml_schema_field_t stage_schema[] = {
        TEXT(struct raw_stage, name),
        TEXT(struct raw_stage, moments),
        TEXT(struct raw_stage, bias_correction),
        SECTION_OF(struct raw_stage, data),
        CYAML_FIELD_SEQUENCE_COUNT("tasks", OPTIONAL, struct raw_stage, tasks, n_tasks, &task_entry, 1, SPEC_TASKS_MAX),
        SECTION_OF(struct raw_stage, optimizer),
        SECTION_OF(struct raw_stage, train),
        CYAML_FIELD_END
};
static const cyaml_schema_value_t stage_entry = { CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_stage,
                                                                      stage_schema) };
static const cyaml_schema_field_t spec_schema[] = {
        TEXT(struct raw, name),
        TEXT(struct raw, kind),
        TEXT(struct raw, priority),
        TEXT(struct raw, run_dir),
        TEXT(struct raw, device),
        TEXT(struct raw, on_exit),
        TEXT(struct raw, ends_with),
        LIST(struct raw, command, 1, SPEC_LIST_MAX),
        SECTION(resources),
        SECTION(restart),
        SECTION(checkpoint),
        SECTION(log),
        SECTION(model),
        SECTION(data),
        SECTION(classifier),
        SECTION(optimizer),
        SECTION(train),
        CYAML_FIELD_SEQUENCE_COUNT("stages", OPTIONAL, struct raw, stages, n_stages, &stage_entry, 1, SPEC_STAGES_MAX),
        CYAML_FIELD_END
};
static const cyaml_schema_value_t top_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, spec_schema) };

/* ---- one plain document ---- */

struct level {
        bool mapping, value_next;
        unsigned entries; /* of a sequence, with the one under way */
        char key[64];
};
struct walk {
        struct level levels[DEPTH_MAX];
        size_t depth;
        unsigned documents;
        const char *wanted; /* "section.key" whose line is asked for, or NULL */
        size_t line;        /* its last line, 0 = not seen */
        size_t elsewhere;   /* the last line of such a key that stands in another place */
        struct raw *raw;    /* where lists that a stage says to be empty are marked, or NULL */
        const char *problem;
};

/* "stages[1].data.train" of the key under way; without `stages`: "data.train". */
static void path_of(const struct walk *walk, bool stages, char *buffer, size_t size) {
        size_t used = 0, first = stages || walk->depth < 3 || walk->levels[1].mapping ? 0 : 2;

        buffer[0] = '\0';
        for (size_t i = first; i < walk->depth && used < size; i++)
                if (walk->levels[i].mapping)
                        used += (size_t) snprintf(buffer + used, size - used, "%s%s", used ? "." : "",
                                                  walk->levels[i].key);
                else
                        used += (size_t) snprintf(buffer + used, size - used, "[%u]", walk->levels[i].entries - 1);
}

static void note_key(struct walk *walk, const yaml_event_t *event) {
        struct level *top = &walk->levels[walk->depth - 1];
        const char *dot = walk->wanted && strncmp(walk->wanted, "stages", 6) == 0 ? strchr(walk->wanted, '.') : NULL;
        char name[DEPTH_MAX * (sizeof(top->key) + 1)];

        (void) snprintf(top->key, sizeof(top->key), "%s", (const char *) event->data.scalar.value);
        if (!walk->wanted)
                return;
        path_of(walk, true, name, sizeof(name));
        if (strcmp(name, walk->wanted) == 0)
                walk->line = event->start_mark.line + 1;
        path_of(walk, false, name, sizeof(name));
        bool of_task = walk->depth == 5 && strcmp(walk->levels[2].key, "tasks") == 0 &&
                       strncmp(walk->wanted, "tasks.", 6) == 0 && strcmp(top->key, walk->wanted + 6) == 0;
        if (of_task || strcmp(name, dot ? dot + 1 : walk->wanted) == 0)
                walk->elsewhere = event->start_mark.line + 1;
}

static void note_node(struct walk *walk, const yaml_event_t *event) {
        struct level *top = walk->depth > 0 ? &walk->levels[walk->depth - 1] : NULL;
        bool is_key = top && top->mapping && !top->value_next;

        if (is_key && event->type == YAML_SCALAR_EVENT)
                note_key(walk, event);
        else if (is_key)
                walk->problem = "expected a key";
        if (top)
                top->value_next = is_key;
        if (top && !top->mapping)
                top->entries++;
}

static void enter(struct walk *walk, const yaml_event_t *event) {
        note_node(walk, event);
        if (walk->depth == DEPTH_MAX)
                walk->problem = "nested too deeply";
        else
                walk->levels[walk->depth++] = (struct level) { .mapping = event->type == YAML_MAPPING_START_EVENT };
}

/* "stages[1].data.KEY: []", or "stages[1].tasks[0].KEY: []". libcyaml leaves it as a list that is not there: NULL. */
static void mark_empty(const struct walk *walk) {
        const struct level *level = walk->levels;
        bool of_task = walk->depth == 6 && strcmp(level[2].key, "tasks") == 0;

        if (!walk->raw || level[walk->depth - 1].entries > 0 || strcmp(level[0].key, "stages") != 0 ||
            !(of_task || (walk->depth == 5 && strcmp(level[2].key, "data") == 0)))
                return;
        struct raw_stage *stage = &walk->raw->stages[level[1].entries - 1];
        struct raw_data *data = of_task ? &stage->tasks[level[3].entries - 1] : stage->data;
        for (const cyaml_schema_field_t *f = data_schema; f->key; f++)
                if (strcmp(f->key, level[walk->depth - 2].key) == 0)
                        *(void **) (void *) ((char *) data + f->data_offset) = cyaml_mem(NULL, NULL, sizeof(char *));
}

static void walk_event(struct walk *walk, const yaml_event_t *event) {
        switch (event->type) {
        case YAML_DOCUMENT_START_EVENT:
                if (++walk->documents > 1)
                        walk->problem = "a second YAML document; expected one";
                break;
        case YAML_ALIAS_EVENT:
                walk->problem = "YAML aliases are not accepted here";
                break;
        case YAML_SCALAR_EVENT:
                if (event->data.scalar.anchor)
                        walk->problem = "YAML anchors are not accepted here";
                else if (memchr(event->data.scalar.value, '\0', event->data.scalar.length))
                        walk->problem = "a NUL character";
                else
                        note_node(walk, event);
                break;
        case YAML_SEQUENCE_START_EVENT:
        case YAML_MAPPING_START_EVENT:
                if (event->data.mapping_start.anchor)
                        walk->problem = "YAML anchors are not accepted here";
                else
                        enter(walk, event);
                break;
        case YAML_SEQUENCE_END_EVENT:
                mark_empty(walk);
                walk->depth--;
                break;
        case YAML_MAPPING_END_EVENT:
                walk->depth--;
                break;
        default:
                break;
        }
}

static int walk_text(const struct spec_text *file, struct walk *walk, struct error *error) {
        yaml_parser_t parser;
        yaml_event_t event;
        bool done = false;
        int r = 0;

        if (!yaml_parser_initialize(&parser))
                return error_errno(error, ENOMEM, "%s", file->path);
        yaml_parser_set_input_string(&parser, (const unsigned char *) file->text, file->size);
        while (r == 0 && !done) {
                if (!yaml_parser_parse(&parser, &event)) {
                        size_t line = parser.problem_mark.line ? parser.problem_mark.line : parser.mark.line;
                        r = error_input(error, BERTD_EXIT_CONFIG, "%s:%zu: %s", file->path, line + 1,
                                        parser.problem ? parser.problem : "not YAML");
                        break;
                }
                walk_event(walk, &event);
                if (walk->problem)
                        r = error_input(error, BERTD_EXIT_CONFIG, "%s:%zu: %s", file->path, event.start_mark.line + 1,
                                        walk->problem);
                done = event.type == YAML_STREAM_END_EVENT;
                yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
        return r;
}

size_t spec_line_of(const struct spec_text *file, const char *key) {
        struct walk walk = { .wanted = key };

        (void) walk_text(file, &walk, NULL);
        return walk.line > 0 ? walk.line : walk.elsewhere > 0 ? walk.elsewhere : 1;
}

/* ---- keys and shapes ---- */

struct complaint {
        char message[256];         /* libcyaml's first line */
        char names[DEPTH_MAX][64]; /* its backtrace, innermost first: fields, and "[1]" of a list's entry */
        unsigned n_names;
};

/* cyaml_log_fn_t: first the message, then "  in mapping field 'x' (line: 3, column: 5)", innermost first. Its lines are those of
 * the parser's look-ahead: line_of() is exact. */
__attribute__((format(printf, 3, 0))) static void on_log(cyaml_log_t level, void *context, const char *format,
                                                         va_list args) {
        struct complaint *complaint = context;
        char text[256];
        static const char field[] = "  in mapping field '", prefix[] = "Load: ";
        unsigned entry;

        if (!complaint)
                return;
        (void) vsnprintf(text, sizeof(text), format, args);
        text[strcspn(text, "\n")] = '\0';
        if (complaint->message[0] == '\0' && strncmp(text, "  in ", 5) != 0) {
                bool prefixed = strncmp(text, prefix, strlen(prefix)) == 0;
                (void) snprintf(complaint->message, sizeof(complaint->message), "%s",
                                text + (prefixed ? strlen(prefix) : 0));
                return;
        }
        if (complaint->n_names == DEPTH_MAX)
                return;
        if (strncmp(text, field, strlen(field)) == 0)
                (void) snprintf(complaint->names[complaint->n_names++], sizeof(complaint->names[0]), "%.*s",
                                (int) strcspn(text + strlen(field), "'"), text + strlen(field));
        else if (complaint->n_names > 0 && sscanf(text, "  in sequence entry '%u'", &entry) == 1 && entry > 0)
                (void) snprintf(complaint->names[complaint->n_names++], sizeof(complaint->names[0]), "[%u]",
                                entry - 1); /* libcyaml counts from 1 */
}

static const cyaml_schema_field_t *section_schema(const char *name) {
        for (const cyaml_schema_field_t *f = spec_schema; f->key; f++)
                if (f->value.type == CYAML_MAPPING && strcmp(f->key, name) == 0)
                        return f->value.mapping.fields;
        return strcmp(name, "stages") == 0 ? stage_schema : strcmp(name, "tasks") == 0 ? data_schema : spec_schema;
}

static void list_keys(const cyaml_schema_field_t *schema, char *buffer, size_t size) {
        size_t used = 0;

        for (const cyaml_schema_field_t *f = schema; f->key && used < size; f++)
                used += (size_t) snprintf(buffer + used, size - used, "%s%s", f == schema ? "" : ", ", f->key);
}

static const char *shape_name(const char *word) {
        static const struct {
                const char *word, *name;
        } shapes[] = {
                { "MAPPING", "a mapping" },
                { "SEQUENCE", "a list" },
                { "STRING", "one value" },
                { "SCALAR", "one value" },
        };
        for (size_t i = 0; i < ELEMENTSOF(shapes); i++)
                if (strncmp(word, shapes[i].word, strlen(shapes[i].word)) == 0)
                        return shapes[i].name;
        return "something else";
}

/* The nearest key so far, and the section that it is of; "": of none. */
struct suggestion {
        const char *section, *key;
        size_t distance;
};

static void suggest(const char *name, const char *section, const cyaml_schema_field_t *schema,
                    struct suggestion *best) {
        for (const cyaml_schema_field_t *f = schema; f->key; f++) {
                size_t d = nearest_distance(name, f->key);
                if (d < best->distance)
                        *best = (struct suggestion) { section, f->key, d };
        }
}

/* ": did you mean KEY?": a key of its own section, or if none is near, of another; or "". */
static void suggest_key(const char *name, const char *section, char *buffer, size_t size) {
        struct suggestion best = { .distance = NEAREST_FAR };

        suggest(name, section, section_schema(section), &best);
        bool here = best.key;
        if (!here)
                suggest(name, "", spec_schema, &best);
        for (const cyaml_schema_field_t *f = spec_schema; !here && f->key; f++)
                if (f->value.type == CYAML_MAPPING)
                        suggest(name, f->key, f->value.mapping.fields, &best);
        buffer[0] = '\0';
        if (best.key)
                (void) snprintf(buffer, size, ": did you mean %s%s%s%s%s?", best.section, best.section[0] ? "." : "",
                                best.key, here || best.section[0] ? "" : " outside of ",
                                here || best.section[0] ? "" : section);
}

static int complain_unknown(const struct spec_text *file, const char *section, const char *name, struct error *error) {
        char key[320], keys[512];
        char nearest[256];

        (void) snprintf(key, sizeof(key), "%s%s%.250s", section ? section : "", section ? "." : "", name);
        list_keys(section ? section_schema(section) : spec_schema, keys, sizeof(keys));
        suggest_key(name, section ? section : "", nearest, sizeof(nearest));
        return error_input(error, BERTD_EXIT_CONFIG, "%s:%zu: unknown key '%.64s'%s%s%s; expected %s", file->path,
                           spec_line_of(file, key), name, section ? " in " : "", section ? section : "", nearest, keys);
}

/* libcyaml's words made ours: what is wrong with which key, and what was expected. */
static int complain(const struct spec_text *file, const struct complaint *complaint, struct error *error) {
        const char *m = complaint->message, *got;
        char key[160] = "", what[128];
        unsigned max;

        if (strncmp(m, "Unexpected key: ", 16) == 0)
                return complain_unknown(file, complaint->n_names > 0 ? complaint->names[0] : NULL, m + 16, error);
        for (unsigned i = complaint->n_names; i-- > 0;)
                (void) snprintf(key + strlen(key), sizeof(key) - strlen(key), "%s%s",
                                key[0] && complaint->names[i][0] != '[' ? "." : "", complaint->names[i]);
        if (strncmp(m, "Mapping field already seen", 26) == 0)
                (void) snprintf(what, sizeof(what), "given twice");
        else if (strncmp(m, "Expecting ", 10) == 0 && (got = strstr(m, "got event: ")))
                (void) snprintf(what, sizeof(what), "expected %s, not %s", shape_name(m + 10), shape_name(got + 11));
        else if (strncmp(m, "Insufficient", 12) == 0)
                (void) snprintf(what, sizeof(what), "too few entries");
        else if (sscanf(m, "Excessive entries (%u max)", &max) == 1)
                (void) snprintf(what, sizeof(what), "more than %u entries", max);
        else
                (void) snprintf(what, sizeof(what), "%.120s", m);
        return error_input(error, BERTD_EXIT_CONFIG, "%s:%zu: %s%s%s", file->path, key[0] ? spec_line_of(file, key) : 1,
                           key, key[0] ? ": " : "", what);
}

static const cyaml_config_t cyaml_base = {
        .log_fn = on_log,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS | CYAML_CFG_STYLE_BLOCK,
};

int spec_raw_read(const struct spec_text *file, struct raw **ret, struct error *error) {
        struct complaint complaint = {};
        struct walk walk = {};
        cyaml_config_t config = cyaml_base;
        struct raw *raw = NULL;

        int r = walk_text(file, &walk, error);
        if (r < 0)
                return r;
        config.log_ctx = &complaint;
        cyaml_err_t code = cyaml_load_data((const uint8_t *) file->text, file->size, &config, &top_schema,
                                           (cyaml_data_t **) &raw, NULL);
        if (code == CYAML_ERR_OOM)
                return error_errno(error, ENOMEM, "%s", file->path);
        if (code != CYAML_OK)
                return complain(file, &complaint, error);
        if (raw && raw->n_stages > 0) {
                struct walk again = { .raw = raw };
                (void) walk_text(file, &again, NULL); /* it was walked before */
        }
        *ret = raw;
        return 0;
}

void spec_raw_free(struct raw *raw) {
        if (raw)
                (void) cyaml_free(&cyaml_base, &top_schema, raw, 0);
}

int spec_raw_write(const struct raw *raw, char **ret_text, struct error *error) {
        struct complaint complaint = {};
        cyaml_config_t config = cyaml_base;
        char *text = NULL;
        size_t size = 0;

        config.log_ctx = &complaint;
        if (cyaml_save_data(&text, &size, &config, &top_schema, raw, 0) != CYAML_OK)
                return error_set(error, EINVAL, "job spec: %s", complaint.message);
        *ret_text = strndup(text, size);
        (void) cyaml_mem(NULL, text, 0);
        return *ret_text ? 0 : error_errno(error, ENOMEM, "job spec");
}
