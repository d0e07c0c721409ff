/*
 * See vocab_learn.h. Every word is a run of token ids in one array; every pair of neighbours has a count and a list of the words
 * that had it when it was listed; a heap holds pairs by count, where an entry whose count is out of date is put right
 * when it comes up. A merge visits the listed words only. Nothing depends on the order of words: ids follow code points and
 * merges, candidates their counts and ids.
 */
#include "trainer/text/vocab_learn.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/cleanup.h"
#include "trainer/text/unicode.h"

#define N_CODE_POINTS 0x110000
#define PAIRS_MIN ((size_t) 1 << 16)
#define PREFIX "##"
#define PREFIX_BYTES 2
#define TOKEN_BYTES_MAX 512

static const char *const specials[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };

struct word {
        const char *text;
        uint64_t count;
        uint32_t n_bytes, first, n; /* `n` ids from `first` in the array of all */
};

struct pair {
        uint64_t key; /* left id << 32 | right id */
        int64_t count;
        uint32_t *words;
        uint32_t n_words, capacity;
        uint32_t stamp; /* the merge that queued it last; 0: a free slot */
};

struct candidate {
        int64_t count;
        uint64_t key;
};

struct learner {
        const struct vocab_learn_settings *settings;
        struct word *words;
        size_t n_words;
        uint32_t *ids;
        struct pair *pairs;
        size_t n_pairs, n_pair_slots;
        struct candidate *heap;
        size_t n_heap, heap_capacity;
        struct word_counts tokens; /* count = id + 1 */
        uint64_t *token_offsets;   /* per id, into `text` */
        char *text;                /* tokens, a line each, NUL-terminated */
        size_t text_size, text_capacity;
        uint32_t n_tokens, stamp;
        int32_t *plain, *inner; /* per code point: id, or -1 */
};

static int add_token(struct learner *learner, const char *token, size_t size, uint32_t *ret_id) {
        struct word_count *known = word_counts_find(&learner->tokens, token, size);
        if (known) {
                *ret_id = (uint32_t) known->count - 1;
                return 0;
        }
        if (array_reserve(&learner->text, &learner->text_capacity, learner->text_size + size + 2, 1) < 0)
                return -ENOMEM;
        int r = word_counts_add(&learner->tokens, token, size, (uint64_t) learner->n_tokens + 1);
        if (r < 0)
                return r;
        learner->token_offsets[learner->n_tokens] = learner->text_size;
        memcpy(learner->text + learner->text_size, token, size);
        learner->text_size += size;
        learner->text[learner->text_size++] = '\n';
        learner->text[learner->text_size] = '\0';
        learner->token_offsets[learner->n_tokens + 1] = learner->text_size;
        *ret_id = learner->n_tokens++;
        return 0;
}

static const char *token_text(const struct learner *learner, uint32_t id, size_t *ret_size) {
        *ret_size = learner->token_offsets[id + 1] - learner->token_offsets[id] - 1;
        return learner->text + learner->token_offsets[id];
}

static int collect_words(struct learner *learner, const struct word_counts *counts) {
        learner->words = calloc(counts->n + 1, sizeof(*learner->words));
        if (!learner->words)
                return -ENOMEM;
        for (size_t i = 0; i < counts->n_slots; i++) {
                const struct word_count *slot = &counts->slots[i];
                if (slot->count == 0)
                        continue;
                learner->words[learner->n_words++] = (struct word) {
                        .text = counts->arena + slot->offset,
                        .n_bytes = slot->size,
                        .count = slot->count,
                };
        }
        return 0;
}

struct character {
        uint64_t count;
        int32_t code_point;
};

static int by_count(const void *a, const void *b) {
        const struct character *x = a, *y = b;
        if (x->count != y->count)
                return x->count < y->count ? 1 : -1;
        return (x->code_point > y->code_point) - (x->code_point < y->code_point);
}

static int by_code_point(const void *a, const void *b) {
        const struct character *x = a, *y = b;
        return (x->code_point > y->code_point) - (x->code_point < y->code_point);
}

static int count_characters(const struct learner *learner, struct character **ret, size_t *ret_n) {
        cleanup_free uint64_t *counts = calloc(N_CODE_POINTS, sizeof(*counts));
        cleanup_free struct character *found = calloc(N_CODE_POINTS, sizeof(*found));
        size_t n = 0;

        if (!counts || !found)
                return -ENOMEM;
        for (size_t i = 0; i < learner->n_words; i++) {
                const struct word *word = &learner->words[i];
                for (size_t at = 0; at < word->n_bytes;) {
                        int32_t c;
                        at += utf8_decode(word->text + at, word->n_bytes - at, &c);
                        counts[c] += word->count;
                }
        }
        for (int32_t c = 0; c < N_CODE_POINTS; c++)
                if (counts[c] > 0)
                        found[n++] = (struct character) { counts[c], c };
        qsort(found, n, sizeof(*found), by_count);
        *ret = steal_pointer(&found);
        *ret_n = n;
        return 0;
}

/* Most characters that leave room for merges: each may need a second token with "##". */
static size_t alphabet_limit(const struct vocab_learn_settings *settings) {
        size_t room = (settings->size - ELEMENTSOF(specials)) / 2;
        if (settings->alphabet > 0)
                return MIN((size_t) settings->alphabet, room);
        return MIN((size_t) VOCAB_LEARN_ALPHABET, MAX((size_t) settings->size / 4, MIN(room, (size_t) 128)));
}

static int add_alphabet(struct learner *learner) {
        cleanup_free struct character *characters = NULL;
        size_t n;

        int r = count_characters(learner, &characters, &n);
        if (r < 0)
                return r;
        n = MIN(n, alphabet_limit(learner->settings));
        qsort(characters, n, sizeof(*characters), by_code_point);
        for (size_t i = 0; i < n && r >= 0; i++) {
                char text[4];
                uint32_t id;
                size_t size = utf8_encode(characters[i].code_point, text);
                r = add_token(learner, text, size, &id);
                if (r >= 0)
                        learner->plain[characters[i].code_point] = (int32_t) id;
        }
        return r;
}

/* Characters of the alphabet that stand inside a word somewhere. */
static int add_inner_alphabet(struct learner *learner) {
        for (size_t i = 0; i < learner->n_words; i++) {
                const struct word *word = &learner->words[i];
                for (size_t at = 0; at < word->n_bytes;) {
                        int32_t c;
                        bool first = at == 0;
                        at += utf8_decode(word->text + at, word->n_bytes - at, &c);
                        if (!first && learner->plain[c] >= 0)
                                learner->inner[c] = 0;
                }
        }
        for (int32_t c = 0; c < N_CODE_POINTS; c++) {
                char text[PREFIX_BYTES + 4] = PREFIX;
                uint32_t id;
                if (learner->inner[c] < 0)
                        continue;
                size_t size = PREFIX_BYTES + utf8_encode(c, text + PREFIX_BYTES);
                int r = add_token(learner, text, size, &id);
                if (r < 0)
                        return r;
                learner->inner[c] = (int32_t) id;
        }
        return 0;
}

/* Characters outside the alphabet are dropped from their words, as WordPieceTrainer does. */
static int spell_words(struct learner *learner) {
        size_t n_bytes = 0, n = 0;

        for (size_t i = 0; i < learner->n_words; i++)
                n_bytes += learner->words[i].n_bytes;
        if (n_bytes > UINT32_MAX)
                return -EFBIG;
        learner->ids = malloc((n_bytes + 1) * sizeof(*learner->ids));
        if (!learner->ids)
                return -ENOMEM;
        for (size_t i = 0; i < learner->n_words; i++) {
                struct word *word = &learner->words[i];
                word->first = (uint32_t) n;
                for (size_t at = 0; at < word->n_bytes;) {
                        int32_t c, *ids = at == 0 ? learner->plain : learner->inner;
                        at += utf8_decode(word->text + at, word->n_bytes - at, &c);
                        if (ids[c] >= 0)
                                learner->ids[n++] = (uint32_t) ids[c];
                }
                word->n = (uint32_t) (n - word->first);
        }
        return 0;
}

static struct pair *pair_slot(const struct learner *learner, uint64_t key) {
        size_t mask = learner->n_pair_slots - 1, i = (key * 0x9E3779B97F4A7C15U >> 32) & mask;
        while (learner->pairs[i].stamp != 0 && learner->pairs[i].key != key)
                i = (i + 1) & mask;
        return &learner->pairs[i];
}

static int grow_pairs(struct learner *learner) {
        struct pair *old = learner->pairs;
        size_t n_old = learner->n_pair_slots, n = MAX(PAIRS_MIN, 2 * n_old);

        learner->pairs = calloc(n, sizeof(*learner->pairs));
        if (!learner->pairs) {
                learner->pairs = old;
                return -ENOMEM;
        }
        learner->n_pair_slots = n;
        for (size_t i = 0; i < n_old; i++)
                if (old[i].stamp != 0)
                        *pair_slot(learner, old[i].key) = old[i];
        free(old);
        return 0;
}

static bool is_above(const struct candidate *a, const struct candidate *b) {
        return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static int heap_push(struct learner *learner, struct candidate candidate) {
        if (array_reserve(&learner->heap, &learner->heap_capacity, learner->n_heap + 1, sizeof(candidate)) < 0)
                return -ENOMEM;
        size_t i = learner->n_heap++;
        for (; i > 0 && is_above(&candidate, &learner->heap[(i - 1) / 2]); i = (i - 1) / 2)
                learner->heap[i] = learner->heap[(i - 1) / 2];
        learner->heap[i] = candidate;
        return 0;
}

static struct candidate heap_pop(struct learner *learner) {
        struct candidate top = learner->heap[0], last = learner->heap[--learner->n_heap];
        size_t i = 0, n = learner->n_heap;

        for (size_t child; (child = 2 * i + 1) < n; i = child) {
                if (child + 1 < n && is_above(&learner->heap[child + 1], &learner->heap[child]))
                        child++;
                if (!is_above(&learner->heap[child], &last))
                        break;
                learner->heap[i] = learner->heap[child];
        }
        learner->heap[i] = last;
        return top;
}

static int list_word(struct pair *pair, uint32_t word) {
        if (pair->n_words > 0 && pair->words[pair->n_words - 1] == word)
                return 0;
        size_t capacity = pair->capacity;
        if (array_reserve(&pair->words, &capacity, pair->n_words + (size_t) 1, sizeof(word)) < 0)
                return -ENOMEM;
        pair->capacity = (uint32_t) capacity;
        pair->words[pair->n_words++] = word;
        return 0;
}

static uint64_t pair_key(const uint32_t *ids) { return (uint64_t) ids[0] << 32 | ids[1]; }

/* Counts every pair of the word; those that hold `new_id`, or all for UINT32_MAX, are listed as having the word. */
static int count_word(struct learner *learner, uint32_t index, uint32_t new_id) {
        const struct word *word = &learner->words[index];
        const uint32_t *ids = learner->ids + word->first;

        for (uint32_t i = 0; i + 1 < word->n; i++) {
                if (2 * (learner->n_pairs + 1) > learner->n_pair_slots && grow_pairs(learner) < 0)
                        return -ENOMEM;
                struct pair *pair = pair_slot(learner, pair_key(ids + i));
                if (pair->stamp == 0) {
                        *pair = (struct pair) { .key = pair_key(ids + i), .stamp = UINT32_MAX };
                        learner->n_pairs++;
                }
                pair->count += (int64_t) word->count;
                bool is_new = new_id == UINT32_MAX || ids[i] == new_id || ids[i + 1] == new_id;
                if (is_new && list_word(pair, index) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static void uncount_word(struct learner *learner, const struct word *word) {
        const uint32_t *ids = learner->ids + word->first;
        for (uint32_t i = 0; i + 1 < word->n; i++)
                pair_slot(learner, pair_key(ids + i))->count -= (int64_t) word->count;
}

/* Queues the word's pairs that hold `new_id`, each once a merge. */
static int mark_changed(struct learner *learner, const struct word *word, uint32_t new_id, struct candidate **changed,
                        size_t *n, size_t *capacity) {
        const uint32_t *ids = learner->ids + word->first;

        for (uint32_t i = 0; i + 1 < word->n; i++) {
                if (ids[i] != new_id && ids[i + 1] != new_id)
                        continue;
                struct pair *pair = pair_slot(learner, pair_key(ids + i));
                if (pair->stamp == learner->stamp)
                        continue;
                pair->stamp = learner->stamp;
                if (array_reserve(changed, capacity, *n + 1, sizeof(**changed)) < 0)
                        return -ENOMEM;
                (*changed)[(*n)++].key = pair->key;
        }
        return 0;
}

static void merge_ids(struct learner *learner, struct word *word, uint64_t key, uint32_t new_id) {
        uint32_t *ids = learner->ids + word->first, n = 0;

        for (uint32_t i = 0; i < word->n; n++) {
                bool here = i + 1 < word->n && pair_key(ids + i) == key;
                ids[n] = here ? new_id : ids[i];
                i += here ? 2 : 1;
        }
        word->n = n;
}

static bool has_pair(const struct learner *learner, const struct word *word, uint64_t key) {
        const uint32_t *ids = learner->ids + word->first;
        for (uint32_t i = 0; i + 1 < word->n; i++)
                if (pair_key(ids + i) == key)
                        return true;
        return false;
}

static int merge_words(struct learner *learner, const uint32_t *words, uint32_t n_words, uint64_t key,
                       uint32_t new_id) {
        cleanup_free struct candidate *changed = NULL;
        size_t n_changed = 0, capacity = 0;

        for (uint32_t i = 0; i < n_words; i++) {
                struct word *word = &learner->words[words[i]];
                if (!has_pair(learner, word, key))
                        continue;
                uncount_word(learner, word);
                merge_ids(learner, word, key, new_id);
                if (count_word(learner, words[i], new_id) < 0 ||
                    mark_changed(learner, word, new_id, &changed, &n_changed, &capacity) < 0)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < n_changed; i++) {
                changed[i].count = pair_slot(learner, changed[i].key)->count;
                if (changed[i].count > 0 && heap_push(learner, changed[i]) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int merge_pair(struct learner *learner, uint64_t key) {
        char token[2 * TOKEN_BYTES_MAX];
        size_t left_size, right_size;
        uint32_t new_id;
        const char *left = token_text(learner, (uint32_t) (key >> 32), &left_size);
        const char *right = token_text(learner, (uint32_t) key, &right_size);

        right += PREFIX_BYTES; /* what is not first in its word has it */
        right_size -= PREFIX_BYTES;
        if (left_size + right_size > sizeof(token))
                return 0;
        memcpy(token, left, left_size);
        memcpy(token + left_size, right, right_size);
        int r = add_token(learner, token, left_size + right_size, &new_id);
        if (r < 0)
                return r;
        struct pair *pair = pair_slot(learner, key);
        cleanup_free uint32_t *words = steal_pointer(&pair->words);
        uint32_t n_words = pair->n_words;
        pair->n_words = pair->capacity = 0;
        learner->stamp++;
        return merge_words(learner, words, n_words, key, new_id);
}

static int merge_until_full(struct learner *learner) {
        uint64_t min = MAX(
                learner->settings->min_frequency ? learner->settings->min_frequency : VOCAB_LEARN_MIN_FREQUENCY, 1U);

        while (learner->n_tokens < learner->settings->size && learner->n_heap > 0) {
                struct candidate top = heap_pop(learner);
                int64_t count = pair_slot(learner, top.key)->count;
                int r;
                if (count != top.count)
                        r = count > 0 ? heap_push(learner, (struct candidate) { count, top.key }) : 0;
                else if ((uint64_t) count < min)
                        return 0;
                else
                        r = merge_pair(learner, top.key);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int count_pairs(struct learner *learner) {
        for (size_t i = 0; i < learner->n_words; i++)
                if (count_word(learner, (uint32_t) i, UINT32_MAX) < 0)
                        return -ENOMEM;
        for (size_t i = 0; i < learner->n_pair_slots; i++) {
                const struct pair *pair = &learner->pairs[i];
                if (pair->stamp != 0 && heap_push(learner, (struct candidate) { pair->count, pair->key }) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int allocate(struct learner *learner) {
        size_t n = (size_t) learner->settings->size + 2;
        learner->token_offsets = calloc(n, sizeof(*learner->token_offsets));
        learner->plain = malloc(N_CODE_POINTS * sizeof(*learner->plain));
        learner->inner = malloc(N_CODE_POINTS * sizeof(*learner->inner));
        if (!learner->token_offsets || !learner->plain || !learner->inner)
                return -ENOMEM;
        memset(learner->plain, 0xFF, N_CODE_POINTS * sizeof(*learner->plain));
        memset(learner->inner, 0xFF, N_CODE_POINTS * sizeof(*learner->inner));
        return 0;
}

static int learn(struct learner *learner, const struct word_counts *counts) {
        int r = allocate(learner);

        for (size_t i = 0; i < ELEMENTSOF(specials) && r >= 0; i++) {
                uint32_t id;
                r = add_token(learner, specials[i], strlen(specials[i]), &id);
        }
        if (r >= 0)
                r = collect_words(learner, counts);
        if (r >= 0)
                r = add_alphabet(learner);
        if (r >= 0)
                r = add_inner_alphabet(learner);
        if (r >= 0)
                r = spell_words(learner);
        if (r >= 0)
                r = count_pairs(learner);
        return r < 0 ? r : merge_until_full(learner);
}

static void learner_free(struct learner *learner) {
        for (size_t i = 0; learner->pairs && i < learner->n_pair_slots; i++)
                free(learner->pairs[i].words);
        free(learner->pairs);
        free(learner->words);
        free(learner->ids);
        free(learner->heap);
        word_counts_free(&learner->tokens);
        free(learner->token_offsets);
        free(learner->text);
        free(learner->plain);
        free(learner->inner);
}

int vocab_learn(const struct word_counts *counts, const struct vocab_learn_settings *settings, char **ret_text,
                uint32_t *ret_n_tokens, struct error *error) {
        struct learner learner = { .settings = settings };

        if (settings->size < VOCAB_LEARN_SIZE_MIN || settings->size > VOCAB_LEARN_SIZE_MAX)
                return error_input(error, BERTD_EXIT_USAGE, "vocabulary size %u, expected %d to %d", settings->size,
                                   VOCAB_LEARN_SIZE_MIN, VOCAB_LEARN_SIZE_MAX);
        if (counts->n == 0)
                return error_input(error, BERTD_EXIT_DATA, "no word in the text, expected at least one");
        int r = learn(&learner, counts);
        if (r >= 0) {
                *ret_text = learner.text;
                learner.text = NULL;
                *ret_n_tokens = learner.n_tokens;
        }
        learner_free(&learner);
        return r < 0 ? error_errno(error, -r, "cannot learn a vocabulary") : 0;
}
