/*
 * A tokenizer's files, as Hugging Face's programs of any year write them: what a path names when it is given as a vocabulary.
 *
 * A plain file is a vocab.txt or a SentencePiece model, byte for byte. tokenizer.json (also of another name: detected by its content) gives
 * the lines of the vocab.txt that it holds. A folder is read as transformers reads it: tokenizer.json before vocab.txt, spiece.model
 * for a Unigram model, added tokens from tokenizer.json, tokenizer_config.json, special_tokens_map.json and added_tokens.json. What
 * our WordPiece cannot do as transformers would is refused by name (BERTD_EXIT_DATA).
 */
#ifndef TRAINER_TEXT_TOKENIZER_FILES_H
#define TRAINER_TEXT_TOKENIZER_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "trainer/text/added.h"
#include "trainer/text/unicode.h"

/* Zeroed = empty. An added token's id is the one that the files give it, or ADDED_ID_NEXT. */
struct tokenizer_files {
        char *text; /* of vocab.txt or a SentencePiece model; a NUL follows it */
        size_t size;
        bool listed;      /* the text is made of a list of tokens with ids: an empty line is an id that it lacks */
        char *vocab_path; /* of the file that it is from; NULL: the path itself */
        struct added_tokens added;
        struct text_options options;
        bool has_options;
        char *notes; /* lines; NULL: none */
};

int tokenizer_read(const char *path, struct tokenizer_files *ret, struct error *error);

/* The folder's, with the vocabulary of `file` in its place. */
int tokenizer_read_beside(const char *folder, const char *file, struct tokenizer_files *ret, struct error *error);
void tokenizer_files_free(struct tokenizer_files *files);
#define cleanup_tokenizer cleanup(tokenizer_files_free)

/* Adds a line to the notes. */
void tokenizer_note(struct tokenizer_files *files, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether the folder holds a tokenizer's vocabulary. */
bool tokenizer_in_folder(const char *folder);

#endif
