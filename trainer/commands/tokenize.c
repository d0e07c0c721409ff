/*
 * `bert-trainer tokenize`: one line of text in, one line of tokens or ids out, as Hugging Face's BERT tokenizers give them
 * without [CLS] and [SEP]. Special tokens in the text are themselves, as there.
 * With a SentencePiece model: as spm_encode after ALBERT's preprocessing, where special tokens are plain text. Pairs are pairs.c's.
 */
#include "trainer/commands/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/commands/pairs.h"
#include "trainer/commands/text_arguments.h"
#include "trainer/text/encoder.h"
#include "trainer/text/pipeline.h"
#include "trainer/text/unknown.h"
#include "trainer/text/vocab.h"

#define ID_DIGITS_MAX 11

static const char HELP[] =
        "usage: bert-trainer tokenize [OPTION...] --vocab FILE|--checkpoint FILE\n"
        "                             [TEXT...]\n\n"
        "Prints the tokens of each line of text; without TEXT, or with -, of standard\n"
        "input.\n\n" VOCAB_ARGUMENTS_HELP "  -i, --ids                 print ids instead of tokens\n"
        "      --pair                a line is two texts with a tab between: print their\n"
        "                            sequence and its segments as JSON\n"
        "      --sequence-length N   with --pair: at most N tokens, by longest_first\n"
        "                            (default: the checkpoint's, else any number)\n" TEXT_ARGUMENTS_HELP
        "  -h, --help                print this help\n" SENTENCEPIECE_ARGUMENTS_HELP;

struct tokenize {
        const struct vocab *vocab;
        struct encoder *encoder;
        bool pieces; /* SentencePiece's, in which what is unknown is itself */
        bool ids;
        struct unknown unknown;
};

/* One block's output; a growing text. */
struct output {
        struct ids ids;
        struct unknown unknown;
        char *text;
        size_t size, capacity;
};

static int reserve(struct output *output, size_t more) {
        return array_reserve(&output->text, &output->capacity, output->size + more, 1);
}

static size_t format_id(int32_t id, char *to) {
        char digits[ID_DIGITS_MAX];
        size_t n = 0;

        do
                digits[n++] = (char) ('0' + id % 10);
        while ((id /= 10) > 0);
        for (size_t i = 0; i < n; i++)
                to[i] = digits[n - 1 - i];
        return n;
}

static int put_ids(const struct tokenize *tokenize, struct output *output) {
        for (size_t i = 0; i < output->ids.n; i++) {
                const char *token = vocab_token(tokenize->vocab, output->ids.data[i]);
                size_t size = tokenize->ids ? ID_DIGITS_MAX : strlen(token);
                if (reserve(output, size + 1) < 0)
                        return -ENOMEM;
                if (i > 0)
                        output->text[output->size++] = ' ';
                if (tokenize->ids)
                        size = format_id(output->ids.data[i], output->text + output->size);
                else
                        memcpy(output->text + output->size, token, size);
                output->size += size;
        }
        return 0;
}

static int put_pieces(const struct tokenize *tokenize, int thread, const char *line, size_t size,
                      struct output *output) {
        cleanup_free char *pieces = NULL;
        int r = encoder_pieces(tokenize->encoder, thread, line, size, &pieces);
        if (r >= 0)
                r = reserve(output, strlen(pieces));
        if (r < 0)
                return r;
        memcpy(output->text + output->size, pieces, strlen(pieces));
        output->size += strlen(pieces);
        return 0;
}

/* SentencePiece does not mark unknown pieces: they are those that no id has. */
static int count_unknown(const struct tokenize *tokenize, int thread, const char *line, size_t size,
                         struct output *output) {
        int r = 0;

        if (tokenize->pieces) {
                output->ids.n = 0;
                r = encoder_encode(tokenize->encoder, thread, line, size, &output->ids);
        }
        return r < 0 ? r
                     : unknown_take(&output->unknown, tokenize->encoder, thread, line, size, output->ids.data,
                                    output->ids.n);
}

static int put_line(const struct tokenize *tokenize, int thread, const char *line, size_t size, struct output *output) {
        if (tokenize->pieces)
                return size == 0 ? 0 : put_pieces(tokenize, thread, line, size, output);
        output->ids.n = 0;
        int r = encoder_encode_special(tokenize->encoder, thread, line, size, &output->ids);
        return r < 0 ? r : put_ids(tokenize, output);
}

static int work(void *context, int thread, struct block *block, void *result, struct error *error) {
        const struct tokenize *tokenize = context;
        struct output *output = result;
        const char *line = block->text, *end = block->text + block->size;

        output->size = 0;
        unknown_clear(&output->unknown);
        while (line < end) {
                const char *line_end = memchr(line, '\n', (size_t) (end - line));
                int r = put_line(tokenize, thread, line, (size_t) (line_end - line), output);
                if (r >= 0)
                        r = count_unknown(tokenize, thread, line, (size_t) (line_end - line), output);
                if (r >= 0)
                        r = reserve(output, 1);
                if (r < 0)
                        return r;
                output->text[output->size++] = '\n';
                line = line_end + 1;
        }
        return 0;
}

static int consume(void *context, const struct block *block, void *result, struct error *error) {
        struct tokenize *tokenize = context;
        const struct output *output = result;
        int r = write_all(STDOUT_FILENO, output->text, output->size);
        if (r >= 0)
                r = unknown_merge(&tokenize->unknown, &output->unknown);
        return r < 0 ? error_errno(error, -r, "standard output") : 0;
}

static void output_free(void *result) {
        struct output *output = result;
        free(output->ids.data);
        free(output->text);
        unknown_free(&output->unknown);
}

static int run(struct tokenize *tokenize, const struct text_options *options, struct reader *reader,
               struct error *error) {
        const struct pipeline pipeline = {
                .context = tokenize,
                .result_size = sizeof(struct output),
                .work = work,
                .consume = consume,
                .result_free = output_free,
        };

        int r = encoder_new(tokenize->vocab, options, pipeline_threads(), &tokenize->encoder);
        if (r < 0)
                return error_errno(error, -r, "cannot tokenize");
        return pipeline_run(&pipeline, reader, error);
}

struct arguments {
        struct text_source source;
        bool ids, pair;
        uint64_t sequence_length; /* 0: not given */
        struct text_arguments text;
};

static int take(void *context, int option, struct error *error) {
        struct arguments *arguments = context;

        if (text_arguments_take(&arguments->text, option))
                return 0;
        if (option == 'v')
                arguments->source.vocab = optarg;
        else if (option == 'c')
                arguments->source.checkpoint = optarg;
        else if (option == 'p')
                arguments->pair = true;
        else if (option == 'i')
                arguments->ids = true;
        else if (parse_u64(optarg, TEXTS_LENGTH_MIN, INT32_MAX, &arguments->sequence_length) < 0)
                return error_input(error, BERTD_EXIT_USAGE, "--sequence-length: '%.64s', expected %d to %d tokens",
                                   optarg, TEXTS_LENGTH_MIN, INT32_MAX);
        return 0;
}

static const struct usage usage = {
        .help = HELP,
        .letters = ":v:ih",
        .options = (const struct option[]) { { "vocab", required_argument, NULL, 'v' },
                                             { "checkpoint", required_argument, NULL, 'c' },
                                             { "ids", no_argument, NULL, 'i' },
                                             { "pair", no_argument, NULL, 'p' },
                                             { "sequence-length", required_argument, NULL, 'l' },
                                             { "help", no_argument, NULL, 'h' },
                                             TEXT_ARGUMENTS,
                                             {} },
        .max = INT_MAX,
        .take = take,
};

static int run_pairs(const struct arguments *arguments, struct pairs_options *options, char **files, int n_files,
                     struct error *error) {
        int r = arguments->text.encoding ? text_encoding(arguments->text.encoding, &options->encoding, error) : 0;

        if (arguments->sequence_length > 0)
                options->lengths.sequence_length = (uint32_t) arguments->sequence_length;
        options->ids = arguments->ids;
        return r < 0 ? r : pairs_print(options, files, n_files, error);
}

static int run_lines(const struct arguments *arguments, struct tokenize *tokenize, const struct text_options *options,
                     int argc, char **argv, struct error *error) {
        cleanup_reader struct reader *reader = NULL;

        int r = text_arguments_reader(&arguments->text, argc, argv, READER_LINES, &reader, error);
        if (r >= 0)
                r = run(tokenize, options, reader, error);
        if (r >= 0) {
                text_findings_print(reader_findings(reader), stderr);
                unknown_print(&tokenize->unknown, tokenize->encoder, "the text", stderr);
        }
        return r;
}

int cmd_tokenize(int argc, char **argv) {
        struct arguments arguments = { .text = TEXT_ARGUMENTS_DEFAULT };
        cleanup_vocab struct vocab *vocab = NULL;
        struct pairs_options pairs = { .lengths.sequence_length = INT32_MAX };
        struct tokenize tokenize = {};
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &arguments, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0)
                r = text_source_check(&arguments.source, argv[0], &error);
        if (r == 0 && arguments.sequence_length > 0 && !arguments.pair)
                r = error_input(&error, BERTD_EXIT_USAGE, "--sequence-length: has no effect without --pair");
        if (r >= 0)
                r = text_source_load(&arguments.source, &arguments.text, &vocab, &pairs.text, &pairs.lengths, &error);
        pairs.vocab = tokenize.vocab = vocab;
        tokenize.ids = arguments.ids;
        if (r >= 0 && arguments.pair)
                r = run_pairs(&arguments, &pairs, argv + optind, argc - optind, &error);
        else if (r >= 0) {
                tokenize.pieces = vocab_sentencepiece(vocab) && !arguments.ids && vocab_added(vocab)->n == 0;
                r = run_lines(&arguments, &tokenize, &pairs.text, argc, argv, &error);
        }
        unknown_free(&tokenize.unknown);
        encoder_free(tokenize.encoder);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
