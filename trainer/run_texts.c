/*
 * The data of a stage that classifies; see run.h. Every rank reads the files itself: they are small beside a corpus, and all ranks then
 * hold the same texts in the same order.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/run.h"

static struct records_options records_of(const struct spec_data *d) {
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

static int read_files(struct run *run, const struct spec_data *d, char *const *files, uint32_t n, bool learn,
                      struct texts **ret, struct error *error) {
        struct records_options options = records_of(d);

        int r = new_texts(run, d, ret, error);
        for (uint32_t i = 0; r >= 0 && i < n; i++)
                r = texts_read(*ret, files[i], &options, &run->labels, learn, error);
        return r;
}

static int read_train(struct run *run, struct run_stage *stage, struct error *error) {
        const struct spec_data *d = &stage->spec->data;
        bool learn = run->labels.n == 0 && d->n_labels == 0;
        int r = run->labels.n == 0 ? labels_set(&run->labels, d->labels, d->n_labels, error) : 0;

        if (r >= 0)
                r = read_files(run, d, d->train, d->n_train, learn, &stage->texts[PART_TRAIN], error);
        if (r >= 0 && learn)
                r = labels_sort(&run->labels, stage->texts[PART_TRAIN], error);
        return r < 0 ? r : text_set_all(stage->texts[PART_TRAIN], &stage->set[PART_TRAIN], error);
}

static int read_others(struct run *run, struct run_stage *stage, struct error *error) {
        const struct spec_data *d = &stage->spec->data;
        const struct {
                char *const *files;
                uint32_t n;
        } others[PART_MAX] = {
                [PART_VALIDATION] = { d->validation, d->n_validation }, [PART_TEST] = { d->test, d->n_test }
        };
        int r = 0;

        for (unsigned p = PART_VALIDATION; r >= 0 && p < PART_MAX; p++) {
                if (others[p].n == 0)
                        continue;
                r = read_files(run, d, others[p].files, others[p].n, false, &stage->texts[p], error);
                if (r >= 0)
                        r = text_set_all(stage->texts[p], &stage->set[p], error);
        }
        return r;
}

/* Training alone is split and cut. */
static int draw_sets(struct run *run, struct run_stage *stage, struct error *error) {
        const struct spec_data *d = &stage->spec->data;
        struct text_set *train = &stage->set[PART_TRAIN];
        int r = 0;

        train->seed = run->whole->train.seed;
        train->stage = (uint32_t) (stage - run->stages);
        if (d->split > 0 && d->n_validation == 0 && train->n > 1)
                r = text_set_split(train, d->split, &stage->set[PART_VALIDATION], error);
        stage->set[PART_VALIDATION].shuffle = false;
        if (r >= 0 && (d->per_class > 0 || d->fraction < 1))
                r = text_set_subset(train, run->labels.n, d->per_class, d->fraction, error);
        train->shuffle = d->shuffle;
        return r;
}

static int check_classes(const struct run *run, const struct run_stage *stage, struct error *error) {
        const struct text_set *train = &stage->set[PART_TRAIN];
        int32_t first = texts_label(train->texts, train->index[0]);

        for (uint64_t i = 1; i < train->n; i++)
                if (texts_label(train->texts, train->index[i]) != first)
                        return 0;
        return error_input(error, BERTD_EXIT_DATA, "%s: one class only, '%.64s': there is nothing to tell apart",
                           stage->spec->data.train[0], run->labels.name[first]);
}

/* Epochs become steps, and where nobody says how often to evaluate, it is once an epoch. */
static void count_steps(struct run *run, struct run_stage *stage) {
        uint64_t n = stage->set[PART_TRAIN].n;
        struct spec *spec = run->whole->n_stages > 0 ? run->whole->stages[stage - run->stages] : run->whole;
        double batches = (double) n / (double) spec->train.global_batch;

        if (spec->train.steps == 0)
                spec->train.steps = MAX((uint64_t) ceil(spec->train.epochs * batches), UINT64_C(1));
        if (spec->train.evaluate_every == 0)
                spec->train.evaluate_every = MAX((uint64_t) ceil(batches), UINT64_C(1));
}

int run_open_texts(struct run *run, uint32_t index, struct error *error) {
        struct run_stage *stage = &run->stages[index];

        int r = read_train(run, stage, error);
        if (r >= 0)
                r = check_classes(run, stage, error);
        if (r >= 0)
                r = read_others(run, stage, error);
        if (r >= 0)
                r = draw_sets(run, stage, error);
        if (r >= 0)
                r = check_classes(run, stage, error);
        if (r < 0)
                return r;
        run->config.classifier.n_labels = run->labels.n;
        count_steps(run, stage);
        for (unsigned p = 0; p < PART_MAX; p++) {
                if (stage->set[p].n == 0)
                        continue;
                stage->source[p] = text_set_source(&stage->set[p]);
                stage->n[p] = stage->set[p].n;
        }
        return 0;
}

void run_close_texts(struct run_stage *stage) {
        for (unsigned p = 0; p < PART_MAX; p++) {
                text_set_free(&stage->set[p]);
                texts_free(stage->texts[p]);
        }
}
