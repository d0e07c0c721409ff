/* The bytes of a vocabulary file: reading them, which kind they are, where a line's token ends. */
#ifndef TRAINER_TEXT_VOCAB_FILE_H
#define TRAINER_TEXT_VOCAB_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

#define VOCAB_FILE_BYTES_MAX ((size_t) 16 << 20)

/* A file's bytes, which the caller frees and a NUL follows. */
int vocab_read(const char *path, char **ret_text, size_t *ret_size, struct error *error);
bool vocab_is_sentencepiece(const char *text, size_t size);

/* Size of a line's token without trailing whitespace, Unicode's: as Rust's trim_end, by which transformers 5 reads vocab.txt. */
size_t vocab_trimmed_size(const char *line, size_t size);

#endif
