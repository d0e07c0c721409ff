/*
 * Unicode as BERT's basic tokenizer sees it, in the form of Hugging Face `tokenizers` (BertNormalizer, BertPreTokenizer):
 * categories on utf8proc, corrected by the table in unicode_exceptions.h. Pure: nothing is allocated, everything is thread safe.
 */
#ifndef TRAINER_TEXT_UNICODE_H
#define TRAINER_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most code points that one code point becomes (canonical decomposition, then lowercasing). */
#define UNICODE_EXPANSION_MAX 8
#define UNICODE_REPLACEMENT 0xFFFD

enum unicode_class {
        UNICODE_LETTER,  /* anything that stays in a word */
        UNICODE_REMOVED, /* NUL, U+FFFD, control, format and private characters */
        UNICODE_SPACE,
        UNICODE_PUNCTUATION, /* a word by itself */
        UNICODE_CHINESE,     /* a CJK ideograph: a word by itself if Chinese spacing is on */
        UNICODE_MARK,        /* nonspacing mark: goes where accents are stripped */
        UNICODE_CLASS_MAX,
};

struct text_options {
        bool lowercase;
        bool strip_accents;
        bool chinese;      /* WordPiece only */
        bool quotes, nfkd; /* SentencePiece only: see albert.h */
};

enum unicode_class unicode_class(int32_t code_point);

/* The White_Space property. */
bool unicode_is_space(int32_t code_point);

/* Canonical decomposition without nonspacing marks where accents are stripped, then lowercase: writes 0 to
 * UNICODE_EXPANSION_MAX code points and returns how many. */
int unicode_fold(int32_t code_point, const struct text_options *options, int32_t *ret_code_points);

/* Canonical combining class: 0 for a starter. */
int unicode_combining_class(int32_t code_point);

/* Decodes the code point at `text` (size > 0) and returns its length in bytes. What is not UTF-8 gives U+FFFD for its
 * longest valid prefix, as lossy decoding does in Rust and Python. */
size_t utf8_decode(const char *text, size_t size, int32_t *ret_code_point);

/* Writes 1 to 4 bytes and returns how many. */
size_t utf8_encode(int32_t code_point, char *ret_text);

/* Offset of the first byte that is not UTF-8, or `size`. */
size_t utf8_valid_prefix(const char *text, size_t size);

#endif
