/*
 * Learns a WordPiece vocabulary from counted words, as Hugging Face's WordPieceTrainer does: byte pair encoding over
 * characters, of which those inside a word carry "##"; the pair seen most often becomes a token, again and again. Special
 * tokens come first, then the alphabet, then the characters with "##", then the merges. Where that trainer's result depends on the
 * order of a hash table, ours is in order of code points: the same counts give the same vocabulary.
 */
#ifndef TRAINER_TEXT_VOCAB_LEARN_H
#define TRAINER_TEXT_VOCAB_LEARN_H

#include <stdint.h>

#include "common/error.h"
#include "trainer/text/word_counts.h"

#define VOCAB_LEARN_SIZE_MIN 32
#define VOCAB_LEARN_SIZE_MAX 1000000
#define VOCAB_LEARN_ALPHABET 1000   /* most characters that are kept, as in BertWordPieceTokenizer */
#define VOCAB_LEARN_MIN_FREQUENCY 2 /* a pair seen less often is not merged */

struct vocab_learn_settings {
        uint32_t size;          /* tokens, special ones included */
        uint32_t alphabet;      /* most characters, the commonest; 0: VOCAB_LEARN_ALPHABET, fewer where size is small */
        uint64_t min_frequency; /* 0: VOCAB_LEARN_MIN_FREQUENCY */
};

/* Words are valid UTF-8. Gives the tokens as one text, a line each, that the caller frees, and their number: smaller than
 * settings->size where the text has no more pairs. BERTD_EXIT_DATA if there is no word. */
int vocab_learn(const struct word_counts *counts, const struct vocab_learn_settings *settings, char **ret_text,
                uint32_t *ret_n_tokens, struct error *error);

#endif
