/* tokenizer.json of a WordPiece model: its parts, which must be such as our WordPiece has, and its vocabulary. */
#ifndef TRAINER_TEXT_TOKENIZER_JSON_H
#define TRAINER_TEXT_TOKENIZER_JSON_H

#include <jansson.h>

#include "common/error.h"
#include "trainer/text/tokenizer_files.h"

/* The lines of the vocab.txt that it holds become files->text. What we cannot do as transformers would is refused by name
 * (BERTD_EXIT_DATA). */
int tokenizer_json_read(const char *path, const json_t *root, struct tokenizer_files *files, struct error *error);

#endif
