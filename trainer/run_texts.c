/*
 * The data of a stage that classifies; see run.h. Every rank reads the files itself: they are small beside a corpus, and all ranks then
 * hold the same texts in the same order.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/run.h"

struct records_options run_records_of(const struct spec_data *d) {
        static char name[] = "text", *const by_default[] = { name };

        return (struct records_options) { .format = d->format,
                                          .encoding = d->encoding,
                                          .header = d->header,
                                          .text = d->n_text > 0 ? d->text : by_default,
                                          .n_text = d->n_text > 0 ? d->n_text : 1,
                                          .label = d->label };
}

static int new_texts(struct run *run, const struct spec_data *d, struct texts **ret, struct error *error) {
        struct texts_options options = { .sequence_length = d->sequence_length,
                                         .truncation = d->truncation,
                                         .head_tokens = d->head_tokens,
                                         .max_segments = d->max_segments,
                                         .cls = run->samples_vocab.cls,
                                         .sep = run->samples_vocab.sep };
        return texts_new(run->encoder, &options, ret, error);
}

/* ---- tasks ---- */

static const char *task_name(const struct spec_data *d) { return d->task ? d->task : ""; }

/* n_tasks: not there. */
static uint32_t find_task(const struct run *run, const struct spec_data *d) {
        uint32_t t = 0;

        while (t < run->n_tasks && strcmp(run->tasks[t].name, task_name(d)) != 0)
                t++;
        return t;
}

const struct run_task *run_task_of(const struct run *run, const struct spec_data *d) {
        return &run->tasks[find_task(run, d)];
}

/* A task whose classes are not known yet, but where the spec says them. */
static int new_task(struct run *run, const struct spec_data *d, struct error *error) {
        struct run_task *task = &run->tasks[run->n_tasks];

        if (run->n_tasks == SPEC_TASKS_MAX)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: more than %d tasks", run->options->spec_path,
                                   SPEC_TASKS_MAX);
        *task = (struct run_task) { .name = strdup(task_name(d)), .first = run->n_classes };
        if (!task->name)
                return error_errno(error, ENOMEM, "task");
        run->n_tasks++;
        return labels_set(&task->labels, d->labels, d->n_labels, error);
}

static int read_files(struct texts *texts, const struct spec_data *d, char *const *files, uint32_t n,
                      struct labels *labels, bool learn, struct error *error) {
        struct records_options options = run_records_of(d);
        int r = 0;

        for (uint32_t i = 0; r >= 0 && i < n; i++)
                r = texts_read(texts, files[i], &options, labels, learn, error);
        return r;
}

/* The first stage that has a task learns its classes. */
static int read_train(struct run *run, const struct spec_data *d, struct texts *texts, struct error *error) {
        uint32_t t = find_task(run, d);
        struct run_task *task = &run->tasks[t];
        uint64_t first = texts_n(texts);
        bool is_new = t == run->n_tasks, learn = is_new && d->n_labels == 0;

        int r = is_new ? new_task(run, d, error) : 0;
        if (r >= 0)
                r = read_files(texts, d, d->train, d->n_train, &task->labels, learn, error);
        if (r >= 0 && learn)
                r = labels_sort(&task->labels, texts, first, error);
        if (r < 0)
                return r;
        run->n_classes += is_new ? task->labels.n : 0;
        texts_shift_labels(texts, first, task->first);
        return 0;
}

static int read_other(struct run *run, const struct spec_data *d, enum run_part part, struct texts *texts,
                      struct error *error) {
        struct run_task *task = &run->tasks[find_task(run, d)];
        uint64_t first = texts_n(texts);

        int r = part == PART_VALIDATION
                        ? read_files(texts, d, d->validation, d->n_validation, &task->labels, false, error)
                        : read_files(texts, d, d->test, d->n_test, &task->labels, false, error);
        texts_shift_labels(texts, first, task->first);
        return r;
}

/* Of all the stage's tasks, one after the other: shuffled together, each is drawn as often as it has texts. */
static int read_part(struct run *run, struct run_stage *stage, enum run_part part, struct error *error) {
        struct texts *texts = NULL;

        int r = new_texts(run, &stage->spec->data, &texts, error);
        for (uint32_t t = 0; r >= 0 && t < spec_n_tasks(stage->spec); t++) {
                const struct spec_data *d = spec_task(stage->spec, t);
                r = part == PART_TRAIN ? read_train(run, d, texts, error) : read_other(run, d, part, texts, error);
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

        train->seed = run->whole->train.seed;
        train->stage = (uint32_t) (stage - run->stages);
        if (d->split > 0 && stage->set[PART_VALIDATION].n == 0 && train->n > 1)
                r = text_set_split(train, d->split, &stage->set[PART_VALIDATION], error);
        stage->set[PART_VALIDATION].shuffle = false;
        if (r >= 0 && (d->per_class > 0 || d->fraction < 1))
                r = text_set_subset(train, run->n_classes, d->per_class, d->fraction, error);
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
        if (first < 0)
                return error_input(error, BERTD_EXIT_DATA, "%s: no text of it is left to train on", d->train[0]);
        return error_input(error, BERTD_EXIT_DATA, "%s: one class only, '%.64s': there is nothing to tell apart",
                           d->train[0], task->labels.name[first]);
}

static int check_classes(const struct run *run, const struct run_stage *stage, struct error *error) {
        int r = 0;

        for (uint32_t t = 0; r >= 0 && t < spec_n_tasks(stage->spec); t++)
                r = check_task(run, stage, spec_task(stage->spec, t), error);
        return r;
}

int run_count_steps(struct run *run, struct run_stage *stage, struct error *error) {
        uint64_t n = stage->n[PART_TRAIN];
        struct spec *spec = run->whole->n_stages > 0 ? run->whole->stages[stage - run->stages] : run->whole;
        double batches = (double) n / (double) spec->train.global_batch;
        char epochs[32];

        if (spec->train.steps == 0)
                spec->train.steps = MAX((uint64_t) ceil(spec->train.epochs * batches), UINT64_C(1));
        if (spec->train.evaluate_every == 0 && run->whole->kind == JOB_FINETUNE)
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
        struct run_stage *stage = &run->stages[index];

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
        run->config.classifier.n_labels = run->n_classes;
        for (unsigned p = 0; p < PART_MAX; p++) {
                if (stage->set[p].n == 0)
                        continue;
                stage->source[p] = text_set_source(&stage->set[p]);
                stage->n[p] = stage->set[p].n;
        }
        return run_count_steps(run, stage, error);
}

int run_set_class_ranges(struct run *run, struct error *error) {
        if (run->n_tasks < 2)
                return 0;
        run->class_ranges = calloc(run->n_classes, sizeof(*run->class_ranges));
        if (!run->class_ranges)
                return error_errno(error, ENOMEM, "classes");
        for (uint32_t t = 0; t < run->n_tasks; t++) {
                struct class_range range = { run->tasks[t].first, run->tasks[t].first + run->tasks[t].labels.n };
                for (uint32_t c = range.begin; c < range.end; c++)
                        run->class_ranges[c] = range;
        }
        return 0;
}

void run_close_texts(struct run_stage *stage) {
        for (unsigned p = 0; p < PART_MAX; p++) {
                text_set_free(&stage->set[p]);
                texts_free(stage->texts[p]);
        }
}
