/* See arguments.h. Stripping accents follows lowercasing where it is not given, as in BERT and Hugging Face;
 * ALBERT always strips. */
#include "trainer/text/arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"

bool text_arguments_take(struct text_arguments *arguments, int value) {
        if (value < ARGUMENT_LOWERCASE || value >= ARGUMENT_MAX)
                return false;
        int yes = !(value & 1);
        switch (value & ~1) {
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

void warn_of_notes(const struct vocab *vocab) {
        const char *line = vocab ? vocab_notes(vocab) : NULL;

        while (line && *line) {
                size_t n = strcspn(line, "\n");
                (void) fprintf(stderr, "%s: %.*s\n", program_invocation_short_name, (int) n, line);
                line += n + (line[n] == '\n');
        }
}

void warn_of_cuts(const struct reader *reader) {
        const char *first;
        uint64_t n = reader_cuts(reader, &first);
        if (n > 0)
                (void) fprintf(stderr, "%s: cut lines of more than %zu KiB %" PRIu64 " times, first at %s\n",
                               program_invocation_short_name, READER_LINE_BYTES_MAX >> 10, n, first ? first : "?");
}
