/*
 * See unknown.h. Owns the words. They are looked for in the raw text, cut as BERT's basic tokenizer does but without punctuation, each
 * encoded again by itself: so they read as in the text, whatever the tokenizer makes of them; of a bounded number of texts.
 */
#include "trainer/text/unknown.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NAMED 3
#define WORD_SHOWN 40 /* bytes of a word in a message */

static uint64_t count_unknown(const struct encoder *encoder, const int32_t *ids, size_t n) {
        int32_t id = vocab_special(encoder_vocab(encoder), "[UNK]");
        uint64_t found = 0;

        for (size_t i = 0; i < n; i++)
                found += ids[i] == id;
        return found;
}

/* 1, 0 or -ENOMEM */
static int knows(const struct encoder *encoder, int thread, const char *word, size_t size, struct ids *scratch) {
        scratch->n = 0;
        int r = encoder_encode(encoder, thread, word, size, scratch);
        return r < 0 ? r : count_unknown(encoder, scratch->data, scratch->n) == 0;
}

static int look_at(struct unknown *unknown, const struct encoder *encoder, int thread, const char *word, size_t size,
                   struct ids *scratch) {
        int known = size > 0 ? knows(encoder, thread, word, size, scratch) : 1;
        return known != 0 ? MIN(known, 0) : word_counts_add(&unknown->words, word, size, 1);
}

static int look_at_words(struct unknown *unknown, const struct encoder *encoder, int thread, const char *text,
                         size_t size) {
        struct ids scratch = {};
        size_t begin = 0, n;
        int r = 0;

        for (size_t at = 0; r >= 0 && at < size; at += n) {
                int32_t code_point;
                n = utf8_decode(text + at, size - at, &code_point);
                enum unicode_class class = unicode_class(code_point);
                if (class != UNICODE_SPACE && class != UNICODE_PUNCTUATION && class != UNICODE_CHINESE)
                        continue;
                r = look_at(unknown, encoder, thread, text + begin, at - begin, &scratch);
                if (r >= 0 && class == UNICODE_CHINESE)
                        r = look_at(unknown, encoder, thread, text + at, n, &scratch);
                begin = at + n;
        }
        if (r >= 0)
                r = look_at(unknown, encoder, thread, text + begin, size - begin, &scratch);
        free(scratch.data);
        return r;
}

int unknown_take(struct unknown *unknown, const struct encoder *encoder, int thread, const char *text, size_t size,
                 const int32_t *ids, size_t n) {
        uint64_t found = count_unknown(encoder, ids, n);

        unknown->n_tokens += n;
        unknown->n_unknown += found;
        if (found == 0 || unknown->n_looked == UNKNOWN_TEXTS_MAX)
                return 0;
        unknown->n_looked++;
        return look_at_words(unknown, encoder, thread, text, size);
}

int unknown_merge(struct unknown *unknown, const struct unknown *from) {
        unknown->n_tokens += from->n_tokens;
        unknown->n_unknown += from->n_unknown;
        if (unknown->n_looked >= UNKNOWN_MERGED_MAX)
                return 0;
        unknown->n_looked += from->n_looked;
        return word_counts_merge(&unknown->words, &from->words);
}

void unknown_clear(struct unknown *unknown) {
        unknown->n_tokens = unknown->n_unknown = unknown->n_looked = 0;
        word_counts_clear(&unknown->words);
}

void unknown_free(struct unknown *unknown) {
        word_counts_free(&unknown->words);
        *unknown = (struct unknown) {};
}

/* ---- what is printed ---- */

static const char *text_of(const struct unknown *unknown, const struct word_count *word) {
        return unknown->words.arena + word->offset;
}

static bool comes_before(const struct unknown *unknown, const struct word_count *a, const struct word_count *b) {
        if (a->count != b->count)
                return a->count > b->count;
        int order = memcmp(text_of(unknown, a), text_of(unknown, b), MIN(a->size, b->size));
        return order < 0 || (order == 0 && a->size < b->size);
}

static size_t commonest(const struct unknown *unknown, const struct word_count *ret[NAMED]) {
        size_t n = 0;

        for (size_t s = 0; s < unknown->words.n_slots; s++) {
                const struct word_count *word = &unknown->words.slots[s];
                size_t at = n;
                if (word->count == 0)
                        continue;
                while (at > 0 && comes_before(unknown, word, ret[at - 1]))
                        at--;
                if (at == NAMED)
                        continue;
                n = MIN(n + 1, (size_t) NAMED);
                memmove(&ret[at + 1], &ret[at], (n - 1 - at) * sizeof(*ret));
                ret[at] = word;
        }
        return n;
}

/* Whether most of the words are known where text is folded otherwise. */
static bool would_know(const struct unknown *unknown, const struct encoder *encoder, const struct text_options *options,
                       const struct word_count *const *words, size_t n) {
        struct encoder *other = NULL;
        struct ids scratch = {};
        size_t known = 0;

        if (encoder_new(encoder_vocab(encoder), options, 1, &other) < 0)
                return false;
        for (size_t i = 0; i < n; i++)
                known += knows(other, 0, text_of(unknown, words[i]), words[i]->size, &scratch) > 0;
        free(scratch.data);
        encoder_free(other);
        return 2 * known > n;
}

static const char *reason(const struct unknown *unknown, const struct encoder *encoder,
                          const struct word_count *const *words, size_t n) {
        const struct text_options *has = encoder_options(encoder);
        struct text_options cased = *has, accents = *has;

        cased.lowercase = cased.strip_accents = !has->lowercase;
        accents.strip_accents = !has->strip_accents;
        if (would_know(unknown, encoder, &accents, words, n))
                return has->strip_accents
                               ? "its words have accents, which this text is stripped of: try --no-strip-accents"
                               : "its words have no accents: try --strip-accents";
        if (would_know(unknown, encoder, &cased, words, n))
                return has->lowercase
                               ? "it is of cased text, and this text is made lower case: try --no-lowercase "
                                 "(data.lowercase: "
                                 "false)"
                               : "it is of lower case, and this text is cased: try --lowercase (data.lowercase: true)";
        return "is it of another language?";
}

void unknown_print(const struct unknown *unknown, const struct encoder *encoder, const char *what, FILE *to) {
        const struct word_count *words[NAMED + 1];

        if (unknown->n_tokens < UNKNOWN_TOKENS ||
            (double) unknown->n_unknown <= UNKNOWN_SHARE * (double) unknown->n_tokens)
                return;
        size_t n = commonest(unknown, words);
        (void) fprintf(to, "%s: %s: %" PRIu64 " of %" PRIu64 " tokens (%.0f %%) are unknown to the vocabulary",
                       program_invocation_short_name, what, unknown->n_unknown, unknown->n_tokens,
                       100 * (double) unknown->n_unknown / (double) unknown->n_tokens);
        for (size_t i = 0; i < n; i++) {
                const char *text = text_of(unknown, words[i]);
                size_t shown = utf8_valid_prefix(text, MIN(words[i]->size, (uint32_t) WORD_SHOWN));
                (void) fprintf(to, "%s'%.*s'", i > 0 ? ", " : ", most often ", (int) shown, text);
        }
        (void) fprintf(to, ": %s\n", reason(unknown, encoder, words, n));
}
