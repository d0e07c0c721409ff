/* See text_arguments.h. Stripping accents follows lowercasing unless it is given, as in BERT and Hugging Face;
 * ALBERT always strips. */
#include "trainer/commands/text_arguments.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/infer/bundle.h"

bool text_arguments_take(struct text_arguments *arguments, int value) {
        if (value < ARGUMENT_LOWERCASE || value >= ARGUMENT_MAX)
                return false;
        int yes = !(value & 1);
        switch (value & ~1) {
        case ARGUMENT_ENCODING:
                arguments->encoding = optarg;
                break;
        case ARGUMENT_LOWERCASE:
                arguments->lowercase = yes;
                break;
        case ARGUMENT_STRIP_ACCENTS:
                arguments->strip_accents = yes;
                break;
        case ARGUMENT_CHINESE:
                arguments->chinese = yes;
                break;
        case ARGUMENT_QUOTES:
                arguments->quotes = yes;
                break;
        default:
                arguments->nfkd = yes;
        }
        return true;
}

static bool given(int argument, bool otherwise) { return argument < 0 ? otherwise : argument; }

int text_arguments_options(const struct text_arguments *arguments, const struct vocab *vocab, struct text_options *ret,
                           struct error *error) {
        bool sentencepiece = vocab && vocab_sentencepiece(vocab);
        const struct text_options *own = vocab ? vocab_options(vocab) : NULL;

        if (sentencepiece && arguments->chinese >= 0)
                return error_input(error, BERTD_EXIT_USAGE, "--[no-]chinese: not with a SentencePiece model");
        if (!sentencepiece && (arguments->quotes >= 0 || arguments->nfkd >= 0))
                return error_input(error, BERTD_EXIT_USAGE, "--[no-]%s: only with a SentencePiece model",
                                   arguments->quotes >= 0 ? "quotes" : "nfkd");
        bool lowercase = given(arguments->lowercase, own ? own->lowercase : true);
        bool accents = own && arguments->lowercase < 0 ? own->strip_accents : lowercase || sentencepiece;
        *ret = (struct text_options) {
                .lowercase = lowercase,
                .strip_accents = given(arguments->strip_accents, accents),
                .chinese = !sentencepiece && given(arguments->chinese, own ? own->chinese : true),
                .quotes = sentencepiece && arguments->quotes != 0,
                .nfkd = sentencepiece && arguments->nfkd != 0,
        };
        return 0;
}

int text_source_check(const struct text_source *source, const char *command, struct error *error) {
        if (!source->vocab && !source->checkpoint)
                return usage_missing("--vocab FILE", command, error);
        if (source->vocab && source->checkpoint)
                return error_input(error, BERTD_EXIT_USAGE, "--checkpoint: not with --vocab: it has a vocabulary");
        return 0;
}

static bool any_given(const struct text_arguments *a) {
        return a->lowercase >= 0 || a->strip_accents >= 0 || a->chinese >= 0 || a->quotes >= 0 || a->nfkd >= 0;
}

/* What a kind of vocabulary does not know is off, as text_arguments_options has it. */
static int load_checkpoint(const struct text_source *source, struct vocab **ret, struct text_options *ret_options,
                           struct texts_options *ret_lengths, struct error *error) {
        int r = bundle_text(source->checkpoint, ret, ret_options, ret_lengths, error);

        if (r < 0)
                return r;
        bool sentencepiece = vocab_sentencepiece(*ret);
        ret_options->chinese = ret_options->chinese && !sentencepiece;
        ret_options->quotes = ret_options->quotes && sentencepiece;
        ret_options->nfkd = ret_options->nfkd && sentencepiece;
        return 0;
}

int text_source_load(const struct text_source *source, const struct text_arguments *arguments, struct vocab **ret,
                     struct text_options *ret_options, struct texts_options *ret_lengths, struct error *error) {
        if (source->checkpoint && any_given(arguments))
                return error_input(error, BERTD_EXIT_USAGE,
                                   "--checkpoint: sets how text is folded; leave out --[no-]lowercase etc.");
        if (source->checkpoint)
                return load_checkpoint(source, ret, ret_options, ret_lengths, error);
        int r = vocab_load(source->vocab, ret, error);
        if (r >= 0)
                vocab_print_notes(*ret, stderr);
        return r < 0 ? r : text_arguments_options(arguments, *ret, ret_options, error);
}

int text_encoding(const char *name, enum data_encoding *ret, struct error *error) {
        static const char *const names[ENCODING_MAX] = DATA_ENCODING_NAMES;
        int encoding = usage_choice("--encoding", name, names, ENCODING_MAX, error);

        if (encoding < 0) {
                const struct error choice = *error;
                *error = (struct error) {};
                return error_input(error, BERTD_EXIT_USAGE, "%s; iconv converts others", choice.text);
        }
        *ret = (enum data_encoding) encoding;
        return 0;
}

int text_arguments_reader(const struct text_arguments *arguments, int argc, char **argv, enum reader_cut cut,
                          struct reader **ret, struct error *error) {
        enum data_encoding encoding = ENCODING_UTF8;

        int r = arguments->encoding ? text_encoding(arguments->encoding, &encoding, error) : 0;
        return r < 0 ? r : reader_open(argv + optind, (size_t) (argc - optind), cut, encoding, ret, error);
}
