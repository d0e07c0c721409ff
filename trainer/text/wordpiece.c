/*
 * See wordpiece.h. A vocabulary is its file's text, cut in place, and a trie of bytes whose edges lie in one open-addressed
 * table: node 0 is the start of a word, the node of "##" the start of what continues one, and the longest match is one walk.
 * A cache is a direct-mapped table of short words and their ids, one line of memory each; it changes speed, never a result.
 */
#include "trainer/text/wordpiece.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/parse.h"
#include "trainer/text/basic.h"
#include "trainer/text/sentencepiece.h"
#include "trainer/text/tokenizer_files.h"

#define NO_TOKEN (-1)
#define WORD_MARK "\xE2\x96\x81"
#define EDGE_FREE UINT32_MAX
#define CACHE_BITS 15
#define CACHE_IDS 7
#define CACHE_WORD_BYTES (WORD_KEY_BYTES - 1)
#define SPECIAL_BYTES_MAX 6

struct edge {
        uint32_t from; /* node << 8 | byte, or EDGE_FREE */
        uint32_t to;
};

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
        struct edge *edges;
        uint32_t edge_mask, n_nodes;
        int32_t *node_token; /* per node: id of the token that ends there, or NO_TOKEN */
        char hash[VOCAB_HASH_MAX];
        uint32_t continuation; /* node of "##"; UINT32_MAX where no token has it */

        /* NULL: WordPiece; else it lends `tokens`, and only they and `hash` are used. */
        struct sentencepiece_model *model;
};

static const char *const specials[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };

struct wordpiece {
        const struct vocab *vocab;
        struct basic *basic;
        int32_t unknown;
        int32_t special_ids[ELEMENTSOF(specials)];
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

static uint32_t edge_slot(const struct vocab *vocab, uint32_t from) {
        uint32_t slot = (from * 0x9E3779B1U >> 7) & vocab->edge_mask;
        while (vocab->edges[slot].from != EDGE_FREE && vocab->edges[slot].from != from)
                slot = (slot + 1) & vocab->edge_mask;
        return slot;
}

static bool trie_step(const struct vocab *vocab, uint32_t *node, char byte) {
        const struct edge *edge = &vocab->edges[edge_slot(vocab, *node << 8 | (unsigned char) byte)];
        *node = edge->to;
        return edge->from != EDGE_FREE;
}

static uint32_t trie_insert(struct vocab *vocab, const char *token, size_t size) {
        uint32_t node = 0;
        for (const char *p = token; p < token + size; p++) {
                uint32_t from = node << 8 | (unsigned char) *p;
                struct edge *edge = &vocab->edges[edge_slot(vocab, from)];
                if (edge->from == EDGE_FREE) {
                        *edge = (struct edge) { .from = from, .to = vocab->n_nodes };
                        vocab->node_token[vocab->n_nodes++] = NO_TOKEN;
                }
                node = edge->to;
        }
        return node;
}

static int trie_allocate(struct vocab *vocab, size_t text_bytes) {
        size_t n_edges = 1024;
        while (n_edges < 2 * text_bytes)
                n_edges *= 2;
        vocab->edges = malloc(n_edges * sizeof(*vocab->edges));
        vocab->node_token = malloc((text_bytes + 1) * sizeof(*vocab->node_token));
        if (!vocab->edges || !vocab->node_token)
                return -ENOMEM;
        memset(vocab->edges, 0xFF, n_edges * sizeof(*vocab->edges));
        vocab->edge_mask = (uint32_t) n_edges - 1;
        vocab->node_token[0] = NO_TOKEN;
        vocab->n_nodes = 1;
        return 0;
}

static char *trim_end(char *begin, char *end) {
        while (end > begin && (end[-1] == ' ' || (end[-1] >= '\t' && end[-1] <= '\r')))
                end--;
        return end;
}

size_t vocab_trimmed_size(const char *token, size_t size) {
        while (size > 0) {
                size_t last = size - 1;
                int32_t c;
                while (last > 0 && size - last < 4 && ((unsigned char) token[last] & 0xC0) == 0x80)
                        last--;
                if (utf8_decode(token + last, size - last, &c) != size - last || !unicode_is_space(c))
                        break;
                size = last;
        }
        return size;
}

/* An empty line is an id that no text has; a token given again has its last id, and the earlier one is such an id, too. The token's own
 * text keeps what is not ASCII: the hash of a vocabulary, by which checkpoints know it, is over that. */
static int add_token(struct vocab *vocab, const char *path, char *begin, char *end, struct error *error) {
        uint32_t line = vocab->n_tokens + 1;

        end = trim_end(begin, end);
        if (memchr(begin, '\0', (size_t) (end - begin)) ||
            utf8_valid_prefix(begin, (size_t) (end - begin)) < (size_t) (end - begin))
                return error_input(error, BERTD_EXIT_DATA, "%s:%u: not a UTF-8 text line", path, line);
        *end = '\0';
        vocab->tokens[vocab->n_tokens++] = begin;
        if (begin == end) {
                vocab->has_empty = true;
                return 0;
        }
        uint32_t node = trie_insert(vocab, begin, vocab_trimmed_size(begin, (size_t) (end - begin)));
        vocab->n_distinct += node == 0 || vocab->node_token[node] == NO_TOKEN;
        if (node > 0) /* the root is no token: white space alone is none */
                vocab->node_token[node] = (int32_t) line - 1;
        vocab->size = line;
        return 0;
}

static int cut_lines(struct vocab *vocab, const char *path, size_t size, struct error *error) {
        char *line = vocab->text, *end_of_text = vocab->text + size;
        size_t n_lines = 1;

        for (const char *p = line; p < end_of_text; p++)
                n_lines += *p == '\n';
        vocab->tokens = calloc(n_lines, sizeof(*vocab->tokens));
        if (!vocab->tokens || trie_allocate(vocab, size + 1) < 0)
                return error_errno(error, ENOMEM, "%s", path);

        while (line < end_of_text) {
                char *found = memchr(line, '\n', (size_t) (end_of_text - line));
                char *end = found ? found : end_of_text;
                int r = add_token(vocab, path, line, end, error);
                if (r < 0)
                        return r;
                line = end + 1;
        }
        vocab->n_distinct += vocab->has_empty; /* "" is a token of transformers' */
        vocab->n_tokens = vocab->size;         /* empty lines at the end are no ids */
        return 0;
}

static int32_t own_id(const struct vocab *vocab, const char *token) {
        uint32_t node = 0;
        if (vocab->model)
                return sentencepiece_id(vocab->model, token);
        for (const char *p = token; *p; p++)
                if (!trie_step(vocab, &node, *p))
                        return NO_TOKEN;
        return vocab->node_token[node];
}

static int check_specials(const struct vocab *vocab, const char *path, struct error *error) {
        for (size_t i = 0; i < ELEMENTSOF(specials); i++)
                if (vocab_special(vocab, specials[i]) < 0)
                        return error_input(error, BERTD_EXIT_DATA, "%s: no token %s, which a BERT vocabulary must have",
                                           path, specials[i]);
        return 0;
}

static void set_hash(struct vocab *vocab, XXH128_hash_t hash) {
        (void) snprintf(vocab->hash, VOCAB_HASH_MAX, "%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
}

static bool is_usual_name(const struct added_token *t) {
        return strcmp(t->content, t->role) == 0 || strcmp(t->content, "<pad>") == 0 || strcmp(t->content, "<unk>") == 0;
}

/* Of what makes another text of ids: a vocabulary without added tokens keeps the hash it always had. */
static void hash_added(const struct vocab *vocab, XXH3_state_t *state) {
        for (uint32_t i = 0; i < vocab->added.n; i++) {
                const struct added_token *t = &vocab->added.item[i];
                if (t->role && own_id(vocab, t->content) == t->id && is_usual_name(t))
                        continue; /* says nothing that the model does not say */
                const uint32_t numbers[] = { (uint32_t) t->id, t->lstrip,      t->rstrip,
                                             t->normalized,    t->single_word, t->role ? (uint32_t) t->role[1] : 0 };
                (void) XXH3_128bits_update(state, numbers, sizeof(numbers));
                (void) XXH3_128bits_update(state, t->content, strlen(t->content) + 1);
        }
}

static int hash_tokens(struct vocab *vocab) {
        XXH3_state_t *state = XXH3_createState();
        if (!state)
                return -ENOMEM;
        (void) XXH3_128bits_reset(state);
        if (vocab->model)
                (void) XXH3_128bits_update(state, vocab->text, vocab->text_size);
        for (uint32_t i = 0; !vocab->model && i < vocab->n_tokens; i++) {
                (void) XXH3_128bits_update(state, vocab->tokens[i], strlen(vocab->tokens[i]));
                (void) XXH3_128bits_update(state, "\n", 1);
        }
        hash_added(vocab, state);
        set_hash(vocab, XXH3_128bits_digest(state));
        (void) XXH3_freeState(state);
        return 0;
}

/* A protobuf message whose first field, a piece, begins with a field of its own; a vocabulary of lines has no empty line. */
bool vocab_is_sentencepiece(const char *text, size_t size) { return size > 2 && text[0] == '\n' && text[2] == '\n'; }

static int load_sentencepiece(struct vocab *vocab, const char *path, size_t size, struct error *error) {
        int r = sentencepiece_new(path, vocab->text, size, &vocab->model, error);
        if (r < 0)
                return r;
        vocab->n_tokens = sentencepiece_size(vocab->model);
        vocab->tokens = calloc((size_t) vocab->n_tokens + 1, sizeof(*vocab->tokens));
        if (!vocab->tokens)
                return error_errno(error, ENOMEM, "%s", path);
        for (uint32_t i = 0; i < vocab->n_tokens; i++)
                vocab->tokens[i] = sentencepiece_piece(vocab->model, i);
        vocab->n_distinct = vocab->n_tokens;
        return 0;
}

static int load_wordpiece(struct vocab *vocab, const char *path, size_t size, struct error *error) {
        int r = cut_lines(vocab, path, size, error);
        if (r < 0)
                return r;
        uint32_t node = 0;
        vocab->continuation = trie_step(vocab, &node, '#') && trie_step(vocab, &node, '#') ? node : UINT32_MAX;
        return 0;
}

int vocab_read(const char *path, char **ret_text, size_t *ret_size, struct error *error) {
        if (file_is_sqlite(path)) /* it holds a vocabulary */
                return error_input(
                        error, BERTD_EXIT_DATA,
                        "%s: a checkpoint, expected a vocabulary; tokenize and prepare take one by --checkpoint, "
                        "a spec by model.init",
                        path);
        bool json = text_ends_with(path, ".json"); /* holds more than the vocabulary */
        int r = file_read(path, json ? JSON_FILE_BYTES_MAX : VOCAB_FILE_BYTES_MAX, ret_text, ret_size, error);

        if (r < 0 && error && !error->exit)
                error->exit = r == -ENOENT || r == -EACCES || r == -ENOTDIR ? BERTD_EXIT_INPUT
                              : r == -EFBIG || r == -EINVAL                 ? BERTD_EXIT_DATA
                                                                            : 0;
        return r;
}

/* The id that transformers' fast tokenizers give: the vocabulary's own, else the next one, whatever the file says. */
static int32_t next_id(const struct vocab *vocab, const char *content) {
        int32_t id = vocab_id(vocab, content);

        return id >= 0 ? id
                       : MAX(vocab->most_added + 1, (int32_t) vocab->n_distinct - (vocab->has_empty && vocab->holes));
}

static int grow_to(struct vocab *vocab, uint32_t n) {
        const char **tokens = n > vocab->n_tokens ? realloc(vocab->tokens, n * sizeof(*tokens)) : vocab->tokens;

        if (!tokens)
                return -ENOMEM;
        vocab->tokens = tokens;
        for (; vocab->n_tokens < n; vocab->n_tokens++)
                tokens[vocab->n_tokens] = "";
        return 0;
}

static int add_one(struct vocab *vocab, const struct added_token *token, bool renumber) {
        struct added_token t = *token;

        if (renumber)
                t.id = next_id(vocab, t.content);
        if (grow_to(vocab, (uint32_t) t.id + 1) < 0 || added_put(&vocab->added, &t) < 0)
                return -ENOMEM;
        vocab->most_added = MAX(vocab->most_added, t.id);
        if (vocab->tokens[t.id][0] == '\0')
                vocab->tokens[t.id] = added_find(&vocab->added, t.content)->content;
        return 0;
}

/* In a text for a SentencePiece model, special tokens are plain text to spm_encode; to transformers' AlbertTokenizer they are tokens. */
static int add_special_pieces(struct vocab *vocab) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(specials); i++) {
                int32_t id = vocab_special(vocab, specials[i]);
                if (!added_find(&vocab->added, vocab->tokens[id]))
                        r = add_one(vocab,
                                    &(struct added_token) { .id = id,
                                                            .content = (char *) vocab->tokens[id],
                                                            .role = added_role(specials[i]),
                                                            .lstrip = strcmp(specials[i], "[MASK]") == 0,
                                                            .special = true },
                                    false);
        }
        return r;
}

/* Takes the text, whose `size` bytes a NUL follows. */
static int parse(const char *path, char *text, size_t size, const struct added_tokens *added, bool renumber, bool holes,
                 struct vocab **ret, struct error *error) {
        cleanup_vocab struct vocab *vocab = calloc(1, sizeof(*vocab));

        if (!vocab) {
                free(text);
                return error_errno(error, ENOMEM, "%s", path);
        }
        vocab->text = text;
        vocab->text_size = size;
        vocab->holes = holes;
        int r = file_refuse_pointer(path, text, size, error);
        if (r >= 0)
                r = vocab_is_sentencepiece(text, size) ? load_sentencepiece(vocab, path, size, error)
                                                       : load_wordpiece(vocab, path, size, error);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(specials); i++)
                vocab->most_added = MAX(vocab->most_added, vocab_special(vocab, specials[i]));
        for (uint32_t i = 0; r >= 0 && added && i < added->n; i++)
                if (add_one(vocab, &added->item[i], renumber) < 0)
                        r = error_errno(error, ENOMEM, "%s", path);
        if (r >= 0)
                r = check_specials(vocab, path, error);
        if (r >= 0 && hash_tokens(vocab) < 0)
                r = error_errno(error, ENOMEM, "%s", path);
        if (r >= 0)
                *ret = steal_pointer(&vocab);
        return r;
}

int vocab_parse(const char *path, const char *text, size_t size, const struct added_tokens *added, struct vocab **ret,
                struct error *error) {
        char *copy = malloc(size + 1);

        if (!copy)
                return error_errno(error, ENOMEM, "%s", path);
        memcpy(copy, text, size);
        copy[size] = '\0';
        return parse(path, copy, size, added, false, false, ret, error);
}

/* transformers' fast tokenizers take the ids in the files of added tokens for an order only. */
static void tell_ids(struct tokenizer_files *files, const struct vocab *vocab) {
        const struct added_token *first = NULL;
        uint32_t n = 0;

        for (uint32_t i = 0; i < files->added.n; i++) {
                const struct added_token *said = &files->added.item[i];
                if (said->id == ADDED_ID_NEXT || said->id == vocab->added.item[i].id)
                        continue;
                first = first ? first : said;
                n++;
        }
        if (first)
                tokenizer_note(files,
                               "added token '%.64s' has id %d in its file; as in transformers, it is %d (%u such)",
                               first->content, first->id, vocab_id(vocab, first->content), n);
}

/* A sign of a file that something happened to. */
static void tell_lines(struct tokenizer_files *files, const struct vocab *vocab, const char *path) {
        uint32_t n = vocab->size - (vocab->n_distinct - vocab->has_empty);

        if (!vocab->model && !files->listed && n > 0)
                tokenizer_note(files,
                               "%s: %u lines are empty or hold a token that is given again later: ids without a token, "
                               "as in transformers",
                               path, n);
}

int vocab_of_files(const char *path, struct tokenizer_files *files, struct vocab **ret, struct error *error) {
        cleanup_vocab struct vocab *vocab = NULL;
        char *copy = malloc(files->size + 1);

        if (!copy)
                return error_errno(error, ENOMEM, "%s", path);
        memcpy(copy, files->text, files->size + 1);
        int r = parse(files->vocab_path ? files->vocab_path : path, copy, files->size, &files->added, true,
                      files->listed, &vocab, error);
        if (r < 0)
                return r;
        tell_lines(files, vocab, files->vocab_path ? files->vocab_path : path);
        tell_ids(files, vocab);
        if (vocab->model && files->has_options && add_special_pieces(vocab) < 0)
                return error_errno(error, ENOMEM, "%s", path);
        vocab->options = files->options;
        vocab->has_options = files->has_options;
        vocab->notes = steal_pointer(&files->notes);
        *ret = steal_pointer(&vocab);
        return 0;
}

int vocab_load(const char *path, struct vocab **ret, struct error *error) {
        cleanup_tokenizer struct tokenizer_files files = {};
        int r = tokenizer_read(path, &files, error);

        return r < 0 ? r : vocab_of_files(path, &files, ret, error);
}

void vocab_free(struct vocab *vocab) {
        if (!vocab)
                return;
        free(vocab->text);
        free(vocab->tokens);
        free(vocab->edges);
        free(vocab->node_token);
        sentencepiece_free(vocab->model);
        added_free(&vocab->added);
        free(vocab->notes);
        free(vocab);
}

uint32_t vocab_size(const struct vocab *vocab) { return vocab->n_tokens; }

int32_t vocab_id(const struct vocab *vocab, const char *token) {
        const struct added_token *added = added_find(&vocab->added, token);
        return added ? added->id : own_id(vocab, token);
}

int32_t vocab_special(const struct vocab *vocab, const char *name) {
        for (uint32_t i = 0; i < vocab->added.n; i++)
                if (vocab->added.item[i].role && strcmp(vocab->added.item[i].role, name) == 0)
                        return vocab->added.item[i].id;
        int32_t id = vocab_id(vocab, name);
        if (id < 0 && vocab->model && strcmp(name, "[PAD]") == 0)
                return vocab_id(vocab, "<pad>");
        if (id < 0 && vocab->model && strcmp(name, "[UNK]") == 0)
                return vocab_id(vocab, "<unk>");
        return id;
}

bool vocab_begins_word(const struct vocab *vocab, int32_t id) {
        const char *token = vocab_token(vocab, id);
        if (!token)
                return false;
        if (!vocab->model)
                return strncmp(token, "##", 2) != 0;
        bool punctuation = token[0] && !token[1] && strchr("!\"#$%&()*+,-./:;?@[\\]^_`{|}~", token[0]);
        return punctuation || strncmp(token, WORD_MARK, strlen(WORD_MARK)) == 0;
}

const struct added_tokens *vocab_added(const struct vocab *vocab) { return &vocab->added; }

const struct text_options *vocab_options(const struct vocab *vocab) {
        return vocab->has_options ? &vocab->options : NULL;
}

const char *vocab_notes(const struct vocab *vocab) { return vocab->notes; }

void vocab_print_notes(const struct vocab *vocab, FILE *to) {
        const char *line = vocab ? vocab_notes(vocab) : NULL;

        while (line && *line) {
                size_t n = strcspn(line, "\n");
                (void) fprintf(to, "%s: %.*s\n", program_invocation_short_name, (int) n, line);
                line += n + (line[n] == '\n');
        }
}

const struct sentencepiece_model *vocab_sentencepiece(const struct vocab *vocab) { return vocab->model; }

const char *vocab_token(const struct vocab *vocab, int32_t id) {
        return id >= 0 && (uint32_t) id < vocab->n_tokens ? vocab->tokens[id] : NULL;
}

void vocab_hash(const struct vocab *vocab, char hex[VOCAB_HASH_MAX]) { memcpy(hex, vocab->hash, VOCAB_HASH_MAX); }

int wordpiece_new(const struct vocab *vocab, const struct text_options *options, struct wordpiece **ret) {
        cleanup_wordpiece struct wordpiece *wordpiece = calloc(1, sizeof(*wordpiece));
        if (!wordpiece || basic_new(options, &wordpiece->basic) < 0)
                return -ENOMEM;
        wordpiece->vocab = vocab;
        wordpiece->unknown = vocab_special(vocab, "[UNK]");
        for (size_t i = 0; i < ELEMENTSOF(specials); i++)
                if (vocab_id(vocab, specials[i]) != (wordpiece->special_ids[i] = vocab_special(vocab, specials[i])))
                        wordpiece->special_ids[i] = NO_TOKEN; /* another token has its role */
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

/* Longest match at `at`; NO_TOKEN where nothing matches. Tokens are UTF-8, so a match ends between characters. */
static int32_t longest_match(const struct vocab *vocab, const struct word *word, size_t at, size_t *ret_end) {
        uint32_t node = at == 0 ? 0 : vocab->continuation;
        int32_t found = NO_TOKEN;

        if (node == UINT32_MAX)
                return NO_TOKEN;
        for (size_t i = at; i < word->n_bytes && trie_step(vocab, &node, word->bytes[i]); i++) {
                if (vocab->node_token[node] == NO_TOKEN)
                        continue;
                found = vocab->node_token[node];
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
                int32_t id = longest_match(wordpiece->vocab, word, at, &at);
                if (id == NO_TOKEN) {
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
        struct ids *ids; /* has room for WORD_CHARS_MAX ids beyond every word: see reserve */
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

/* A byte of text gives at most one id (decompositions are never longer than their code point's UTF-8), and a word that is
 * being written may reach WORD_CHARS_MAX further. */
static int reserve(struct ids *ids, size_t text_bytes) {
        size_t need = ids->n + text_bytes + WORD_CHARS_MAX;
        if (need <= ids->capacity)
                return 0;
        need += need / 2;
        int32_t *data = realloc(ids->data, need * sizeof(*data));
        if (!data)
                return -ENOMEM;
        ids->data = data;
        ids->capacity = need;
        return 0;
}

int wordpiece_encode(const struct wordpiece *wordpiece, struct wordpiece_cache *cache, const char *text, size_t size,
                     struct ids *ids) {
        struct encoding encoding = { .wordpiece = wordpiece, .cache = cache, .ids = ids };
        int r = reserve(ids, size);
        return r < 0 ? r : basic_split(wordpiece->basic, text, size, encode_word, &encoding);
}

/* Index of the special token that stands at `text`, or -1. */
static int special_at(const struct wordpiece *wordpiece, const char *text, size_t size) {
        for (size_t i = 0; i < ELEMENTSOF(specials); i++) {
                size_t length = strlen(specials[i]);
                if (size >= length && memcmp(text, specials[i], length) == 0 && wordpiece->special_ids[i] >= 0)
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
                i += strlen(specials[special]);
                from = i;
        }
        return wordpiece_encode(wordpiece, cache, text + from, size - from, ids);
}
