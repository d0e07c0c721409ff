/*
 * See vocab.h. A vocabulary is its file's text, cut in place, and a trie of it: the root is the start of a word, the node of "##" the start
 * of what continues one.
 */
#include "trainer/text/vocab.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/file.h"
#include "common/hex.h"
#include "trainer/text/vocab_file.h"
#include "trainer/text/vocab_internal.h"

#define WORD_MARK "\xE2\x96\x81"

const char *const vocab_specials[VOCAB_SPECIALS] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };

static char *trim_end(char *begin, char *end) {
        while (end > begin && (end[-1] == ' ' || (end[-1] >= '\t' && end[-1] <= '\r')))
                end--;
        return end;
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
        uint32_t node = trie_insert(&vocab->trie, begin, vocab_trimmed_size(begin, (size_t) (end - begin)));
        vocab->n_distinct += node == 0 || vocab->trie.token[node] == TRIE_NO_TOKEN;
        if (node > 0) /* the root is not a token: white space alone has none */
                vocab->trie.token[node] = (int32_t) line - 1;
        vocab->size = line;
        return 0;
}

static int cut_lines(struct vocab *vocab, const char *path, size_t size, struct error *error) {
        char *line = vocab->text, *end_of_text = vocab->text + size;
        size_t n_lines = 1;

        for (const char *p = line; p < end_of_text; p++)
                n_lines += *p == '\n';
        vocab->tokens = calloc(n_lines, sizeof(*vocab->tokens));
        if (!vocab->tokens || trie_allocate(&vocab->trie, size + 1) < 0)
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
        vocab->n_tokens = vocab->size;         /* empty lines at the end have no id */
        return 0;
}

static int32_t own_id(const struct vocab *vocab, const char *token) {
        uint32_t node = 0;
        if (vocab->model)
                return sentencepiece_id(vocab->model, token);
        for (const char *p = token; *p; p++)
                if (!trie_step(&vocab->trie, &node, *p))
                        return TRIE_NO_TOKEN;
        return vocab->trie.token[node];
}

static int check_specials(const struct vocab *vocab, const char *path, struct error *error) {
        for (size_t i = 0; i < VOCAB_SPECIALS; i++)
                if (vocab_special(vocab, vocab_specials[i]) < 0)
                        return error_input(error, BERTD_EXIT_DATA, "%s: no token %s, which a BERT vocabulary must have",
                                           path, vocab_specials[i]);
        return 0;
}

static void set_hash(struct vocab *vocab, XXH128_hash_t hash) { hex_128(hash.high64, hash.low64, vocab->hash); }

static bool is_usual_name(const struct added_token *t) {
        return strcmp(t->content, t->role) == 0 || strcmp(t->content, "<pad>") == 0 || strcmp(t->content, "<unk>") == 0;
}

/* Of what makes another text of ids: a vocabulary without added tokens keeps the hash it always had. */
static void hash_added(const struct vocab *vocab, XXH3_state_t *state) {
        for (uint32_t i = 0; i < vocab->added.n; i++) {
                const struct added_token *t = &vocab->added.item[i];
                if (t->role && own_id(vocab, t->content) == t->id && is_usual_name(t))
                        continue; /* has nothing that the model does not have */
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
        vocab->continuation =
                trie_step(&vocab->trie, &node, '#') && trie_step(&vocab->trie, &node, '#') ? node : UINT32_MAX;
        return 0;
}

/* The id that transformers' fast tokenizers give: the vocabulary's own, else the next one, whatever the file has. */
static int32_t next_id(const struct vocab *vocab, const char *content) {
        int32_t id = vocab_id(vocab, content);

        return id >= 0 ? id
                       : MAX(vocab->most_added + 1, (int32_t) vocab->n_distinct - (vocab->has_empty && vocab->holes));
}

static int grow_to(struct vocab *vocab, uint32_t n) {
        if (n > vocab->n_tokens && array_resize(&vocab->tokens, n, sizeof(*vocab->tokens)) < 0)
                return -ENOMEM;
        for (; vocab->n_tokens < n; vocab->n_tokens++)
                vocab->tokens[vocab->n_tokens] = "";
        return 0;
}

int vocab_add(struct vocab *vocab, const struct added_token *token, bool renumber) {
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

int vocab_take(const char *path, char *text, size_t size, const struct added_tokens *added, bool renumber, bool holes,
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
        for (size_t i = 0; r >= 0 && i < VOCAB_SPECIALS; i++)
                vocab->most_added = MAX(vocab->most_added, vocab_special(vocab, vocab_specials[i]));
        for (uint32_t i = 0; r >= 0 && added && i < added->n; i++)
                if (vocab_add(vocab, &added->item[i], renumber) < 0)
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
        return vocab_take(path, copy, size, added, false, false, ret, error);
}

void vocab_free(struct vocab *vocab) {
        if (!vocab)
                return;
        free(vocab->text);
        free(vocab->tokens);
        trie_free(&vocab->trie);
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

const struct trie *vocab_trie(const struct vocab *vocab, uint32_t *ret_continuation) {
        *ret_continuation = vocab->continuation;
        return &vocab->trie;
}

const char *vocab_token(const struct vocab *vocab, int32_t id) {
        return id >= 0 && (uint32_t) id < vocab->n_tokens ? vocab->tokens[id] : NULL;
}

void vocab_hash(const struct vocab *vocab, char hex[VOCAB_HASH_MAX]) { memcpy(hex, vocab->hash, VOCAB_HASH_MAX); }
