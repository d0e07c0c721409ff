/*
 * See spec.h. Three steps, each with its own kind of error:
 *   1. libyaml walks the text: syntax, anchors, aliases, a second document (line known);
 *   2. libcyaml maps it onto `struct raw`, all scalars as text: unknown and repeated keys, wrong shapes (line known);
 *   3. one table, `fields`, turns text into numbers, enums and absolute paths, with ranges and defaults.
 * libcyaml's own numbers are not used: it takes "5x" for 5 and "010" for 8. Nothing here is kept between calls.
 */
#include "common/spec.h"

#include <assert.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <yaml.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

#define DEPTH_MAX 8        /* of nested YAML collections; a spec has 3 */
#define LIST_MAX 4096      /* entries */
#define COUNT_MAX 1000000000000 /* steps, samples */

/* The file as it is written. The layout mirrors struct spec so that one name serves both offsets of a field. */
struct raw_resources { char *ranks, *gpus, *threads; };
struct raw_restart { char *max_without_progress, **backoff_sec; uint32_t n_backoff_sec; char *grace_sec; };
struct raw_checkpoint { char *every_steps, *every_sec, *keep, *keep_every; };
struct raw_model { char *config, *vocab; };
struct raw_data {
        char **train, **validation;
        uint32_t n_train, n_validation;
        char *sequence_length, *objective, *masked_fraction, *max_predictions, *short_sequence_probability;
};
struct raw_optimizer {
        char *name, *learning_rate, *warmup_ratio, *warmup_steps, *schedule;
        char *beta1, *beta2, *epsilon, *weight_decay, *clip_norm;
};
struct raw_train {
        char *global_batch, *micro_batch, *steps, *precision, *seed;
        char *evaluate_every, *evaluate_samples, *log_every;
};
struct raw {
        char *name, *kind, *priority, *run_dir, *on_exit, **command;
        uint32_t n_command;
        struct raw_resources *resources;
        struct raw_restart *restart;
        struct raw_checkpoint *checkpoint;
        struct raw_model *model;
        struct raw_data *data;
        struct raw_optimizer *optimizer;
        struct raw_train *train;
};

#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(structure, member) CYAML_FIELD_STRING_PTR(#member, OPTIONAL, structure, member, 0, CYAML_UNLIMITED)
#define LIST(structure, member, min, max)                                                                             \
        CYAML_FIELD_SEQUENCE_COUNT(#member, OPTIONAL, structure, member, n_##member, &list_entry, min, max)
#define SECTION(member)                                                                                               \
        CYAML_FIELD_MAPPING_PTR(#member, OPTIONAL | CYAML_FLAG_POINTER_NULL, struct raw, member, member##_schema)

static const cyaml_schema_value_t list_entry = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED) };

static const cyaml_schema_field_t resources_schema[] = {
        TEXT(struct raw_resources, ranks), TEXT(struct raw_resources, gpus), TEXT(struct raw_resources, threads),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t restart_schema[] = {
        TEXT(struct raw_restart, max_without_progress),
        LIST(struct raw_restart, backoff_sec, 2, 2),
        TEXT(struct raw_restart, grace_sec),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t checkpoint_schema[] = {
        TEXT(struct raw_checkpoint, every_steps), TEXT(struct raw_checkpoint, every_sec),
        TEXT(struct raw_checkpoint, keep), TEXT(struct raw_checkpoint, keep_every),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t model_schema[] = {
        TEXT(struct raw_model, config), TEXT(struct raw_model, vocab), CYAML_FIELD_END
};
static const cyaml_schema_field_t data_schema[] = {
        LIST(struct raw_data, train, 1, LIST_MAX),
        LIST(struct raw_data, validation, 0, LIST_MAX),
        TEXT(struct raw_data, sequence_length), TEXT(struct raw_data, objective),
        TEXT(struct raw_data, masked_fraction), TEXT(struct raw_data, max_predictions),
        TEXT(struct raw_data, short_sequence_probability),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t optimizer_schema[] = {
        TEXT(struct raw_optimizer, name), TEXT(struct raw_optimizer, learning_rate),
        TEXT(struct raw_optimizer, warmup_ratio), TEXT(struct raw_optimizer, warmup_steps),
        TEXT(struct raw_optimizer, schedule), TEXT(struct raw_optimizer, beta1), TEXT(struct raw_optimizer, beta2),
        TEXT(struct raw_optimizer, epsilon), TEXT(struct raw_optimizer, weight_decay),
        TEXT(struct raw_optimizer, clip_norm),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t train_schema[] = {
        TEXT(struct raw_train, global_batch), TEXT(struct raw_train, micro_batch), TEXT(struct raw_train, steps),
        TEXT(struct raw_train, precision), TEXT(struct raw_train, seed), TEXT(struct raw_train, evaluate_every),
        TEXT(struct raw_train, evaluate_samples), TEXT(struct raw_train, log_every),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t spec_schema[] = {
        TEXT(struct raw, name), TEXT(struct raw, kind), TEXT(struct raw, priority), TEXT(struct raw, run_dir),
        TEXT(struct raw, on_exit),
        LIST(struct raw, command, 1, LIST_MAX),
        SECTION(resources), SECTION(restart), SECTION(checkpoint), SECTION(model), SECTION(data), SECTION(optimizer),
        SECTION(train),
        CYAML_FIELD_END
};
static const cyaml_schema_value_t top_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, spec_schema) };

static const char *const kind_names[] = JOB_KIND_NAMES;
static const char *const objective_names[] = { "mlm+nsp", "mlm+sop", "mlm" };
static const char *const optimizer_names[] = { "adamw" };
static const char *const schedule_names[] = { "linear", "constant" };
static const char *const precision_names[] = { "fp32", "fp64" };

static_assert(ELEMENTSOF(kind_names) == JOB_KIND_MAX, "a name for each kind");
static_assert(ELEMENTSOF(objective_names) == OBJECTIVE_MAX, "a name for each objective");
static_assert(ELEMENTSOF(optimizer_names) == OPTIMIZER_NAME_MAX, "a name for each optimizer");
static_assert(ELEMENTSOF(schedule_names) == SCHEDULE_MAX, "a name for each schedule");
static_assert(ELEMENTSOF(precision_names) == PRECISION_MAX, "a name for each precision");

enum field_type { FIELD_TEXT, FIELD_PATH, FIELD_PROGRAM, FIELD_I32, FIELD_U32, FIELD_U64, FIELD_DOUBLE, FIELD_ENUM };
enum { TRAINING = (1 << JOB_PRETRAIN) | (1 << JOB_FINETUNE), ALL = TRAINING | (1 << JOB_COMMAND) };
#define NO_SECTION SIZE_MAX

/* One scalar of a spec. A number or enum without a default is required in its kinds; an absent text stays NULL. */
struct field {
        const char *key;                 /* as messages name it */
        size_t section, raw, spec;       /* offsets: of the section's pointer in struct raw, in the section, in struct spec */
        enum field_type type;
        int kinds;                       /* bit set of job kinds in which the key may appear */
        const char *fallback;            /* default, as text */
        double min, max;                 /* numbers only; whole ones are below 2^53, or SEED_MAX */
        const char *const *names;        /* enums only */
        size_t n_names;
};

#define TOP(member, ...)                                                                                              \
        { .key = #member, .section = NO_SECTION, .raw = offsetof(struct raw, member),                                 \
          .spec = offsetof(struct spec, member), .kinds = ALL, __VA_ARGS__ }
#define IN(part, member, ...)                                                                                         \
        { .key = #part "." #member, .section = offsetof(struct raw, part), .raw = offsetof(struct raw_##part, member), \
          .spec = offsetof(struct spec, part.member), __VA_ARGS__ }
#define NUMBER(field_type, low, high, text) .type = field_type, .min = low, .max = high, .fallback = text
#define CHOICE(table, text) .type = FIELD_ENUM, .names = table, .n_names = ELEMENTSOF(table), .fallback = text
#define SEED_MAX 0x1p63 /* INT64_MAX as parse_integer takes it */

static const struct field fields[] = {
        TOP(kind, CHOICE(kind_names, NULL)),
        TOP(name, .type = FIELD_TEXT),
        TOP(priority, NUMBER(FIELD_I32, -1000, 1000, "0")),
        TOP(run_dir, .type = FIELD_PATH),
        TOP(on_exit, .type = FIELD_PROGRAM),
        IN(resources, ranks, NUMBER(FIELD_U32, 1, BERTD_RANKS_MAX, "1"), .kinds = ALL),
        IN(resources, gpus, NUMBER(FIELD_U32, 0, BERTD_RANKS_MAX, "0"), .kinds = ALL),
        IN(resources, threads, NUMBER(FIELD_U32, 1, BERTD_THREADS_MAX, "1"), .kinds = ALL),
        IN(restart, max_without_progress, NUMBER(FIELD_U32, 0, 1000000, "5"), .kinds = ALL),
        IN(restart, grace_sec, NUMBER(FIELD_U32, 1, 86400, "120"), .kinds = ALL),
        IN(checkpoint, every_steps, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = ALL),
        IN(checkpoint, every_sec, NUMBER(FIELD_U64, 0, 1000000000, "600"), .kinds = ALL),
        IN(checkpoint, keep, NUMBER(FIELD_U32, 1, 1000000, "3"), .kinds = ALL),
        IN(checkpoint, keep_every, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = ALL),
        IN(model, config, .type = FIELD_PATH, .kinds = TRAINING),
        IN(model, vocab, .type = FIELD_PATH, .kinds = TRAINING),
        IN(data, sequence_length, NUMBER(FIELD_U32, 8, 65536, "128"), .kinds = TRAINING),
        IN(data, objective, CHOICE(objective_names, "mlm+nsp"), .kinds = TRAINING),
        IN(data, masked_fraction, NUMBER(FIELD_DOUBLE, 0.001, 1, "0.15"), .kinds = TRAINING),
        IN(data, max_predictions, NUMBER(FIELD_U32, 0, 65536, "0"), .kinds = TRAINING),
        IN(data, short_sequence_probability, NUMBER(FIELD_DOUBLE, 0, 1, "0.1"), .kinds = TRAINING),
        IN(optimizer, name, CHOICE(optimizer_names, "adamw"), .kinds = TRAINING),
        IN(optimizer, learning_rate, NUMBER(FIELD_DOUBLE, 0, 1000, "1e-4"), .kinds = TRAINING),
        IN(optimizer, warmup_ratio, NUMBER(FIELD_DOUBLE, 0, 1, "0"), .kinds = TRAINING),
        IN(optimizer, warmup_steps, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = TRAINING),
        IN(optimizer, schedule, CHOICE(schedule_names, "linear"), .kinds = TRAINING),
        IN(optimizer, beta1, NUMBER(FIELD_DOUBLE, 0, 0.999999999, "0.9"), .kinds = TRAINING),
        IN(optimizer, beta2, NUMBER(FIELD_DOUBLE, 0, 0.999999999, "0.999"), .kinds = TRAINING),
        IN(optimizer, epsilon, NUMBER(FIELD_DOUBLE, 1e-30, 1, "1e-6"), .kinds = TRAINING),
        IN(optimizer, weight_decay, NUMBER(FIELD_DOUBLE, 0, 1000, "0.01"), .kinds = TRAINING),
        IN(optimizer, clip_norm, NUMBER(FIELD_DOUBLE, 0, 1e9, "1"), .kinds = TRAINING),
        IN(train, global_batch, NUMBER(FIELD_U64, 1, 1 << 24, "32"), .kinds = TRAINING),
        IN(train, micro_batch, NUMBER(FIELD_U64, 1, 1 << 24, "32"), .kinds = TRAINING),
        IN(train, steps, NUMBER(FIELD_U64, 1, COUNT_MAX, NULL), .kinds = TRAINING),
        IN(train, precision, CHOICE(precision_names, "fp32"), .kinds = TRAINING),
        IN(train, seed, NUMBER(FIELD_U64, 0, SEED_MAX, "42"), .kinds = TRAINING),
        IN(train, evaluate_every, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = TRAINING),
        IN(train, evaluate_samples, NUMBER(FIELD_U64, 1, 1 << 30, "512"), .kinds = TRAINING),
        IN(train, log_every, NUMBER(FIELD_U64, 1, COUNT_MAX, "1"), .kinds = TRAINING),
};

/* The four lists. `backoff_sec` is the one of numbers and is not here. */
struct list {
        const char *key;
        size_t section, raw, raw_count, spec, spec_count;
        int kinds;
        bool paths, required;
};
static const struct list lists[] = {
        { "command", NO_SECTION, offsetof(struct raw, command), offsetof(struct raw, n_command),
          offsetof(struct spec, command), offsetof(struct spec, n_command), 1 << JOB_COMMAND, false, true },
        { "data.train", offsetof(struct raw, data), offsetof(struct raw_data, train), offsetof(struct raw_data, n_train),
          offsetof(struct spec, data.train), offsetof(struct spec, data.n_train), TRAINING, true, true },
        { "data.validation", offsetof(struct raw, data), offsetof(struct raw_data, validation),
          offsetof(struct raw_data, n_validation), offsetof(struct spec, data.validation),
          offsetof(struct spec, data.n_validation), TRAINING, true, false },
};

#define AT(base, offset, type) ((type *) (void *) ((char *) (base) + (offset)))

static void *section_of(const struct raw *raw, size_t section) {
        return section == NO_SECTION ? (void *) raw : *AT(raw, section, void *);
}

static const char *text_of(const struct raw *raw, const struct field *field) {
        void *section = section_of(raw, field->section);
        return section ? *AT(section, field->raw, char *) : NULL;
}

/* One spec being read. */
struct reader {
        const char *path;
        char *folder;
        char *text;
        size_t size;
        struct raw *raw;
        struct error *error;
};

/* ---- step 1: the walk ---- */

struct level {
        bool mapping, value_next;
        char key[64];
};
struct walk {
        struct level levels[DEPTH_MAX];
        size_t depth;
        unsigned documents;
        const char *wanted; /* "section.key" whose line is asked for, or NULL */
        size_t line;        /* its last line, 0 = not seen */
        const char *problem;
};

static void note_key(struct walk *walk, const yaml_event_t *event) {
        struct level *top = &walk->levels[walk->depth - 1];
        char name[2 * sizeof(top->key) + 1];

        (void) snprintf(top->key, sizeof(top->key), "%s", (const char *) event->data.scalar.value);
        if (walk->depth == 2)
                (void) snprintf(name, sizeof(name), "%s.%s", walk->levels[0].key, top->key);
        else
                (void) snprintf(name, sizeof(name), "%s", top->key);
        if (walk->wanted && walk->depth <= 2 && strcmp(name, walk->wanted) == 0)
                walk->line = event->start_mark.line + 1;
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
}

static void enter(struct walk *walk, const yaml_event_t *event) {
        note_node(walk, event);
        if (walk->depth == DEPTH_MAX)
                walk->problem = "nested too deeply";
        else
                walk->levels[walk->depth++] = (struct level) { .mapping = event->type == YAML_MAPPING_START_EVENT };
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
        case YAML_MAPPING_END_EVENT:
                walk->depth--;
                break;
        default:
                break;
        }
}

static int walk_text(const struct reader *reader, struct walk *walk) {
        yaml_parser_t parser;
        yaml_event_t event;
        bool done = false;
        int r = 0;

        if (!yaml_parser_initialize(&parser))
                return error_errno(reader->error, ENOMEM, "%s", reader->path);
        yaml_parser_set_input_string(&parser, (const unsigned char *) reader->text, reader->size);
        while (r == 0 && !done) {
                if (!yaml_parser_parse(&parser, &event)) {
                        size_t line = parser.problem_mark.line ? parser.problem_mark.line : parser.mark.line;
                        r = error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s", reader->path, line + 1,
                                        parser.problem ? parser.problem : "not YAML");
                        break;
                }
                walk_event(walk, &event);
                if (walk->problem)
                        r = error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s", reader->path,
                                        event.start_mark.line + 1, walk->problem);
                done = event.type == YAML_STREAM_END_EVENT;
                yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
        return r;
}

/* The last line that names a key; 1 where none does. */
static size_t line_of(const struct reader *reader, const char *key) {
        struct walk walk = { .wanted = key };
        struct reader quiet = *reader;

        quiet.error = NULL;
        (void) walk_text(&quiet, &walk);
        return walk.line > 0 ? walk.line : 1;
}

/* ---- step 2: libcyaml ---- */

struct complaint {
        char message[256];  /* libcyaml's first line */
        char names[2][64];  /* fields of its backtrace, innermost first */
        unsigned n_names;
};

/* cyaml_log_fn_t: first the message, then "  in mapping field 'x' (line: 3, column: 5)", innermost first. Its lines are those of
 * the parser's look-ahead: line_of() is exact. */
__attribute__((format(printf, 3, 0)))
static void on_log(cyaml_log_t level, void *context, const char *format, va_list args) {
        struct complaint *complaint = context;
        char text[256];
        static const char field[] = "  in mapping field '", prefix[] = "Load: ";

        (void) vsnprintf(text, sizeof(text), format, args);
        text[strcspn(text, "\n")] = '\0';
        if (complaint->message[0] == '\0' && strncmp(text, "  in ", 5) != 0) {
                bool prefixed = strncmp(text, prefix, strlen(prefix)) == 0;
                (void) snprintf(complaint->message, sizeof(complaint->message), "%s",
                                text + (prefixed ? strlen(prefix) : 0));
                return;
        }
        if (strncmp(text, field, strlen(field)) == 0 && complaint->n_names < 2)
                (void) snprintf(complaint->names[complaint->n_names++], sizeof(complaint->names[0]), "%.*s",
                                (int) strcspn(text + strlen(field), "'"), text + strlen(field));
}

static const cyaml_schema_field_t *section_schema(const char *name) {
        for (const cyaml_schema_field_t *f = spec_schema; f->key; f++)
                if (f->value.type == CYAML_MAPPING && strcmp(f->key, name) == 0)
                        return f->value.mapping.fields;
        return spec_schema;
}

static void list_keys(const cyaml_schema_field_t *schema, char *buffer, size_t size) {
        size_t used = 0;

        for (const cyaml_schema_field_t *f = schema; f->key && used < size; f++)
                used += (size_t) snprintf(buffer + used, size - used, "%s%s", f == schema ? "" : ", ", f->key);
}

static const char *shape_name(const char *word) {
        static const struct { const char *word, *name; } shapes[] = {
                { "MAPPING", "a mapping" }, { "SEQUENCE", "a list" }, { "STRING", "one value" }, { "SCALAR", "one value" },
        };
        for (size_t i = 0; i < ELEMENTSOF(shapes); i++)
                if (strncmp(word, shapes[i].word, strlen(shapes[i].word)) == 0)
                        return shapes[i].name;
        return "something else";
}

static int complain_unknown(const struct reader *reader, const char *section, const char *name) {
        char key[320], keys[512];

        (void) snprintf(key, sizeof(key), "%s%s%.250s", section ? section : "", section ? "." : "", name);
        list_keys(section ? section_schema(section) : spec_schema, keys, sizeof(keys));
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: unknown key '%.64s'%s%s; expected %s", reader->path,
                           line_of(reader, key), name, section ? " in " : "", section ? section : "", keys);
}

/* libcyaml's words made ours: what is wrong with which key, and what was expected. */
static int complain(const struct reader *reader, const struct complaint *complaint) {
        const char *m = complaint->message, *got;
        char key[160] = "", what[128];
        unsigned max;

        if (strncmp(m, "Unexpected key: ", 16) == 0)
                return complain_unknown(reader, complaint->n_names > 0 ? complaint->names[0] : NULL, m + 16);
        for (unsigned i = complaint->n_names; i-- > 0;)
                (void) snprintf(key + strlen(key), sizeof(key) - strlen(key), "%s%s", complaint->names[i], i ? "." : "");
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
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s%s%s", reader->path,
                           key[0] ? line_of(reader, key) : 1, key, key[0] ? ": " : "", what);
}

static const cyaml_config_t cyaml_base = {
        .log_fn = on_log, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS | CYAML_CFG_STYLE_BLOCK,
};

static int map_text(struct reader *reader) {
        struct complaint complaint = {};
        cyaml_config_t config = cyaml_base;
        cyaml_err_t code;

        config.log_ctx = &complaint;
        code = cyaml_load_data((const uint8_t *) reader->text, reader->size, &config, &top_schema,
                               (cyaml_data_t **) &reader->raw, NULL);
        if (code == CYAML_ERR_OOM)
                return error_errno(reader->error, ENOMEM, "%s", reader->path);
        if (code != CYAML_OK)
                return complain(reader, &complaint);
        if (!reader->raw)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: empty; expected a job spec", reader->path);
        return 0;
}

/* ---- step 3: values ---- */

static void join_names(const struct field *field, char *buffer, size_t size) {
        size_t used = 0;

        for (size_t i = 0; i < field->n_names && used < size; i++)
                used += (size_t) snprintf(buffer + used, size - used, "%s%s",
                                          i == 0 ? "" : i + 1 == field->n_names ? " or " : ", ", field->names[i]);
}

static int wrong_type(const struct reader *reader, const char *key, const char *text, const char *expected) {
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s: '%.64s' is not %s", reader->path,
                           line_of(reader, key), key, text, expected);
}

static int parse_integer(const struct reader *reader, const char *key, const char *text, double min, double max, int64_t *ret) {
        int64_t high = max >= SEED_MAX ? INT64_MAX : (int64_t) max;
        int r = parse_i64(text, (int64_t) min, high, ret);

        if (r == -ERANGE)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: %.64s is not between %" PRId64 " and %" PRId64,
                                   reader->path, key, text, (int64_t) min, high);
        return r < 0 ? wrong_type(reader, key, text, "a whole number") : 0;
}

static int read_number(const struct reader *reader, const struct field *field, const char *text, void *to) {
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

static int read_double(const struct reader *reader, const struct field *field, const char *text, double *to) {
        int r = parse_double(text, field->min, field->max, to);

        if (r == -ERANGE)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: %.64s is not between %g and %g", reader->path,
                                   field->key, text, field->min, field->max);
        return r < 0 ? wrong_type(reader, field->key, text, "a number") : 0;
}

static int read_enum(const struct reader *reader, const struct field *field, const char *text, unsigned *to) {
        char names[128];

        for (unsigned i = 0; i < field->n_names; i++)
                if (strcmp(field->names[i], text) == 0) {
                        *to = i;
                        return 0;
                }
        join_names(field, names, sizeof(names));
        return wrong_type(reader, field->key, text, names);
}

/* An absolute path for a text that is one. A program without a slash that is not in the folder is left to PATH. */
static int read_path(const struct reader *reader, const char *key, enum field_type type, const char *text, char **to) {
        if (text[0] == '\0')
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s: empty", reader->path,
                                   line_of(reader, key), key);
        cleanup_free char *path = type == FIELD_TEXT ? strdup(text) : path_absolute(reader->folder, text);
        if (path && type == FIELD_PROGRAM && !strchr(text, '/') && access(path, F_OK) < 0) {
                free(path);
                path = strdup(text);
        }
        if (!path)
                return error_errno(reader->error, ENOMEM, "%s", reader->path);
        if (type != FIELD_TEXT && strlen(path) >= PATH_MAX)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: a path of %zu bytes, longer than %d",
                                   reader->path, key, strlen(path), PATH_MAX - 1);
        *to = steal_pointer(&path);
        return 0;
}

static int missing(const struct reader *reader, const struct field *field) {
        char names[128] = "a whole number";

        if (field->type == FIELD_ENUM)
                join_names(field, names, sizeof(names));
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: missing; expected %s", reader->path, field->key, names);
}

static int not_in_kind(const struct reader *reader, const char *key, enum job_kind kind) {
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s: not a key of kind %s", reader->path,
                           line_of(reader, key), key, kind_names[kind]);
}

static int read_field(const struct reader *reader, const struct field *field, struct spec *spec) {
        const char *text = text_of(reader->raw, field);
        bool is_text = field->type <= FIELD_PROGRAM, fits = field->kinds & (1 << spec->kind);
        void *to = AT(spec, field->spec, void);

        if (text && !fits)
                return not_in_kind(reader, field->key, spec->kind);
        if (!text && !field->fallback)
                return is_text || !fits ? 0 : missing(reader, field);
        if (!text)
                text = field->fallback;
        if (is_text)
                return read_path(reader, field->key, field->type, text, to);
        if (field->type == FIELD_ENUM)
                return read_enum(reader, field, text, to);
        if (field->type == FIELD_DOUBLE)
                return read_double(reader, field, text, to);
        return read_number(reader, field, text, to);
}

static int read_list(const struct reader *reader, const struct list *list, struct spec *spec) {
        void *section = section_of(reader->raw, list->section);
        char **from = section ? *AT(section, list->raw, char **) : NULL;
        uint32_t n = section ? *AT(section, list->raw_count, uint32_t) : 0;
        bool fits = list->kinds & (1 << spec->kind);

        if (n > 0 && !fits)
                return not_in_kind(reader, list->key, spec->kind);
        if (n == 0)
                return !fits || !list->required ? 0 : error_input(reader->error, BERTD_EXIT_CONFIG,
                                "%s: %s: missing; expected a list", reader->path, list->key);
        char **to = calloc(n + 1, sizeof(char *)); /* NULL at the end, for execvp */
        if (!to)
                return error_errno(reader->error, ENOMEM, "%s", reader->path);
        *AT(spec, list->spec, char **) = to;
        *AT(spec, list->spec_count, uint32_t) = n;
        for (uint32_t i = 0; i < n; i++) {
                bool empty_argument = !list->paths && i > 0 && from[i][0] == '\0';
                int r = empty_argument ? ((to[i] = strdup("")) ? 0 : -ENOMEM)
                                       : read_path(reader, list->key, list->paths ? FIELD_PATH : FIELD_TEXT, from[i], &to[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_backoff(const struct reader *reader, struct spec *spec) {
        static const uint32_t fallback[2] = { 5, 600 };
        const struct raw_restart *restart = reader->raw->restart;
        uint32_t *sec = spec->restart.backoff_sec = malloc(sizeof(fallback));

        if (!sec)
                return error_errno(reader->error, ENOMEM, "%s", reader->path);
        memcpy(sec, fallback, sizeof(fallback));
        spec->restart.n_backoff_sec = 2;
        for (uint32_t i = 0; restart && i < restart->n_backoff_sec; i++) {
                int64_t v = 0;
                int r = parse_integer(reader, "restart.backoff_sec", restart->backoff_sec[i], 0, 604800, &v);
                if (r < 0)
                        return r;
                sec[i] = (uint32_t) v;
        }
        if (sec[0] > sec[1])
                return error_input(reader->error, BERTD_EXIT_CONFIG,
                                   "%s: restart.backoff_sec: the first, %u, is greater than the second, %u", reader->path,
                                   sec[0], sec[1]);
        return 0;
}

static int default_name(const struct reader *reader, char **to) {
        static const char *const endings[] = { ".yaml", ".yml" };
        const char *slash = strrchr(reader->path, '/'), *base = slash ? slash + 1 : reader->path;
        size_t n = strlen(base);

        for (size_t i = 0; i < ELEMENTSOF(endings); i++) {
                size_t e = strlen(endings[i]);
                if (n > e && strcmp(base + n - e, endings[i]) == 0) {
                        n -= e;
                        break;
                }
        }
        *to = strndup(base, n);
        return *to ? 0 : error_errno(reader->error, ENOMEM, "%s", reader->path);
}

static int check_name(const struct reader *reader, const char *name) {
        if (strlen(name) > BERTD_NAME_MAX)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: name: %zu bytes, more than %d", reader->path,
                                   strlen(name), BERTD_NAME_MAX);
        for (const char *p = name; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: name: has a control character", reader->path);
        return 0;
}

/* What one key alone cannot tell. */
static int check_together(const struct reader *reader, struct spec *spec) {
        const struct spec_model *model = &spec->model;
        struct spec_data *data = &spec->data;

        if (spec->kind == JOB_COMMAND)
                return 0;
        if (!model->config || !model->vocab)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: model.%s: missing; expected a file", reader->path,
                                   model->config ? "vocab" : "config");
        if (data->max_predictions > data->sequence_length)
                return error_input(reader->error, BERTD_EXIT_CONFIG,
                                   "%s: data.max_predictions: %u is greater than data.sequence_length, %u", reader->path,
                                   data->max_predictions, data->sequence_length);
        if (data->max_predictions == 0)
                data->max_predictions = (data->sequence_length * 15 + 99) / 100;
        if (spec->train.micro_batch > spec->train.global_batch && !(reader->raw->train && reader->raw->train->micro_batch))
                spec->train.micro_batch = spec->train.global_batch;
        return 0;
}

static int read_values(const struct reader *reader, struct spec *spec) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(fields); i++)
                r = read_field(reader, &fields[i], spec);
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(lists); i++)
                r = read_list(reader, &lists[i], spec);
        if (r == 0)
                r = read_backoff(reader, spec);
        if (r == 0 && !spec->name)
                r = default_name(reader, &spec->name);
        if (r == 0)
                r = check_name(reader, spec->name);
        return r == 0 ? check_together(reader, spec) : r;
}

static int open_reader(struct reader *reader) {
        char cwd[PATH_MAX];

        int r = file_read(reader->path, BERTD_SPEC_MAX, &reader->text, &reader->size, reader->error);
        if (r < 0) {
                if (reader->error)
                        reader->error->exit = r == -EFBIG ? BERTD_EXIT_CONFIG : BERTD_EXIT_INPUT;
                return r;
        }
        if (!getcwd(cwd, sizeof(cwd)))
                return error_errno(reader->error, errno, "working directory");
        const char *slash = strrchr(reader->path, '/');
        cleanup_free char *folder = slash ? strndup(reader->path, (size_t) (slash - reader->path) + 1) : strdup(".");
        reader->folder = folder ? path_absolute(cwd, folder) : NULL;
        return reader->folder ? 0 : error_errno(reader->error, ENOMEM, "%s", reader->path);
}

static void close_reader(struct reader *reader) {
        free(reader->text);
        free(reader->folder);
        if (reader->raw)
                (void) cyaml_free(&cyaml_base, &top_schema, reader->raw, 0);
}

int spec_load(const char *path, struct spec **ret_spec, struct error *error) {
        struct reader reader = { .path = path, .error = error };
        struct walk walk = {};
        cleanup_spec struct spec *spec = calloc(1, sizeof(*spec));

        int r = spec ? open_reader(&reader) : error_errno(error, ENOMEM, "%s", path);
        if (r == 0)
                r = walk_text(&reader, &walk);
        if (r == 0)
                r = map_text(&reader);
        if (r == 0)
                r = read_values(&reader, spec);
        close_reader(&reader);
        if (r == 0)
                *ret_spec = steal_pointer(&spec);
        return r;
}

void spec_free(struct spec *spec) {
        if (!spec)
                return;
        for (size_t i = 0; i < ELEMENTSOF(fields); i++)
                if (fields[i].type <= FIELD_PROGRAM)
                        free(*AT(spec, fields[i].spec, char *));
        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                char **entries = *AT(spec, lists[i].spec, char **);
                for (uint32_t k = 0; entries && k < *AT(spec, lists[i].spec_count, uint32_t); k++)
                        free(entries[k]);
                free(entries);
        }
        free(spec->restart.backoff_sec);
        free(spec);
}

/* ---- and back ---- */

/* struct raw with all its sections at hand. Scalars are owned; lists are borrowed from the spec. */
struct filled {
        struct raw top;
        struct raw_resources resources;
        struct raw_restart restart;
        struct raw_checkpoint checkpoint;
        struct raw_model model;
        struct raw_data data;
        struct raw_optimizer optimizer;
        struct raw_train train;
        char backoff[2][16], *backoff_sec[2];
};

/* libyaml's emitter takes nothing else (and libcyaml leaks when it refuses). */
static bool is_utf8(const char *text) {
        const unsigned char *p = (const unsigned char *) text;

        while (*p) {
                unsigned n = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : (*p & 0xf0) == 0xe0 ? 2 : *p >= 0xf0 && *p < 0xf5 ? 3 : 9;
                uint32_t c = n == 0 ? *p : *p & (0x3fu >> n);
                if (n == 9)
                        return false;
                p++;
                for (unsigned i = 0; i < n; i++, p++) {
                        if ((*p & 0xc0) != 0x80)
                                return false;
                        c = c << 6 | (*p & 0x3f);
                }
                if ((n == 2 && c < 0x800) || (n == 3 && c < 0x10000) || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                        return false;
        }
        return true;
}

/* The shortest text that reads back as the same number. */
static char *format_double(double v) {
        char *text = NULL;

        for (int digits = 6; digits <= 17; digits++) {
                free(text);
                text = format_string("%.*g", digits, v);
                if (!text || strtod(text, NULL) == v)
                        break;
        }
        return text;
}

static char *format_field(const struct field *field, const void *from) {
        switch (field->type) {
        case FIELD_I32:
                return format_string("%" PRId32, *(const int32_t *) from);
        case FIELD_U32:
                return format_string("%" PRIu32, *(const uint32_t *) from);
        case FIELD_U64:
                return format_string("%" PRIu64, *(const uint64_t *) from);
        case FIELD_DOUBLE:
                return format_double(*(const double *) from);
        case FIELD_ENUM:
                return strdup(field->names[*(const unsigned *) from]);
        default:
                return strdup(*(char *const *) from);
        }
}

static int fill_fields(struct filled *filled, const struct spec *spec, struct error *error) {
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                const struct field *field = &fields[i];
                const void *from = (const char *) spec + field->spec;

                if (!(field->kinds & (1 << spec->kind)) || (field->type <= FIELD_PROGRAM && !*(char *const *) from))
                        continue;
                char *text = format_field(field, from);
                if (!text)
                        return error_errno(error, ENOMEM, "job spec");
                *AT(section_of(&filled->top, field->section), field->raw, char *) = text;
                if (!is_utf8(text))
                        return error_input(error, BERTD_EXIT_CONFIG, "%s: not UTF-8", field->key);
        }
        return 0;
}

static int fill_lists(struct filled *filled, const struct spec *spec, struct error *error) {
        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                char *const *entries = *AT(spec, lists[i].spec, char **);
                uint32_t n = *AT(spec, lists[i].spec_count, uint32_t);

                if (n == 0 || !(lists[i].kinds & (1 << spec->kind)))
                        continue;
                for (uint32_t k = 0; k < n; k++)
                        if (!is_utf8(entries[k]))
                                return error_input(error, BERTD_EXIT_CONFIG, "%s: entry %u is not UTF-8", lists[i].key, k + 1);
                void *section = section_of(&filled->top, lists[i].section);
                *AT(section, lists[i].raw, char *const *) = entries;
                *AT(section, lists[i].raw_count, uint32_t) = n;
        }
        for (uint32_t i = 0; i < 2 && spec->restart.n_backoff_sec == 2; i++) {
                (void) snprintf(filled->backoff[i], sizeof(filled->backoff[i]), "%u", spec->restart.backoff_sec[i]);
                filled->backoff_sec[i] = filled->backoff[i];
                filled->restart.backoff_sec = filled->backoff_sec;
                filled->restart.n_backoff_sec = 2;
        }
        return 0;
}

static int save_filled(const struct filled *filled, char **ret_text, struct error *error) {
        struct complaint complaint = {};
        cyaml_config_t config = cyaml_base;
        char *text = NULL;
        size_t size = 0;

        config.log_ctx = &complaint;
        if (cyaml_save_data(&text, &size, &config, &top_schema, &filled->top, 0) != CYAML_OK)
                return error_set(error, EINVAL, "job spec: %s", complaint.message);
        *ret_text = strndup(text, size);
        (void) cyaml_mem(NULL, text, 0);
        return *ret_text ? 0 : error_errno(error, ENOMEM, "job spec");
}

int spec_format(const struct spec *spec, char **ret_text, struct error *error) {
        struct filled filled = {};

        filled.top.resources = &filled.resources;
        filled.top.restart = &filled.restart;
        filled.top.checkpoint = &filled.checkpoint;
        filled.top.model = &filled.model;
        filled.top.data = &filled.data;
        filled.top.optimizer = &filled.optimizer;
        filled.top.train = &filled.train;
        int r = fill_fields(&filled, spec, error);
        if (r == 0)
                r = fill_lists(&filled, spec, error);
        if (spec->kind == JOB_COMMAND) {
                filled.top.model = NULL;
                filled.top.data = NULL;
                filled.top.optimizer = NULL;
                filled.top.train = NULL;
        }
        if (r == 0)
                r = save_filled(&filled, ret_text, error);
        filled.top.model = &filled.model;
        filled.top.data = &filled.data;
        filled.top.optimizer = &filled.optimizer;
        filled.top.train = &filled.train;
        for (size_t i = 0; i < ELEMENTSOF(fields); i++)
                free(*AT(section_of(&filled.top, fields[i].section), fields[i].raw, char *));
        return r;
}
