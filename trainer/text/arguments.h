/* The options that vocab, tokenize and prepare have in common. */
#ifndef TRAINER_TEXT_ARGUMENTS_H
#define TRAINER_TEXT_ARGUMENTS_H

#include <getopt.h>
#include <stdbool.h>

#include "trainer/text/reader.h"
#include "trainer/text/unicode.h"

/* Values that getopt_long returns for them; a command's own options use characters. */
enum { ARGUMENT_LOWERCASE = 256, ARGUMENT_STRIP_ACCENTS = 258, ARGUMENT_CHINESE = 260, ARGUMENT_MAX = 262 };

/* --[no-]lowercase, --[no-]strip-accents, --[no-]chinese: the odd value is the "no" of the even one. */
#define TEXT_ARGUMENTS                                                                 \
        { "lowercase", no_argument, NULL, ARGUMENT_LOWERCASE },                        \
                { "no-lowercase", no_argument, NULL, ARGUMENT_LOWERCASE + 1 },         \
                { "strip-accents", no_argument, NULL, ARGUMENT_STRIP_ACCENTS },        \
                { "no-strip-accents", no_argument, NULL, ARGUMENT_STRIP_ACCENTS + 1 }, \
                { "chinese", no_argument, NULL, ARGUMENT_CHINESE }, {                  \
                "no-chinese", no_argument, NULL, ARGUMENT_CHINESE + 1                  \
        }

#define TEXT_ARGUMENTS_HELP                                                  \
        "  --[no-]lowercase      lowercase the text (default: yes)\n"        \
        "  --[no-]strip-accents  take accents off (default: as lowercase)\n" \
        "  --[no-]chinese        every CJK ideograph is a word (default: yes)\n"

struct text_arguments {
        int lowercase, strip_accents, chinese; /* -1 = not given */
};
#define TEXT_ARGUMENTS_DEFAULT \
        { -1, -1, -1 }

/* True where `value` was one of TEXT_ARGUMENTS. */
bool text_arguments_take(struct text_arguments *arguments, int value);
struct text_options text_arguments_options(const struct text_arguments *arguments);

/* Says on stderr how many lines were cut, if any. */
void warn_of_cuts(const struct reader *reader);

#endif
