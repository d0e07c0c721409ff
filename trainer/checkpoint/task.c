/* See task.h. Each task is a row of meta, "task.0" and so on, in JSON. Owns nothing. */
#include "trainer/checkpoint/task.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/parse.h"
#include "trainer/checkpoint/description.h"

static const char *const encodings[ENCODING_MAX] = DATA_ENCODING_NAMES;
static const char *const headers[HEADER_MAX] = DATA_HEADER_NAMES;
static const char *const formats[FORMAT_MAX] = DATA_FORMAT_NAMES;
static const char *const empties[EMPTY_MAX] = DATA_EMPTY_NAMES;

int task_set_meta(struct checkpoint_meta *meta, uint32_t index, const char *name, uint32_t n_classes, uint32_t first,
                  const struct spec_data *data, struct error *error) {
        json_t *columns = json_array();
        char key[16];

        for (uint32_t i = 0; i < data->n_text; i++)
                (void) json_array_append_new(columns, json_string(data->text[i]));
        if (data->n_text == 0)
                (void) json_array_append_new(columns, json_string("text"));
        json_t *row = json_pack("{s:s, s:I, s:I, s:o, s:s, s:s, s:s, s:s, s:s, s:s*, s:s, s:o*}", "name", name,
                                "classes", (json_int_t) n_classes, "first", (json_int_t) first, "text", columns,
                                "label", data->label, "encoding", encodings[data->encoding], "header",
                                headers[data->header], "format", formats[data->format], "kind",
                                formats[records_format(data->train[0], data->format)], "delimiter", data->delimiter,
                                "empty", empties[data->empty], "pair", spec_is_pair(data) ? json_true() : NULL);
        cleanup_free char *text = row ? json_dumps(row, JSON_COMPACT) : NULL;
        json_decref(row);
        if (!text)
                return error_errno(error, ENOMEM, "task");
        (void) snprintf(key, sizeof(key), "task.%u", index);
        checkpoint_meta_set(meta, key, "%s", text);
        return 0;
}

/* The first if it is missing. */
static unsigned choice_of(const json_t *row, const char *key, const char *const *names, unsigned n) {
        const char *text = json_string_value(json_object_get(row, key));
        int choice = text ? parse_choice(text, names, n) : 0;

        return choice < 0 ? 0 : (unsigned) choice;
}

/* Classes from the begin-th on of all that the checkpoint names become the task's. */
static int take_labels(struct task *task, const struct labels *all, uint64_t begin, uint64_t n, struct error *error) {
        int r = 0;

        for (uint64_t i = begin; r >= 0 && i < begin + n && i < all->n; i++)
                r = labels_add(&task->labels, all->name[i], error);
        return r;
}

static int read_row(struct task *task, const json_t *row, const struct labels *all, uint64_t begin,
                    struct error *error) {
        const json_t *columns = json_object_get(row, "text");
        const char *label = json_string_value(json_object_get(row, "label")),
                   *name = json_string_value(json_object_get(row, "name")),
                   *delimiter = json_string_value(json_object_get(row, "delimiter"));
        int r = 0;

        for (size_t i = 0; r >= 0 && i < json_array_size(columns); i++) {
                const char *column = json_string_value(json_array_get(columns, i));
                r = labels_add(&task->columns, column ? column : "", error);
        }
        task->pair = json_is_true(json_object_get(row, "pair")) && task->columns.n == 2;
        task->format = choice_of(row, "format", formats, FORMAT_MAX);
        task->kind = choice_of(row, "kind", formats, FORMAT_MAX);
        task->encoding = choice_of(row, "encoding", encodings, ENCODING_MAX);
        task->empty = choice_of(row, "empty", empties, EMPTY_MAX);
        task->delimiter = delimiter ? spec_delimiter(delimiter) : '\0';
        task->header = choice_of(row, "header", headers, HEADER_MAX);
        task->first = (uint32_t) json_integer_value(json_object_get(row, "first"));
        task->label = strdup(label ? label : "label");
        task->name = strdup(name ? name : "");
        if (!task->label || !task->name)
                return error_errno(error, ENOMEM, "task");
        return r < 0 ? r
                     : take_labels(task, all, begin, (uint64_t) json_integer_value(json_object_get(row, "classes")),
                                   error);
}

/* As an imported folder is: columns are not recorded. */
static int read_default(struct task *task, const struct labels *all, struct error *error) {
        int r = labels_add(&task->columns, "text", error);

        task->label = strdup("label");
        task->name = strdup("");
        if (r >= 0 && (!task->label || !task->name))
                r = error_errno(error, ENOMEM, "task");
        return r < 0 ? r : take_labels(task, all, 0, all->n, error);
}

int task_default(struct task *ret, struct error *error) {
        const struct labels none = {};
        return read_default(ret, &none, error);
}

/* Of the right types, with names that this program knows: what is missing has its default. */
static bool is_row(const json_t *row) {
        static const struct {
                const char *key;
                const char *const *names;
                unsigned n;
        } choices[] = { { "format", formats, FORMAT_MAX },
                        { "kind", formats, FORMAT_MAX },
                        { "encoding", encodings, ENCODING_MAX },
                        { "header", headers, HEADER_MAX },
                        { "empty", empties, EMPTY_MAX } };
        static const char *const texts[] = { "name", "label" }, *const numbers[] = { "first", "classes" };
        const json_t *columns = json_object_get(row, "text"), *delimiter = json_object_get(row, "delimiter"),
                     *pair = json_object_get(row, "pair");
        bool good = json_is_array(columns) && json_array_size(columns) > 0 &&
                    (!pair || (json_is_boolean(pair) && json_array_size(columns) == 2));

        for (size_t i = 0; i < json_array_size(columns); i++)
                good = good && json_is_string(json_array_get(columns, i));
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                const json_t *value = json_object_get(row, texts[i]);
                good = good && (!value || json_is_string(value));
        }
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                const json_t *value = json_object_get(row, numbers[i]);
                json_int_t number = json_integer_value(value);
                good = good && (!value || json_is_integer(value)) && number >= 0 && number <= LABELS_MAX;
        }
        for (size_t i = 0; i < ELEMENTSOF(choices); i++) {
                const json_t *value = json_object_get(row, choices[i].key);
                const char *text = json_string_value(value);
                good = good && (!value || (text && parse_choice(text, choices[i].names, choices[i].n) >= 0));
        }
        return good && (!delimiter || (json_is_string(delimiter) && spec_delimiter(json_string_value(delimiter))));
}

/* A task that the checkpoint records; NULL: it records none, or refused (76). */
static json_t *load_row(const struct checkpoint *c, const char *key, struct error *error) {
        const char *text = checkpoint_meta_get(checkpoint_meta(c), key);
        json_t *row = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;

        if (!text || is_row(row))
                return row;
        (void) error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key %s: not a task", checkpoint_path(c), key);
        json_decref(row);
        return NULL;
}

/* All tasks of the checkpoint as an array, empty if it records none. */
static int read_rows(const struct checkpoint *c, json_t **ret, struct error *error) {
        json_t *rows = json_array();
        struct error problem = {};
        char key[16];

        for (unsigned i = 0; rows && problem.code == 0 && i < SPEC_TASKS_MAX; i++) {
                (void) snprintf(key, sizeof(key), "task.%u", i);
                json_t *row = load_row(c, key, &problem);
                if (row && json_array_size(rows) < i)
                        (void) error_input(&problem, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key task.%zu is missing",
                                           checkpoint_path(c), json_array_size(rows));
                if (row)
                        (void) json_array_append_new(rows, row);
        }
        if (!rows)
                return error_errno(error, ENOMEM, "task");
        if (problem.code == 0) {
                *ret = rows;
                return 0;
        }
        json_decref(rows);
        if (error)
                *error = problem;
        return -problem.code;
}

static const char *name_of(const json_t *rows, size_t i) {
        const char *name = json_string_value(json_object_get(json_array_get(rows, i), "name"));
        return name ? name : "";
}

static int refuse(const struct checkpoint *c, const json_t *rows, const char *name, struct error *error) {
        char all[512] = "";
        size_t used = 0;

        for (size_t i = 0; i < json_array_size(rows) && used < sizeof(all); i++)
                used += (size_t) snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? ", " : "", name_of(rows, i));
        if (!name)
                return error_input(error, BERTD_EXIT_DATA, "%s: is of several tasks: expected --task with one of %s",
                                   checkpoint_path(c), all);
        return error_input(error, BERTD_EXIT_DATA, "%s: has no task '%.64s'; it has %s", checkpoint_path(c), name,
                           all[0] ? all : "one, without a name");
}

static int find_row(const struct checkpoint *c, const json_t *rows, const char *name, const struct labels *all,
                    struct task *ret, struct error *error) {
        size_t n = json_array_size(rows), begin = 0;

        if (n == 0 && checkpoint_meta_get(checkpoint_meta(c), "text_columns"))
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                   "%s: written by an older bert-trainer, which described its texts differently",
                                   checkpoint_path(c));
        if (!name && n == 0)
                return read_default(ret, all, error);
        for (size_t i = 0; i < n; i++) {
                const json_t *row = json_array_get(rows, i);
                if (name ? strcmp(name, name_of(rows, i)) == 0 : n == 1)
                        return read_row(ret, row, all, begin, error);
                begin += (size_t) json_integer_value(json_object_get(row, "classes"));
        }
        return refuse(c, rows, name, error);
}

/* A head of numbers has no labels in meta: it is usable if its stage recorded the task, or if there are no other heads, as in an import. */
static bool has_numbers(const struct checkpoint *c, const struct model_config *config) {
        return config->classifier.n_labels > 0 && config->classifier.target == TARGET_NUMBER &&
               (config->without_pretraining_heads || checkpoint_meta_get(checkpoint_meta(c), "task.0"));
}

bool task_any(const struct checkpoint *c, const struct model_config *config) {
        return has_numbers(c, config) ||
               (config->classifier.n_labels > 0 && checkpoint_meta_get(checkpoint_meta(c), "labels.0"));
}

static int check_task(const struct checkpoint *c, const struct task *task, const struct model_config *config,
                      struct error *error) {
        uint32_t n_labels = config->classifier.n_labels, width = task_width(task);

        if (width > 0 && task->columns.n > 0 && task->first <= n_labels && width <= n_labels - task->first)
                return 0;
        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta keys task.0 and labels.0", checkpoint_path(c));
}

int task_find(const struct checkpoint *c, const char *name, const struct model_config *config, struct task *ret,
              struct error *error) {
        struct labels all = {};

        ret->numbers = has_numbers(c, config);
        int r = description_labels(c, &all, error);
        if (r >= 0 && !task_any(c, config))
                r = error_input(error, BERTD_EXIT_DATA, "%s: holds no classifier: expected a checkpoint of finetune",
                                checkpoint_path(c));
        if (r >= 0) {
                json_t *rows = NULL;
                r = read_rows(c, &rows, error);
                if (r >= 0)
                        r = find_row(c, rows, name, &all, ret, error);
                json_decref(rows);
        }
        labels_free(&all);
        return r < 0 ? r : check_task(c, ret, config, error);
}

static int list_rows(const struct checkpoint *c, const json_t *rows, const struct labels *all,
                     const struct model_config *config, struct task *ret, uint32_t *ret_n, struct error *error) {
        size_t begin = 0;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < MAX(json_array_size(rows), (size_t) 1); i++) {
                const json_t *row = json_array_get(rows, i);
                r = row ? read_row(&ret[i], row, all, begin, error) : read_default(&ret[i], all, error);
                ret[i].numbers = has_numbers(c, config);
                begin += (size_t) json_integer_value(json_object_get(row, "classes"));
                *ret_n = (uint32_t) i + 1;
                if (r >= 0)
                        r = check_task(c, &ret[i], config, error);
        }
        return r;
}

int task_list(const struct checkpoint *c, const struct model_config *config, struct task *ret, uint32_t *ret_n,
              struct error *error) {
        struct labels all = {};

        *ret_n = 0;
        int r = description_labels(c, &all, error);
        if (r >= 0 && task_any(c, config)) {
                json_t *rows = NULL;
                r = read_rows(c, &rows, error);
                if (r >= 0)
                        r = list_rows(c, rows, &all, config, ret, ret_n, error);
                json_decref(rows);
        }
        labels_free(&all);
        return r;
}

void task_free(struct task *task) {
        labels_free(&task->labels);
        labels_free(&task->columns);
        free(task->label);
        free(task->name);
        *task = (struct task) {};
}
