/* The options that vocab, tokenize and prepare have in common. */
#ifndef TRAINER_COMMANDS_TEXT_ARGUMENTS_H
#define TRAINER_COMMANDS_TEXT_ARGUMENTS_H

#include <getopt.h>
#include <stdbool.h>

#include "trainer/data/examples.h"
#include "trainer/text/reader.h"
#include "trainer/text/unicode.h"
#include "trainer/text/vocab.h"

/* Values that getopt_long returns for them; a command's own options use characters. */
enum {
        ARGUMENT_LOWERCASE = 256,
        ARGUMENT_STRIP_ACCENTS = 258,
        ARGUMENT_CHINESE = 260,
        ARGUMENT_QUOTES = 262,
        ARGUMENT_NFKD = 264,
        ARGUMENT_ENCODING = 266,
        ARGUMENT_MAX
};

/* --[no-]lowercase, --[no-]strip-accents, --[no-]chinese, --[no-]quotes, --[no-]nfkd: the odd value is the "no" of
 * the even one; --encoding. */
#define TEXT_ARGUMENTS                                                                                                 \
        { "lowercase", no_argument, NULL, ARGUMENT_LOWERCASE },                                                        \
                { "no-lowercase", no_argument, NULL, ARGUMENT_LOWERCASE + 1 },                                         \
                { "strip-accents", no_argument, NULL, ARGUMENT_STRIP_ACCENTS },                                        \
                { "no-strip-accents", no_argument, NULL, ARGUMENT_STRIP_ACCENTS + 1 },                                 \
                { "chinese", no_argument, NULL, ARGUMENT_CHINESE },                                                    \
                { "no-chinese", no_argument, NULL, ARGUMENT_CHINESE + 1 },                                             \
                { "quotes", no_argument, NULL, ARGUMENT_QUOTES },                                                      \
                { "no-quotes", no_argument, NULL, ARGUMENT_QUOTES + 1 }, { "nfkd", no_argument, NULL, ARGUMENT_NFKD }, \
                { "no-nfkd", no_argument, NULL, ARGUMENT_NFKD + 1 }, {                                                 \
                "encoding", required_argument, NULL, ARGUMENT_ENCODING                                                 \
        }

#define TEXT_ARGUMENTS_HELP                                                           \
        "      --[no-]lowercase      lowercase the text (default: yes)\n"             \
        "      --[no-]strip-accents  remove accents (default: as --lowercase)\n"      \
        "      --[no-]chinese        make each CJK ideograph a word (default: yes)\n" \
        "      --encoding utf-8|latin-1\n"                                            \
        "                            encoding of the text (default: utf-8)\n"

#define SENTENCEPIECE_ARGUMENTS_HELP                                                \
        "\nWith a SentencePiece model, text is first normalized as for ALBERT:\n"   \
        "      --[no-]quotes         replace `` and '' by \" (default: yes)\n"      \
        "      --[no-]nfkd           decompose characters by NFKD (default: yes)\n" \
        "      --[no-]strip-accents  remove combining characters (default: yes)\n"  \
        "      --[no-]lowercase      lowercase the text (default: yes)\n"

#define VOCAB_ARGUMENTS_HELP                                                             \
        "  -v, --vocab FILE          the vocabulary: WordPiece, one token a line; a\n"   \
        "                            tokenizer.json; a SentencePiece model; or a\n"      \
        "                            model's folder with such files\n"                   \
        "      --checkpoint FILE     or a checkpoint, for its vocabulary, and text as\n" \
        "                            in its training\n"

struct text_arguments {
        int lowercase, strip_accents, chinese, quotes, nfkd; /* -1 = not given */
        const char *encoding;                                /* NULL = not given */
};
#define TEXT_ARGUMENTS_DEFAULT \
        { -1, -1, -1, -1, -1, NULL }

/* True where `value` was one of TEXT_ARGUMENTS, whose argument is optarg. */
bool text_arguments_take(struct text_arguments *arguments, int value);

/* The options for a vocabulary, by default those of its files; NULL for one that will be learnt; one that it
 * does not know is refused (BERTD_EXIT_USAGE). */
int text_arguments_options(const struct text_arguments *arguments, const struct vocab *vocab, struct text_options *ret,
                           struct error *error);

/* Of --vocab FILE, or of --checkpoint FILE, which sets how text is folded. One of both is not NULL. */
struct text_source {
        const char *vocab, *checkpoint;
};
int text_source_check(const struct text_source *source, const char *command, struct error *error);

/* `ret_lengths` (may be NULL): how texts are shortened, of a checkpoint; left as it is without one. */
int text_source_load(const struct text_source *source, const struct text_arguments *arguments, struct vocab **ret,
                     struct text_options *ret_options, struct texts_options *ret_lengths, struct error *error);

/* -EINVAL (BERTD_EXIT_USAGE) for no name of an encoding. */
int text_encoding(const char *name, enum data_encoding *ret, struct error *error);

/* A reader of `argv` from optind on, in the encoding that was given. */
int text_arguments_reader(const struct text_arguments *arguments, int argc, char **argv, enum reader_cut cut,
                          struct reader **ret, struct error *error);

#endif
