/* See arguments.h. Stripping accents follows lowercasing where it is not given, as in BERT and Hugging Face. */
#include "trainer/text/arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

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
        default:
                arguments->chinese = yes;
        }
        return true;
}

struct text_options text_arguments_options(const struct text_arguments *arguments) {
        bool lowercase = arguments->lowercase != 0;
        return (struct text_options) {
                .lowercase = lowercase,
                .strip_accents = arguments->strip_accents < 0 ? lowercase : arguments->strip_accents,
                .chinese = arguments->chinese != 0,
        };
}

void warn_of_cuts(const struct reader *reader) {
        const char *first;
        uint64_t n = reader_cuts(reader, &first);
        if (n > 0)
                (void) fprintf(stderr, "%s: cut lines of more than %zu KiB %" PRIu64 " times, first at %s\n",
                               program_invocation_short_name, READER_LINE_BYTES_MAX >> 10, n, first ? first : "?");
}
