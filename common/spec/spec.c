/*
 * See spec.h. yaml.c gives the file with every scalar still text; here one table, fields.c, turns text into numbers, enums and
 * absolute paths, with ranges and defaults, and back. A new key is one row there and one in yaml.c.
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

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/spec/reader.h"
#include "common/spec/source.h"

static const char *const kind_names[] = JOB_KIND_NAMES;

#define WEIGHT_MIN 1e-9 /* of a corpus */
#define WEIGHT_MAX 1e9

const char *spec_name_of(struct spec_reader *reader, const char *key) {
        size_t skip = reader->task && strncmp(key, "data.", 5) == 0 ? 5 : 0;

        (void) snprintf(reader->key, sizeof(reader->key), "%s%s", reader->stage, key + skip);
        return reader->key;
}

static size_t line_of(struct spec_reader *reader, const char *key) {
        return spec_line_of(&reader->file, spec_name_of(reader, key));
}

int spec_refuse(struct spec_reader *reader, const char *key, const char *format, ...) {
        char text[512];
        va_list list;

        va_start(list, format);
        (void) vsnprintf(text, sizeof(text), format, list);
        va_end(list);
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: %s: %s", reader->file.path, line_of(reader, key),
                           spec_name_of(reader, key), text);
}

static void join_names(const struct field *field, char *buffer, size_t size) {
        size_t used = 0;

        for (size_t i = 0; i < field->n_names && used < size; i++)
                used += (size_t) snprintf(buffer + used, size - used, "%s%s",
                                          i == 0                    ? ""
                                          : i + 1 == field->n_names ? " or "
                                                                    : ", ",
                                          field->names[i]);
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

static int read_enum(struct spec_reader *reader, const struct field *field, const char *text, unsigned *to) {
        int choice = parse_choice(text, field->names, field->n_names);
        char names[128];

        if (choice >= 0) {
                *to = (unsigned) choice;
                return 0;
        }
        join_names(field, names, sizeof(names));
        return wrong_type(reader, field->key, text, names);
}

static int read_truth(struct spec_reader *reader, const struct field *field, const char *text, bool *to) {
        unsigned value = 0;
        int r = read_enum(reader, field, text, &value);

        if (r == 0)
                *to = value;
        return r;
}

static int expand(struct spec_reader *reader, const char *key, const char *text, char **ret_path) {
        int r = paths_expand(reader->folder, text, ret_path, reader->error);

        if (r < 0 && reader->error) {
                (void) error_prefix(reader->error, "%s:%zu: %s", reader->file.path, line_of(reader, key),
                                    spec_name_of(reader, key));
                reader->error->exit = BERTD_EXIT_CONFIG;
        }
        return r;
}

/* An absolute path for a text that is one. A program without a slash that is not in the folder is left to PATH. */
static int read_path(struct spec_reader *reader, const char *key, enum field_type type, const char *text, char **to) {
        if (text[0] == '\0')
                return spec_refuse(reader, key, "empty");
        cleanup_free char *path = NULL;
        bool left_to_path = type == FIELD_PROGRAM && !strchr(text, '/') && text[0] != '~';
        if (type != FIELD_TEXT && expand(reader, key, text, &path) < 0)
                return -EINVAL;
        if (path && left_to_path && access(path, F_OK) < 0) {
                free(path);
                path = NULL;
        }
        if (!path)
                path = strdup(text);
        if (!path)
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        if (type != FIELD_TEXT && strlen(path) > BERTD_PATH_MAX)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: a path of %zu bytes, longer than %d",
                                   reader->file.path, spec_name_of(reader, key), strlen(path), BERTD_PATH_MAX);
        *to = steal_pointer(&path);
        return 0;
}

static int missing(struct spec_reader *reader, const struct field *field) {
        char names[128] = "a whole number";

        if (field->type == FIELD_ENUM)
                join_names(field, names, sizeof(names));
        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: missing; expected %s", reader->file.path,
                           spec_name_of(reader, field->key), names);
}

static int not_in_kind(struct spec_reader *reader, const char *key, enum job_kind kind) {
        return spec_refuse(reader, key, "not a key of kind %s", kind_names[kind]);
}

int spec_read_value(struct spec_reader *reader, const struct field *field, const char *text, void *to) {
        if (field->type <= FIELD_PROGRAM)
                return read_path(reader, field->key, field->type, text, to);
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

static int read_field(struct spec_reader *reader, const struct field *field, struct spec *spec) {
        const char *text = text_of(reader->raw, field);
        bool is_text = field->type <= FIELD_PROGRAM, fits = field->kinds & (1 << spec->kind);
        void *to = AT(spec, field->spec, void);

        if (text && !fits)
                return not_in_kind(reader, field->key, spec->kind);
        if (text && is_text && field->type != FIELD_TEXT && (strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0))
                return spec_refuse(reader, field->key, "is null, expected a value or no such key");
        if (!text && field->optional) {
                set_absent(field, to);
                return 0;
        }
        if (!text && !field->fallback)
                return is_text || !fits ? 0 : missing(reader, field);
        return spec_read_value(reader, field, text ? text : field->fallback, to);
}

static int read_list(struct spec_reader *reader, const struct list *list, struct spec *spec) {
        void *section = section_of(reader->raw, list->section);
        char **from = section ? *AT(section, list->raw, char **) : NULL;
        uint32_t n = section ? *AT(section, list->raw_count, uint32_t) : 0;
        bool fits = list->kinds & (1 << spec->kind);

        if (n > 0 && !fits)
                return not_in_kind(reader, list->key, spec->kind);
        if (n == 0)
                return !fits || !list->required
                               ? 0
                               : error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: missing; expected a list",
                                             reader->file.path, spec_name_of(reader, list->key));
        char **to = calloc(n + 1, sizeof(char *)); /* NULL at the end, for execvp */
        if (!to)
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        *AT(spec, list->spec, char **) = to;
        *AT(spec, list->spec_count, uint32_t) = n;
        for (uint32_t i = 0; i < n; i++) {
                bool empty_argument = !list->paths && i > 0 && from[i][0] == '\0';
                int r = empty_argument
                                ? ((to[i] = strdup("")) ? 0 : -ENOMEM)
                                : read_path(reader, list->key, list->paths ? FIELD_PATH : FIELD_TEXT, from[i], &to[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_backoff(struct spec_reader *reader, struct spec *spec) {
        static const uint32_t fallback[2] = { BERTD_BACKOFF_FIRST_DEFAULT, BERTD_BACKOFF_LAST_DEFAULT };
        const struct raw_restart *restart = reader->raw->restart;
        uint32_t *sec = spec->restart.backoff_sec = malloc(sizeof(fallback));

        if (!sec)
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        memcpy(sec, fallback, sizeof(fallback));
        spec->restart.n_backoff_sec = 2;
        for (uint32_t i = 0; restart && i < restart->n_backoff_sec; i++) {
                int64_t v = 0;
                int r = parse_integer(reader, "restart.backoff_sec", restart->backoff_sec[i], 0,
                                      i == 0 ? BERTD_BACKOFF_FIRST_MAX : BERTD_BACKOFF_LAST_MAX, &v);
                if (r < 0)
                        return r;
                sec[i] = (uint32_t) v;
        }
        if (sec[0] > sec[1])
                return error_input(reader->error, BERTD_EXIT_CONFIG,
                                   "%s: restart.backoff_sec: the first, %u, is greater than the second, %u",
                                   reader->file.path, sec[0], sec[1]);
        return 0;
}

static int default_name(struct spec_reader *reader, char **to) {
        static const char *const endings[] = { ".yaml", ".yml" };
        const char *slash = strrchr(reader->file.path, '/'), *base = slash ? slash + 1 : reader->file.path;
        size_t n = strlen(base);

        for (size_t i = 0; i < ELEMENTSOF(endings); i++)
                if (n == strlen(base) && n > strlen(endings[i]) && text_ends_with(base, endings[i]))
                        n -= strlen(endings[i]);
        bool is_number = strspn(base, "0123456789") == n; /* an id's place is taken */
        if (spec_is_stream(reader->file.path)) {
                *to = strdup("job");
                return *to ? 0 : error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        }
        *to = is_number ? format_string("job-%.*s", (int) n, base) : strndup(base, n);
        return *to ? 0 : error_errno(reader->error, ENOMEM, "%s", reader->file.path);
}

static int check_name(struct spec_reader *reader, const char *name) {
        if (strlen(name) > BERTD_NAME_MAX)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: name: %zu bytes, more than %d",
                                   reader->file.path, strlen(name), BERTD_NAME_MAX);
        for (const char *p = name; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: name: has a control character",
                                           reader->file.path);
        return 0;
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
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        for (uint32_t i = 0; i < data->n_train; i++) {
                const char *text = data->train_weights[i];
                int r = parse_double(text, WEIGHT_MIN, WEIGHT_MAX, &data->weights[i]);
                if (r == -ERANGE)
                        return spec_refuse(reader, key,
                                           "%.64s is not between %g and %g; a corpus of no weight is to be "
                                           "left out of data.train",
                                           text, WEIGHT_MIN, WEIGHT_MAX);
                if (r < 0)
                        return wrong_type(reader, key, text, "a number");
        }
        return 0;
}

static int read_values(struct spec_reader *reader, struct spec *spec) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < spec_n_fields; i++)
                r = read_field(reader, &spec_fields[i], spec);
        for (size_t i = 0; r == 0 && i < spec_n_lists; i++)
                r = read_list(reader, &spec_lists[i], spec);
        spec->resources.ranks_given = reader->raw->resources && reader->raw->resources->ranks;
        if (r == 0)
                r = read_backoff(reader, spec);
        if (r == 0 && !spec->name)
                r = default_name(reader, &spec->name);
        if (r == 0)
                r = check_name(reader, spec->name);
        if (r == 0)
                r = spec_check(reader, spec);
        return r == 0 && spec->kind != JOB_COMMAND ? read_weights(reader, &spec->data) : r;
}

/* ---- stages ---- */

/* The file with one stage's own keys in place; all of it is borrowed. */
struct merged {
        struct raw top;
        struct raw_data data;
        struct raw_optimizer optimizer;
        struct raw_train train;
};

/* What `from` says of a section takes the place of what the file says. */
static void overlay(struct raw *top, size_t section, void *from) {
        for (size_t i = 0; from && i < spec_n_fields; i++) {
                const struct field *field = &spec_fields[i];
                if (field->section == section && *AT(from, field->raw, char *))
                        *AT(section_of(top, section), field->raw, char *) = *AT(from, field->raw, char *);
        }
        for (size_t i = 0; from && i < spec_n_lists; i++) {
                const struct list *list = &spec_lists[i];
                if (list->section != section || !*AT(from, list->raw, char **))
                        continue;
                *AT(section_of(top, section), list->raw, char **) = *AT(from, list->raw, char **);
                *AT(section_of(top, section), list->raw_count, uint32_t) = *AT(from, list->raw_count, uint32_t);
        }
}

static bool is_on(const char *text) { return text && strtod(text, NULL) > 0; }

/* Of two keys that say the same thing the file's gives way to the stage's. */
static void give_way(struct merged *m, const struct raw_data *data, const struct raw_optimizer *optimizer) {
        if (data && data->n_validation > 0)
                m->data.split = NULL;
        else if (data && is_on(data->split) && !data->validation)
                m->data.n_validation = 0;
        if (optimizer && is_on(optimizer->warmup_steps))
                m->optimizer.warmup_ratio = NULL;
        else if (optimizer && is_on(optimizer->warmup_ratio))
                m->optimizer.warmup_steps = NULL;
}

/* `task`: whose data take the stage's place, where the stage has tasks. */
static void merge_stage(const struct raw *raw, struct raw_stage *stage, uint32_t task, struct merged *m) {
        *m = (struct merged) { .top = *raw };
        m->data = raw->data ? *raw->data : m->data;
        m->optimizer = raw->optimizer ? *raw->optimizer : m->optimizer;
        m->train = raw->train ? *raw->train : m->train;
        m->top.data = &m->data;
        m->top.optimizer = &m->optimizer;
        m->top.train = &m->train;
        m->top.stage = stage;
        if (stage->train && (stage->train->steps || stage->train->epochs)) /* one is said in place of the other */
                m->train.steps = m->train.epochs = NULL;
        give_way(m, stage->data, stage->optimizer);
        overlay(&m->top, offsetof(struct raw, data), stage->data);
        overlay(&m->top, offsetof(struct raw, optimizer), stage->optimizer);
        overlay(&m->top, offsetof(struct raw, train), stage->train);
        if (stage->n_tasks == 0)
                return;
        if (stage->tasks[task].n_train > 0) /* what is held out of the file's own training says nothing of another's */
                m->data.n_validation = m->data.n_test = 0;
        give_way(m, &stage->tasks[task], NULL);
        overlay(&m->top, offsetof(struct raw, data), &stage->tasks[task]);
}

/* One seed keys the whole run; one precision holds its weights. */
static int check_stage(struct spec_reader *reader, const struct spec *stage, const struct spec *first) {
        static const char *const fixed[] = { "train.seed", "train.precision" };
        char own[32], its[32];

        if (stage->kind == JOB_COMMAND)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: stages: not a key of kind %s",
                                   reader->file.path, spec_line_of(&reader->file, "stages"), kind_names[stage->kind]);
        for (size_t i = 0; i < ELEMENTSOF(fixed); i++)
                if (strcmp(spec_get(stage, fixed[i], own, sizeof(own)), spec_get(first, fixed[i], its, sizeof(its))) !=
                    0)
                        return spec_refuse(reader, fixed[i], "%s, but the first stage has %s", own, its);
        if (stage == first && reader->raw->stage->moments)
                return spec_refuse(reader, "moments", "the first stage has none to keep or reset");
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
                                   "%s:%zu: stages.tasks: of kind finetune that classifies", reader->file.path,
                                   spec_line_of(&reader->file, "stages"));
        if (!task->data.task)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s: %s: missing; expected the task's name",
                                   reader->file.path, spec_name_of(reader, "data.task"));
        for (uint32_t t = 0; t < index; t++)
                if (strcmp(stage->tasks[t]->data.task, task->data.task) == 0)
                        return spec_refuse(reader, "data.task", "'%.64s' is given twice", task->data.task);
        for (size_t i = 0; i < ELEMENTSOF(alike); i++)
                if (strcmp(spec_get(task, alike[i], own, sizeof(own)), spec_get(stage, alike[i], its, sizeof(its))) !=
                    0)
                        return spec_refuse(reader, alike[i], "%s, but the first task has %s", own, its);
        return 0;
}

static int read_task(struct spec_reader *reader, struct raw_stage *raw, uint32_t index, struct spec *stage) {
        cleanup_spec struct spec *task = calloc(1, sizeof(*task));
        struct merged merged;
        struct spec_reader own = *reader;

        if (!task)
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        merge_stage(reader->raw, raw, index, &merged);
        own.raw = &merged.top;
        own.task = true;
        (void) snprintf(own.stage, sizeof(own.stage), "%.40stasks[%u].", reader->stage, index);
        int r = read_values(&own, task);
        if (r == 0)
                r = check_task(&own, task, stage, index);
        if (r == 0)
                stage->tasks[stage->n_tasks++] = steal_pointer(&task);
        return r;
}

static int read_tasks(struct spec_reader *reader, struct raw_stage *raw, struct spec *stage) {
        int r = 0;

        if (raw->n_tasks == 0)
                return 0;
        stage->tasks = calloc(raw->n_tasks, sizeof(*stage->tasks));
        if (!stage->tasks)
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        for (uint32_t i = 0; r == 0 && i < raw->n_tasks; i++)
                r = read_task(reader, raw, i, stage);
        for (uint32_t i = 1; r == 0 && i < stage->n_tasks; i++)
                if ((stage->tasks[i]->data.n_validation > 0) != (stage->tasks[0]->data.n_validation > 0))
                        return error_input(reader->error, BERTD_EXIT_CONFIG,
                                           "%s: %stasks: some have validation files and some have none",
                                           reader->file.path, reader->stage);
        return r;
}

static int read_stage(struct spec_reader *reader, uint32_t index, const struct spec *first, struct spec **ret) {
        cleanup_spec struct spec *stage = calloc(1, sizeof(*stage));
        struct merged merged;
        struct spec_reader own = *reader;

        if (!stage)
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        struct raw_stage *raw = &reader->raw->stages[index];
        merge_stage(reader->raw, raw, 0, &merged);
        own.raw = &merged.top;
        (void) snprintf(own.stage, sizeof(own.stage), "stages[%u].", index);
        int r = read_values(&own, stage);
        if (r == 0)
                r = check_stage(&own, stage, first ? first : stage);
        own.raw = reader->raw;
        if (r == 0)
                r = read_tasks(&own, raw, stage);
        if (r == 0)
                *ret = steal_pointer(&stage);
        return r;
}

/* Stages are read first: what is wrong in one is then named as the stage's. */
static int read_all(struct spec_reader *reader, struct spec *spec) {
        struct raw *raw = reader->raw;
        struct merged merged;

        if (raw->n_stages == 0)
                return read_values(reader, spec);
        spec->stages = calloc(raw->n_stages, sizeof(*spec->stages));
        if (!spec->stages)
                return error_errno(reader->error, ENOMEM, "%s", reader->file.path);
        for (uint32_t i = 0; i < raw->n_stages; i++) {
                int r = read_stage(reader, i, i > 0 ? spec->stages[0] : NULL, &spec->stages[i]);
                if (r < 0)
                        return r;
                spec->n_stages = i + 1;
        }
        int r = spec_check_stages(reader);
        if (r < 0)
                return r;
        merge_stage(raw, &raw->stages[0], 0, &merged);
        merged.top.stage = NULL;
        reader->raw = &merged.top;
        r = read_values(reader, spec);
        reader->raw = raw;
        return r;
}

int spec_parse(const char *path, const char *text, size_t size, const char *const *settings, size_t n,
               struct spec **ret_spec, struct error *error) {
        struct spec_idle idle[SPEC_IDLE_RULES] = {};
        struct spec_reader reader = { .file = { .path = path, .text = (char *) text, .size = size },
                                      .idle = idle,
                                      .error = error };
        cleanup_spec struct spec *spec = calloc(1, sizeof(*spec));

        int r = spec ? spec_folder(path, &reader.folder, error) : error_errno(error, ENOMEM, "%s", path);
        if (r == 0)
                r = spec_raw_read(&reader.file, &reader.raw, error);
        if (r == 0 && !reader.raw)
                r = error_input(error, BERTD_EXIT_CONFIG, "%s: empty; expected a job spec", path);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = spec_apply_setting(reader.raw, path, settings[i], error);
        if (r == 0)
                r = read_all(&reader, spec);
        free(reader.folder);
        spec_raw_free(reader.raw);
        if (r == 0)
                *ret_spec = steal_pointer(&spec);
        return r;
}

int spec_load(const char *path, struct spec **ret_spec, struct error *error) {
        return spec_load_with(path, NULL, 0, ret_spec, error);
}

int spec_load_with(const char *path, const char *const *settings, size_t n, struct spec **ret_spec,
                   struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;

        int r = spec_read(path, &text, &size, error);
        return r < 0 ? r : spec_parse(path, text, size, settings, n, ret_spec, error);
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
        for (size_t i = 0; i < spec_n_fields; i++)
                if (spec_fields[i].type <= FIELD_PROGRAM)
                        free(*AT(spec, spec_fields[i].spec, char *));
        for (size_t i = 0; i < spec_n_lists; i++) {
                char **entries = *AT(spec, spec_lists[i].spec, char **);
                for (uint32_t k = 0; entries && k < *AT(spec, spec_lists[i].spec_count, uint32_t); k++)
                        free(entries[k]);
                free(entries);
        }
        for (uint32_t i = 0; i < spec->n_stages; i++)
                spec_free(spec->stages[i]);
        free(spec->stages);
        for (uint32_t i = 0; i < spec->n_tasks; i++)
                spec_free(spec->tasks[i]);
        free(spec->tasks);
        free(spec->restart.backoff_sec);
        free(spec->data.weights);
        free(spec);
}
