/* What there is to train on, and what in it looks like a mistake: on stderr, before the first step. See run.h. Owns nothing. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "trainer/run/run.h"

#define CLASSES_SAID 50   /* with their texts */
#define FEW_TEXTS 3       /* fewer in a class are worth a warning */
#define CLASSES_WARNED 10 /* each by name */

static int compare_lengths(const void *a, const void *b) {
        const uint32_t *x = a, *y = b;
        return (*x > *y) - (*x < *y);
}

static bool is_of(const struct run_task *task, int32_t label) {
        return label >= (int32_t) task->first && label < (int32_t) (task->first + run_task_width(task));
}

/* Classes named in a list, and texts in each, of the set. */
static void print_classes(const struct run_task *task, const struct text_set *set, uint64_t *count) {
        for (uint64_t i = 0; i < set->n; i++) {
                int32_t label = texts_label(set->texts, set->index[i]);
                if (is_of(task, label))
                        count[label - (int32_t) task->first]++;
        }
        for (uint32_t c = 0; c < task->labels.n && c < CLASSES_SAID; c++)
                (void) fprintf(stderr, "%8" PRIu64 "  %s\n", count[c], task->labels.name[c]);
        if (task->labels.n > CLASSES_SAID)
                (void) fprintf(stderr, "       …  and %u more\n", task->labels.n - CLASSES_SAID);
}

static void print_lengths(const struct run_task *task, bool pair, const struct text_set *set, const char *part,
                          uint32_t *length) {
        uint64_t n = 0, cut = 0;

        for (uint64_t i = 0; i < set->n; i++) {
                uint64_t index = set->index[i];
                if (!is_of(task, texts_label(set->texts, index)))
                        continue;
                length[n++] = texts_length(set->texts, index);
                cut += texts_is_cut(set->texts, index);
        }
        qsort(length, n, sizeof(*length), compare_lengths);
        char classes[32] = "";
        if (!task->numbers)
                (void) snprintf(classes, sizeof(classes), " of %u classes", task->labels.n);
        (void) fprintf(stderr, "%s%s%s: %" PRIu64 " %s%s, %u tokens (median), at most %u; %" PRIu64 " are cut\n",
                       task->name, task->name[0] ? " " : "", part, n, pair ? "pairs" : "texts", classes,
                       n > 0 ? length[n / 2] : 0, n > 0 ? length[n - 1] : 0, cut);
}

static uint64_t first_rows_of(const struct texts *texts, int32_t label) {
        size_t n_first;
        const struct text_first *first = texts_first(texts, &n_first);
        uint64_t n = 0;

        for (size_t i = 0; i < n_first; i++)
                n += texts_label(texts, first[i].index) == label;
        return n;
}

/* Of all texts in the files, used or not: what may be a mistake in them. */
static void warn_of_classes(const struct run_task *task, const struct texts *texts, uint64_t *count) {
        uint32_t few = 0;
        size_t n_first;
        const struct text_first *first = texts_first(texts, &n_first);

        for (uint64_t i = 0; i < texts_n(texts); i++)
                if (is_of(task, texts_label(texts, i)))
                        count[texts_label(texts, i) - (int32_t) task->first]++;
        for (uint32_t c = 0; c < task->labels.n; c++)
                if (count[c] < FEW_TEXTS && few++ < CLASSES_WARNED)
                        (void) fprintf(stderr, "bert-trainer: class '%.64s': %s\n", task->labels.name[c],
                                       count[c] == 0   ? "no text"
                                       : count[c] == 1 ? "1 text only"
                                                       : "2 texts only");
        if (few > CLASSES_WARNED)
                (void) fprintf(stderr, "bert-trainer: %u more classes have as few texts\n", few - CLASSES_WARNED);
        for (size_t i = 0; i < n_first; i++) {
                int32_t label = texts_label(texts, first[i].index);
                if (is_of(task, label) && count[label - (int32_t) task->first] == first_rows_of(texts, label))
                        (void) fprintf(stderr,
                                       "bert-trainer: %s:%" PRIu64 ": label '%.64s' is in %s: is it a header "
                                       "(data.header: true)?\n",
                                       first[i].path, first[i].line, task->labels.name[label - (int32_t) task->first],
                                       count[label - (int32_t) task->first] == 1 ? "this row alone"
                                                                                 : "files' first rows alone");
        }
}

/* What a wrong column would show. */
static void print_numbers(const struct run_task *task, const struct text_set *set) {
        double least = INFINITY, most = -INFINITY, sum = 0;

        for (uint64_t i = 0; i < set->n; i++) {
                double target = texts_target(set->texts, set->index[i]);
                least = fmin(least, target);
                most = fmax(most, target);
                sum += target;
        }
        (void) fprintf(stderr, "%s%snumbers from %g to %g, mean %g\n", task->name, task->name[0] ? " " : "", least,
                       most, sum / (double) set->n);
        if (least == most && set->n > 1)
                (void) fprintf(stderr, "bert-trainer: every number is %g: is this the label's column?\n", least);
}

static const char *const parts[PART_MAX] = { "train", "validation", "test" };

static void describe_task(const struct run_stage *stage, const struct run_task *task, const struct spec_data *d,
                          uint64_t *count, uint32_t *length) {
        if (spec_is_pair(d))
                (void) fprintf(stderr, "%s%s%s and %s are a pair; data.join: true makes one text of them\n", task->name,
                               task->name[0] ? ": " : "", d->text[0], d->text[1]);
        for (unsigned p = 0; p < PART_MAX; p++)
                if (stage->set[p].n > 0)
                        print_lengths(task, spec_is_pair(d), &stage->set[p], parts[p], length);
        if (task->numbers) {
                print_numbers(task, &stage->set[PART_TRAIN]);
                return;
        }
        memset(count, 0, task->labels.n * sizeof(*count));
        print_classes(task, &stage->set[PART_TRAIN], count);
        memset(count, 0, task->labels.n * sizeof(*count));
        warn_of_classes(task, stage->texts[PART_TRAIN], count);
}

static void describe_stage(const struct run *run, const struct run_stage *stage) {
        uint64_t most = MAX(stage->set[PART_TRAIN].n, MAX(stage->set[PART_VALIDATION].n, stage->set[PART_TEST].n));
        cleanup_free uint64_t *count = calloc(run->job->n_classes + 1, sizeof(*count));
        cleanup_free uint32_t *length = calloc(most + 1, sizeof(*length));

        for (unsigned p = 0; p < PART_MAX; p++) {
                texts_print_found(&stage->found[p], stderr);
                if (stage->texts[p])
                        texts_print_unknown(stage->texts[p], parts[p], stderr);
        }
        for (uint32_t t = 0; count && length && t < spec_n_tasks(stage->spec); t++)
                describe_task(stage, run_task_of(run, spec_task(stage->spec, t)), spec_task(stage->spec, t), count,
                              length);
}

void run_describe_texts(const struct run *run) {
        for (uint32_t s = 0; s < run->job->n_stages; s++)
                if (run->job->stages[s].texts[PART_TRAIN])
                        describe_stage(run, &run->job->stages[s]);
}
