/* See reader.h: runs of several stages and tasks. A stage is the file with the stage's own keys in place. Owns nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/names.h"
#include "common/spec/reader.h"

/* A file's keys, overridden by a stage's. All of it is borrowed. */
struct merged {
        struct given given[SPEC_FIELDS_MAX];
};

static struct given *merged_for(struct merged *merged, const char *key) { return &merged->given[field_of(key)]; }
static const struct given *given_by(const struct part *part, const char *key) { return &part->given[field_of(key)]; }

/* The keys of `part` override the file's. */
static void overlay(struct merged *merged, const struct part *part) {
        for (size_t row = 0; row < spec_n_fields; row++)
                if (part->given[row].name)
                        merged->given[row] = part->given[row];
}

static bool is_on(const struct given *given) { return given->text && strtod(given->text, NULL) > 0; }

static void drop(struct merged *merged, const char *key) { *merged_for(merged, key) = (struct given) {}; }

/* Of two keys that exclude each other, the file's is dropped if the stage sets the other. */
static void give_way(struct merged *merged, const struct part *part) {
        const struct given *validation = given_by(part, "data.validation");

        if (validation->n > 0)
                drop(merged, "data.split");
        else if (is_on(given_by(part, "data.split")) && !validation->name)
                drop(merged, "data.validation");
        if (is_on(given_by(part, "optimizer.warmup_steps")))
                drop(merged, "optimizer.warmup_ratio");
        else if (is_on(given_by(part, "optimizer.warmup_ratio")))
                drop(merged, "optimizer.warmup_steps");
        if (given_by(part, "train.steps")->name || given_by(part, "train.epochs")->name) {
                drop(merged, "train.steps");
                drop(merged, "train.epochs");
        }
}

/* `task`: the one whose data keys override the stage's, if the stage has tasks. */
static void merge_stage(const struct part *file, const struct part *stage, uint32_t task, struct merged *merged) {
        memcpy(merged->given, file->given, sizeof(merged->given));
        give_way(merged, stage);
        overlay(merged, stage);
        if (stage->n_parts == 0)
                return;
        if (given_by(&stage->parts[task], "data.train")->n >
            0) { /* the file's validation data belong to the file's training data */
                drop(merged, "data.validation");
                drop(merged, "data.test");
        }
        give_way(merged, &stage->parts[task]);
        overlay(merged, &stage->parts[task]);
}

/* One seed keys the whole run; one precision holds its weights; one model computes. */
static int check_stage(struct spec_reader *reader, const struct spec *stage, const struct spec *first) {
        static const char *const fixed[] = { "train.seed", "train.precision", "train.fast_gelu" };
        char own[32], its[32];

        if (stage->kind == JOB_COMMAND)
                return error_input(reader->error, BERTD_EXIT_CONFIG, "%s:%zu: stages: not a key of kind %s",
                                   reader->path, reader->file->line, job_kind_name(stage->kind));
        for (size_t i = 0; i < ELEMENTSOF(fixed); i++)
                if (strcmp(spec_get(stage, fixed[i], own, sizeof(own)), spec_get(first, fixed[i], its, sizeof(its))) !=
                    0)
                        return spec_refuse(reader, fixed[i], "%s, but the first stage has %s", own, its);
        if (stage == first && is_given(reader, "stages.moments"))
                return spec_refuse(reader, "stages.moments", "not for the first stage, which has no moments yet");
        return 0;
}

/* Tasks may differ in files and columns only: their texts share batches. */
static int check_task(struct spec_reader *reader, const struct spec *task, const struct spec *stage, uint32_t index) {
        static const char *const alike[] = { "data.sequence_length", "data.truncation", "data.head_tokens",
                                             "data.max_segments",    "data.shuffle",    "data.split",
                                             "data.fraction",        "data.per_class",  "data.empty" };
        char own[32], its[32];

        if (task->kind != JOB_FINETUNE || task->data.objective != OBJECTIVE_CLASSIFY)
                return error_input(reader->error, BERTD_EXIT_CONFIG,
                                   "%s:%zu: stages.tasks: requires kind: finetune and data.objective: classify",
                                   reader->path, reader->stage->line);
        if (!task->data.task)
                return spec_refuse(reader, "data.task", "missing; expected the task's name");
        if (task->data.numbers && reader->stage->n_parts > 1)
                return spec_refuse(reader, "data.labels", "number: not for one of several tasks");
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
                return spec_no_memory(reader);
        merge_stage(reader->file, reader->stage, index, &merged);
        own.given = merged.given;
        own.task = true;
        (void) snprintf(own.prefix, sizeof(own.prefix), "%.40stasks[%u].", reader->prefix, index);
        int r = spec_read_values(&own, task);
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
                return spec_no_memory(reader);
        for (uint32_t i = 0; r == 0 && i < n; i++)
                r = read_task(reader, i, stage);
        for (uint32_t i = 1; r == 0 && i < stage->n_tasks; i++)
                if ((stage->tasks[i]->data.n_validation > 0) != (stage->tasks[0]->data.n_validation > 0))
                        return error_input(
                                reader->error, BERTD_EXIT_CONFIG,
                                "%s:%zu: %stasks: some have validation files; give them to all tasks or to none",
                                reader->path, reader->stage->line, reader->prefix);
        return r;
}

static int read_stage(struct spec_reader *reader, uint32_t index, const struct spec *first, struct spec **ret) {
        cleanup_spec struct spec *stage = calloc(1, sizeof(*stage));
        struct spec_reader own = *reader;
        struct merged merged;

        if (!stage)
                return spec_no_memory(reader);
        own.stage = &reader->file->parts[index];
        merge_stage(reader->file, own.stage, 0, &merged);
        own.given = merged.given;
        (void) snprintf(own.prefix, sizeof(own.prefix), "stages[%u].", index);
        int r = spec_read_values(&own, stage);
        if (r == 0)
                r = check_stage(&own, stage, first ? first : stage);
        if (r == 0)
                r = read_tasks(&own, stage);
        if (r == 0)
                *ret = steal_pointer(&stage);
        return r;
}

static const char *task_of(const struct spec *stage) {
        const char *name = spec_task(stage, 0)->task;
        return name ? name : "";
}

/* A head of numbers is the run's only one. */
static int check_numbers(struct spec_reader *reader, const struct spec *spec) {
        uint32_t first = spec->n_stages;

        for (uint32_t s = 0; s < spec->n_stages; s++) {
                const struct spec *stage = spec->stages[s], *other = first < s ? spec->stages[first] : NULL;
                if (stage->data.objective != OBJECTIVE_CLASSIFY)
                        continue;
                if (!other)
                        first = s;
                else if ((spec_task(stage, 0)->numbers || spec_task(other, 0)->numbers) &&
                         (spec_task(stage, 0)->numbers != spec_task(other, 0)->numbers ||
                          strcmp(task_of(stage), task_of(other)) != 0))
                        return error_input(reader->error, BERTD_EXIT_CONFIG,
                                           "%s: stages[%u].data.labels: stages %u and %u are two tasks, of which one "
                                           "has data.labels: number; run them separately",
                                           reader->path, s, first, s);
        }
        return 0;
}

/* Stages come first, so that an error in one is reported with the stage's name. */
int spec_read_stages(struct spec_reader *reader, struct spec *spec) {
        const struct part *file = reader->file;
        struct merged merged;
        int r = 0;

        spec->stages = calloc(file->n_parts, sizeof(struct spec *));
        if (!spec->stages)
                return spec_no_memory(reader);
        for (uint32_t i = 0; r == 0 && i < file->n_parts; i++) {
                r = read_stage(reader, i, i > 0 ? spec->stages[0] : NULL, &spec->stages[i]);
                spec->n_stages = i + (r == 0);
        }
        if (r == 0)
                r = spec_check_stages(reader);
        if (r == 0)
                r = check_numbers(reader, spec);
        if (r < 0)
                return r;
        merge_stage(file, &file->parts[0], 0, &merged);
        drop(&merged, "stages.name");
        drop(&merged, "stages.bias_correction");
        reader->given = merged.given;
        return spec_read_values(reader, spec);
}
