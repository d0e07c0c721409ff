/*
 * `bert-trainer fill-mask`: the tokens that a checkpoint expects at [MASK], for a quick look at what it has learnt. Owns the model
 * (of one sample as long as the model takes), the vocabulary and the batch.
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
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/text_arguments.h"
#include "trainer/data/records.h"
#include "trainer/infer/bundle.h"
#include "trainer/model/model.h"
#include "trainer/ops/ops.h"
#include "trainer/text/encoder.h"
#include "trainer/text/vocab.h"

#define MASK "[MASK]"
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
        struct bundle bundle;
        struct model *model;
        struct encoder *encoder;
        struct batch batch;
        uint32_t max_tokens;
        double *logits; /* (vocab_size) of one [MASK] */
};

/* ---- setting up ---- */

static int open_model(struct fill_mask *f, struct error *error) {
        const struct bundle *b = &f->bundle;
        uint32_t n = f->max_tokens = b->config.max_position_embeddings;
        const struct model_limits limits = { .max_tokens = n, .max_sequences = 1, .max_masked = n, .max_length = n };

        if (encoder_new(b->vocab, &b->text, 1, &f->encoder) < 0)
                return error_errno(error, ENOMEM, "%s", b->vocab_path);
        f->logits = calloc(b->config.vocab_size, sizeof(*f->logits));
        if (!f->logits)
                return error_errno(error, ENOMEM, "%s", b->vocab_path);
        int r = model_new(&b->config, ops_cpu(), &limits, &f->model, error);
        return r < 0 ? r : weights_read(b->checkpoint, f->model, error);
}

static int allocate_batch(struct fill_mask *f, struct error *error) {
        size_t n = f->max_tokens;
        struct batch *b = &f->batch;

        *b = (struct batch) { .n_sequences = 1,
                              .ids = calloc(n, sizeof(int32_t)),
                              .token_types = calloc(n, sizeof(int32_t)),
                              .positions = calloc(n, sizeof(int32_t)),
                              .cu_seqlens = calloc(2, sizeof(int32_t)),
                              .sample_k = calloc(1, sizeof(uint64_t)),
                              .masked_rows = calloc(n, sizeof(int32_t)),
                              .masked_labels = calloc(n, sizeof(int32_t)),
                              .sentence_labels = calloc(1, sizeof(int32_t)) };
        if (!b->ids || !b->token_types || !b->positions || !b->cu_seqlens || !b->sample_k || !b->masked_rows ||
            !b->masked_labels || !b->sentence_labels)
                return error_errno(error, ENOMEM, "a batch");
        b->sentence_labels[0] = -1;
        for (size_t i = 0; i < n; i++)
                b->positions[i] = (int32_t) i;
        return 0;
}

static void release(struct fill_mask *f) {
        struct batch *b = &f->batch;

        free(b->ids);
        free(b->token_types);
        free(b->positions);
        free(b->cu_seqlens);
        free(b->sample_k);
        free(b->masked_rows);
        free(b->masked_labels);
        free(b->sentence_labels);
        free(f->logits);
        model_free(f->model);
        encoder_free(f->encoder);
        bundle_close(&f->bundle);
}

/* ---- one text ---- */

/* The text between masks is encoded piece by piece: what stands for a mask is the same in every kind of vocabulary. */
static int encode(const struct fill_mask *f, const char *text, struct ids *ids) {
        int r = ids_append(ids, vocab_special(f->bundle.vocab, "[CLS]"));

        for (const char *mask; r >= 0 && (mask = strstr(text, MASK)); text = mask + strlen(MASK)) {
                r = encoder_encode_special(f->encoder, 0, text, (size_t) (mask - text), ids);
                if (r >= 0)
                        r = ids_append(ids, vocab_special(f->bundle.vocab, MASK));
        }
        if (r >= 0)
                r = encoder_encode_special(f->encoder, 0, text, strlen(text), ids);
        return r < 0 ? r : ids_append(ids, vocab_special(f->bundle.vocab, "[SEP]"));
}

static int fill_batch(struct fill_mask *f, const char *text, struct error *error) {
        struct batch *b = &f->batch;
        struct ids ids = {};

        int r = encode(f, text, &ids);
        cleanup_free int32_t *owned = ids.data;
        if (r < 0)
                return error_errno(error, -r, "text");
        if (ids.n > f->max_tokens)
                return error_input(error, BERTD_EXIT_DATA,
                                   "a text of %zu tokens with [CLS] and [SEP], the model takes %u", ids.n,
                                   f->max_tokens);
        b->n_tokens = b->max_length = (uint32_t) ids.n;
        b->cu_seqlens[1] = (int32_t) ids.n;
        b->n_masked = 0;
        for (size_t i = 0; i < ids.n; i++) {
                b->ids[i] = owned[i];
                if (owned[i] == vocab_special(f->bundle.vocab, MASK))
                        b->masked_rows[b->n_masked++] = (int32_t) i;
        }
        if (b->n_masked == 0)
                return error_input(error, BERTD_EXIT_DATA, "no [MASK] in '%.60s'", text);
        return 0;
}

static bool is_among(uint32_t v, const uint32_t *chosen, uint64_t n) {
        for (uint64_t i = 0; i < n; i++)
                if (chosen[i] == v)
                        return true;
        return false;
}

/* softmax of one row, of all that the model has; the likeliest that has a token first, by repeated search: N is small. */
static void print_top(const struct fill_mask *f, const double *logits) {
        uint32_t rows = f->bundle.config.vocab_size, n = MIN(vocab_size(f->bundle.vocab), rows), chosen[TOP_MAX];
        double highest = -INFINITY, sum = 0;

        for (uint32_t v = 0; v < rows; v++)
                highest = fmax(highest, logits[v]);
        for (uint32_t v = 0; v < rows; v++)
                sum += exp(logits[v] - highest);
        for (uint64_t k = 0; k < MIN(f->top, (uint64_t) n); k++) {
                chosen[k] = UINT32_MAX;
                for (uint32_t v = 0; v < n; v++)
                        if ((chosen[k] == UINT32_MAX || logits[v] > logits[chosen[k]]) && !is_among(v, chosen, k) &&
                            vocab_token(f->bundle.vocab, (int32_t) v)[0])
                                chosen[k] = v;
                if (chosen[k] == UINT32_MAX)
                        break;
                (void) printf("%s%s %.3f", k > 0 ? "  " : "", vocab_token(f->bundle.vocab, (int32_t) chosen[k]),
                              exp(logits[chosen[k]] - highest) / sum);
        }
        (void) putchar('\n');
}

static int fill(struct fill_mask *f, const char *text, struct error *error) {
        const struct model_pass pass = { .mlm_scale = 1, .sentence_scale = 1 };
        struct model_loss loss = {};

        int r = fill_batch(f, text, error);
        if (r < 0)
                return r;
        model_evaluate(f->model, &f->batch, &pass, &loss);
        (void) printf("%s\n", text);
        for (uint32_t m = 0; m < f->batch.n_masked; m++) {
                (void) printf("  %u: ", m + 1);
                model_masked_logits(f->model, m, f->logits);
                print_top(f, f->logits);
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
        int r = bundle_open(&f->bundle, path, USE_MASKS, f->vocab_path, error);

        if (r >= 0)
                r = open_model(f, error);
        if (r >= 0)
                r = allocate_batch(f, error);
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
        release(&f);
        if (r >= 0 && fflush(stdout) == EOF)
                r = error_errno(&error, errno, "standard output");
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
