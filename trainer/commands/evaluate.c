/*
 * `bert-trainer evaluate`: how well a checkpoint does on labelled texts: a classifier's, or one that predicts numbers. Owns the open
 * checkpoint, the confusion matrix or the numbers.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/cleanup.h"
#include "common/usage.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/file_arguments.h"
#include "trainer/commands/json_line.h"
#include "trainer/infer/correlation.h"
#include "trainer/infer/scores.h"

#define NAMED 5 /* classes in a message */

static const char HELP[] = "usage: bert-trainer evaluate [OPTION...] CHECKPOINT FILE...\n\n"
                           "Measures a classifier on labelled texts (csv, tsv, jsonl): accuracy, error,\n"
                           "macro F1, a table of classes and the confusion matrix. A model trained with\n"
                           "labels: number: mean squared error, Pearson's and Spearman's correlation.\n"
                           "Columns, encoding and format are those of its training.\n\n" FILE_ARGUMENTS_HELP
                           "      --label COLUMN    the label's (default: as in its training)\n"
                           "      --empty skip|refuse\n"
                           "                        treatment of empty texts (default: as in its training)\n"
                           "      --json            print one JSON object\n"
                           "  -h, --help            print this help\n";

struct evaluate {
        struct text_model_options options;
        bool json;
        int empty; /* enum data_empty; −1: the task's */
        struct text_model model;
        struct texts_found found;
        uint64_t *confusion, n;      /* (labels, labels): true, predicted */
        double loss;                 /* Σ over n */
        double *predicted, *targets; /* (n) of numbers */
        size_t room;
};

/* ---- texts ---- */

static int keep_number(struct evaluate *f, double predicted, double target, struct error *error) {
        size_t room = f->room;

        if (array_reserve(&f->targets, &room, f->n + 1, sizeof(target)) < 0 ||
            array_reserve(&f->predicted, &f->room, f->n + 1, sizeof(predicted)) < 0)
                return error_errno(error, ENOMEM, "numbers");
        f->predicted[f->n] = predicted;
        f->targets[f->n++] = target;
        return 0;
}

static int count(void *context, uint64_t index, double *row, struct error *error) {
        struct evaluate *f = context;

        if (f->model.task.numbers)
                return keep_number(f, row[0], texts_target(f->model.texts, index), error);
        uint32_t n = f->model.task.labels.n, best = scores_softmax(row, n);
        int32_t label = texts_label(f->model.texts, index);

        f->confusion[(size_t) label * n + best]++;
        f->loss -= log(fmax(row[label], 1e-300));
        f->n++;
        return 0;
}

static int run_texts(struct evaluate *f, struct error *error) {
        int r = text_model_run(&f->model, count, f, error);

        texts_clear(f->model.texts);
        return r;
}

static int run_records(struct evaluate *f, const char *path, struct records *records, struct error *error) {
        struct record record;
        int r;

        while ((r = records_next(records, &record, error)) > 0) {
                r = texts_take(f->model.texts, path, &record, &f->model.task.labels, false, error);
                if (r == 0)
                        texts_note_empty(&f->found, path, &record);
                if (r >= 0 && texts_n(f->model.texts) == TEXT_MODEL_BATCH)
                        r = run_texts(f, error);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : run_texts(f, error);
}

static int run_file(struct evaluate *f, const char *path, struct error *error) {
        cleanup_records struct records *records = NULL;
        uint64_t before = f->n + f->found.n_empty;
        struct records_options options;

        int r = text_model_records(&f->model, &f->options, path, false, &options, error);
        if (r >= 0)
                r = records_open(path, &options, &records, error);
        if (r >= 0)
                r = run_records(f, path, records, error);
        if (r < 0)
                return r;
        if (f->n + f->found.n_empty == before)
                (void) fprintf(stderr, "bert-trainer: %s: holds no text\n", path);
        return records_finish(records, &f->found.bytes, error);
}

static int check_empty(const struct evaluate *f, struct error *error) {
        enum data_empty empty = f->empty >= 0 ? (enum data_empty) f->empty : f->model.task.empty;

        int r = texts_check_empty(&f->found, empty, "--empty skip", error);
        if (r >= 0)
                texts_print_found(&f->found, stderr);
        return r;
}

/* ---- figures ---- */

static struct class_scores scores_of(const struct evaluate *f, uint32_t k) {
        return scores_of_class(f->confusion, f->model.task.labels.n, k);
}

static bool never_predicted(const struct class_scores *x) { return x->support > 0 && x->predicted == 0; }

static bool without_text(const struct class_scores *x) { return x->support == 0 && x->predicted > 0; }

static bool nowhere(const struct class_scores *x) { return !scores_occurs(x); }

/* One line of the classes that `which` picks, the first of them by name. */
static void name_classes(const struct evaluate *f, bool (*which)(const struct class_scores *), const char *what) {
        uint32_t n = 0;

        for (uint32_t k = 0; k < f->model.task.labels.n; k++) {
                struct class_scores x = scores_of(f, k);
                if (!which(&x) || n++ >= NAMED)
                        continue;
                (void) fprintf(stderr, "%s%s '%.64s'", n == 1 ? "bert-trainer: " : ",", n == 1 ? what : "",
                               f->model.task.labels.name[k]);
        }
        if (n > NAMED)
                (void) fprintf(stderr, " and %u more", n - NAMED);
        (void) fputs(n > 0 ? "\n" : "", stderr);
}

/* What had nothing to divide by. */
static void report_zero_divisions(const struct evaluate *f) {
        name_classes(f, never_predicted, "never predicted, so their precision is taken as 0:");
        name_classes(f, without_text, "predicted but of no text, so their recall is taken as 0:");
        name_classes(f, nowhere, "neither predicted nor of any text, so not part of macro F1:");
}

static void print_figures(const struct evaluate *f, double accuracy, double macro) {
        (void) printf("texts     %" PRIu64 "\naccuracy  %.4f\nerror     %.2f %%\nmacro F1  %.4f\nloss      %.4f\n\n",
                      f->n, accuracy, 100 * (1 - accuracy), macro, f->loss / (double) f->n);
        (void) printf("%9s %9s %9s %9s  class\n", "precision", "recall", "F1", "texts");
        for (uint32_t k = 0; k < f->model.task.labels.n; k++) {
                struct class_scores x = scores_of(f, k);
                (void) printf("%9.4f %9.4f %9.4f %9" PRIu64 "  %s\n", x.precision, x.recall, x.f1, x.support,
                              f->model.task.labels.name[k]);
        }
        (void) printf("\nconfusion: a row a true class, a column a predicted one, in the order above\n");
        for (uint32_t k = 0; k < f->model.task.labels.n; k++)
                for (uint32_t i = 0; i < f->model.task.labels.n; i++)
                        (void) printf("%7" PRIu64 "%s", f->confusion[(size_t) k * f->model.task.labels.n + i],
                                      i + 1 < f->model.task.labels.n ? "" : "\n");
}

static int print_figures_json(const struct evaluate *f, double accuracy, double macro) {
        json_t *classes = json_array(), *confusion = json_array();

        for (uint32_t k = 0; k < f->model.task.labels.n; k++) {
                struct class_scores x = scores_of(f, k);
                json_t *row = json_array();
                for (uint32_t i = 0; i < f->model.task.labels.n; i++)
                        (void) json_array_append_new(
                                row, json_integer((json_int_t) f->confusion[(size_t) k * f->model.task.labels.n + i]));
                (void) json_array_append_new(confusion, row);
                (void) json_array_append_new(
                        classes, json_pack("{s:s, s:f, s:f, s:f, s:I, s:I}", "label", f->model.task.labels.name[k],
                                           "precision", x.precision, "recall", x.recall, "f1", x.f1, "texts",
                                           (json_int_t) x.support, "predicted", (json_int_t) x.predicted));
        }
        json_t *all = json_pack("{s:I, s:f, s:f, s:f, s:f, s:o, s:o}", "texts", (json_int_t) f->n, "accuracy", accuracy,
                                "error_percent", 100 * (1 - accuracy), "macro_f1", macro, "loss",
                                f->loss / (double) f->n, "classes", classes, "confusion", confusion);
        return json_line(all, JSON_INDENT(1) | JSON_REAL_PRECISION(9), stdout);
}

/* ---- figures of numbers ---- */

static const char *format_correlation(double r, char buffer[32]) {
        (void) snprintf(buffer, 32, isnan(r) ? "undefined" : "%.4f", r);
        return buffer;
}

static json_t *number_or_null(double v) { return isnan(v) ? json_null() : json_real(v); }

static int print_numbers_json(const struct evaluate *f, double mse, double pearson, double spearman) {
        json_t *all = json_pack("{s:I, s:f, s:o, s:o}", "texts", (json_int_t) f->n, "mse", mse, "pearson",
                                number_or_null(pearson), "spearman", number_or_null(spearman));

        return json_line(all, JSON_INDENT(1) | JSON_REAL_PRECISION(9), stdout);
}

static int report_numbers(const struct evaluate *f, bool json, struct error *error) {
        double mse = mean_squared_error(f->predicted, f->targets, f->n),
               pearson = correlation_pearson(f->predicted, f->targets, f->n), spearman = NAN;
        char p[32], s[32];
        int r = correlation_spearman(f->predicted, f->targets, f->n, &spearman, error);

        if (r < 0)
                return r;
        if (json)
                r = print_numbers_json(f, mse, pearson, spearman);
        else
                (void) printf("texts     %" PRIu64 "\nMSE       %.6g\nPearson   %s\nSpearman  %s\n", f->n, mse,
                              format_correlation(pearson, p), format_correlation(spearman, s));
        errno = r < 0 ? -r : EIO;
        if (r < 0 || fflush(stdout) == EOF)
                return error_errno(error, errno, "standard output");
        if (isnan(pearson))
                (void) fprintf(stderr, "bert-trainer: the correlations are undefined: %s\n",
                               f->n < 2 ? "a single text" : "all predictions, or all labels, are the same");
        return 0;
}

static int report(const struct evaluate *f, bool json, struct error *error) {
        uint64_t hits = 0;

        if (f->n == 0)
                return error_input(error, BERTD_EXIT_DATA, "no text to evaluate");
        if (f->model.task.numbers)
                return report_numbers(f, json, error);
        for (uint32_t k = 0; k < f->model.task.labels.n; k++)
                hits += scores_of(f, k).hits;
        double accuracy = (double) hits / (double) f->n, macro = scores_macro_f1(f->confusion, f->model.task.labels.n);
        int r = 0;
        if (json)
                r = print_figures_json(f, accuracy, macro);
        else
                print_figures(f, accuracy, macro);
        errno = r < 0 ? -r : EIO;
        if (r < 0 || fflush(stdout) == EOF)
                return error_errno(error, errno, "standard output");
        report_zero_divisions(f);
        return 0;
}

/* ---- the command ---- */

static int take(void *context, int option, struct error *error) {
        static const char *const empties[EMPTY_MAX] = DATA_EMPTY_NAMES;
        struct evaluate *f = context;

        if (option == 'j')
                f->json = true;
        else if (option == 'l')
                f->options.label = optarg;
        else if (option == 'm')
                f->empty = usage_choice("--empty", optarg, empties, EMPTY_MAX, error);
        else
                return file_argument(option, &f->options, error);
        return option == 'm' ? MIN(f->empty, 0) : 0;
}

static const struct usage usage = {
        .help = HELP,
        .options = (const struct option[]) { FILE_ARGUMENTS,
                                             { "json", no_argument, NULL, 'j' },
                                             { "empty", required_argument, NULL, 'm' },
                                             { "label", required_argument, NULL, 'l' },
                                             { "help", no_argument, NULL, 'h' },
                                             {} },
        .min = 2,
        .max = INT_MAX,
        .words = "CHECKPOINT FILE",
        .take = take,
};

static int open_all(struct evaluate *f, const char *path, struct error *error) {
        int r = text_model_open(&f->model, path, &f->options, error);

        if (r < 0)
                return r;
        if (f->model.task.numbers)
                return 0;
        f->confusion = calloc((size_t) f->model.task.labels.n * f->model.task.labels.n, sizeof(*f->confusion));
        return f->confusion ? 0 : error_errno(error, ENOMEM, "a classifier");
}

int cmd_evaluate(int argc, char **argv) {
        struct evaluate f = { .options = FILE_ARGUMENTS_DEFAULT, .empty = -1 };
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &f, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0)
                r = open_all(&f, argv[optind], &error);
        for (int i = optind + 1; r >= 0 && i < argc; i++)
                r = run_file(&f, argv[i], &error);
        if (r >= 0)
                r = check_empty(&f, &error);
        if (r >= 0) {
                texts_print_unknown(f.model.texts, argv[optind + 1], stderr);
                r = report(&f, f.json, &error);
        }
        text_model_close(&f.model);
        free(f.confusion);
        free(f.predicted);
        free(f.targets);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
