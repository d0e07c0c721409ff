/*
 * `bert-trainer embed`: a vector for each text, from a layer of any checkpoint's encoder: JSON lines, or the rows of a NumPy array. Owns the
 * open checkpoint and the output, which has its name only once it is whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/file_arguments.h"
#include "trainer/commands/json_line.h"

#define NPY_HEADER 128 /* bytes; a multiple of 64, so that the rows are aligned */

static const char HELP[] =
        "usage: bert-trainer embed [OPTION...] CHECKPOINT [FILE]\n\n"
        "Prints a vector for each line (csv: row) as they come: {\"embedding\": [...]}, or\n"
        "{\"embedding\": null, \"reason\": ...} for one without text. FILE is csv, tsv or\n"
        "jsonl with the columns of its training, else text, or txt, a text a line, as is\n"
        "standard input.\n\n"
        "      --pooling cls|mean\n"
        "                        of which tokens: [CLS], or the mean of all, [CLS] and\n"
        "                        [SEP] too (default: mean)\n"
        "      --layer N         the layer whose output is taken, as transformers'\n"
        "                        hidden_states: 0 embeddings, -1 the last (the default)\n"
        "  -o, --output FILE     FILE.npy: an array of a row a text, fp32; FILE.jsonl\n"
        "                        (default: standard output, as JSON lines)\n"
        "      --sequence-length N\n"
        "                        tokens of a text, at most (default: as in its training)\n" FILE_ARGUMENTS_HELP
        "  -h, --help            print this help\n";

enum pooling { POOLING_CLS, POOLING_MEAN, POOLING_MAX };
static const char *const poolings[POOLING_MAX] = { "cls", "mean" };

struct embed {
        struct text_model_options options;
        int pooling;
        int64_t layer;
        uint32_t n_layers;  /* that are computed */
        const char *output; /* NULL: standard output */
        bool npy;
        char *temporary; /* its name until it is whole */
        FILE *to;
        uint64_t rows, n_cut;        /* written; that were longer than the model's length */
        uint64_t n_none, first_none; /* lines without text, and the first's number */
        char none[128];              /* its reason */
        struct text_model model;
        struct text_findings bytes;
        uint64_t invalid[TEXT_MODEL_BATCH]; /* bytes left out of each text at hand */
        double *vector;                     /* (width) */
};

/* ---- the output ---- */

/* The format's version 1.0: magic, length of the rest, a literal of Python padded with spaces. */
static int write_header(struct embed *f, struct error *error) {
        const char order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
        char header[NPY_HEADER], text[NPY_HEADER];

        (void) snprintf(text, sizeof(text), "{'descr': '%cf4', 'fortran_order': False, 'shape': (%" PRIu64 ", %u), }",
                        order, f->rows, f->model.width);
        memset(header, ' ', sizeof(header));
        memcpy(header, "\x93NUMPY\1\0", 8);
        header[8] = NPY_HEADER - 10;
        header[9] = 0;
        memcpy(header + 10, text, strlen(text));
        header[NPY_HEADER - 1] = '\n';
        return fseek(f->to, 0, SEEK_SET) < 0 || fwrite(header, 1, NPY_HEADER, f->to) != NPY_HEADER
                       ? error_output(error, errno, f->output)
                       : 0;
}

static int open_output(struct embed *f, struct error *error) {
        if (!f->output) {
                f->to = stdout;
                return 0;
        }
        int r = file_check_writable(f->output, error);
        if (r < 0)
                return r;
        cleanup_free char *temporary = format_string("%s.tmp", f->output);
        if (!temporary)
                return error_errno(error, ENOMEM, "%s", f->output);
        cleanup_close int fd = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        r = fd < 0 ? -errno : file_claim(fd, temporary);
        if (r == -EWOULDBLOCK)
                return error_input(error, BERTD_EXIT_IO, "%s: another process writes it; wait until it ends",
                                   f->output);
        if (r < 0)
                return error_output(error, -r, f->output);
        f->to = fdopen(fd, "w");
        if (!f->to)
                return error_output(error, errno, f->output);
        (void) steal_fd(&fd);
        f->temporary = steal_pointer(&temporary);
        return f->npy ? write_header(f, error) : 0;
}

static int finish_output(struct embed *f, struct error *error) {
        if (!f->output)
                return 0;
        int r = f->npy ? write_header(f, error) : 0;
        if (r < 0)
                return r;
        if (fflush(f->to) == EOF || fsync(fileno(f->to)) < 0 || rename(f->temporary, f->output) < 0)
                return error_output(error, errno, f->output);
        free(f->temporary);
        f->temporary = NULL;
        r = fsync_parent(f->output);
        return r < 0 ? error_output(error, -r, f->output) : 0;
}

static int write_failed(const struct embed *f, int code, struct error *error) {
        return f->output ? error_output(error, code, f->output) : error_errno(error, code, "standard output");
}

static int write_line(struct embed *f, json_t *line, uint64_t invalid, struct error *error) {
        if (invalid > 0)
                (void) json_object_set_new(line, "invalid_bytes", json_integer((json_int_t) invalid));
        int r = json_line(line, JSON_COMPACT | JSON_REAL_PRECISION(9), f->to);
        return r < 0 ? write_failed(f, -r, error) : 0;
}

static int write_vector(struct embed *f, uint64_t invalid, struct error *error) {
        json_t *numbers = f->npy ? NULL : json_array();

        f->rows++;
        for (uint32_t i = 0; i < f->model.width; i++) {
                float number = (float) f->vector[i];
                if (numbers)
                        (void) json_array_append_new(numbers, json_real((double) number));
                else if (fwrite(&number, sizeof(number), 1, f->to) != 1)
                        return write_failed(f, errno, error);
        }
        return numbers ? write_line(f, json_pack("{s:o}", "embedding", numbers), invalid, error) : 0;
}

/* ---- texts ---- */

static void pool_cls(struct embed *f, const struct text_hidden *hidden) {
        uint32_t width = f->model.width;

        for (uint32_t s = 0; s < hidden->n_sequences; s++) {
                const double *row = hidden->rows + (size_t) (hidden->begin[s] - hidden->begin[0]) * width;
                for (uint32_t i = 0; i < width; i++)
                        f->vector[i] += row[i] / hidden->n_sequences;
        }
}

static void pool_mean(struct embed *f, const struct text_hidden *hidden) {
        uint32_t width = f->model.width;

        for (uint32_t t = 0; t < hidden->n_tokens; t++)
                for (uint32_t i = 0; i < width; i++)
                        f->vector[i] += hidden->rows[(size_t) t * width + i];
        for (uint32_t i = 0; i < width; i++)
                f->vector[i] /= hidden->n_tokens;
}

static int take_text(void *context, uint64_t index, const struct text_hidden *hidden, struct error *error) {
        struct embed *f = context;

        memset(f->vector, 0, f->model.width * sizeof(*f->vector));
        (f->pooling == POOLING_CLS ? pool_cls : pool_mean)(f, hidden);
        f->n_cut += texts_is_cut(f->model.texts, index);
        return write_vector(f, f->invalid[index], error);
}

static int run_texts(struct embed *f, struct error *error) {
        int r = text_model_encode(&f->model, f->n_layers, take_text, f, error);

        texts_clear(f->model.texts);
        if (r >= 0 && !f->output && fflush(stdout) == EOF)
                r = error_errno(error, errno, "standard output");
        return r;
}

/* A line without text: an array has no row for it. `reason` may be cut anywhere. */
static int write_none(struct embed *f, const char *path, const struct record *record, const char *reason,
                      struct error *error) {
        cleanup_free char *text = strdup(reason);
        struct invalid_bytes cut = {};

        if (!text)
                return error_errno(error, ENOMEM, "a reason");
        text[text_clean(text, strlen(text), 1, &cut)] = '\0';
        if (f->npy)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s:%" PRIu64 ": no text (%s), so no row of %s; FILE.jsonl has null for it", path,
                                   record->line, text, f->output);
        if (f->n_none++ == 0) {
                f->first_none = record->line;
                (void) snprintf(f->none, sizeof(f->none), "%.120s", text);
        }
        int r = run_texts(f, error); /* those before it */
        return r < 0 ? r
                     : write_line(f, json_pack("{s:n, s:s}", "embedding", "reason", text), record->n_invalid, error);
}

static int take_record(struct embed *f, const char *path, const struct record *record, struct error *error) {
        int r = record->problem ? 0 : texts_take(f->model.texts, path, record, NULL, false, error);

        if (r < 0)
                return r;
        if (r == 0)
                return write_none(f, path, record, record->problem ? record->problem : "empty", error);
        f->invalid[texts_n(f->model.texts) - 1] = record->n_invalid;
        return 0;
}

static int run_file(struct embed *f, const char *path, const char *shown, struct error *error) {
        cleanup_records struct records *records = NULL;
        struct records_options options;
        struct record record;

        int r = text_model_records(&f->model, &f->options, path, true, &options, error);
        if (r >= 0)
                r = records_open(path, &options, &records, error);
        while (r >= 0 && (r = records_next(records, &record, error)) > 0) {
                r = take_record(f, shown, &record, error);
                if (r >= 0 && (texts_n(f->model.texts) == TEXT_MODEL_BATCH || records_would_wait(records)))
                        r = run_texts(f, error);
        }
        if (r >= 0)
                r = run_texts(f, error);
        if (r >= 0)
                (void) records_finish(records, &f->bytes, NULL); /* each line has it */
        return r;
}

/* ---- the command ---- */

static int set_output(struct embed *f, struct error *error) {
        f->output = strcmp(optarg, SPEC_STDIN) == 0 ? NULL : optarg;
        f->npy = f->output && text_ends_with(f->output, ".npy");
        if (!f->output || f->npy || text_ends_with(f->output, ".jsonl"))
                return 0;
        return error_input(error, BERTD_EXIT_USAGE, "--output: '%.256s', expected FILE.npy or FILE.jsonl", optarg);
}

static int take(void *context, int option, struct error *error) {
        struct embed *f = context;
        uint64_t length;

        switch (option) {
        case 'p':
                f->pooling = usage_choice("--pooling", optarg, poolings, POOLING_MAX, error);
                return MIN(f->pooling, 0);
        case 'y':
                return parse_i64(optarg, INT32_MIN, INT32_MAX, &f->layer) < 0
                               ? error_input(error, BERTD_EXIT_USAGE, "--layer: '%.64s', expected a whole number",
                                             optarg)
                               : 0;
        case 'o':
                return set_output(f, error);
        case 'n':
                if (parse_u64(optarg, TEXTS_LENGTH_MIN, INT32_MAX, &length) < 0)
                        return error_input(error, BERTD_EXIT_USAGE,
                                           "--sequence-length: '%.64s', expected %d to %d tokens", optarg,
                                           TEXTS_LENGTH_MIN, INT32_MAX);
                f->options.sequence_length = (uint32_t) length;
                return 0;
        default:
                return file_argument(option, &f->options, error);
        }
}

/* As transformers counts hidden_states, from either end. */
static int set_layer(struct embed *f, const char *path, struct error *error) {
        int64_t all = config_n_layers(&f->model.bundle.config), n = f->layer < 0 ? f->layer + all + 1 : f->layer;

        if (n < 0 || n > all)
                return error_input(error, BERTD_EXIT_USAGE,
                                   "--layer: %" PRId64 ", but %s has %" PRId64 " layers: expected 0 to %" PRId64
                                   ", or -1 to -%" PRId64,
                                   f->layer, path, all, all, all + 1);
        f->n_layers = (uint32_t) n;
        f->vector = calloc(f->model.width, sizeof(*f->vector));
        return f->vector ? 0 : error_errno(error, ENOMEM, "a vector");
}

static int run_all(struct embed *f, const char *path, const char *file, struct error *error) {
        const char *shown = strcmp(file, SPEC_STDIN) == 0 ? "standard input" : file;

        int r = text_model_open(&f->model, path, &f->options, error);
        if (r >= 0)
                r = set_layer(f, path, error);
        if (r >= 0)
                r = open_output(f, error);
        if (r >= 0)
                r = run_file(f, file, shown, error);
        if (r >= 0 && f->n_none > 0 && f->rows == 0)
                r = error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": no text (%s), as in all %" PRIu64 " lines",
                                shown, f->first_none, f->none, f->n_none);
        if (r >= 0)
                r = finish_output(f, error);
        if (r < 0)
                return r;
        if (f->n_none > 0)
                (void) fprintf(stderr, "bert-trainer: %s:%" PRIu64 ": no text, the first of %" PRIu64 " such lines\n",
                               shown, f->first_none, f->n_none);
        text_findings_print(&f->bytes, stderr);
        texts_print_unknown(f->model.texts, shown, stderr);
        if (f->n_cut > 0)
                (void) fprintf(stderr, "bert-trainer: %s: %" PRIu64 " texts of more than %u tokens were cut\n", shown,
                               f->n_cut, f->model.bundle.lengths.sequence_length);
        return 0;
}

static void release(struct embed *f) {
        if (f->temporary) /* still locked */
                (void) unlink(f->temporary);
        if (f->output && f->to)
                (void) fclose(f->to);
        free(f->temporary);
        free(f->vector);
        text_model_close(&f->model);
}

static const struct usage usage = {
        .help = HELP,
        .letters = ":o:h",
        .options = (const struct option[]) { FILE_ARGUMENTS,
                                             { "pooling", required_argument, NULL, 'p' },
                                             { "layer", required_argument, NULL, 'y' },
                                             { "output", required_argument, NULL, 'o' },
                                             { "sequence-length", required_argument, NULL, 'n' },
                                             { "help", no_argument, NULL, 'h' },
                                             {} },
        .min = 1,
        .max = 2,
        .words = "CHECKPOINT",
        .take = take,
};

int cmd_embed(int argc, char **argv) {
        struct embed f = { .options = FILE_ARGUMENTS_DEFAULT, .pooling = POOLING_MEAN, .layer = -1 };
        struct error error = {};

        f.options.encoder = true;
        int r = usage_parse(&usage, argc, argv, &f, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0)
                r = run_all(&f, argv[optind], argc - optind == 2 ? argv[optind + 1] : SPEC_STDIN, &error);
        release(&f);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
