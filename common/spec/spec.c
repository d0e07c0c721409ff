/*
 * See spec.h. yaml.c gives the file with every scalar still text; here one table, fields.c, turns text into numbers, enums and
 * absolute paths, with ranges and defaults. A new key is one row there, and its member in struct spec.
 */
#include "common/spec/spec.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/nearest.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/spec/reader.h"
#include "common/spec/source.h"
#include "common/spec/yaml.h"

static const char *const kind_names[] = JOB_KIND_NAMES;

#define WEIGHT_MIN 1e-9 /* of a corpus */
#define WEIGHT_MAX 1e9

static int no_memory(struct spec_reader *reader) { return error_errno(reader->error, ENOMEM, "%s", reader->path); }

/* Name of an absent key in messages. */
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
        const struct said *said = said_of(reader, key);
        char text[512], name[160];
        va_list list;

        va_start(list, format);
        (void) vsnprintf(text, sizeof(text), format, list);
        va_end(list);
        if (said->name && said->line == 0)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s", said->name, text);
        if (said->name)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s: %s", reader->path, said->line,
                                   said->name, text);
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

/* YAML 1.1's words for true and false. */
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

/* An absolute path for one. A program without a slash that is not in the folder is left to PATH. */
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
                return no_memory(reader);
        if (strlen(path) > BERTD_PATH_MAX)
                return spec_refuse(reader, field->key, "%zu bytes, at most %d are allowed; use a shorter path",
                                   strlen(path), BERTD_PATH_MAX);
        *to = steal_pointer(&path);
        return 0;
}

/* Bounded texts are shown on one line by bertctl. */
static int read_text(struct spec_reader *reader, const struct field *field, const char *text, char **to) {
        if (text[0] == '\0')
                return spec_refuse(reader, field->key, "empty");
        if (field->max > 0 && strlen(text) > (size_t) field->max)
                return spec_refuse(reader, field->key, "%zu bytes, at most %.0f are allowed; give a shorter one",
                                   strlen(text), field->max);
        for (const char *p = text; field->max > 0 && *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return spec_refuse(reader, field->key, "has a control character");
        *to = strdup(text);
        return *to ? 0 : no_memory(reader);
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

static int read_list(struct spec_reader *reader, const struct field *field, const struct said *said,
                     struct spec *spec) {
        char **to = calloc(said->n + 1, sizeof(char *)); /* NULL at the end, for execvp */
        int r = 0;

        if (!to)
                return no_memory(reader);
        *AT(spec, field->offset, char **) = to;
        *AT(spec, field->count, uint32_t) = said->n;
        for (uint32_t i = 0; r == 0 && i < said->n; i++) {
                bool empty_argument = field->type == FIELD_LIST && i > 0 && said->entries[i][0] == '\0';
                if (empty_argument)
                        r = (to[i] = strdup("")) ? 0 : no_memory(reader);
                else
                        r = spec_read_value(reader, field, said->entries[i], &to[i]);
        }
        return r;
}

static int read_field(struct spec_reader *reader, size_t row, struct spec *spec) {
        const struct field *field = &spec_fields[row];
        const struct said *said = &reader->said[row];
        bool fits = is_of_kind(field, spec->kind);
        void *to = AT(spec, field->offset, void);

        if (said->text || said->n > 0) {
                if (!fits)
                        return spec_refuse(reader, field->key, "not a key of kind %s", kind_names[spec->kind]);
                return is_list(field) ? read_list(reader, field, said, spec)
                                      : spec_read_value(reader, field, said->text, to);
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

/* A number is ambiguous: it looks like a job id. */
static int default_name(struct spec_reader *reader, const char *base, size_t n, char **to) {
        bool is_number = strspn(base, "0123456789") >= n;

        *to = is_number ? format_string("job-%.*s", (int) n, base) : strndup(base, n);
        return *to ? 0 : no_memory(reader);
}

/* The file's name without its extension; "job" for a stream. */
static int name_of_file(struct spec_reader *reader, char **to) {
        static const char *const endings[] = { ".yaml", ".yml" };
        const char *slash = strrchr(reader->path, '/'), *base = slash ? slash + 1 : reader->path;
        size_t n = strlen(base);

        if (spec_is_stream(reader->path))
                return default_name(reader, "job", 3, to);
        for (size_t i = 0; i < ELEMENTSOF(endings); i++)
                if (n == strlen(base) && n > strlen(endings[i]) && text_ends_with(base, endings[i]))
                        n -= strlen(endings[i]);
        return default_name(reader, base, n, to);
}

static int check_backoff(struct spec_reader *reader, const struct spec_restart *restart) {
        if (restart->backoff_sec[0] <= restart->backoff_sec[1])
                return 0;
        return spec_refuse(reader, "restart.backoff_sec", "the first, %u, is greater than the second, %u",
                           restart->backoff_sec[0], restart->backoff_sec[1]);
}

/* One for each corpus, or none. */
static int read_weights(struct spec_reader *reader, struct spec_data *data) {
        static const char key[] = "data.train_weights";

        if (data->n_train_weights == 0)
                return 0;
        if (data->n_train_weights != data->n_train)
                return spec_refuse(reader, key, "%u given, but data.train has %u", data->n_train_weights,
                                   data->n_train);
        data->weights = calloc(data->n_train, sizeof(*data->weights));
        if (!data->weights)
                return no_memory(reader);
        for (uint32_t i = 0; i < data->n_train; i++) {
                const char *text = data->train_weights[i];
                int r = parse_double(text, WEIGHT_MIN, WEIGHT_MAX, &data->weights[i]);
                if (r == -ERANGE)
                        return spec_refuse(
                                reader, key,
                                "%.64s is not between %g and %g; leave a corpus with no weight out of data.train", text,
                                WEIGHT_MIN, WEIGHT_MAX);
                if (r < 0)
                        return wrong_type(reader, key, text, "a number");
        }
        return 0;
}

static int read_values(struct spec_reader *reader, struct spec *spec) {
        int r = read_field(reader, field_of("kind"), spec); /* the others ask for it */

        for (size_t row = 0; r == 0 && row < spec_n_fields; row++)
                r = read_field(reader, row, spec);
        spec->resources.ranks_given = is_said(reader, "resources.ranks");
        if (r == 0)
                r = check_backoff(reader, &spec->restart);
        if (r == 0 && !spec->name)
                r = name_of_file(reader, &spec->name);
        if (r == 0)
                r = spec_check(reader, spec);
        return r == 0 && spec->kind != JOB_COMMAND ? read_weights(reader, &spec->data) : r;
}

/* ---- stages ---- */

/* The file's texts overridden by a stage's, all borrowed. */
struct merged {
        struct said said[SPEC_FIELDS_MAX];
};

static struct said *said_in(struct merged *merged, const char *key) { return &merged->said[field_of(key)]; }
static const struct said *said_by(const struct part *part, const char *key) { return &part->said[field_of(key)]; }

/* Overrides the file's texts with those of `part`. */
static void overlay(struct merged *merged, const struct part *part) {
        for (size_t row = 0; row < spec_n_fields; row++)
                if (part->said[row].name)
                        merged->said[row] = part->said[row];
}

static bool is_on(const struct said *said) { return said->text && strtod(said->text, NULL) > 0; }

static void drop(struct merged *merged, const char *key) { *said_in(merged, key) = (struct said) {}; }

/* Of two alternative keys the stage's overrides the file's. */
static void give_way(struct merged *merged, const struct part *part) {
        const struct said *validation = said_by(part, "data.validation");

        if (validation->n > 0)
                drop(merged, "data.split");
        else if (is_on(said_by(part, "data.split")) && !validation->name)
                drop(merged, "data.validation");
        if (is_on(said_by(part, "optimizer.warmup_steps")))
                drop(merged, "optimizer.warmup_ratio");
        else if (is_on(said_by(part, "optimizer.warmup_ratio")))
                drop(merged, "optimizer.warmup_steps");
        if (said_by(part, "train.steps")->name || said_by(part, "train.epochs")->name) {
                drop(merged, "train.steps");
                drop(merged, "train.epochs");
        }
}

/* `task`: whose data take the stage's place, where the stage has tasks. */
static void merge_stage(const struct part *file, const struct part *stage, uint32_t task, struct merged *merged) {
        memcpy(merged->said, file->said, sizeof(merged->said));
        give_way(merged, stage);
        overlay(merged, stage);
        if (stage->n_parts == 0)
                return;
        if (said_by(&stage->parts[task], "data.train")->n >
            0) { /* validation data of the file's training does not fit another's */
                drop(merged, "data.validation");
                drop(merged, "data.test");
        }
        give_way(merged, &stage->parts[task]);
        overlay(merged, &stage->parts[task]);
}

/* One seed keys the whole run; one precision holds its weights. */
static int check_stage(struct spec_reader *reader, const struct spec *stage, const struct spec *first) {
        static const char *const fixed[] = { "train.seed", "train.precision" };
        char own[32], its[32];

        if (stage->kind == JOB_COMMAND)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: stages: not a key of kind %s",
                                   reader->path, reader->file->line, kind_names[stage->kind]);
        for (size_t i = 0; i < ELEMENTSOF(fixed); i++)
                if (strcmp(spec_get(stage, fixed[i], own, sizeof(own)), spec_get(first, fixed[i], its, sizeof(its))) !=
                    0)
                        return spec_refuse(reader, fixed[i], "%s, but the first stage has %s", own, its);
        if (stage == first && is_said(reader, "stages.moments"))
                return spec_refuse(reader, "stages.moments", "the first stage has none to keep or reset");
        return 0;
}

/* Tasks differ in their files and columns: texts of all are shortened alike, and go into one batch. */
static int check_task(struct spec_reader *reader, const struct spec *task, const struct spec *stage, uint32_t index) {
        static const char *const alike[] = { "data.sequence_length", "data.truncation", "data.head_tokens",
                                             "data.max_segments",    "data.shuffle",    "data.split",
                                             "data.fraction",        "data.per_class",  "data.empty" };
        char own[32], its[32];

        if (task->kind != JOB_FINETUNE || task->data.objective != OBJECTIVE_CLASSIFY)
                return error_input(reader->error, BERTD_EXIT_CONFIG,
                                   "%s:%zu: stages.tasks: of kind finetune that classifies", reader->path,
                                   reader->stage->line);
        if (!task->data.task)
                return spec_refuse(reader, "data.task", "missing; expected the task's name");
        for (uint32_t t = 0; t < index; t++)
                if (strcmp(stage->tasks[t]->data.task, task->data.task) == 0)
                        return spec_refuse(reader, "data.task", "'%.64s' is given twice", task->data.task);
        for (size_t i = 0; i < ELEMENTSOF(alike); i++)
                if (strcmp(spec_get(task, alike[i], own, sizeof(own)), spec_get(stage, alike[i], its, sizeof(its))) !=
                    0)
                        return spec_refuse(reader, alike[i], "%s, but the first task has %s", own, its);
        return 0;
}

static int read_task(struct spec_reader *reader, uint32_t index, struct spec *stage) {
        cleanup_spec struct spec *task = calloc(1, sizeof(*task));
        struct spec_reader own = *reader;
        struct merged merged;

        if (!task)
                return no_memory(reader);
        merge_stage(reader->file, reader->stage, index, &merged);
        own.said = merged.said;
        own.task = true;
        (void) snprintf(own.prefix, sizeof(own.prefix), "%.40stasks[%u].", reader->prefix, index);
        int r = read_values(&own, task);
        if (r == 0)
                r = check_task(&own, task, stage, index);
        if (r == 0)
                stage->tasks[stage->n_tasks++] = steal_pointer(&task);
        return r;
}

static int read_tasks(struct spec_reader *reader, struct spec *stage) {
        uint32_t n = reader->stage->n_parts;
        int r = 0;

        if (n == 0)
                return 0;
        stage->tasks = calloc(n, sizeof(struct spec *));
        if (!stage->tasks)
                return no_memory(reader);
        for (uint32_t i = 0; r == 0 && i < n; i++)
                r = read_task(reader, i, stage);
        for (uint32_t i = 1; r == 0 && i < stage->n_tasks; i++)
                if ((stage->tasks[i]->data.n_validation > 0) != (stage->tasks[0]->data.n_validation > 0))
                        return error_input(reader->error, BERTD_EXIT_CONFIG,
                                           "%s:%zu: %stasks: some have validation files and some have none",
                                           reader->path, reader->stage->line, reader->prefix);
        return r;
}

static int read_stage(struct spec_reader *reader, uint32_t index, const struct spec *first, struct spec **ret) {
        cleanup_spec struct spec *stage = calloc(1, sizeof(*stage));
        struct spec_reader own = *reader;
        struct merged merged;

        if (!stage)
                return no_memory(reader);
        own.stage = &reader->file->parts[index];
        merge_stage(reader->file, own.stage, 0, &merged);
        own.said = merged.said;
        (void) snprintf(own.prefix, sizeof(own.prefix), "stages[%u].", index);
        int r = read_values(&own, stage);
        if (r == 0)
                r = check_stage(&own, stage, first ? first : stage);
        if (r == 0)
                r = read_tasks(&own, stage);
        if (r == 0)
                *ret = steal_pointer(&stage);
        return r;
}

/* Stages are read first: what is wrong in one is then named as the stage's. */
static int read_all(struct spec_reader *reader, struct spec *spec) {
        const struct part *file = reader->file;
        struct merged merged;
        int r = 0;

        reader->said = file->said;
        if (file->n_parts == 0)
                return read_values(reader, spec);
        spec->stages = calloc(file->n_parts, sizeof(struct spec *));
        if (!spec->stages)
                return no_memory(reader);
        for (uint32_t i = 0; r == 0 && i < file->n_parts; i++) {
                r = read_stage(reader, i, i > 0 ? spec->stages[0] : NULL, &spec->stages[i]);
                spec->n_stages = i + (r == 0);
        }
        if (r == 0)
                r = spec_check_stages(reader);
        if (r < 0)
                return r;
        merge_stage(file, &file->parts[0], 0, &merged);
        drop(&merged, "stages.name");
        drop(&merged, "stages.bias_correction");
        reader->said = merged.said;
        return read_values(reader, spec);
}

/* ---- from a file, and from a command line ---- */

static int read_part(const char *path, struct part *file, struct spec **ret_spec, struct error *error) {
        cleanup_spec struct spec *spec = calloc(1, sizeof(*spec));
        cleanup_free char *folder = NULL;
        struct spec_idle idle[SPEC_IDLE_RULES] = {};

        int r = spec ? spec_folder(path, &folder, error) : error_errno(error, ENOMEM, "%s", path);
        if (r < 0)
                return r;
        struct spec_reader reader = { .path = path, .folder = folder, .file = file, .idle = idle, .error = error };
        r = read_all(&reader, spec);
        if (r == 0)
                *ret_spec = steal_pointer(&spec);
        return r;
}

static int apply_all(const char *path, struct part *file, const struct spec_setting *settings, size_t n,
                     struct error *error) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++)
                r = spec_apply_setting(file, path, &settings[i], error);
        return r;
}

int spec_parse(const char *path, const char *text, size_t size, const struct spec_setting *settings, size_t n,
               struct spec **ret_spec, struct error *error) {
        cleanup_free struct part *file = calloc(1, sizeof(*file));

        if (!file)
                return error_errno(error, ENOMEM, "%s", path);
        int r = yaml_read(path, text, size, file, error);
        if (r == 0)
                r = apply_all(path, file, settings, n, error);
        if (r == 0)
                r = read_part(path, file, ret_spec, error);
        part_free(file);
        return r;
}

/* What the rest is checked beside. */
static int say_command(struct part *file, char *const *command) {
        struct said *kind = &file->said[field_of("kind")], *words = &file->said[field_of("command")];
        uint32_t n = 0;

        while (command[n])
                n++;
        kind->name = strdup("kind");
        kind->text = strdup(kind_names[JOB_COMMAND]);
        words->name = strdup("command");
        words->entries = calloc(n + 1, sizeof(char *));
        for (; words->entries && words->n < n; words->n++)
                if (!(words->entries[words->n] = strdup(command[words->n])))
                        return -ENOMEM;
        return kind->name && kind->text && words->name && words->entries ? 0 : -ENOMEM;
}

/* As the program's own: it has no file's name. */
static int say_name(struct part *file, const char *program, struct error *error) {
        struct said *name = &file->said[field_of("name")];
        const char *slash = strrchr(program, '/'), *base = slash && slash[1] ? slash + 1 : program;
        struct spec_reader reader = { .path = "name", .error = error };

        if (name->name)
                return 0;
        name->name = strdup("name");
        return name->name ? default_name(&reader, base, strlen(base), &name->text) : no_memory(&reader);
}

int spec_of_command(char *const *command, const struct spec_setting *settings, size_t n, struct spec **ret_spec,
                    struct error *error) {
        cleanup_free struct part *file = calloc(1, sizeof(*file));

        int r = !file || say_command(file, command) < 0 ? error_errno(error, ENOMEM, "command") : 0;
        if (r == 0)
                r = apply_all("command", file, settings, n, error);
        if (r == 0)
                r = say_name(file, command[0], error);
        if (r == 0)
                r = read_part(SPEC_STDIN, file, ret_spec, error);
        if (file)
                part_free(file);
        return r;
}

int spec_load(const char *path, struct spec **ret_spec, struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;

        int r = spec_read(path, &text, &size, error);
        return r < 0 ? r : spec_parse(path, text, size, NULL, 0, ret_spec, error);
}

char spec_delimiter(const char *text) {
        if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0)
                return '\t';
        if (strlen(text) != 1 || text[0] == '"' || (text[0] != '\t' && !ispunct((unsigned char) text[0])))
                return '\0';
        return text[0];
}

bool spec_is_texts(const char *path) {
        static const char *const endings[] = { ".csv", ".tsv", ".jsonl" };

        for (size_t i = 0; i < ELEMENTSOF(endings); i++)
                if (strlen(path) > strlen(endings[i]) && text_ends_with(path, endings[i]))
                        return true;
        return false;
}

void spec_free(struct spec *spec) {
        if (!spec)
                return;
        for (size_t row = 0; row < spec_n_fields; row++) {
                const struct field *field = &spec_fields[row];
                char **entries = is_list(field) ? *AT(spec, field->offset, char **) : NULL;
                for (uint32_t i = 0; entries && i < *AT(spec, field->count, uint32_t); i++)
                        free(entries[i]);
                free(entries);
                if (is_text(field))
                        free(*AT(spec, field->offset, char *));
        }
        for (uint32_t i = 0; i < spec->n_stages; i++)
                spec_free(spec->stages[i]);
        free(spec->stages);
        for (uint32_t i = 0; i < spec->n_tasks; i++)
                spec_free(spec->tasks[i]);
        free(spec->tasks);
        free(spec->data.weights);
        free(spec);
}
