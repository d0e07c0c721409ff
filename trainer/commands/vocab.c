/* `bert-trainer vocab`: counts the words of a text on all threads, then learns a WordPiece vocabulary from them. */
#include "trainer/commands/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/commands/text_arguments.h"
#include "trainer/text/basic.h"
#include "trainer/text/documents.h"
#include "trainer/text/pipeline.h"
#include "trainer/text/vocab_learn.h"

static const char HELP[] =
        "usage: bert-trainer vocab [OPTION...] --output FILE [TEXT...]\n\n"
        "Learns a WordPiece vocabulary from files of text; without TEXT, or with -, from\n"
        "standard input.\n\n"
        "  -o, --output FILE         the vocabulary to write, one token a line\n"
        "  -s, --size N              number of tokens, special ones included\n"
        "                            (default: 30000)\n"
        "      --alphabet N          keep the N most common characters\n"
        "                            (default: 1000, fewer for a small vocabulary)\n"
        "      --min-frequency N     merge only pairs seen at least N times (default: 2)\n"
        "  -f, --format lines|prose|wikitext|jsonl\n"
        "                            read text as prepare does (default: as it is)\n" TEXT_ARGUMENTS_HELP
        "  -h, --help                print this help\n";

#define SIZE_DEFAULT 30000

struct arguments {
        const char *output;
        struct vocab_learn_settings settings;
        bool has_format;
        enum text_format format;
        struct text_arguments text;
};

struct counting {
        const struct arguments *arguments;
        struct basic *basic;
        struct word_counts counts;
};

struct worker {
        const struct basic *basic;
        struct word_counts *counts;
};

static int count_word(void *context, const struct word *word) {
        if (word->n_chars > WORD_CHARS_MAX)
                return 0;
        return word_counts_add(context, word->bytes, word->n_bytes, 1);
}

static int count_text(void *context, const char *text, size_t size) {
        const struct worker *worker = context;
        return basic_split(worker->basic, text, size, count_word, worker->counts);
}

static int no_end(void *context) { return 0; }

static int work(void *context, int thread, struct block *block, void *result, struct error *error) {
        const struct counting *counting = context;
        struct worker worker = { .basic = counting->basic, .counts = result };
        const struct document_sink sink = { .context = &worker, .sentence = count_text, .end_document = no_end };

        word_counts_clear(result);
        if (!counting->arguments->has_format)
                return count_text(&worker, block->text, block->size);
        return documents_parse(counting->arguments->format, block, &sink, error);
}

static int consume(void *context, const struct block *block, void *result, struct error *error) {
        struct counting *counting = context;
        return word_counts_merge(&counting->counts, result) < 0 ? error_errno(error, ENOMEM, "cannot count words") : 0;
}

static void counts_free(void *result) { word_counts_free(result); }

static int count(struct counting *counting, struct reader *reader, struct error *error) {
        const struct pipeline pipeline = {
                .context = counting,
                .result_size = sizeof(struct word_counts),
                .work = work,
                .consume = consume,
                .result_free = counts_free,
        };
        struct text_options options;

        int r = text_arguments_options(&counting->arguments->text, NULL, &options, error);
        if (r < 0)
                return r;
        if (basic_new(&options, &counting->basic) < 0)
                return error_errno(error, ENOMEM, "cannot count words");
        return pipeline_run(&pipeline, reader, error);
}

static int run(struct counting *counting, struct reader *reader, struct error *error) {
        const struct arguments *arguments = counting->arguments;
        uint64_t begin_usec = clock_monotonic_usec();
        cleanup_free char *text = NULL;
        uint32_t n;

        int r = file_check_writable(arguments->output, error);
        if (r >= 0)
                r = count(counting, reader, error);
        if (r >= 0)
                r = vocab_learn(&counting->counts, &arguments->settings, &text, &n, error);
        if (r >= 0)
                r = file_write_atomic(arguments->output, text, strlen(text), 0666, error);
        if (r < 0)
                return r;
        text_findings_print(reader_findings(reader), stderr);
        (void) fprintf(stderr, "%s: %u tokens from %zu distinct words of %.1f MB in %.2f s%s\n", arguments->output, n,
                       counting->counts.n, (double) reader_bytes(reader) / 1e6,
                       (double) (clock_monotonic_usec() - begin_usec) / (double) USEC_PER_SEC,
                       n < arguments->settings.size ? " (the text has no more pairs)" : "");
        return 0;
}

static int parse_number(const char *option, uint64_t min, uint64_t max, uint64_t *ret, struct error *error) {
        if (parse_u64(optarg, min, max, ret) < 0)
                return error_input(error, BERTD_EXIT_USAGE, "%s %s: expected a number from %" PRIu64 " to %" PRIu64,
                                   option, optarg, min, max);
        return 0;
}

static int take(void *context, int option, struct error *error) {
        struct arguments *arguments = context;
        uint64_t number = 0;
        int r = 0;

        if (text_arguments_take(&arguments->text, option))
                return 0;
        switch (option) {
        case 'o':
                arguments->output = optarg;
                return 0;
        case 's':
                r = parse_number("--size", VOCAB_LEARN_SIZE_MIN, VOCAB_LEARN_SIZE_MAX, &number, error);
                arguments->settings.size = (uint32_t) number;
                return r;
        case 'a':
                r = parse_number("--alphabet", 1, VOCAB_LEARN_SIZE_MAX, &number, error);
                arguments->settings.alphabet = (uint32_t) number;
                return r;
        case 'm':
                return parse_number("--min-frequency", 1, UINT32_MAX, &arguments->settings.min_frequency, error);
        default:
                arguments->has_format = true;
                return text_format_choose(optarg, &arguments->format, error);
        }
}

static const struct usage usage = {
        .help = HELP,
        .letters = ":s:o:f:h",
        .options = (const struct option[]) { { "size", required_argument, NULL, 's' },
                                             { "output", required_argument, NULL, 'o' },
                                             { "alphabet", required_argument, NULL, 'a' },
                                             { "min-frequency", required_argument, NULL, 'm' },
                                             { "format", required_argument, NULL, 'f' },
                                             { "help", no_argument, NULL, 'h' },
                                             TEXT_ARGUMENTS,
                                             {} },
        .max = INT_MAX,
        .take = take,
};

int cmd_vocab(int argc, char **argv) {
        struct arguments arguments = { .settings.size = SIZE_DEFAULT, .text = TEXT_ARGUMENTS_DEFAULT };
        struct counting counting = { .arguments = &arguments };
        cleanup_reader struct reader *reader = NULL;
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &arguments, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0 && !arguments.output)
                r = usage_missing("--output FILE", argv[0], &error);
        enum reader_cut cut = arguments.has_format ? text_format_cut(arguments.format) : READER_LINES;
        if (r >= 0)
                r = text_arguments_reader(&arguments.text, argc, argv, cut, &reader, &error);
        if (r >= 0)
                r = run(&counting, reader, &error);
        word_counts_free(&counting.counts);
        free(counting.basic);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
