/*
 * The data of a stage that classifies; see run.h. Every rank reads the files itself: they are small beside a corpus, and all ranks then
 * hold the same texts in the same order.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/run/run.h"

struct records_options run_records_of(const struct spec_data *d) {
        static char name[] = "text", *const by_default[] = { name };

        return (struct records_options) { .format = d->format,
                                          .encoding = d->encoding,
                                          .header = d->header,
                                          .delimiter = d->delimiter ? spec_delimiter(d->delimiter) : '\0',
                                          .text = d->n_text > 0 ? d->text : by_default,
                                          .n_text = d->n_text > 0 ? d->n_text : 1,
                                          .pair = spec_is_pair(d),
                                          .label = d->label,
                                          .numbers = d->numbers };
}

static int new_texts(struct run *run, const struct spec_data *d, struct texts **ret, struct error *error) {
        struct texts_options options = { .sequence_length = d->sequence_length,
                                         .truncation = d->truncation,
                                         .head_tokens = d->head_tokens,
                                         .max_segments = d->max_segments,
                                         .cls = run->job->samples_vocab.cls,
                                         .sep = run->job->samples_vocab.sep,
                                         .numbers = d->numbers };
        return texts_new(run->job->encoder, &options, ret, error);
}

/* ---- tasks ---- */

static const char *task_name(const struct spec_data *d) { return d->task ? d->task : ""; }

/* n_tasks: not there. */
static uint32_t find_task(const struct run *run, const struct spec_data *d) {
        uint32_t t = 0;

        while (t < run->job->n_tasks && strcmp(run->job->tasks[t].name, task_name(d)) != 0)
                t++;
        return t;
}

const struct run_task *run_task_of(const struct run *run, const struct spec_data *d) {
        return &run->job->tasks[find_task(run, d)];
}

/* A task whose classes are not known yet, unless the spec has them. */
static int new_task(struct run *run, const struct spec_data *d, struct error *error) {
        struct run_task *task = &run->making->tasks[run->job->n_tasks];

        if (run->job->n_tasks == SPEC_TASKS_MAX)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: more than %d tasks", run->options->spec_path,
                                   SPEC_TASKS_MAX);
        *task = (struct run_task) { .name = strdup(task_name(d)), .numbers = d->numbers, .first = run->job->n_classes };
        if (!task->name)
                return error_errno(error, ENOMEM, "task");
        run->making->n_tasks++;
        return labels_set(&task->labels, d->labels, d->n_labels, error);
}

static int read_files(struct texts *texts, const struct spec_data *d, char *const *files, uint32_t n,
                      struct labels *labels, bool learn, struct texts_found *found, struct error *error) {
        struct records_options options = run_records_of(d);
        uint64_t before = texts_n(texts);
        int r = 0;

        for (uint32_t i = 0; r >= 0 && i < n; i++)
                r = texts_read(texts, files[i], &options, labels, learn, found, error);
        if (r >= 0)
                r = texts_check_empty(found, d->empty, RUN_SKIP_EMPTY, error);
        if (r >= 0 && n > 0 && texts_n(texts) == before)
                r = error_input(error, BERTD_EXIT_DATA, "%s: all its texts are empty", files[0]);
        return r;
}

/* The first stage that has a task learns its classes. */
static int read_train(struct run *run, const struct spec_data *d, struct texts *texts, struct texts_found *found,
                      struct error *error) {
        uint32_t t = find_task(run, d);
        struct run_task *task = &run->making->tasks[t];
        uint64_t first = texts_n(texts);
        bool is_new = t == run->job->n_tasks, learn = is_new && d->n_labels == 0 && !d->numbers;

        int r = is_new ? new_task(run, d, error) : 0;
        if (r >= 0)
                r = read_files(texts, d, d->train, d->n_train, &task->labels, learn, found, error);
        if (r >= 0 && learn)
                r = texts_sort_labels(texts, first, &task->labels, error);
        if (r < 0)
                return r;
        run->making->n_classes += is_new ? run_task_width(task) : 0;
        texts_shift_labels(texts, first, task->first);
        return 0;
}

static int read_other(struct run *run, const struct spec_data *d, enum run_part part, struct texts *texts,
                      struct texts_found *found, struct error *error) {
        struct run_task *task = &run->making->tasks[find_task(run, d)];
        bool validation = part == PART_VALIDATION;
        uint64_t first = texts_n(texts);

        int r = read_files(texts, d, validation ? d->validation : d->test, validation ? d->n_validation : d->n_test,
                           &task->labels, false, found, error);
        texts_shift_labels(texts, first, task->first);
        return r;
}

/* Of all the stage's tasks, one after the other: shuffled together, each is drawn as often as it has texts. */
static int read_part(struct run *run, struct run_stage *stage, enum run_part part, struct error *error) {
        struct texts *texts = NULL;

        int r = new_texts(run, &stage->spec->data, &texts, error);
        for (uint32_t t = 0; r >= 0 && t < spec_n_tasks(stage->spec); t++) {
                const struct spec_data *d = spec_task(stage->spec, t);
                r = part == PART_TRAIN ? read_train(run, d, texts, &stage->found[part], error)
                                       : read_other(run, d, part, texts, &stage->found[part], error);
        }
        stage->texts[part] = texts;
        if (r < 0 || texts_n(texts) == 0)
                return r;
        return text_set_all(texts, &stage->set[part], error);
}

/* Training alone is split and cut. */
static int draw_sets(struct run *run, struct run_stage *stage, struct error *error) {
        const struct spec_data *d = &stage->spec->data;
        struct text_set *train = &stage->set[PART_TRAIN];
        int r = 0;

        train->seed = run->job->whole->train.seed;
        train->stage = (uint32_t) (stage - run->job->stages);
        if (d->split > 0 && stage->set[PART_VALIDATION].n == 0 && train->n > 1)
                r = text_set_split(train, d->split, &stage->set[PART_VALIDATION], error);
        stage->set[PART_VALIDATION].shuffle = false;
        if (r >= 0 && (d->per_class > 0 || d->fraction < 1))
                r = text_set_subset(train, run->job->n_classes, d->per_class, d->fraction, error);
        train->shuffle = d->shuffle;
        return r;
}

static int check_task(const struct run *run, const struct run_stage *stage, const struct spec_data *d,
                      struct error *error) {
        const struct text_set *train = &stage->set[PART_TRAIN];
        const struct run_task *task = run_task_of(run, d);
        int32_t first = -1;

        for (uint64_t i = 0; i < train->n; i++) {
                int32_t label = texts_label(train->texts, train->index[i]) - (int32_t) task->first;
                if (label < 0 || label >= (int32_t) task->labels.n)
                        continue;
                if (first >= 0 && label != first)
                        return 0;
                first = label;
        }
        if (first < 0 && (!task->numbers || train->n == 0))
                return error_input(error, BERTD_EXIT_DATA, "%s: no text of it is left to train on", d->train[0]);
        if (task->numbers)
                return 0;
        return error_input(error, BERTD_EXIT_DATA, "%s: only one class, '%.64s'; expected at least two", d->train[0],
                           task->labels.name[first]);
}

/* ---- what there is ---- */

static int check_classes(const struct run *run, const struct run_stage *stage, struct error *error) {
        int r = 0;

        for (uint32_t t = 0; r >= 0 && t < spec_n_tasks(stage->spec); t++)
                r = check_task(run, stage, spec_task(stage->spec, t), error);
        return r;
}

bool run_holds_out(const struct spec *spec) {
        return spec->data.n_validation > 0 || (spec->data.objective == OBJECTIVE_CLASSIFY && spec->data.split > 0);
}

int run_count_steps(struct run *run, struct run_stage *stage, struct error *error) {
        uint64_t n = stage->n[PART_TRAIN];
        struct spec *spec =
                run->job->whole->n_stages > 0 ? run->job->whole->stages[stage - run->job->stages] : run->job->whole;
        double batches = (double) n / (double) spec->train.global_batch;
        char epochs[32];

        if (spec->train.steps == 0)
                spec->train.steps = MAX((uint64_t) ceil(spec->train.epochs * batches), UINT64_C(1));
        if (spec->train.evaluate_every == 0 && run->job->whole->kind == JOB_FINETUNE && run_holds_out(spec))
                spec->train.evaluate_every = MIN(MAX((uint64_t) ceil(batches), UINT64_C(1)), spec->train.steps);
        if (spec->optimizer.warmup_steps > spec->train.steps)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: optimizer.warmup_steps: %" PRIu64 " is more than the %" PRIu64
                                   " steps of train.epochs %s; give fewer, or more epochs",
                                   run->options->spec_path, spec->optimizer.warmup_steps, spec->train.steps,
                                   spec_get(spec, "train.epochs", epochs, sizeof(epochs)));
        return 0;
}

int run_open_texts(struct run *run, uint32_t index, struct error *error) {
        struct run_stage *stage = &run->job->stages[index];

        int r = read_part(run, stage, PART_TRAIN, error);
        if (r >= 0)
                r = check_classes(run, stage, error);
        for (unsigned p = PART_VALIDATION; r >= 0 && p < PART_MAX; p++)
                r = read_part(run, stage, p, error);
        if (r >= 0)
                r = draw_sets(run, stage, error);
        if (r >= 0)
                r = check_classes(run, stage, error);
        if (r < 0)
                return r;
        run->making->config.classifier.n_labels = run->job->n_classes;
        for (unsigned p = 0; p < PART_MAX; p++) {
                if (stage->set[p].n == 0)
                        continue;
                stage->source[p] = text_set_source(&stage->set[p]);
                stage->n[p] = stage->set[p].n;
        }
        return run_count_steps(run, stage, error);
}

int run_set_class_ranges(struct run *run, struct error *error) {
        if (run->job->n_tasks < 2)
                return 0;
        run->making->class_ranges = calloc(run->job->n_classes, sizeof(*run->job->class_ranges));
        if (!run->job->class_ranges)
                return error_errno(error, ENOMEM, "classes");
        for (uint32_t t = 0; t < run->job->n_tasks; t++) {
                struct class_range range = { run->job->tasks[t].first,
                                             run->job->tasks[t].first + run->job->tasks[t].labels.n };
                for (uint32_t c = range.begin; c < range.end; c++)
                        run->job->class_ranges[c] = range;
        }
        return 0;
}

void run_close_texts(struct run_stage *stage) {
        for (unsigned p = 0; p < PART_MAX; p++) {
                text_set_free(&stage->set[p]);
                texts_free(stage->texts[p]);
        }
}
