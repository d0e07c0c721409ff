/*
 * Added tokens, as Hugging Face's fast tokenizers have them: texts that are tokens, looked for in a text before it is cut
 * into words. Those that are not `normalized` are found in the raw text; the others, folded as text is, in the folded text of what is
 * left. At each place the longest wins. `single_word`: only between characters that are not of a word; `lstrip`, `rstrip`: takes
 * the whitespace on that side with it.
 *
 *   added_put … → added_split_new(…) → added_split(…)
 */
#ifndef TRAINER_TEXT_ADDED_H
#define TRAINER_TEXT_ADDED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "trainer/text/unicode.h"

#define ADDED_ID_MAX ((1 << 24) - 1)
#define ADDED_ID_NEXT (-1) /* the vocabulary gives one */

struct added_token {
        int32_t id;
        char *content; /* owned by the list */
        const char *
                role; /* static: BERT's name, e.g. "[CLS]", of the special token that this one is; NULL: none of them */
        bool lstrip, rstrip, normalized, single_word, special;
};

/* Zeroed = empty. */
struct added_tokens {
        struct added_token *item;
        uint32_t n, capacity;
        uint32_t *slots; /* the index */
};

/* BERT's name of a special token as a static text; NULL: not one. */
const char *added_role(const char *name);

/* A copy of the token, in place of one of the same content. 0 or -ENOMEM. */
int added_put(struct added_tokens *tokens, const struct added_token *token);
struct added_token *added_find(const struct added_tokens *tokens, const char *content);
void added_free(struct added_tokens *tokens);

/* A JSON list of objects with the names of struct added_token's members, and back (BERTD_EXIT_DATA; `path` is for messages).
 * Caller frees; NULL: no memory. */
char *added_format(const struct added_tokens *tokens);
int added_parse(struct added_tokens *tokens, const char *path, const char *text, size_t size, struct error *error);

/* What tokenizer_config.json has as added_tokens_decoder; a new reference. NULL: no memory. */
json_t *added_decoder(const struct added_tokens *tokens);

struct added_split;

/* Folds a text as the normalizer of the vocabulary's kind does: memory that the caller frees. 0 or -ENOMEM. */
typedef int (*added_fold)(const struct text_options *options, const char *text, size_t size, char **ret,
                          size_t *ret_size);

/* Borrows the tokens, `with_roles`: also those that have a role. 0 or -ENOMEM. */
int added_split_new(const struct added_tokens *tokens, bool with_roles, const struct text_options *options,
                    added_fold fold, struct added_split **ret);
void added_split_free(struct added_split *split);

/* What a text is made of, in order. A text's callback gets what lies between tokens, never empty; not 0 ends the split. */
struct added_sink {
        void *context;
        int (*text)(void *context, const char *text, size_t size);
        int (*token)(void *context, int32_t id);
};

/* Any bytes. 0, -ENOMEM, or what a callback returned. */
int added_split(const struct added_split *split, const char *text, size_t size, const struct added_sink *sink);

#endif
