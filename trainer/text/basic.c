/*
 * See basic.h. The tables are made from unicode.c, the one place that knows the rules; what one entry cannot hold
 * (several code points, non-starters that are kept, planes beyond the BMP) goes through basic_slow, which follows the same rules.
 */
#include "trainer/text/basic.h"

#include <errno.h>
#include <stdlib.h>

#include "common/array.h"
#include "common/cleanup.h"

static uint32_t entry(enum basic_action action, int32_t code_point) {
        return (uint32_t) action << BASIC_ACTION_SHIFT | (uint32_t) code_point;
}

static uint32_t make_entry(const struct text_options *options, int32_t c) {
        int32_t parts[UNICODE_EXPANSION_MAX];
        enum unicode_class class = unicode_class(c);

        if (class == UNICODE_REMOVED)
                return entry(BASIC_REMOVED, 0);
        if (class == UNICODE_SPACE)
                return entry(BASIC_SPACE, 0);
        int n = unicode_fold(c, options, parts);
        if (n == 0)
                return entry(BASIC_REMOVED, 0);
        if (n > 1)
                return entry(BASIC_SLOW, 0);
        if ((class == UNICODE_CHINESE && options->chinese) || unicode_class(parts[0]) == UNICODE_PUNCTUATION)
                return entry(BASIC_ALONE, parts[0]);
        if (options->strip_accents && unicode_combining_class(parts[0]) != 0)
                return entry(BASIC_SLOW, 0);
        return entry(BASIC_LETTER, parts[0]);
}

int basic_new(const struct text_options *options, struct basic **ret) {
        struct basic *basic = malloc(sizeof(*basic));
        if (!basic)
                return -ENOMEM;
        basic->options = *options;
        for (int32_t c = 0; c < BASIC_BMP; c++)
                basic->bmp[c] = make_entry(options, c);
        for (int32_t c = 0; c < 128; c++) {
                enum basic_action action = basic->bmp[c] >> BASIC_ACTION_SHIFT;
                basic->ascii[c] = (uint8_t) (action == BASIC_LETTER ? basic->bmp[c] & 0x7F : (uint32_t) action);
        }
        *ret = basic;
        return 0;
}

/* Code points that one becomes there: it is removed, becomes a space, or is folded, an ideograph between spaces. */
static int normalize(const struct text_options *options, int32_t c, int32_t parts[UNICODE_EXPANSION_MAX + 2]) {
        enum unicode_class class = unicode_class(c);
        bool alone = class == UNICODE_CHINESE && options->chinese;
        int n = 0;

        if (class == UNICODE_REMOVED)
                return 0;
        if (class == UNICODE_SPACE || alone)
                parts[n++] = ' ';
        if (class != UNICODE_SPACE)
                n += unicode_fold(c, options, parts + n);
        if (alone)
                parts[n++] = ' ';
        return n;
}

int basic_normalize(const struct text_options *options, const char *text, size_t size, char **ret, size_t *ret_size) {
        int32_t parts[UNICODE_EXPANSION_MAX + 2];
        size_t used = 0, capacity = 0;
        cleanup_free char *to = NULL;

        if (array_reserve(&to, &capacity, size + sizeof(parts), 1) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < size;) {
                int32_t c;
                i += utf8_decode(text + i, size - i, &c);
                int n = normalize(options, c, parts);
                if (array_reserve(&to, &capacity, used + sizeof(parts), 1) < 0)
                        return -ENOMEM;
                for (int k = 0; k < n; k++)
                        used += utf8_encode(parts[k], to + used);
        }
        *ret = steal_pointer(&to);
        *ret_size = used;
        return 0;
}

void word_append_reordered(struct word *word, int32_t c) {
        int class = unicode_combining_class(c);
        size_t at = word->n_bytes;

        if (class == 0 || word->n_chars >= WORD_CHARS_MAX) {
                word_append(word, c);
                return;
        }
        while (at > 0) {
                size_t before = at - 1;
                int32_t previous;
                while (((unsigned char) word->bytes[before] & 0xC0) == 0x80)
                        before--;
                (void) utf8_decode(word->bytes + before, at - before, &previous);
                if (unicode_combining_class(previous) <= class)
                        break;
                at = before;
        }
        char encoded[4];
        size_t n = utf8_encode(c, encoded);
        memmove(word->bytes + at + n, word->bytes + at, word->n_bytes - at);
        memcpy(word->bytes + at, encoded, n);
        word->n_bytes += n;
        word->n_chars++;
}

int basic_slow(const struct basic *basic, int32_t c, struct word *word, word_function function, void *context) {
        int32_t parts[UNICODE_EXPANSION_MAX];
        enum unicode_class class = unicode_class(c);
        bool alone = class == UNICODE_CHINESE && basic->options.chinese;

        if (class == UNICODE_REMOVED)
                return 0;
        int r = class == UNICODE_SPACE || alone ? word_flush(word, function, context) : 0;
        if (class == UNICODE_SPACE)
                return r;
        int n = unicode_fold(c, &basic->options, parts);
        for (int i = 0; i < n && r == 0; i++) {
                bool punctuation = unicode_class(parts[i]) == UNICODE_PUNCTUATION;
                if (punctuation)
                        r = word_flush(word, function, context);
                if (basic->options.strip_accents)
                        word_append_reordered(word, parts[i]);
                else
                        word_append(word, parts[i]);
                if (punctuation && r == 0)
                        r = word_flush(word, function, context);
        }
        return r || !alone ? r : word_flush(word, function, context);
}
