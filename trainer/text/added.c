/*
 * See added.h. The list has an index, a table of hashes that is never more than half full. A matcher is its patterns sorted by first
 * byte, within one longest first, within one length by their bytes: the first that fits is the longest. The
 * order of steps is that of tokenizers' AddedVocabulary: a match that single_word rejects still uses up its text.
 */
#include "trainer/text/added.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/cleanup.h"
#include "common/json_read.h"

struct pattern {
        char *text;
        size_t size;
        uint32_t group_end; /* of the patterns of this first byte and length, if it is the first of them */
        const struct added_token *token;
};

struct matcher {
        struct pattern *pattern;
        uint32_t n;
        uint32_t first[257]; /* patterns of first byte b: [first[b], first[b + 1]) */
};

struct added_split {
        struct text_options options;
        added_fold fold;
        struct matcher raw, folded;
};

/* ---- the list ---- */

const char *added_role(const char *name) {
        static const char *const roles[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };

        for (size_t i = 0; name && i < ELEMENTSOF(roles); i++)
                if (strcmp(roles[i], name) == 0)
                        return roles[i];
        return NULL;
}

/* The slot that holds the token's index and one, or the empty one where it belongs. */
static uint32_t *slot_of(const struct added_tokens *tokens, const char *content) {
        uint32_t mask = 2 * tokens->capacity - 1, at = (uint32_t) XXH3_64bits(content, strlen(content)) & mask;

        while (tokens->slots[at] && strcmp(tokens->item[tokens->slots[at] - 1].content, content) != 0)
                at = (at + 1) & mask;
        return &tokens->slots[at];
}

struct added_token *added_find(const struct added_tokens *tokens, const char *content) {
        uint32_t at = tokens->slots ? *slot_of(tokens, content) : 0;

        return at > 0 ? &tokens->item[at - 1] : NULL;
}

/* Room for one more: both arrays double, and the index is made again. */
static int grow(struct added_tokens *tokens) {
        uint32_t capacity = tokens->capacity ? 2 * tokens->capacity : 8;

        if (array_resize(&tokens->item, capacity, sizeof(*tokens->item)) < 0)
                return -ENOMEM;
        uint32_t *slots = calloc((size_t) 2 * capacity, sizeof(*slots));
        if (!slots)
                return -ENOMEM;
        free(tokens->slots);
        tokens->slots = slots;
        tokens->capacity = capacity;
        for (uint32_t i = 0; i < tokens->n; i++)
                *slot_of(tokens, tokens->item[i].content) = i + 1;
        return 0;
}

int added_put(struct added_tokens *tokens, const struct added_token *token) {
        struct added_token *to = added_find(tokens, token->content);
        char *content = to ? to->content : strdup(token->content);

        if (!content)
                return -ENOMEM;
        if (!to && tokens->n == tokens->capacity && grow(tokens) < 0) {
                free(content);
                return -ENOMEM;
        }
        if (!to) {
                *slot_of(tokens, content) = tokens->n + 1;
                to = &tokens->item[tokens->n++];
        }
        *to = *token;
        to->content = content;
        return 0;
}

void added_free(struct added_tokens *tokens) {
        for (uint32_t i = 0; i < tokens->n; i++)
                free(tokens->item[i].content);
        free(tokens->item);
        free(tokens->slots);
        *tokens = (struct added_tokens) {};
}

/* As transformers names the members. */
static json_t *describe(const struct added_token *t) {
        return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b}", "content", t->content, "lstrip", t->lstrip, "rstrip",
                         t->rstrip, "normalized", t->normalized, "single_word", t->single_word, "special", t->special);
}

json_t *added_decoder(const struct added_tokens *tokens) {
        json_t *decoder = json_object();
        char id[16];

        for (uint32_t i = 0; i < tokens->n; i++) {
                (void) snprintf(id, sizeof(id), "%d", tokens->item[i].id);
                (void) json_object_set_new(decoder, id, describe(&tokens->item[i]));
        }
        return decoder;
}

char *added_format(const struct added_tokens *tokens) {
        json_t *list = json_array();

        for (uint32_t i = 0; i < tokens->n; i++) {
                json_t *object = describe(&tokens->item[i]);
                (void) json_object_set_new(object, "id", json_integer(tokens->item[i].id));
                if (tokens->item[i].role)
                        (void) json_object_set_new(object, "role", json_string(tokens->item[i].role));
                (void) json_array_append_new(list, object);
        }
        char *text = list && json_array_size(list) == tokens->n ? json_dumps(list, JSON_INDENT(1)) : NULL;
        json_decref(list);
        return text;
}

static int parse_token(struct added_tokens *tokens, const json_t *object) {
        const json_t *id = json_object_get(object, "id");
        const char *content = json_text_at(object, "content");

        if (!content || !content[0] || !json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > ADDED_ID_MAX || added_find(tokens, content))
                return -EINVAL;
        return added_put(tokens,
                         &(struct added_token) { .id = (int32_t) json_integer_value(id),
                                                 .content = (char *) content,
                                                 .role = added_role(json_text_at(object, "role")),
                                                 .lstrip = json_is_true(json_object_get(object, "lstrip")),
                                                 .rstrip = json_is_true(json_object_get(object, "rstrip")),
                                                 .normalized = json_is_true(json_object_get(object, "normalized")),
                                                 .single_word = json_is_true(json_object_get(object, "single_word")),
                                                 .special = json_is_true(json_object_get(object, "special")) });
}

int added_parse(struct added_tokens *tokens, const char *path, const char *text, size_t size, struct error *error) {
        json_error_t why;
        json_t *list = json_read(text, size, 0, &why);
        int r = json_is_array(list) ? 0 : -EINVAL;

        for (size_t i = 0; r >= 0 && i < json_array_size(list); i++)
                r = parse_token(tokens, json_array_get(list, i));
        json_decref(list);
        if (r == -ENOMEM)
                return error_errno(error, ENOMEM, "%s", path);
        return r < 0 ? error_input(error, BERTD_EXIT_DATA, "%s: not a list of added tokens", path) : 0;
}

/* ---- matchers ---- */

static int compare_patterns(const void *a, const void *b) {
        const struct pattern *x = a, *y = b;
        int order = (unsigned char) x->text[0] - (unsigned char) y->text[0];

        if (order == 0)
                order = (x->size < y->size) - (x->size > y->size);
        if (order == 0)
                order = memcmp(x->text, y->text, x->size);
        return order ? order : (x->token > y->token) - (x->token < y->token);
}

static void index_patterns(struct matcher *m) {
        uint32_t i = 0;

        if (m->n > 0)
                qsort(m->pattern, m->n, sizeof(*m->pattern), compare_patterns);
        for (uint32_t b = 0; b <= 256; b++) {
                while (i < m->n && (unsigned char) m->pattern[i].text[0] < b)
                        i++;
                m->first[b] = i;
        }
        for (uint32_t from = 0, to; from < m->n; from = to) {
                const struct pattern *p = &m->pattern[from];
                for (to = from + 1;
                     to < m->n && m->pattern[to].text[0] == p->text[0] && m->pattern[to].size == p->size;)
                        to++;
                m->pattern[from].group_end = to;
        }
}

static int add_pattern(struct added_split *split, const struct added_token *token) {
        struct matcher *m = token->normalized ? &split->folded : &split->raw;
        struct pattern *p = &m->pattern[m->n];
        size_t size = strlen(token->content);

        if (token->normalized && split->fold(&split->options, token->content, size, &p->text, &p->size) < 0)
                return -ENOMEM;
        if (!token->normalized) {
                p->text = strdup(token->content);
                p->size = size;
        }
        if (!p->text)
                return -ENOMEM;
        p->token = token;
        if (p->size > 0)
                m->n++;
        else
                free(p->text);
        return 0;
}

int added_split_new(const struct added_tokens *tokens, bool with_roles, const struct text_options *options,
                    added_fold fold, struct added_split **ret) {
        struct added_split *split = calloc(1, sizeof(*split));
        int r = split ? 0 : -ENOMEM;

        if (split) {
                split->options = *options;
                split->fold = fold;
                split->raw.pattern = calloc((size_t) tokens->n + 1, sizeof(*split->raw.pattern));
                split->folded.pattern = calloc((size_t) tokens->n + 1, sizeof(*split->folded.pattern));
                r = split->raw.pattern && split->folded.pattern ? 0 : -ENOMEM;
        }
        for (uint32_t i = 0; r >= 0 && i < tokens->n; i++)
                if (with_roles || !tokens->item[i].role)
                        r = add_pattern(split, &tokens->item[i]);
        if (r < 0) {
                added_split_free(split);
                return r;
        }
        index_patterns(&split->raw);
        index_patterns(&split->folded);
        *ret = split;
        return 0;
}

static void matcher_free(struct matcher *m) {
        for (uint32_t i = 0; i < m->n; i++)
                free(m->pattern[i].text);
        free(m->pattern);
}

void added_split_free(struct added_split *split) {
        if (!split)
                return;
        matcher_free(&split->raw);
        matcher_free(&split->folded);
        free(split);
}

/* Of patterns [from, to), which are of one length, in order. */
static const struct pattern *search(const struct matcher *m, uint32_t from, uint32_t to, const char *text) {
        while (from < to) {
                uint32_t middle = from + (to - from) / 2;
                const struct pattern *p = &m->pattern[middle];
                int order = memcmp(text, p->text, p->size);
                if (order == 0 && (middle == from || memcmp(text, p[-1].text, p->size) != 0))
                        return p;
                if (order > 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        return NULL;
}

static const struct pattern *match_at(const struct matcher *m, const char *text, size_t size) {
        unsigned char byte = (unsigned char) text[0];
        const struct pattern *found = NULL;

        for (uint32_t i = m->first[byte]; !found && i < m->first[byte + 1]; i = m->pattern[i].group_end)
                if (m->pattern[i].size <= size)
                        found = search(m, i, m->pattern[i].group_end, text);
        return found;
}

/* ---- what stands beside a match ---- */

/* \w of Rust's regular expressions: Alphabetic, marks, decimal digits, connectors, joiners. */
static bool is_word(int32_t c) {
        switch (utf8proc_category(c)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC:
                return true;
        default: /* circled and squared letters are Alphabetic */
                return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                       (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
        }
}

static int32_t code_point_before(const char *text, size_t at, size_t *ret_size) {
        size_t begin = at - 1;
        int32_t c;

        while (begin > 0 && at - begin < 4 && ((unsigned char) text[begin] & 0xC0) == 0x80)
                begin--;
        *ret_size = utf8_decode(text + begin, at - begin, &c);
        return c;
}

static bool is_single_word(const char *text, size_t size, size_t begin, size_t end) {
        int32_t c;
        size_t n;

        if (begin > 0 && is_word(code_point_before(text, begin, &n)))
                return false;
        if (end == size)
                return true;
        (void) utf8_decode(text + end, size - end, &c);
        return !is_word(c);
}

static size_t strip_left(const char *text, size_t from, size_t at) {
        for (size_t n; at > from && unicode_is_space(code_point_before(text, at, &n)); at -= n)
                ;
        return at;
}

static size_t strip_right(const char *text, size_t at, size_t size) {
        for (int32_t c; at < size;) {
                size_t n = utf8_decode(text + at, size - at, &c);
                if (!unicode_is_space(c))
                        break;
                at += n;
        }
        return at;
}

/* ---- the split ---- */

static int split_by(const struct matcher *m, const char *text, size_t size, const struct added_sink *sink) {
        size_t from = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < size;) {
                const struct pattern *p = match_at(m, text + i, size - i);
                if (!p) {
                        i++;
                        continue;
                }
                size_t begin = i, end = i += p->size;
                if (p->token->single_word && !is_single_word(text, size, begin, end))
                        continue;
                if (p->token->lstrip)
                        begin = strip_left(text, MIN(from, begin), begin);
                if (p->token->rstrip)
                        end = strip_right(text, end, size);
                if (from < begin)
                        r = sink->text(sink->context, text + from, begin - from);
                if (r == 0)
                        r = sink->token(sink->context, p->token->id);
                from = end;
        }
        return r || from >= size ? r : sink->text(sink->context, text + from, size - from);
}

struct folding {
        const struct added_split *split;
        const struct added_sink *sink;
};

static int fold_text(void *context, const char *text, size_t size) {
        const struct folding *folding = context;
        const struct added_split *split = folding->split;
        cleanup_free char *folded = NULL;
        size_t n = 0;

        if (split->folded.n == 0)
                return folding->sink->text(folding->sink->context, text, size);
        int r = split->fold(&split->options, text, size, &folded, &n);
        return r < 0 ? r : split_by(&split->folded, folded, n, folding->sink);
}

static int pass_token(void *context, int32_t id) {
        const struct folding *folding = context;

        return folding->sink->token(folding->sink->context, id);
}

int added_split(const struct added_split *split, const char *text, size_t size, const struct added_sink *sink) {
        struct folding folding = { .split = split, .sink = sink };
        const struct added_sink folder = { .context = &folding, .text = fold_text, .token = pass_token };

        return split_by(&split->raw, text, size, &folder);
}
