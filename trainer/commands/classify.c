/*
 * `bert-trainer evaluate` and `bert-trainer predict`: what a classifier's checkpoint makes of texts. Owns the model, the encoder, one
 * batch of texts and their logits. How texts are read and shortened is the checkpoint's to say, and options go before it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/checkpoint/task.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/text_arguments.h"
#include "trainer/data/batches.h"
#include "trainer/data/examples.h"
#include "trainer/infer/bundle.h"
#include "trainer/infer/scores.h"
#include "trainer/ops/device.h"
#include "trainer/ops/ops.h"

#define BATCH 32 /* texts */
#define NAMED 5  /* classes in a message */

#define FILE_OPTIONS_HELP                                                                           \
        "      --task NAME       of a checkpoint of several tasks: the one whose texts these are\n" \
        "      --format auto|csv|tsv|jsonl|lines\n"                                                 \
        "                        default: data.format of its training, else by the file's name\n"   \
        "      --encoding utf-8|latin-1\n"                                                          \
        "                        default: as in its training, for files of that kind; else utf-8\n" \
        "      --delimiter CHAR  of csv: tab or a character (default: as its training; else a comma)\n"

static const char EVALUATE_USAGE[] =
        "usage: bert-trainer evaluate CHECKPOINT FILE... [--task NAME] [--format KIND] [--encoding NAME] [--delimiter "
        "CHAR] [--empty skip|refuse] [--device KIND] [--json]\n\n"
        "How well a classifier does on labelled texts (csv, tsv, jsonl): accuracy, error, macro F1, a table of "
        "classes, the "
        "confusion\nmatrix. Columns, encoding and format are as in its training.\n\n" FILE_OPTIONS_HELP
        "      --empty skip|refuse\n"
        "                        what to do with empty texts (default: as in its training)\n"
        "      --vocab FILE      the vocabulary, of a checkpoint without its own\n"
        "      --device auto|cpu|cuda\n"
        "                        where to compute (default: auto, a GPU if there is one)\n"
        "      --json            as one JSON object\n"
        "  -h, --help            this text\n";
static const char PREDICT_USAGE[] =
        "usage: bert-trainer predict CHECKPOINT [FILE] [--task NAME] [--format KIND] [--encoding NAME] [--delimiter "
        "CHAR] [--device KIND]\n\n"
        "A line of JSON for each line (csv: row) as they come: {\"label\": ..., \"probabilities\": {...}}, or "
        "{\"label\": null,\n\"reason\": ...} where it has no text, with \"invalid_bytes\" where some are not UTF-8. "
        "FILE is csv, tsv, jsonl with\nthe columns of its training, or txt: a text a line, as is standard "
        "input.\n\n" FILE_OPTIONS_HELP "      --vocab FILE      the vocabulary, of a checkpoint without its own\n"
        "      --device auto|cpu|cuda\n"
        "                        where to compute (default: auto, a GPU if there is one)\n"
        "  -h, --help            this text\n";

/* A line that predict owes. */
struct answer {
        char *reason; /* why there is no label; NULL: a text's, the next of those at hand */
        uint64_t n_invalid;
};

struct classifier {
        const char *vocab_path;
        struct bundle bundle;
        struct model *model;
        struct encoder *encoder;
        const char *task_name;   /* NULL: the only one */
        enum data_format format; /* auto: the task's */
        int encoding, empty;     /* as enum data_*; -1: the task's */
        char delimiter;          /* NUL: the task's */
        enum device_kind kind;
        struct device *device;
        struct task task;
        bool predicts;
        struct texts *texts;
        struct texts_found found;
        struct answer answers[BATCH]; /* of predict */
        uint32_t n_answers, n_said;
        uint64_t n_unanswered, first_unanswered; /* lines without a label, and the first's number */
        struct text_set set;
        struct sample_source source;
        struct batches *batches;
        double *logits;         /* (BATCH, classifier's labels) */
        uint64_t *confusion, n; /* (labels, labels): true, predicted */
        double loss;            /* Σ over n */
};

/* ---- setting up ---- */

static int open_task(struct classifier *f, const struct checkpoint *c, struct error *error) {
        return task_find(c, f->task_name, f->bundle.config.classifier.n_labels, &f->task, error);
}

static int open_texts(struct classifier *f, struct error *error) {
        struct texts_options o = f->bundle.lengths;

        o.cls = vocab_special(f->bundle.vocab, "[CLS]");
        o.sep = vocab_special(f->bundle.vocab, "[SEP]");
        return texts_new(f->encoder, &o, &f->texts, error);
}

static int open_encoder(struct classifier *f, struct error *error) {
        const struct bundle *b = &f->bundle;

        return encoder_new(b->vocab, &b->text, 1, &f->encoder) < 0 ? error_errno(error, ENOMEM, "%s", b->vocab_path)
                                                                   : 0;
}

static int open_model(struct classifier *f, struct checkpoint *c, struct error *error) {
        f->set = (struct text_set) { .texts = f->texts };
        f->source = text_set_source(&f->set);
        uint32_t segments = f->source.max_segments;
        const struct model_limits limits = { .max_tokens = BATCH * f->source.max_length,
                                             .max_samples = BATCH * segments,
                                             .max_length = f->source.max_length / segments };
        const struct batches_limits all = { .max_share = BATCH,
                                            .max_tokens = limits.max_tokens,
                                            .max_samples = limits.max_samples };

        int r = device_open(f->kind, PRECISION_FP32, 0, &f->device, error);
        if (r >= 0)
                r = model_new(&f->bundle.config, device_ops(f->device), &limits, &f->model, error);
        if (r >= 0)
                r = weights_read(c, f->model, error);
        if (r >= 0)
                r = batches_new(&f->source, &all, &f->batches, error);
        f->logits = calloc((size_t) BATCH * f->bundle.config.classifier.n_labels, sizeof(*f->logits));
        f->confusion = calloc((size_t) f->task.labels.n * f->task.labels.n, sizeof(*f->confusion));
        return r >= 0 && (!f->logits || !f->confusion) ? error_errno(error, ENOMEM, "a classifier") : r;
}

static int open_classifier(struct classifier *f, const char *path, struct error *error) {
        int r = bundle_open(&f->bundle, path, USE_CLASSIFIER, f->vocab_path, error);
        struct checkpoint *c = f->bundle.checkpoint;

        if (r >= 0)
                r = open_task(f, c, error);
        if (r >= 0)
                r = open_encoder(f, error);
        if (r >= 0)
                r = open_texts(f, error);
        return r < 0 ? r : open_model(f, c, error);
}

static void release(struct classifier *f) {
        for (uint32_t i = 0; i < f->n_answers; i++)
                free(f->answers[i].reason);
        batches_free(f->batches);
        text_set_free(&f->set);
        texts_free(f->texts);
        model_free(f->model);
        device_close(f->device);
        encoder_free(f->encoder);
        bundle_close(&f->bundle);
        task_free(&f->task);
        free(f->logits);
        free(f->confusion);
}

/* ---- a batch of texts ---- */

/* Turns a row of logits into probabilities; returns the greatest, the first where several are. */
static uint32_t softmax(double *row, uint32_t n) {
        uint32_t best = 0;
        double sum = 0;

        for (uint32_t i = 1; i < n; i++)
                best = row[i] > row[best] ? i : best;
        double highest = row[best];
        for (uint32_t i = 0; i < n; i++)
                sum += row[i] = exp(row[i] - highest);
        for (uint32_t i = 0; i < n; i++)
                row[i] /= sum;
        return best;
}

static int print_line(json_t *line) {
        int r = line ? json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) : -1;

        json_decref(line);
        return r < 0 || putchar('\n') == EOF ? -EIO : 0;
}

static void say_invalid(json_t *line, const struct answer *answer) {
        if (answer->n_invalid > 0)
                (void) json_object_set_new(line, "invalid_bytes", json_integer((json_int_t) answer->n_invalid));
}

/* The answers that come before the next text's. */
static int print_unanswered(struct classifier *f) {
        int r = 0;

        for (; r >= 0 && f->n_said < f->n_answers && f->answers[f->n_said].reason; f->n_said++) {
                struct answer *answer = &f->answers[f->n_said];
                json_t *line = json_pack("{s:n, s:s}", "label", "reason", answer->reason);
                say_invalid(line, answer);
                r = print_line(line);
                free(answer->reason);
                answer->reason = NULL;
        }
        return r;
}

static int print_prediction(struct classifier *f, const double *row, uint32_t best) {
        int r = print_unanswered(f);
        json_t *all = json_object();

        for (uint32_t i = 0; i < f->task.labels.n; i++)
                (void) json_object_set_new(all, f->task.labels.name[i], json_real(row[i]));
        json_t *line = json_pack("{s:s, s:o}", "label", f->task.labels.name[best], "probabilities", all);
        say_invalid(line, &f->answers[f->n_said++]);
        return r < 0 ? (json_decref(line), r) : print_line(line);
}

static void count_prediction(struct classifier *f, const double *row, uint32_t best, int32_t label) {
        f->confusion[(size_t) label * f->task.labels.n + best]++;
        f->loss -= log(fmax(row[label], 1e-300));
        f->n++;
}

/* Predictions of the texts at hand are printed, or counted. */
static int run_model(struct classifier *f, struct error *error) {
        uint64_t seen = 0;

        batches_fill(f->batches, 0, f->set.n);
        for (uint32_t b = 0; b < batches_n(f->batches); b++) {
                const struct batch *batch = batches_get(f->batches, b);
                model_classify(f->model, batch, f->logits);
                for (uint32_t i = 0; i < batch->n_texts; i++, seen++) {
                        double *row = f->logits + (size_t) i * f->bundle.config.classifier.n_labels + f->task.first;
                        uint32_t best = softmax(row, f->task.labels.n);
                        if (!isfinite(row[best]))
                                return error_input(error, BERTD_EXIT_NAN,
                                                   "what the classifier puts out is not finite: nor are its weights");
                        if (!f->predicts)
                                count_prediction(f, row, best, texts_label(f->texts, seen));
                        else if (print_prediction(f, row, best) < 0)
                                return error_errno(error, EIO, "standard output");
                }
        }
        return 0;
}

static int run_texts(struct classifier *f, struct error *error) {
        int r = 0;

        text_set_free(&f->set);
        if (texts_n(f->texts) > 0)
                r = text_set_all(f->texts, &f->set, error);
        if (r >= 0 && f->set.n > 0)
                r = run_model(f, error);
        texts_clear(f->texts);
        if (r < 0 || !f->predicts)
                return r;
        r = print_unanswered(f);
        f->n_answers = f->n_said = 0;
        return r < 0 || fflush(stdout) == EOF ? error_errno(error, errno, "standard output") : 0;
}

/* ---- files ---- */

static int options_for(const struct classifier *f, const char *path, struct records_options *ret, struct error *error) {
        const struct task *task = &f->task;
        bool lines = f->predicts && f->format == FORMAT_AUTO && strcmp(path, "-") == 0;
        enum data_format format =
                lines ? FORMAT_LINES : records_format(path, f->format != FORMAT_AUTO ? f->format : task->format);
        bool alike = format == task->kind || (task->kind == FORMAT_AUTO && format != FORMAT_LINES);

        *ret = (struct records_options) { .format = format,
                                          .encoding = alike ? task->encoding : ENCODING_UTF8,
                                          .header = task->header,
                                          .text = task->columns.name,
                                          .n_text = task->columns.n,
                                          .label = task->label,
                                          .lenient = f->predicts };
        if (f->predicts) {
                ret->header = records_has_header(ret) ? HEADER_TRUE : HEADER_FALSE;
                ret->label = NULL;
        }
        if (f->encoding >= 0)
                ret->encoding = (enum data_encoding) f->encoding;
        if (format == FORMAT_CSV)
                ret->delimiter = f->delimiter ? f->delimiter : alike ? task->delimiter : '\0';
        else if (f->delimiter && !(format == FORMAT_TSV && f->delimiter == '\t'))
                return error_input(error, BERTD_EXIT_USAGE, "%s: --delimiter only applies to --format csv", path);
        return 0;
}

/* Takes `reason`'s bytes: texts of other programs and of the file itself may be cut anywhere. */
static int owe(struct classifier *f, const struct record *record, const char *reason, struct error *error) {
        struct answer *answer = &f->answers[f->n_answers];
        struct invalid_bytes cut = {};

        *answer = (struct answer) { .n_invalid = record->n_invalid, .reason = reason ? strdup(reason) : NULL };
        f->n_answers++;
        if (!reason)
                return 0;
        if (!answer->reason)
                return error_errno(error, ENOMEM, "a reason");
        answer->reason[text_clean(answer->reason, strlen(answer->reason), 1, &cut)] = '\0';
        if (f->n_unanswered++ == 0)
                f->first_unanswered = record->line;
        return 0;
}

static int predict_record(struct classifier *f, const char *path, const struct record *record, struct error *error) {
        int r = record->problem ? 0 : texts_take(f->texts, path, record, &f->task.labels, false, error);

        if (r < 0)
                return r;
        return owe(f, record, record->problem ? record->problem : r == 0 ? "empty" : NULL, error);
}

static int evaluate_record(struct classifier *f, const char *path, const struct record *record, struct error *error) {
        int r = texts_take(f->texts, path, record, &f->task.labels, false, error);

        if (r == 0)
                texts_note_empty(&f->found, path, record);
        return r;
}

/* Texts wait for each other only while more of them are there. */
static int run_records(struct classifier *f, const char *path, struct records *records, struct error *error) {
        struct record record;
        int r;

        while ((r = records_next(records, &record, error)) > 0) {
                r = f->predicts ? predict_record(f, path, &record, error) : evaluate_record(f, path, &record, error);
                bool full = f->n_answers == BATCH || texts_n(f->texts) == BATCH;
                if (r >= 0 && (full || (f->predicts && records_would_wait(records))))
                        r = run_texts(f, error);
                if (r < 0)
                        break;
        }
        int rest = run_texts(f, r < 0 ? NULL : error); /* what came before a bad line is told */
        return r < 0 ? r : rest;
}

static int run_file(struct classifier *f, const char *path, struct error *error) {
        cleanup_records struct records *records = NULL;
        struct records_options options;
        struct error encoding = {};

        int r = options_for(f, path, &options, error);
        if (r >= 0)
                r = records_open(path, &options, &records, error);
        if (r < 0)
                return r;
        uint64_t before = f->n + f->found.n_empty;
        r = run_records(f, path, records, error);
        if (r >= 0 && !f->predicts && f->n + f->found.n_empty == before)
                (void) fprintf(stderr, "bert-trainer: %s: holds no text\n", path);
        if (records_finish(records, &f->found.bytes, &encoding) < 0 && !f->predicts) {
                *error = encoding;
                return -EINVAL;
        }
        return r;
}

/* ---- figures ---- */

static struct class_scores scores_of(const struct classifier *f, uint32_t k) {
        return scores_of_class(f->confusion, f->task.labels.n, k);
}

static bool never_predicted(const struct class_scores *x) { return x->support > 0 && x->predicted == 0; }
static bool without_text(const struct class_scores *x) { return x->support == 0 && x->predicted > 0; }
static bool nowhere(const struct class_scores *x) { return !scores_occurs(x); }

/* One line of the classes that `which` picks, the first of them by name. */
static void name_classes(const struct classifier *f, bool (*which)(const struct class_scores *), const char *what) {
        uint32_t n = 0;

        for (uint32_t k = 0; k < f->task.labels.n; k++) {
                struct class_scores x = scores_of(f, k);
                if (!which(&x) || n++ >= NAMED)
                        continue;
                (void) fprintf(stderr, "%s%s '%.64s'", n == 1 ? "bert-trainer: " : ",", n == 1 ? what : "",
                               f->task.labels.name[k]);
        }
        if (n > NAMED)
                (void) fprintf(stderr, " and %u more", n - NAMED);
        (void) fputs(n > 0 ? "\n" : "", stderr);
}

/* What had nothing to divide by. */
static void report_zero_divisions(const struct classifier *f) {
        name_classes(f, never_predicted, "never predicted, so their precision is taken as 0:");
        name_classes(f, without_text, "predicted but of no text, so their recall is taken as 0:");
        name_classes(f, nowhere, "neither predicted nor of any text, so not part of macro F1:");
}

static void print_figures(const struct classifier *f, double accuracy, double macro) {
        (void) printf("texts     %" PRIu64 "\naccuracy  %.4f\nerror     %.2f %%\nmacro F1  %.4f\nloss      %.4f\n\n",
                      f->n, accuracy, 100 * (1 - accuracy), macro, f->loss / (double) f->n);
        (void) printf("%9s %9s %9s %9s  class\n", "precision", "recall", "F1", "texts");
        for (uint32_t k = 0; k < f->task.labels.n; k++) {
                struct class_scores x = scores_of(f, k);
                (void) printf("%9.4f %9.4f %9.4f %9" PRIu64 "  %s\n", x.precision, x.recall, x.f1, x.support,
                              f->task.labels.name[k]);
        }
        (void) printf("\nconfusion: a row a true class, a column a predicted one, in the order above\n");
        for (uint32_t k = 0; k < f->task.labels.n; k++)
                for (uint32_t i = 0; i < f->task.labels.n; i++)
                        (void) printf("%7" PRIu64 "%s", f->confusion[(size_t) k * f->task.labels.n + i],
                                      i + 1 < f->task.labels.n ? "" : "\n");
}

static int print_figures_json(const struct classifier *f, double accuracy, double macro) {
        json_t *classes = json_array(), *confusion = json_array();

        for (uint32_t k = 0; k < f->task.labels.n; k++) {
                struct class_scores x = scores_of(f, k);
                json_t *row = json_array();
                for (uint32_t i = 0; i < f->task.labels.n; i++)
                        (void) json_array_append_new(
                                row, json_integer((json_int_t) f->confusion[(size_t) k * f->task.labels.n + i]));
                (void) json_array_append_new(confusion, row);
                (void) json_array_append_new(
                        classes, json_pack("{s:s, s:f, s:f, s:f, s:I, s:I}", "label", f->task.labels.name[k],
                                           "precision", x.precision, "recall", x.recall, "f1", x.f1, "texts",
                                           (json_int_t) x.support, "predicted", (json_int_t) x.predicted));
        }
        json_t *all = json_pack("{s:I, s:f, s:f, s:f, s:f, s:o, s:o}", "texts", (json_int_t) f->n, "accuracy", accuracy,
                                "error_percent", 100 * (1 - accuracy), "macro_f1", macro, "loss",
                                f->loss / (double) f->n, "classes", classes, "confusion", confusion);
        int r = all ? json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : -1;
        json_decref(all);
        return r < 0 || putchar('\n') == EOF ? -EIO : 0;
}

static int report(const struct classifier *f, bool json, struct error *error) {
        uint64_t hits = 0;

        if (f->n == 0)
                return error_input(error, BERTD_EXIT_DATA, "no text to evaluate");
        for (uint32_t k = 0; k < f->task.labels.n; k++)
                hits += scores_of(f, k).hits;
        double accuracy = (double) hits / (double) f->n, macro = scores_macro_f1(f->confusion, f->task.labels.n);
        int r = 0;
        if (json)
                r = print_figures_json(f, accuracy, macro);
        else
                print_figures(f, accuracy, macro);
        errno = EIO;
        if (r < 0 || fflush(stdout) == EOF)
                return error_errno(error, errno, "standard output");
        report_zero_divisions(f);
        return 0;
}

/* ---- the two commands ---- */

static int take_choice(const char *option, const char *const *names, unsigned n, int *ret, struct error *error) {
        *ret = usage_choice(option, optarg, names, n, error);
        return MIN(*ret, 0);
}

static int take_option(int o, char **argv, const struct option *options, struct classifier *f, struct error *error) {
        static const char *const devices[DEVICE_KIND_MAX] = DEVICE_KIND_NAMES, *const formats[FORMAT_MAX] =
                                                                                       DATA_FORMAT_NAMES;
        static const char *const empties[EMPTY_MAX] = DATA_EMPTY_NAMES;
        enum data_encoding encoding = ENCODING_UTF8;
        int choice = 0, r = 0;

        switch (o) {
        case 'v':
                f->vocab_path = optarg;
                return 0;
        case 't':
                f->task_name = optarg;
                return 0;
        case 'd':
                r = take_choice("--device", devices, DEVICE_KIND_MAX, &choice, error);
                f->kind = (enum device_kind) choice;
                return r;
        case 'f':
                r = take_choice("--format", formats, FORMAT_MAX, &choice, error);
                f->format = (enum data_format) choice;
                return r;
        case 'e':
                r = text_encoding(optarg, &encoding, error);
                f->encoding = (int) encoding;
                return r;
        case 'm':
                return take_choice("--empty", empties, EMPTY_MAX, &f->empty, error);
        case 'D':
                f->delimiter = spec_delimiter(optarg);
                return f->delimiter ? 0
                                    : error_input(error, BERTD_EXIT_USAGE,
                                                  "--delimiter: '%.64s', expected tab or a character such as ; or |",
                                                  optarg);
        default:
                return usage_option(o, argv, options, argv[0], error);
        }
}

/* 1: help was printed. */
static int parse(int argc, char **argv, const char *usage, struct classifier *f, bool *json, struct error *error) {
        const struct option options[] = { { "vocab", required_argument, NULL, 'v' },
                                          { "task", required_argument, NULL, 't' },
                                          { "format", required_argument, NULL, 'f' },
                                          { "encoding", required_argument, NULL, 'e' },
                                          { "delimiter", required_argument, NULL, 'D' },
                                          { "device", required_argument, NULL, 'd' },
                                          { "help", no_argument, NULL, 'h' },
                                          { json ? "json" : NULL, no_argument, NULL, 'j' }, /* predict's end here */
                                          { "empty", required_argument, NULL, 'm' },
                                          {} };
        int r = 0;

        for (int o; r == 0 && (o = getopt_long(argc, argv, ":h", options, NULL)) >= 0;) {
                if (o == 'h')
                        return fputs(usage, stdout) < 0 ? error_errno(error, errno, "standard output") : 1;
                if (o == 'j' && json)
                        *json = true;
                else
                        r = take_option(o, argv, options, f, error);
        }
        return r;
}

static int check_empty(const struct classifier *f, struct error *error) {
        enum data_empty empty = f->empty >= 0 ? (enum data_empty) f->empty : f->task.empty;

        int r = texts_check_empty(&f->found, empty, "--empty skip", error);
        if (r >= 0)
                texts_print_found(&f->found, stderr);
        return r;
}

int cmd_evaluate(int argc, char **argv) {
        struct classifier f = { .encoding = -1, .empty = -1 };
        struct error error = {};
        bool json = false;

        int r = parse(argc, argv, EVALUATE_USAGE, &f, &json, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0)
                r = usage_count(argc, argv, 2, argc, "CHECKPOINT FILE", argv[0], &error);
        if (r == 0)
                r = open_classifier(&f, argv[optind], &error);
        for (int i = optind + 1; r >= 0 && i < argc; i++)
                r = run_file(&f, argv[i], &error);
        if (r >= 0)
                r = check_empty(&f, &error);
        if (r >= 0) {
                texts_print_unknown(f.texts, argv[optind + 1], stderr);
                r = report(&f, json, &error);
        }
        release(&f);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}

int cmd_predict(int argc, char **argv) {
        struct classifier f = { .predicts = true, .encoding = -1, .empty = -1 };
        struct error error = {};

        int r = parse(argc, argv, PREDICT_USAGE, &f, NULL, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0)
                r = usage_count(argc, argv, 1, 2, "CHECKPOINT", argv[0], &error);
        const char *path = argc - optind == 2 ? argv[optind + 1] : "-";
        if (r == 0)
                r = open_classifier(&f, argv[optind], &error);
        if (r >= 0)
                r = run_file(&f, path, &error);
        if (r >= 0)
                text_findings_print(&f.found.bytes, stderr);
        if (r >= 0)
                texts_print_unknown(f.texts, strcmp(path, "-") == 0 ? "standard input" : path, stderr);
        if (f.n_unanswered > 0)
                (void) fprintf(stderr, "bert-trainer: %s:%" PRIu64 ": no text, the first of %" PRIu64 " such lines\n",
                               strcmp(path, "-") == 0 ? "standard input" : path, f.first_unanswered, f.n_unanswered);
        release(&f);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
