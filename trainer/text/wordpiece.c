/* See wordpiece.h. A cache is a direct-mapped table of short words and their ids, one line of memory each; it changes speed, never a
 * result. */
#include "trainer/text/wordpiece.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/text/basic.h"
#include "trainer/text/trie.h"

#define CACHE_BITS 15
#define CACHE_IDS 7
#define CACHE_WORD_BYTES (WORD_KEY_BYTES - 1)
#define SPECIAL_BYTES_MAX 6

struct wordpiece {
        const struct trie *trie;
        uint32_t continuation; /* node of "##"; UINT32_MAX if no token begins with it */
        struct basic *basic;
        int32_t unknown;
        int32_t special_ids[VOCAB_SPECIALS];
};

/* One line of memory: the word with its length in the last byte, so that one comparison of 32 bytes decides. */
struct cache_entry {
        uint64_t key[WORD_KEY_BYTES / sizeof(uint64_t)];
        int32_t ids[CACHE_IDS];
        uint32_t n_ids;
};
static_assert(sizeof(struct cache_entry) == 64, "a cache entry is one line of memory");

struct wordpiece_cache {
        struct cache_entry entries[1U << CACHE_BITS];
};

int wordpiece_new(const struct vocab *vocab, const struct text_options *options, struct wordpiece **ret) {
        cleanup_wordpiece struct wordpiece *wordpiece = calloc(1, sizeof(*wordpiece));
        if (!wordpiece || basic_new(options, &wordpiece->basic) < 0)
                return -ENOMEM;
        wordpiece->trie = vocab_trie(vocab, &wordpiece->continuation);
        wordpiece->unknown = vocab_special(vocab, "[UNK]");
        for (size_t i = 0; i < VOCAB_SPECIALS; i++)
                if (vocab_id(vocab, vocab_specials[i]) !=
                    (wordpiece->special_ids[i] = vocab_special(vocab, vocab_specials[i])))
                        wordpiece->special_ids[i] = TRIE_NO_TOKEN; /* another token has its role */
        *ret = steal_pointer(&wordpiece);
        return 0;
}

void wordpiece_free(struct wordpiece *wordpiece) {
        if (!wordpiece)
                return;
        free(wordpiece->basic);
        free(wordpiece);
}

int wordpiece_cache_new(struct wordpiece_cache **ret) {
        void *cache;
        if (posix_memalign(&cache, 64, sizeof(**ret)) != 0)
                return -ENOMEM;
        memset(cache, 0, sizeof(**ret));
        *ret = cache;
        return 0;
}

void wordpiece_cache_free(struct wordpiece_cache *cache) { free(cache); }

/* Longest match at `at`; TRIE_NO_TOKEN if nothing matches. Tokens are UTF-8, so a match ends between characters. */
static int32_t longest_match(const struct wordpiece *wordpiece, const struct word *word, size_t at, size_t *ret_end) {
        const struct trie *trie = wordpiece->trie;
        uint32_t node = at == 0 ? 0 : wordpiece->continuation;
        int32_t found = TRIE_NO_TOKEN;

        if (node == UINT32_MAX)
                return TRIE_NO_TOKEN;
        for (size_t i = at; i < word->n_bytes && trie_step(trie, &node, word->bytes[i]); i++) {
                if (trie->token[node] == TRIE_NO_TOKEN)
                        continue;
                found = trie->token[node];
                *ret_end = i + 1;
        }
        return found;
}

/* Writes at most WORD_CHARS_MAX ids and returns how many. */
static uint32_t match_word(const struct wordpiece *wordpiece, const struct word *word, int32_t *ids) {
        uint32_t n = 0;

        if (word->n_chars > WORD_CHARS_MAX) {
                ids[0] = wordpiece->unknown;
                return 1;
        }
        for (size_t at = 0; at < word->n_bytes;) {
                int32_t id = longest_match(wordpiece, word, at, &at);
                if (id == TRIE_NO_TOKEN) {
                        ids[0] = wordpiece->unknown;
                        return 1;
                }
                ids[n++] = id;
        }
        return n;
}

static uint32_t cache_slot(const uint64_t *key) {
        uint64_t h = (key[0] ^ key[1] * 0x9E3779B97F4A7C15U) * 0xD6E8FEB86659FD93U;
        h ^= (key[2] ^ key[3] * 0xA0761D6478BD642FU) * 0xE7037ED1A0B428DBU;
        h ^= h >> 32;
        return (uint32_t) ((h * 0x9E3779B97F4A7C15U) >> (64 - CACHE_BITS));
}

struct encoding {
        const struct wordpiece *wordpiece;
        struct wordpiece_cache *cache;
        struct ids *ids; /* has room for WORD_CHARS_MAX ids beyond every word: see wordpiece_encode */
};

static int encode_word(void *context, const struct word *word) {
        const struct encoding *encoding = context;
        int32_t *to = encoding->ids->data + encoding->ids->n;
        uint64_t key[WORD_KEY_BYTES / sizeof(uint64_t)];

        if (word->n_bytes > CACHE_WORD_BYTES || word->n_chars > WORD_CHARS_MAX) {
                encoding->ids->n += match_word(encoding->wordpiece, word, to);
                return 0;
        }
        memcpy(key, word->bytes, sizeof(key));
        key[3] |= (uint64_t) word->n_bytes << 56;
        struct cache_entry *entry = &encoding->cache->entries[cache_slot(key)];
        if (memcmp(entry->key, key, sizeof(key)) == 0) {
                memcpy(to, entry->ids, sizeof(entry->ids));
                encoding->ids->n += entry->n_ids;
                return 0;
        }
        uint32_t n = match_word(encoding->wordpiece, word, to);
        encoding->ids->n += n;
        if (n <= CACHE_IDS) {
                memcpy(entry->key, key, sizeof(key));
                memcpy(entry->ids, to, n * sizeof(*to));
                entry->n_ids = n;
        }
        return 0;
}

int wordpiece_encode(const struct wordpiece *wordpiece, struct wordpiece_cache *cache, const char *text, size_t size,
                     struct ids *ids) {
        struct encoding encoding = { .wordpiece = wordpiece, .cache = cache, .ids = ids };
        /* A byte of text gives at most one id (decompositions are never longer than their code point's UTF-8), and a word that is being
         * written may reach WORD_CHARS_MAX further. */
        int r = ids_reserve(ids, size + WORD_CHARS_MAX);
        return r < 0 ? r : basic_split(wordpiece->basic, text, size, encode_word, &encoding);
}

/* Index of the special token that stands at `text`, or -1. */
static int special_at(const struct wordpiece *wordpiece, const char *text, size_t size) {
        for (size_t i = 0; i < VOCAB_SPECIALS; i++) {
                size_t length = strlen(vocab_specials[i]);
                if (size >= length && memcmp(text, vocab_specials[i], length) == 0 && wordpiece->special_ids[i] >= 0)
                        return (int) i;
        }
        return -1;
}

int wordpiece_encode_special(const struct wordpiece *wordpiece, struct wordpiece_cache *cache, const char *text,
                             size_t size, struct ids *ids) {
        size_t from = 0;

        for (size_t i = 0; i < size;) {
                const char *bracket = memchr(text + i, '[', size - i);
                if (!bracket)
                        break;
                i = (size_t) (bracket - text);
                int special = special_at(wordpiece, bracket, MIN(size - i, (size_t) SPECIAL_BYTES_MAX));
                if (special < 0) {
                        i++;
                        continue;
                }
                int r = wordpiece_encode(wordpiece, cache, text + from, i - from, ids);
                if (r < 0)
                        return r;
                ids->data[ids->n++] = wordpiece->special_ids[special]; /* reserve left room for WORD_CHARS_MAX more */
                i += strlen(vocab_specials[special]);
                from = i;
        }
        return wordpiece_encode(wordpiece, cache, text + from, size - from, ids);
}
