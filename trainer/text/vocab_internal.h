/* The vocabulary's inside, for vocab.c and vocab_load.c only. */
#ifndef TRAINER_TEXT_VOCAB_INTERNAL_H
#define TRAINER_TEXT_VOCAB_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/text/sentencepiece.h"
#include "trainer/text/trie.h"
#include "trainer/text/vocab.h"

struct vocab {
        char *text; /* the file, each token NUL-terminated; a SentencePiece model's as it is */
        size_t text_size;
        const char **tokens;
        uint32_t n_tokens;     /* ids, those of added tokens with them */
        uint32_t n_distinct;   /* tokens without added ones, as transformers counts them */
        uint32_t size;         /* while lines are cut: ids up to the last that is not empty */
        bool has_empty, holes; /* an empty line; which is an id that the file's list lacks */
        struct added_tokens added;
        int32_t most_added; /* the highest id of added and special tokens */
        struct text_options options;
        bool has_options;
        char *notes; /* lines; NULL: none */
        struct trie trie;
        char hash[VOCAB_HASH_MAX];
        uint32_t continuation; /* node of "##"; UINT32_MAX where no token has it */

        /* NULL: WordPiece; else it lends `tokens`, and only they and `hash` are used. */
        struct sentencepiece_model *model;
};

/* The vocabulary of such a text, which is taken and whose `size` bytes a NUL follows. `renumber`: the added tokens get the ids that
 * transformers gives them; `holes`: the text is a list that may lack ids. */
int vocab_take(const char *path, char *text, size_t size, const struct added_tokens *added, bool renumber, bool holes,
               struct vocab **ret, struct error *error);
int vocab_add(struct vocab *vocab, const struct added_token *token, bool renumber); /* -ENOMEM */

#endif
