/* See text_model.h. Owns what it opens, one batch and its outputs. */
#include "trainer/infer/text_model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/infer/fit.h"

static int open_texts(struct text_model *m, struct error *error) {
        const struct bundle *b = &m->bundle;
        struct texts_options o = b->lengths;

        if (encoder_new(b->vocab, &b->text, 1, &m->encoder) < 0)
                return error_errno(error, ENOMEM, "%s", b->vocab_path);
        o.cls = vocab_special(b->vocab, "[CLS]");
        o.sep = vocab_special(b->vocab, "[SEP]");
        o.numbers = m->task.numbers;
        int r = texts_new(m->encoder, &o, &m->texts, error);
        if (r < 0)
                return r;
        m->set = (struct text_set) { .texts = m->texts };
        m->source = text_set_source(&m->set);
        return 0;
}

/* Columns that the user names: two are a pair, unless training joined several. */
static int take_columns(struct task *task, const struct text_model_options *options, struct error *error) {
        bool joined = options->join || (task->columns.n > 1 && !task->pair);
        int r = 0;

        if (options->n_text > 0) {
                labels_free(&task->columns);
                task->pair = options->n_text == 2;
                task->header = HEADER_AUTO;
        }
        for (uint32_t i = 0; r >= 0 && i < options->n_text; i++)
                r = labels_add(&task->columns, options->text[i], error);
        task->pair = task->pair && !joined;
        if (r >= 0 && task->pair && strcmp(task->columns.name[0], task->columns.name[1]) == 0)
                return error_input(error, BERTD_EXIT_USAGE, "--text: '%.64s' is given twice; a pair has two columns",
                                   task->columns.name[0]);
        if (r < 0 || !options->label)
                return r;
        free(task->label);
        task->label = strdup(options->label);
        return task->label ? 0 : error_errno(error, ENOMEM, "task");
}

static int check_pair(const struct text_model *m, struct error *error) {
        static const char *const names[] = TRUNCATION_NAMES;
        const struct bundle *b = &m->bundle;
        const char *path = checkpoint_path(b->checkpoint);
        enum truncation how = b->lengths.truncation;

        if (!m->task.pair)
                return 0;
        if (how == TRUNCATION_HEAD_TAIL || how == TRUNCATION_SEGMENTS)
                return error_input(
                        error, BERTD_EXIT_DATA,
                        "%s: trained with data.truncation: %s, which a pair cannot be; --join makes one text of it",
                        path, names[how]);
        return fit_pair(path, &b->config, "--text", BERTD_EXIT_DATA, error);
}

static int open_model(struct text_model *m, enum device_kind device, bool encoder, struct error *error) {
        uint32_t segments = m->source.max_segments;
        const struct model_limits limits = { .max_tokens = TEXT_MODEL_BATCH * m->source.max_length,
                                             .max_sequences = TEXT_MODEL_BATCH * segments,
                                             .max_length = m->source.max_length / segments };
        const struct batches_limits all = { .max_share = TEXT_MODEL_BATCH,
                                            .max_tokens = limits.max_tokens,
                                            .max_sequences = limits.max_sequences };

        int r = device_open(device, PRECISION_FP32, 0, &m->device, error);
        if (r >= 0)
                r = model_new(&m->bundle.config, device_ops(m->device), &limits, &m->model, error);
        if (r >= 0)
                r = weights_read(m->bundle.checkpoint, m->model, error);
        if (r >= 0)
                r = batches_new(&m->source, &all, &m->batches, error);
        m->width = encoder ? m->bundle.config.hidden_size : m->bundle.config.classifier.n_labels;
        m->outputs = calloc((size_t) (encoder ? limits.max_tokens : TEXT_MODEL_BATCH) * m->width, sizeof(*m->outputs));
        return r >= 0 && !m->outputs ? error_errno(error, ENOMEM, "a model's outputs") : r;
}

/* The columns of the encoder alone are those of its classifier, if it has one. */
static int open_task(struct text_model *m, const struct text_model_options *options, struct error *error) {
        const struct bundle *b = &m->bundle;

        if (!options->encoder || task_any(b->checkpoint, &b->config))
                return task_find(b->checkpoint, options->task_name, &b->config, &m->task, error);
        if (options->task_name)
                return error_input(error, BERTD_EXIT_DATA, "%s: holds no classifier, so no task '%.64s'",
                                   checkpoint_path(b->checkpoint), options->task_name);
        return task_default(&m->task, error);
}

static int set_length(struct bundle *b, uint32_t sequence_length, struct error *error) {
        if (sequence_length == 0)
                return 0;
        b->lengths.sequence_length = sequence_length;
        return fit_length(checkpoint_path(b->checkpoint), &b->config, "--sequence-length", sequence_length,
                          BERTD_EXIT_USAGE, error);
}

int text_model_open(struct text_model *m, const char *path, const struct text_model_options *options,
                    struct error *error) {
        int r = bundle_open(&m->bundle, path, options->encoder ? USE_ENCODER : USE_CLASSIFIER, options->vocab_path,
                            error);

        if (r >= 0)
                r = set_length(&m->bundle, options->sequence_length, error);
        if (r >= 0)
                r = open_task(m, options, error);
        if (r >= 0)
                r = take_columns(&m->task, options, error);
        if (r >= 0)
                r = check_pair(m, error);
        if (r >= 0)
                r = open_texts(m, error);
        return r < 0 ? r : open_model(m, options->device, options->encoder, error);
}

void text_model_close(struct text_model *m) {
        batches_free(m->batches);
        text_set_free(&m->set);
        texts_free(m->texts);
        model_free(m->model);
        device_close(m->device);
        encoder_free(m->encoder);
        bundle_close(&m->bundle);
        task_free(&m->task);
        free(m->outputs);
        *m = (struct text_model) {};
}

int text_model_records(const struct text_model *m, const struct text_model_options *options, const char *path,
                       bool lenient, struct records_options *ret, struct error *error) {
        const struct task *task = &m->task;
        bool lines = lenient && options->format == FORMAT_AUTO && strcmp(path, "-") == 0;
        enum data_format format =
                lines ? FORMAT_LINES
                      : records_format(path, options->format != FORMAT_AUTO ? options->format : task->format);
        bool alike = format == task->kind || (task->kind == FORMAT_AUTO && format != FORMAT_LINES);

        *ret = (struct records_options) { .format = format,
                                          .encoding = alike ? task->encoding : ENCODING_UTF8,
                                          .header = task->header,
                                          .text = task->columns.name,
                                          .n_text = task->columns.n,
                                          .pair = task->pair,
                                          .label = task->label,
                                          .numbers = task->numbers,
                                          .lenient = lenient };
        if (lenient) { /* without labels */
                ret->header = records_has_header(ret) ? HEADER_TRUE : HEADER_FALSE;
                ret->label = NULL;
        }
        if (options->encoding >= 0)
                ret->encoding = (enum data_encoding) options->encoding;
        if (format == FORMAT_CSV)
                ret->delimiter = options->delimiter ? options->delimiter : alike ? task->delimiter : '\0';
        else if (options->delimiter && !(format == FORMAT_TSV && options->delimiter == '\t'))
                return error_input(error, BERTD_EXIT_USAGE, "%s: --delimiter only applies to --format csv", path);
        return 0;
}

static int check_finite(const double *row, uint32_t n, struct error *error) {
        for (uint32_t i = 0; i < n; i++)
                if (!isfinite(row[i]))
                        return error_input(error, BERTD_EXIT_NAN,
                                           "output is NaN or infinite: the weights of the checkpoint are damaged");
        return 0;
}

static int fill(struct text_model *m, struct error *error) {
        int r = 0;

        text_set_free(&m->set);
        if (texts_n(m->texts) > 0)
                r = text_set_all(m->texts, &m->set, error);
        batches_fill(m->batches, 0, r < 0 ? 0 : m->set.n);
        return r;
}

int text_model_run(struct text_model *m, int (*take)(void *context, uint64_t index, double *row, struct error *error),
                   void *context, struct error *error) {
        uint64_t seen = 0;
        int r = fill(m, error);

        for (uint32_t b = 0; r >= 0 && b < batches_n(m->batches); b++) {
                const struct batch *batch = batches_get(m->batches, b);
                model_classify(m->model, batch, m->outputs);
                for (uint32_t i = 0; r >= 0 && i < batch->n_samples; i++, seen++) {
                        double *row = m->outputs + (size_t) i * m->width + m->task.first;
                        r = check_finite(row, task_width(&m->task), error);
                        if (r >= 0)
                                r = take(context, seen, row, error);
                }
        }
        return r;
}

int text_model_encode(struct text_model *m, uint32_t n_layers,
                      int (*take)(void *context, uint64_t index, const struct text_hidden *hidden, struct error *error),
                      void *context, struct error *error) {
        uint64_t seen = 0;
        int r = fill(m, error);

        for (uint32_t b = 0; r >= 0 && b < batches_n(m->batches); b++) {
                const struct batch *batch = batches_get(m->batches, b);
                model_encode(m->model, batch, n_layers, m->outputs);
                for (uint32_t i = 0; r >= 0 && i < batch->n_samples; i++, seen++) {
                        const int32_t *begin = batch->cu_seqlens + batch->sample_begin[i],
                                      *end = batch->cu_seqlens + batch->sample_begin[i + 1];
                        struct text_hidden hidden = { .rows = m->outputs + (size_t) *begin * m->width,
                                                      .n_tokens = (uint32_t) (*end - *begin),
                                                      .n_sequences = (uint32_t) (end - begin),
                                                      .begin = begin };
                        r = check_finite(hidden.rows, hidden.n_tokens * m->width, error);
                        if (r >= 0)
                                r = take(context, seen, &hidden, error);
                }
        }
        return r;
}
