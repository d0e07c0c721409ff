/*
 * SentencePiece models through libsentencepiece: the C side of sentencepiece.cc, which no exception leaves. Built without that
 * library, sentencepiece_absent.c takes its place and refuses by name. A model is read only: any number of threads may encode.
 */
#ifndef TRAINER_TEXT_SENTENCEPIECE_H
#define TRAINER_TEXT_SENTENCEPIECE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "common/error.h"

struct sentencepiece_model;

/* Parses a model file's bytes, which are not kept; `path` is for messages. BERTD_EXIT_DATA if they are not a model. */
int sentencepiece_new(const char *path, const char *data, size_t size, struct sentencepiece_model **ret,
                      struct error *error);
void sentencepiece_free(struct sentencepiece_model *model);

uint32_t sentencepiece_size(const struct sentencepiece_model *model);

/* The piece's text, NUL-terminated, borrowed from the model; id < sentencepiece_size. */
const char *sentencepiece_piece(const struct sentencepiece_model *model, uint32_t id);

/* The id of exactly this piece, or -1. */
int32_t sentencepiece_id(const struct sentencepiece_model *model, const char *piece);

/* The ids of a text as spm_encode gives them, in memory that the caller frees. Returns 0 or -ENOMEM. */
int sentencepiece_encode(const struct sentencepiece_model *model, const char *text, size_t size, int32_t **ret_ids,
                         size_t *ret_n);

/* The same as pieces with a space between two; what is unknown is itself. NUL-terminated, the caller frees. */
int sentencepiece_encode_pieces(const struct sentencepiece_model *model, const char *text, size_t size,
                                char **ret_pieces);

#ifdef __cplusplus
}
#endif

#endif
