/*
 * WordPiece: text to ids as BERT does it (basic tokenizer, then greedy longest match).
 *
 *   struct vocab *vocab;                 vocab_load(path, &vocab, &error)
 *   struct wordpiece *wordpiece;         wordpiece_new(vocab, &options, &wordpiece)   borrows vocab; read only, for all threads
 *   struct wordpiece_cache *cache;       wordpiece_cache_new(&cache)                  one for each thread
 *   struct ids ids = {};                 wordpiece_encode(wordpiece, cache, text, size, &ids) appends
 */
#ifndef TRAINER_TEXT_WORDPIECE_H
#define TRAINER_TEXT_WORDPIECE_H

#include <stddef.h>

#include "common/cleanup.h"
#include "trainer/text/ids.h"
#include "trainer/text/vocab.h"

struct wordpiece;
struct wordpiece_cache;

int wordpiece_new(const struct vocab *vocab, const struct text_options *options, struct wordpiece **ret);
void wordpiece_free(struct wordpiece *wordpiece);
static inline void cleanup_wordpiece_p(struct wordpiece **wordpiece) { wordpiece_free(*wordpiece); }
#define cleanup_wordpiece cleanup(cleanup_wordpiece_p)

int wordpiece_cache_new(struct wordpiece_cache **ret);
void wordpiece_cache_free(struct wordpiece_cache *cache);

/* Appends the ids of the text, any bytes, special tokens being plain text. Returns 0 or -ENOMEM. A cache belongs to one
 * wordpiece. */
int wordpiece_encode(const struct wordpiece *wordpiece, struct wordpiece_cache *cache, const char *text, size_t size,
                     struct ids *ids);

/* As wordpiece_encode, but [PAD], [UNK], [CLS], [SEP] and [MASK] in the raw text are their own ids, as in Hugging Face's. */
int wordpiece_encode_special(const struct wordpiece *wordpiece, struct wordpiece_cache *cache, const char *text,
                             size_t size, struct ids *ids);

#endif
