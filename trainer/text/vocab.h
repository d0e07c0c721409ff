/* A vocabulary: which id each token has, by WordPiece or by a SentencePiece model, with the tokens added to it. */
#ifndef TRAINER_TEXT_VOCAB_H
#define TRAINER_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/hex.h"
#include "trainer/text/added.h"
#include "trainer/text/unicode.h"

#define VOCAB_HASH_MAX HEX_128_SIZE

struct vocab;
struct sentencepiece_model;
struct trie;

/* [PAD], [UNK], [CLS], [SEP], [MASK] */
#define VOCAB_SPECIALS 5
extern const char *const vocab_specials[VOCAB_SPECIALS];

/* Reads a vocabulary: a SentencePiece model (detected by its first bytes, which no text vocabulary has); one token a line; tokenizer.json;
 * or a folder with such files (tokenizer_files.h), whose added tokens and roles are taken in. Lines are read as transformers reads
 * them: the line number from 0 is the id, trailing whitespace, CR and a byte order mark go, an empty line is an id without a
 * token, of a token given twice the last id counts. Refuses, with BERTD_EXIT_DATA, what is not UTF-8, a Git LFS pointer, a file over
 * VOCAB_FILE_BYTES_MAX and one without [PAD], [UNK], [CLS], [SEP] or [MASK]; BERTD_EXIT_INPUT if the file does not exist. The caller frees. */
int vocab_load(const char *path, struct vocab **ret, struct error *error);

/* The same of such bytes, which are not kept, `path` being for messages, with added tokens (NULL: none). */
int vocab_parse(const char *path, const char *text, size_t size, const struct added_tokens *added, struct vocab **ret,
                struct error *error);
/* The vocabulary of tokenizer files, whose notes it takes; their added tokens are numbered as transformers numbers them. */
struct tokenizer_files;
int vocab_of_files(const char *path, struct tokenizer_files *files, struct vocab **ret, struct error *error);

void vocab_free(struct vocab *vocab);
static inline void cleanup_vocab_p(struct vocab **vocab) { vocab_free(*vocab); }
#define cleanup_vocab cleanup(cleanup_vocab_p)

/* Ids are below it: the last token's and one. */
uint32_t vocab_size(const struct vocab *vocab);

/* Id of a token written as in the file ("##ing"), or -1. */
int32_t vocab_id(const struct vocab *vocab, const char *token);

/* Id of the special token that BERT calls by this name, or -1: in a SentencePiece model [PAD] may be <pad>, [UNK] <unk>. */
int32_t vocab_special(const struct vocab *vocab, const char *name);

/* Whether the token begins a word: no "##" in front; in a SentencePiece model, U+2581 in front, or, as in
 * ALBERT's create_pretraining_data.py, one character of ASCII punctuation. */
bool vocab_begins_word(const struct vocab *vocab, int32_t id);

/* Tokens that are looked for before words are cut, with their ids. */
const struct added_tokens *vocab_added(const struct vocab *vocab);

/* How text is folded, if the files that the vocabulary was read from set it; NULL: they do not. */
const struct text_options *vocab_options(const struct vocab *vocab);

/* What a user should know of those files, e.g. that two of them differ: lines, each without a newline at the end of all. NULL: nothing. */
const char *vocab_notes(const struct vocab *vocab);
void vocab_print_notes(const struct vocab *vocab, FILE *to); /* NULL: none */

/* The SentencePiece model, borrowed; NULL: WordPiece. */
const struct sentencepiece_model *vocab_sentencepiece(const struct vocab *vocab);

/* Of WordPiece: where words begin is the root, what continues one begins at *ret_continuation, UINT32_MAX if no token does. */
const struct trie *vocab_trie(const struct vocab *vocab, uint32_t *ret_continuation);

/* The token, NUL-terminated, borrowed; "" for an id that no token has; NULL where id is not below vocab_size. */
const char *vocab_token(const struct vocab *vocab, int32_t id);

/* XXH3-128 of the tokens in order, each with a newline: the same for LF and CRLF files. Of a SentencePiece model: of its file.
 * Added tokens follow, if there are any. */
void vocab_hash(const struct vocab *vocab, char hex[VOCAB_HASH_MAX]);

#endif
