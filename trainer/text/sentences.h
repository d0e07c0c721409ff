/* Cuts a paragraph into sentences, by rules that need no model: English and Chinese, and what is written alike. */
#ifndef TRAINER_TEXT_SENTENCES_H
#define TRAINER_TEXT_SENTENCES_H

#include <stddef.h>

/* Length in bytes of the first sentence of the text, closing quotes and brackets included; `size` if there is only one.
 * A sentence ends with . ! or ? before whitespace and what can begin a sentence (not after an abbreviation, an initial
 * or the number of a list's entry), or with the ideographic marks. */
size_t sentence_length(const char *text, size_t size);

#endif
