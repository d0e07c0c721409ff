/*
 * `bert-trainer fill-mask`: the tokens that a checkpoint expects at [MASK], for a quick look at what it has learnt. Owns the open
 * checkpoint.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/text_arguments.h"
#include "trainer/data/records.h"
#include "trainer/infer/masked_lm.h"

#define TOP_DEFAULT 5
#define TOP_MAX 100

static const char HELP[] = "usage: bert-trainer fill-mask [OPTION...] CHECKPOINT [TEXT...]\n\n"
                           "Prints the likeliest tokens for every [MASK] of each text; without TEXT, of each\n"
                           "line of standard input.\n\n"
                           "      --vocab FILE      the vocabulary, of a checkpoint that has none\n"
                           "      --top N           number of tokens to print (default: 5)\n"
                           "      --encoding utf-8|latin-1\n"
                           "                        encoding of standard input (default: utf-8)\n"
                           "  -h, --help            print this help\n";

struct fill_mask {
        const char *vocab_path;
        uint64_t top;
        enum data_encoding encoding; /* of standard input */
        struct masked_lm model;
};

/* ---- one text ---- */

static bool is_among(uint32_t v, const uint32_t *chosen, uint64_t n) {
        for (uint64_t i = 0; i < n; i++)
                if (chosen[i] == v)
                        return true;
        return false;
}

/* softmax of one row, of all that the model has; the likeliest that has a token first, by repeated search: N is small. */
static void print_top(const struct fill_mask *f, const double *logits) {
        uint32_t rows = f->model.bundle.config.vocab_size, n = MIN(vocab_size(f->model.bundle.vocab), rows),
                 chosen[TOP_MAX];
        double highest = -INFINITY, sum = 0;

        for (uint32_t v = 0; v < rows; v++)
                highest = fmax(highest, logits[v]);
        for (uint32_t v = 0; v < rows; v++)
                sum += exp(logits[v] - highest);
        for (uint64_t k = 0; k < MIN(f->top, (uint64_t) n); k++) {
                chosen[k] = UINT32_MAX;
                for (uint32_t v = 0; v < n; v++)
                        if ((chosen[k] == UINT32_MAX || logits[v] > logits[chosen[k]]) && !is_among(v, chosen, k) &&
                            vocab_token(f->model.bundle.vocab, (int32_t) v)[0])
                                chosen[k] = v;
                if (chosen[k] == UINT32_MAX)
                        break;
                (void) printf("%s%s %.3f", k > 0 ? "  " : "", vocab_token(f->model.bundle.vocab, (int32_t) chosen[k]),
                              exp(logits[chosen[k]] - highest) / sum);
        }
        (void) putchar('\n');
}

static int fill(struct fill_mask *f, const char *text, struct error *error) {
        int r = masked_lm_read(&f->model, text, error);
        if (r < 0)
                return r;
        masked_lm_run(&f->model);
        (void) printf("%s\n", text);
        for (uint32_t m = 0; m < f->model.batch.n_masked; m++) {
                (void) printf("  %u: ", m + 1);
                print_top(f, masked_lm_logits(&f->model, m));
        }
        return 0;
}

/* A line that cannot be filled is repeated alone, and the lines after it are filled: the first of them is reported at the end. */
static int fill_line(struct fill_mask *f, const struct record *record, struct error *first, struct error *error) {
        struct error why = {};

        int r = fill(f, record->text, &why);
        if (r < 0 && why.exit != BERTD_EXIT_DATA) {
                *error = why;
                return r;
        }
        if (r < 0)
                (void) printf("%s\n", record->text);
        if (r < 0 && first->code == 0) {
                (void) error_prefix(&why, "standard input:%" PRIu64, record->line);
                *first = why;
        }
        return 0;
}

static int fill_lines(struct fill_mask *f, struct error *error) {
        const struct records_options options = { .format = FORMAT_LINES, .encoding = f->encoding };
        cleanup_records struct records *records = NULL;
        struct text_findings findings = {};
        struct error first = {};
        struct record record;

        int r = records_open("-", &options, &records, error);
        while (r >= 0 && (r = records_next(records, &record, error)) > 0) {
                if (record.size > 0)
                        r = fill_line(f, &record, &first, error);
                if (r >= 0 && records_would_wait(records) && fflush(stdout) == EOF)
                        r = error_errno(error, errno, "standard output");
        }
        if (r >= 0)
                r = records_finish(records, &findings, error);
        if (r >= 0)
                text_findings_print(&findings, stderr);
        if (r >= 0 && first.code != 0) {
                *error = first;
                r = -first.code;
        }
        return r;
}

/* An argument is held to what a file is. */
static int fill_argument(struct fill_mask *f, const char *argument, struct error *error) {
        cleanup_free char *text = strdup(argument);
        struct invalid_bytes invalid = {};

        if (!text)
                return error_errno(error, ENOMEM, "text");
        size_t size = strlen(argument);
        text[text_clean(text, size, 1, &invalid)] = '\0';
        if (100 * invalid.n > size)
                return error_input(error, BERTD_EXIT_DATA, "'%.60s': byte 0x%02x: not UTF-8", text, invalid.first);
        if (invalid.n > 0)
                (void) fprintf(stderr,
                               "bert-trainer: '%.60s': byte 0x%02x: not UTF-8; left out, with %" PRIu64
                               " such bytes in all\n",
                               text, invalid.first, invalid.n);
        return fill(f, text, error);
}

static int run_fill(struct fill_mask *f, const char *path, char **texts, int n, struct error *error) {
        int r = masked_lm_open(&f->model, path, f->vocab_path, error);

        for (int i = 0; r >= 0 && i < n; i++)
                r = fill_argument(f, texts[i], error);
        return r >= 0 && n == 0 ? fill_lines(f, error) : r;
}

static int take(void *context, int option, struct error *error) {
        struct fill_mask *f = context;

        if (option == 'v')
                f->vocab_path = optarg;
        else if (option == 'e')
                return text_encoding(optarg, &f->encoding, error);
        else if (parse_u64(optarg, 1, TOP_MAX, &f->top) < 0)
                return error_input(error, BERTD_EXIT_USAGE, "--top: '%.64s', expected 1 to %d", optarg, TOP_MAX);
        return 0;
}

static const struct usage usage = {
        .help = HELP,
        .options = (const struct option[]) { { "vocab", required_argument, NULL, 'v' },
                                             { "top", required_argument, NULL, 't' },
                                             { "encoding", required_argument, NULL, 'e' },
                                             { "help", no_argument, NULL, 'h' },
                                             {} },
        .min = 1,
        .max = INT_MAX,
        .words = "CHECKPOINT",
        .take = take,
};

int cmd_fill_mask(int argc, char **argv) {
        struct fill_mask f = { .top = TOP_DEFAULT };
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &f, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0)
                r = run_fill(&f, argv[optind], argv + optind + 1, argc - optind - 1, &error);
        masked_lm_close(&f.model);
        if (r >= 0 && fflush(stdout) == EOF)
                r = error_errno(&error, errno, "standard output");
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
