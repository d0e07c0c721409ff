/*
 * `bert-trainer prepare`: text to a corpus. Threads parse and encode blocks; one thread writes their sentences in the text's
 * order, so the corpus is the same at every number of threads. Which documents are held out is a function of their number.
 */
#include "trainer/commands/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/clock.h"
#include "common/corpus_prefix.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/commands/text_arguments.h"
#include "trainer/data/corpus_writer.h"
#include "trainer/text/documents.h"
#include "trainer/text/encoder.h"
#include "trainer/text/pipeline.h"
#include "trainer/text/unknown.h"
#include "trainer/text/vocab.h"

#define DOCUMENT_END UINT32_MAX
#define WIKITEXT_UNKNOWN "<unk>"

static const char HELP[] =
        "usage: bert-trainer prepare [OPTION...] --vocab FILE|--checkpoint FILE\n"
        "                            --output PREFIX [TEXT...]\n\n"
        "Makes a corpus of text: PREFIX.bin and PREFIX.idx (the indexed dataset of\n"
        "Megatron-LM) and PREFIX.json; without TEXT, or with -, from standard input.\n\n" VOCAB_ARGUMENTS_HELP
        "  -o, --output PREFIX       the corpus; an existing one is replaced at the end\n"
        "  -f, --format lines|prose|wikitext|jsonl\n"
        "                            lines: a sentence a line, a blank line between\n"
        "                            documents (default)\n"
        "                            prose: paragraphs, split into sentences; a document\n"
        "                            ends with the file, at two blank lines or at a form\n"
        "                            feed\n"
        "                            wikitext: files of WikiText\n"
        "                            jsonl: objects with \"text\", each a document\n"
        "      --validation FRACTION\n"
        "                            hold out about this part of the documents as\n"
        "                            PREFIX-validation\n" TEXT_ARGUMENTS_HELP
        "  -h, --help                print this help\n" SENTENCEPIECE_ARGUMENTS_HELP;

struct arguments {
        struct text_source source;
        const char *output;
        enum text_format format;
        double validation;
        struct text_arguments text;
};

/* What one block became: sentences with their lengths in tokens, DOCUMENT_END between documents. */
struct encoded {
        struct ids ids;
        uint32_t *marks;
        size_t n_marks, capacity;
        struct unknown unknown;
};

struct prepare {
        const struct arguments *arguments;
        const struct vocab *vocab;
        struct text_options options;
        struct encoder *encoder;
        struct corpus_writer *train, *validation; /* validation: NULL if none is held out */
        struct corpus_writer *open;               /* the one that takes the open document */
        uint64_t document;                        /* its number */
        struct unknown unknown;
};

/* A worker's state while it parses one block. */
struct worker {
        const struct prepare *prepare;
        int thread;
        struct encoded *encoded;
};

static int add_mark(struct encoded *encoded, uint32_t mark) {
        if (array_reserve(&encoded->marks, &encoded->capacity, encoded->n_marks + 1, sizeof(mark)) < 0)
                return -ENOMEM;
        encoded->marks[encoded->n_marks++] = mark;
        return 0;
}

static int encode_text(const struct worker *worker, const char *text, size_t size) {
        const struct encoder *encoder = worker->prepare->encoder;
        struct ids *ids = &worker->encoded->ids;
        size_t begin = ids->n;

        int r = encoder_encode(encoder, worker->thread, text, size, ids);
        return r < 0 ? r
                     : unknown_take(&worker->encoded->unknown, encoder, worker->thread, text, size, ids->data + begin,
                                    ids->n - begin);
}

/* In WikiText "<unk>" is the unknown token; everywhere else text is text. */
static int encode(const struct worker *worker, const char *text, size_t size) {
        const struct prepare *prepare = worker->prepare;
        struct ids *ids = &worker->encoded->ids;
        const size_t n_unknown = strlen(WIKITEXT_UNKNOWN);
        const char *found;

        while (prepare->arguments->format == TEXT_WIKITEXT &&
               (found = memmem(text, size, WIKITEXT_UNKNOWN, n_unknown))) {
                int r = encode_text(worker, text, (size_t) (found - text));
                if (r >= 0)
                        r = ids_append(ids, vocab_special(prepare->vocab, "[UNK]"));
                if (r < 0)
                        return r;
                size -= (size_t) (found - text) + n_unknown;
                text = found + n_unknown;
        }
        return encode_text(worker, text, size);
}

static int take_sentence(void *context, const char *text, size_t size) {
        const struct worker *worker = context;
        size_t begin = worker->encoded->ids.n;

        int r = encode(worker, text, size);
        if (r < 0 || worker->encoded->ids.n == begin)
                return r;
        return add_mark(worker->encoded, (uint32_t) (worker->encoded->ids.n - begin));
}

static int take_end(void *context) {
        const struct worker *worker = context;
        return add_mark(worker->encoded, DOCUMENT_END);
}

static int work(void *context, int thread, struct block *block, void *result, struct error *error) {
        const struct prepare *prepare = context;
        struct worker worker = { .prepare = prepare, .thread = thread, .encoded = result };
        const struct document_sink sink = { .context = &worker, .sentence = take_sentence, .end_document = take_end };

        worker.encoded->ids.n = worker.encoded->n_marks = 0;
        unknown_clear(&worker.encoded->unknown);
        if (block->begins_file && take_end(&worker) < 0)
                return -ENOMEM;
        return documents_parse(prepare->arguments->format, block, &sink, error);
}

static void encoded_free(void *result) {
        struct encoded *encoded = result;
        free(encoded->ids.data);
        free(encoded->marks);
        unknown_free(&encoded->unknown);
}

/* The same documents at every fraction that holds them, whatever the text. */
static struct corpus_writer *writer_of_document(const struct prepare *prepare) {
        if (!prepare->validation)
                return prepare->train;
        uint64_t hash = XXH3_64bits(&prepare->document, sizeof(prepare->document));
        bool held_out = (double) (hash >> 11) < prepare->arguments->validation * 0x1p53;
        return held_out ? prepare->validation : prepare->train;
}

static int end_document(struct prepare *prepare, struct error *error) {
        if (!prepare->open)
                return 0;
        int r = corpus_writer_end_document(prepare->open, error);
        prepare->open = NULL;
        prepare->document++;
        return r;
}

static int consume(void *context, const struct block *block, void *result, struct error *error) {
        struct prepare *prepare = context;
        const struct encoded *encoded = result;
        const int32_t *ids = encoded->ids.data;
        int r = 0;

        if (unknown_merge(&prepare->unknown, &encoded->unknown) < 0)
                return error_errno(error, ENOMEM, "cannot prepare");
        for (size_t i = 0; i < encoded->n_marks && r >= 0;) {
                size_t n = 0, n_ids = 0;
                if (encoded->marks[i] == DOCUMENT_END) {
                        r = end_document(prepare, error);
                        i++;
                        continue;
                }
                if (!prepare->open)
                        prepare->open = writer_of_document(prepare);
                for (; i + n < encoded->n_marks && encoded->marks[i + n] != DOCUMENT_END; n++)
                        n_ids += encoded->marks[i + n];
                r = corpus_writer_add(prepare->open, ids, encoded->marks + i, n, error);
                ids += n_ids;
                i += n;
        }
        return r;
}

static int check_not_empty(const struct prepare *prepare, struct error *error) {
        uint64_t n = corpus_writer_documents(prepare->train);

        if (n == 0 && corpus_writer_sentences(prepare->train) == 0 && !prepare->validation)
                return error_input(error, BERTD_EXIT_DATA, "no sentence in the text, expected at least one");
        if (prepare->validation && (n == 0 || corpus_writer_documents(prepare->validation) == 0))
                return error_input(error, BERTD_EXIT_DATA,
                                   "%" PRIu64
                                   " documents cannot be split by --validation %g, expected some on both sides",
                                   prepare->document, prepare->arguments->validation);
        return 0;
}

static int commit(struct prepare *prepare, struct error *error) {
        const struct arguments *arguments = prepare->arguments;
        struct corpus_sidecar sidecar = {
                .vocab_size = vocab_size(prepare->vocab),
                .options = prepare->options,
        };

        vocab_hash(prepare->vocab, sidecar.vocab_hash);
        (void) snprintf(sidecar.format, sizeof(sidecar.format), "%s", text_format_name(arguments->format));
        int r = corpus_writer_finish(prepare->train, error);
        if (r >= 0 && prepare->validation)
                r = corpus_writer_finish(prepare->validation, error);
        if (r >= 0 && prepare->validation)
                r = corpus_writer_commit(prepare->validation, &sidecar, error);
        return r < 0 ? r : corpus_writer_commit(prepare->train, &sidecar, error);
}

static int open_writers(struct prepare *prepare, struct error *error) {
        const struct arguments *arguments = prepare->arguments;
        uint32_t size = vocab_size(prepare->vocab);

        int r = corpus_writer_open(arguments->output, size, &prepare->train, error);
        if (r < 0 || arguments->validation == 0)
                return r;
        cleanup_free char *prefix = format_string("%s-validation", arguments->output);
        if (!prefix)
                return error_errno(error, ENOMEM, "%s", arguments->output);
        return corpus_writer_open(prefix, size, &prepare->validation, error);
}

static int open_encoder(struct prepare *prepare, struct error *error) {
        int r = encoder_new(prepare->vocab, &prepare->options, pipeline_threads(), &prepare->encoder);
        return r < 0 ? error_errno(error, -r, "cannot prepare") : 0;
}

static void prepare_close(struct prepare *prepare) {
        encoder_free(prepare->encoder);
        corpus_writer_free(prepare->train);
        corpus_writer_free(prepare->validation);
        unknown_free(&prepare->unknown);
}

static void report(const struct prepare *prepare, const struct reader *reader, uint64_t begin_usec) {
        double seconds = (double) (clock_monotonic_usec() - begin_usec) / (double) USEC_PER_SEC;
        uint64_t documents = corpus_writer_documents(prepare->train),
                 sentences = corpus_writer_sentences(prepare->train), tokens = corpus_writer_tokens(prepare->train);
        uint64_t held_out = prepare->validation ? corpus_writer_documents(prepare->validation) : 0;

        if (prepare->validation) {
                sentences += corpus_writer_sentences(prepare->validation);
                tokens += corpus_writer_tokens(prepare->validation);
        }
        text_findings_print(reader_findings(reader), stderr);
        unknown_print(&prepare->unknown, prepare->encoder, prepare->arguments->output, stderr);
        (void) fprintf(stderr,
                       "%s: %" PRIu64 " documents (%" PRIu64 " held out), %" PRIu64 " sentences, %" PRIu64
                       " tokens in %.2f s, %.0f tokens/s, %.1f MB/s\n",
                       prepare->arguments->output, documents + held_out, held_out, sentences, tokens, seconds,
                       (double) tokens / MAX(seconds, 1e-6), (double) reader_bytes(reader) / 1e6 / MAX(seconds, 1e-6));
}

static int run(struct prepare *prepare, struct reader *reader, struct error *error) {
        const struct pipeline pipeline = {
                .context = prepare,
                .result_size = sizeof(struct encoded),
                .work = work,
                .consume = consume,
                .result_free = encoded_free,
        };
        uint64_t begin_usec = clock_monotonic_usec();

        int r = open_encoder(prepare, error);
        if (r >= 0)
                r = open_writers(prepare, error);
        if (r >= 0)
                r = pipeline_run(&pipeline, reader, error);
        if (r >= 0)
                r = end_document(prepare, error);
        if (r >= 0)
                r = check_not_empty(prepare, error);
        if (r >= 0)
                r = commit(prepare, error);
        if (r >= 0)
                report(prepare, reader, begin_usec);
        return r;
}

static int check_prefix(const char *output, struct error *error) {
        size_t n = strlen(output), prefix = corpus_prefix_length(output);

        if (prefix > 0)
                return error_input(error, BERTD_EXIT_USAGE,
                                   "--output '%s': expected a prefix: %.*s writes %.*s.bin and .idx", output,
                                   (int) prefix, output, (int) prefix, output);
        if (n == 0 || output[n - 1] == '/')
                return error_input(error, BERTD_EXIT_USAGE,
                                   "--output '%s': expected a prefix: %scorpus writes %scorpus.bin and .idx", output,
                                   output, output);
        return 0;
}

static int take(void *context, int option, struct error *error) {
        struct arguments *arguments = context;

        if (text_arguments_take(&arguments->text, option))
                return 0;
        switch (option) {
        case 'v':
                arguments->source.vocab = optarg;
                return 0;
        case 'c':
                arguments->source.checkpoint = optarg;
                return 0;
        case 'o':
                arguments->output = optarg;
                return 0;
        case 'f':
                return text_format_choose(optarg, &arguments->format, error);
        default:
                if (parse_double(optarg, 1e-9, 0.5, &arguments->validation) >= 0)
                        return 0;
                return error_input(error, BERTD_EXIT_USAGE, "--validation %s: expected a fraction above 0, at most 0.5",
                                   optarg);
        }
}

static const struct usage usage = {
        .help = HELP,
        .letters = ":v:o:f:h",
        .options = (const struct option[]) { { "vocab", required_argument, NULL, 'v' },
                                             { "checkpoint", required_argument, NULL, 'c' },
                                             { "output", required_argument, NULL, 'o' },
                                             { "format", required_argument, NULL, 'f' },
                                             { "validation", required_argument, NULL, 'V' },
                                             { "help", no_argument, NULL, 'h' },
                                             TEXT_ARGUMENTS,
                                             {} },
        .max = INT_MAX,
        .take = take,
};

static int parse_arguments(int argc, char **argv, struct arguments *arguments, struct error *error) {
        int r = usage_parse(&usage, argc, argv, arguments, error);

        if (r == 0)
                r = text_source_check(&arguments->source, argv[0], error);
        if (r == 0 && !arguments->output)
                r = usage_missing("--output PREFIX", argv[0], error);
        return r == 0 ? check_prefix(arguments->output, error) : r;
}

int cmd_prepare(int argc, char **argv) {
        struct arguments arguments = { .text = TEXT_ARGUMENTS_DEFAULT };
        cleanup_vocab struct vocab *vocab = NULL;
        cleanup_reader struct reader *reader = NULL;
        struct prepare prepare = { .arguments = &arguments };
        struct error error = {};

        int r = parse_arguments(argc, argv, &arguments, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r >= 0)
                r = text_source_load(&arguments.source, &arguments.text, &vocab, &prepare.options, NULL, &error);
        if (r >= 0)
                r = text_arguments_reader(&arguments.text, argc, argv, text_format_cut(arguments.format), &reader,
                                          &error);
        if (r >= 0) {
                prepare.vocab = vocab;
                r = run(&prepare, reader, &error);
        }
        prepare_close(&prepare);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
