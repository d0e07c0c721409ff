/* See albert.h. The whole text becomes code points in one array, each step works in place, and the rest is written as UTF-8. */
#include "trainer/text/albert.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/array.h"
#include "common/cleanup.h"

#define NFKD_MAX 18 /* code points that one becomes: U+FDFA */
#define FINAL_SIGMA 0x3C2
#define CAPITAL_SIGMA 0x3A3

void albert_text_free(struct albert_text *text) {
        free(text->code_points);
        free(text->text);
        *text = (struct albert_text) {};
}

static int reserve(struct albert_text *t, size_t more) {
        return array_reserve(&t->code_points, &t->capacity, t->n + more, sizeof(*t->code_points));
}

static int combining(int32_t c) { return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class; }

/* Canonical ordering: a combining character goes before those of a higher class. */
static void reorder_last(struct albert_text *t) {
        size_t i = t->n - 1;
        int32_t c = t->code_points[i];
        int class = combining(c);

        for (; class > 0 && i > 0 && combining(t->code_points[i - 1]) > class; i--)
                t->code_points[i] = t->code_points[i - 1];
        t->code_points[i] = c;
}

static void append(const struct text_options *options, struct albert_text *t, int32_t c) {
        if (options->strip_accents && combining(c) > 0)
                return;
        t->code_points[t->n++] = c;
        if (options->nfkd)
                reorder_last(t);
}

static void append_decomposed(const struct text_options *options, struct albert_text *t, int32_t c) {
        int32_t parts[NFKD_MAX] = { c };
        int boundary = 0;
        utf8proc_ssize_t n = 1;

        if (options->nfkd && c >= 0x80)
                n = utf8proc_decompose_char(c, parts, NFKD_MAX, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
        for (utf8proc_ssize_t i = 0; i < n && i < NFKD_MAX; i++)
                append(options, t, parts[i]);
}

static bool is_cased(int32_t c) {
        utf8proc_category_t category = utf8proc_category(c);
        return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

/* Unicode's Case_Ignorable: marks, modifiers, format characters, and what may stand inside a word. */
static bool is_case_ignorable(int32_t c) {
        switch (utf8proc_category(c)) {
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_SK:
                return true;
        default:
                return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2024 ||
                       c == 0x2027;
        }
}

/* A capital sigma at a word's end becomes the final one (Unicode's Final_Sigma), as Python's lower() has it. */
static bool is_final(const struct albert_text *t, size_t at) {
        size_t before = at, after = at + 1;

        while (before > 0 && is_case_ignorable(t->code_points[before - 1]))
                before--;
        while (after < t->n && is_case_ignorable(t->code_points[after]))
                after++;
        return before > 0 && is_cased(t->code_points[before - 1]) &&
               (after == t->n || !is_cased(t->code_points[after]));
}

static size_t put_lower(const struct albert_text *t, size_t at, char *to) {
        int32_t c = t->code_points[at];

        if (c < 0x80) {
                *to = (char) (c >= 'A' && c <= 'Z' ? c + 32 : c);
                return 1;
        }
        if (c == 0x130) /* the one that becomes two */
                return utf8_encode('i', to) + utf8_encode(0x307, to + 1);
        return utf8_encode(c == CAPITAL_SIGMA && is_final(t, at) ? FINAL_SIGMA : utf8proc_tolower(c), to);
}

static int write_text(const struct text_options *options, struct albert_text *t) {
        if (array_resize(&t->text, 4 * t->n + 1, 1) < 0)
                return -ENOMEM;
        t->size = 0;
        for (size_t i = 0; i < t->n; i++)
                t->size += options->lowercase ? put_lower(t, i, t->text + t->size)
                                              : utf8_encode(t->code_points[i], t->text + t->size);
        return 0;
}

static bool is_quote(const char *text, size_t size) {
        return size >= 2 && text[0] == text[1] && (text[0] == '`' || text[0] == '\'');
}

int albert_preprocess(const struct text_options *options, const char *text, size_t size, struct albert_text *ret) {
        ret->n = 0;
        for (size_t i = 0; i < size;) {
                int32_t c = '"';
                if (reserve(ret, NFKD_MAX) < 0)
                        return -ENOMEM;
                if (options->quotes && is_quote(text + i, size - i))
                        i += 2;
                else
                        i += utf8_decode(text + i, size - i, &c);
                append_decomposed(options, ret, c);
        }
        return write_text(options, ret);
}
