/*
 * `bert-trainer predict`: labels and probabilities of texts by a classifier's checkpoint, or numbers, a line of JSON for each line as they come. Owns the
 * open checkpoint and the answers that the texts at hand are owed.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/usage.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/file_arguments.h"
#include "trainer/commands/json_line.h"
#include "trainer/infer/scores.h"

static const char HELP[] =
        "usage: bert-trainer predict [OPTION...] CHECKPOINT [FILE]\n\n"
        "Prints a line of JSON for each line (csv: row) as they come:\n"
        "{\"label\": ..., \"probabilities\": {...}}, or {\"label\": NUMBER} if it was trained\n"
        "with labels: number; {\"label\": null, \"reason\": ...} for one without text; with\n"
        "\"invalid_bytes\" if some are not UTF-8. FILE is csv, tsv or jsonl with the\n"
        "columns of its training, or txt, a text a line, as is standard input; of a pair\n"
        "both, with a tab between.\n\n" FILE_ARGUMENTS_HELP "  -h, --help            print this help\n";

/* A line that is owed. */
struct answer {
        char *reason; /* why there is no label; NULL: a text's, the next of those at hand */
        uint64_t n_invalid;
};

struct predict {
        struct text_model_options options;
        struct text_model model;
        struct text_findings bytes;
        struct answer answers[TEXT_MODEL_BATCH];
        uint32_t n_answers, n_said;
        uint64_t n_unanswered, first_unanswered; /* lines without a label, and the first's number */
};

/* ---- answers ---- */

static int print_line(json_t *line) { return json_line(line, JSON_COMPACT | JSON_REAL_PRECISION(9), stdout); }

static void say_invalid(json_t *line, const struct answer *answer) {
        if (answer->n_invalid > 0)
                (void) json_object_set_new(line, "invalid_bytes", json_integer((json_int_t) answer->n_invalid));
}

/* The answers that come before the next text's. */
static int print_unanswered(struct predict *f) {
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

static int print_prediction(struct predict *f, const double *row, uint32_t best) {
        int r = print_unanswered(f);
        json_t *all = json_object();

        for (uint32_t i = 0; i < f->model.task.labels.n; i++)
                (void) json_object_set_new(all, f->model.task.labels.name[i], json_real(row[i]));
        json_t *line = json_pack("{s:s, s:o}", "label", f->model.task.labels.name[best], "probabilities", all);
        say_invalid(line, &f->answers[f->n_said++]);
        return r < 0 ? (json_decref(line), r) : print_line(line);
}

static int print_number(struct predict *f, double number) {
        int r = print_unanswered(f);
        json_t *line = json_pack("{s:f}", "label", number);

        say_invalid(line, &f->answers[f->n_said++]);
        return r < 0 ? (json_decref(line), r) : print_line(line);
}

static int answer(void *context, uint64_t index, double *row, struct error *error) {
        struct predict *f = context;
        bool number = f->model.task.numbers;

        int r = number ? print_number(f, row[0])
                       : print_prediction(f, row, scores_softmax(row, f->model.task.labels.n));
        return r < 0 ? error_errno(error, -r, "standard output") : 0;
}

static int run_texts(struct predict *f, struct error *error) {
        int r = text_model_run(&f->model, answer, f, error);

        texts_clear(f->model.texts);
        if (r < 0)
                return r;
        r = print_unanswered(f);
        f->n_answers = f->n_said = 0;
        if (r >= 0 && fflush(stdout) == EOF)
                r = -errno;
        return r < 0 ? error_errno(error, -r, "standard output") : 0;
}

/* ---- lines ---- */

/* Takes `reason`'s bytes: texts of other programs and of the file itself may be cut anywhere. */
static int owe(struct predict *f, const struct record *record, const char *reason, struct error *error) {
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

static int take_record(struct predict *f, const char *path, const struct record *record, struct error *error) {
        int r = record->problem ? 0 : texts_take(f->model.texts, path, record, &f->model.task.labels, false, error);

        if (r < 0)
                return r;
        return owe(f, record, record->problem ? record->problem : r == 0 ? "empty" : NULL, error);
}

/* Texts wait for each other only while more of them have arrived. */
static int run_records(struct predict *f, const char *path, struct records *records, struct error *error) {
        struct record record;
        int r;

        while ((r = records_next(records, &record, error)) > 0) {
                r = take_record(f, path, &record, error);
                if (r >= 0 && (f->n_answers == TEXT_MODEL_BATCH || records_would_wait(records)))
                        r = run_texts(f, error);
                if (r < 0)
                        break;
        }
        int rest = run_texts(f, r < 0 ? NULL : error); /* what came before a bad line is answered */
        return r < 0 ? r : rest;
}

static int run_file(struct predict *f, const char *path, struct error *error) {
        cleanup_records struct records *records = NULL;
        struct records_options options;

        int r = text_model_records(&f->model, &f->options, path, true, &options, error);
        if (r >= 0)
                r = records_open(path, &options, &records, error);
        if (r < 0)
                return r;
        r = run_records(f, path, records, error);
        (void) records_finish(records, &f->bytes, NULL); /* each answer has it */
        return r;
}

/* ---- the command ---- */

static int take(void *context, int option, struct error *error) {
        struct predict *f = context;

        return file_argument(option, &f->options, error);
}

static const struct usage usage = {
        .help = HELP,
        .options = (const struct option[]) { FILE_ARGUMENTS, { "help", no_argument, NULL, 'h' }, {} },
        .min = 1,
        .max = 2,
        .words = "CHECKPOINT",
        .take = take,
};

static void report(const struct predict *f, const char *path) {
        if (f->n_unanswered > 0)
                (void) fprintf(stderr, "bert-trainer: %s:%" PRIu64 ": no text, the first of %" PRIu64 " such lines\n",
                               path, f->first_unanswered, f->n_unanswered);
}

static void release(struct predict *f) {
        for (uint32_t i = 0; i < f->n_answers; i++)
                free(f->answers[i].reason);
        text_model_close(&f->model);
}

int cmd_predict(int argc, char **argv) {
        struct predict f = { .options = FILE_ARGUMENTS_DEFAULT };
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &f, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        const char *path = argc - optind == 2 ? argv[optind + 1] : "-",
                   *shown = strcmp(path, "-") == 0 ? "standard input" : path;
        if (r == 0)
                r = text_model_open(&f.model, argv[optind], &f.options, &error);
        if (r >= 0)
                r = run_file(&f, path, &error);
        if (r >= 0) {
                text_findings_print(&f.bytes, stderr);
                texts_print_unknown(f.model.texts, shown, stderr);
        }
        report(&f, shown);
        release(&f);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
