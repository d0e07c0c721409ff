/*
 * What ALBERT does to a text before SentencePiece sees it, each step a switch of struct text_options, in this order: `` and ''
 * become " (quotes); NFKD (nfkd); combining characters go (strip_accents); lowercase (lowercase). Whitespace is left to the model.
 */
#ifndef TRAINER_TEXT_ALBERT_H
#define TRAINER_TEXT_ALBERT_H

#include <stddef.h>
#include <stdint.h>

#include "trainer/text/unicode.h"

/* Working memory and the result, used again. Zeroed = empty. */
struct albert_text {
        int32_t *code_points;
        size_t n, capacity;
        char *text; /* UTF-8 of the last result */
        size_t size;
};

void albert_text_free(struct albert_text *text); /* what it owns */

/* Puts the text, any bytes, as ALBERT sees it into `ret`; what is not UTF-8 is U+FFFD there. Returns 0 or -ENOMEM. */
int albert_preprocess(const struct text_options *options, const char *text, size_t size, struct albert_text *ret);

#endif
