/*
 * BERT's basic tokenizer: text of any bytes to normalised words. The loop is inline so that counting and WordPiece each get
 * one with their own function for a word compiled in; ASCII and the BMP go through tables made at start.
 */
#ifndef TRAINER_TEXT_BASIC_H
#define TRAINER_TEXT_BASIC_H

#include <stdint.h>
#include <string.h>

#include "trainer/text/unicode.h"

#define WORD_CHARS_MAX 100 /* WordPiece calls a longer word [UNK] */
#define WORD_KEY_BYTES 32
#define BASIC_BMP 0x10000

/* What becomes of a code point; the code point it becomes is in the low bits of a table's entry. */
enum basic_action { BASIC_LETTER, BASIC_REMOVED, BASIC_SPACE, BASIC_ALONE, BASIC_SLOW };
#define BASIC_ACTION_SHIFT 24

struct basic {
        struct text_options options;
        uint8_t ascii[128];      /* the lowercased letter, or an enum basic_action above BASIC_LETTER */
        uint32_t bmp[BASIC_BMP]; /* action << BASIC_ACTION_SHIFT | code point */
};

/* A word under construction. Bytes past n_bytes are zero up to WORD_KEY_BYTES; past WORD_CHARS_MAX characters are only counted. */
struct word {
        size_t n_bytes, n_chars;
        char bytes[WORD_CHARS_MAX * 4 + WORD_KEY_BYTES];
};

/* Called for each word; `word` is borrowed. Not 0 ends the split and is returned. */
typedef int (*word_function)(void *context, const struct word *word);

int basic_new(const struct text_options *options, struct basic **ret); /* 0 or -ENOMEM; the caller frees with free() */

/* The text as BertNormalizer leaves it, which is what words are cut from: memory that the caller frees. 0 or -ENOMEM. */
int basic_normalize(const struct text_options *options, const char *text, size_t size, char **ret, size_t *ret_size);

/* Appends with canonical reordering: a non-starter goes before those of a higher class. */
void word_append_reordered(struct word *word, int32_t code_point);

/* A code point without a table entry. */
int basic_slow(const struct basic *basic, int32_t code_point, struct word *word, word_function function, void *context);

static inline void word_clear(struct word *word) {
        word->n_bytes = word->n_chars = 0;
        memset(word->bytes, 0, WORD_KEY_BYTES);
}

static inline void word_append(struct word *word, int32_t code_point) {
        if (++word->n_chars > WORD_CHARS_MAX)
                return;
        word->n_bytes += utf8_encode(code_point, word->bytes + word->n_bytes);
}

static inline int word_flush(struct word *word, word_function function, void *context) {
        if (word->n_chars == 0)
                return 0;
        int r = function(context, word);
        word_clear(word);
        return r;
}

static inline int basic_beyond_ascii(const struct basic *basic, int32_t c, struct word *word, word_function function,
                                     void *context) {
        uint32_t entry = c < BASIC_BMP ? basic->bmp[c] : (uint32_t) BASIC_SLOW << BASIC_ACTION_SHIFT;
        int32_t to = (int32_t) (entry & ((1U << BASIC_ACTION_SHIFT) - 1));
        int r;

        switch ((enum basic_action)(entry >> BASIC_ACTION_SHIFT)) {
        case BASIC_LETTER:
                word_append(word, to);
                return 0;
        case BASIC_REMOVED:
                return 0;
        case BASIC_SPACE:
                return word_flush(word, function, context);
        case BASIC_ALONE:
                r = word_flush(word, function, context);
                word_append(word, to);
                return r ? r : word_flush(word, function, context);
        case BASIC_SLOW:
        default:
                return basic_slow(basic, c, word, function, context);
        }
}

static inline int basic_ascii_break(uint8_t action, char c, struct word *word, word_function function, void *context) {
        if (action == BASIC_REMOVED)
                return 0;
        int r = word_flush(word, function, context);
        if (r || action == BASIC_SPACE)
                return r;
        word_append(word, c);
        return word_flush(word, function, context);
}

static inline __attribute__((always_inline)) int basic_split(const struct basic *basic, const char *text, size_t size,
                                                             word_function function, void *context) {
        struct word word;
        int r = 0;

        word_clear(&word);
        for (size_t i = 0; i < size && r == 0;) {
                unsigned char c = (unsigned char) text[i];
                if (c < 0x80) {
                        uint8_t action = basic->ascii[c];
                        i++;
                        if (action <= BASIC_SLOW)
                                r = basic_ascii_break(action, (char) c, &word, function, context);
                        else if (++word.n_chars <= WORD_CHARS_MAX)
                                word.bytes[word.n_bytes++] = (char) action;
                        continue;
                }
                int32_t code_point;
                i += utf8_decode(text + i, size - i, &code_point);
                r = basic_beyond_ascii(basic, code_point, &word, function, context);
        }
        return r ? r : word_flush(&word, function, context);
}

#endif
