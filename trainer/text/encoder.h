/*
 * A text to ids, whichever kind of vocabulary: WordPiece, or ALBERT's preprocessing and SentencePiece. One for all threads; what
 * each needs for itself is inside.
 */
#ifndef TRAINER_TEXT_ENCODER_H
#define TRAINER_TEXT_ENCODER_H

#include "trainer/text/wordpiece.h"

struct encoder;

/* Borrows the vocabulary. Returns 0 or -ENOMEM. */
int encoder_new(const struct vocab *vocab, const struct text_options *options, int n_threads, struct encoder **ret);
void encoder_free(struct encoder *encoder);

const struct vocab *encoder_vocab(const struct encoder *encoder);
const struct text_options *encoder_options(const struct encoder *encoder);

/* Appends the ids of the text, any bytes. Added tokens are themselves; special tokens in it are plain text. Returns 0 or -ENOMEM. */
int encoder_encode(const struct encoder *encoder, int thread, const char *text, size_t size, struct ids *ids);

/* As encoder_encode, but as Hugging Face has it for WordPiece: special tokens are themselves. */
int encoder_encode_special(const struct encoder *encoder, int thread, const char *text, size_t size, struct ids *ids);

/* SentencePiece only: the text's pieces as sentencepiece_encode_pieces gives them; the caller frees. */
int encoder_pieces(const struct encoder *encoder, int thread, const char *text, size_t size, char **ret_pieces);

#endif
