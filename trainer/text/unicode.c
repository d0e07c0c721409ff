/*
 * See unicode.h. The order of the tests is that of BertNormalizer: characters are removed first, whitespace is found in
 * the raw text, ideographs are spaced before decomposition, marks go after it, lowercase comes last, and punctuation is
 * looked for in what is left. Unassigned code points stay: the tables behind `tokenizers` do not know them as "other".
 */
#include "trainer/text/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "common/cleanup.h"
#ifndef UNICODE_WITHOUT_EXCEPTIONS /* make-unicode-exceptions looks for what they have to be */
#include "trainer/text/unicode_exceptions.h"

static int compare_class(const void *key, const void *element) {
        int32_t c = *(const int32_t *) key;
        const struct class_exception *exception = element;
        return c < exception->first ? -1 : c > exception->last;
}

static int compare_lower(const void *key, const void *element) {
        int32_t c = *(const int32_t *) key;
        const struct lower_exception *exception = element;
        return (c > exception->upper) - (c < exception->upper);
}

/* The class by the table, or UNICODE_CLASS_MAX. */
static enum unicode_class exceptional_class(int32_t c) {
        const struct class_exception *found =
                bsearch(&c, class_exceptions, ELEMENTSOF(class_exceptions), sizeof(class_exceptions[0]), compare_class);
        return found ? (enum unicode_class) found->class : UNICODE_CLASS_MAX;
}

/* The lowercase by the table, or 0. */
static int32_t exceptional_lower(int32_t c) {
        const struct lower_exception *found =
                bsearch(&c, lower_exceptions, ELEMENTSOF(lower_exceptions), sizeof(lower_exceptions[0]), compare_lower);
        return found ? found->lower : 0;
}
static bool is_whole(int32_t c) {
        for (size_t i = 0; i < ELEMENTSOF(whole_exceptions); i++)
                if (whole_exceptions[i] == c)
                        return true;
        return false;
}
#else
static bool is_whole(int32_t c) { return false; }
static enum unicode_class exceptional_class(int32_t c) { return UNICODE_CLASS_MAX; }
static int32_t exceptional_lower(int32_t c) { return 0; }
#endif

static bool is_chinese(int32_t c) {
        return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
               (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
               (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* The White_Space property, as Rust's char::is_whitespace. */
bool unicode_is_space(int32_t c) {
        return c == ' ' || (c >= 0x09 && c <= 0x0D) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
               (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_ascii_punctuation(int32_t c) {
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

static enum unicode_class class_by_category(int32_t c) {
        switch (utf8proc_category(c)) {
        case UTF8PROC_CATEGORY_CC:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_CO:
        case UTF8PROC_CATEGORY_CS:
                return UNICODE_REMOVED;
        case UTF8PROC_CATEGORY_PC:
        case UTF8PROC_CATEGORY_PD:
        case UTF8PROC_CATEGORY_PS:
        case UTF8PROC_CATEGORY_PE:
        case UTF8PROC_CATEGORY_PI:
        case UTF8PROC_CATEGORY_PF:
        case UTF8PROC_CATEGORY_PO:
                return UNICODE_PUNCTUATION;
        case UTF8PROC_CATEGORY_MN:
                return UNICODE_MARK;
        default:
                return UNICODE_LETTER;
        }
}

enum unicode_class unicode_class(int32_t c) {
        if (c == 0 || c == UNICODE_REPLACEMENT)
                return UNICODE_REMOVED;
        if (c == '\t' || c == '\n' || c == '\r')
                return UNICODE_SPACE;
        if (c < 0x20 || (c >= 0x7F && c < 0xA0))
                return UNICODE_REMOVED;
        if (unicode_is_space(c))
                return UNICODE_SPACE;
        if (c < 0x80)
                return is_ascii_punctuation(c) ? UNICODE_PUNCTUATION : UNICODE_LETTER;
        if (is_chinese(c))
                return UNICODE_CHINESE;
        enum unicode_class class = exceptional_class(c);
        return class == UNICODE_CLASS_MAX ? class_by_category(c) : class;
}

int unicode_combining_class(int32_t c) { return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class; }

static int lowercase(int32_t c, int32_t *ret) {
        if (c == 0x130) { /* the one code point with a lowercase of two, without condition */
                ret[0] = 'i';
                ret[1] = 0x307;
                return 2;
        }
        int32_t exception = c < 0x80 ? 0 : exceptional_lower(c);
        ret[0] = exception ? exception : utf8proc_tolower(c);
        return 1;
}

int unicode_fold(int32_t c, const struct text_options *options, int32_t *ret) {
        int32_t parts[UNICODE_EXPANSION_MAX] = { c };
        int n_parts = 1, n = 0;

        if (options->strip_accents && !is_whole(c)) {
                int boundary = 0;
                utf8proc_ssize_t k =
                        utf8proc_decompose_char(c, parts, UNICODE_EXPANSION_MAX, UTF8PROC_DECOMPOSE, &boundary);
                n_parts = k > 0 && k <= UNICODE_EXPANSION_MAX ? (int) k : 1;
        }
        for (int i = 0; i < n_parts && n + 2 <= UNICODE_EXPANSION_MAX; i++) {
                if (options->strip_accents && unicode_class(parts[i]) == UNICODE_MARK)
                        continue;
                if (options->lowercase)
                        n += lowercase(parts[i], ret + n);
                else
                        ret[n++] = parts[i];
        }
        return n;
}

/* Length that a lead byte promises and the range of the second byte (Unicode, table 3-7); 0 for no lead byte. */
static size_t lead(unsigned char c, unsigned char *ret_low, unsigned char *ret_high) {
        *ret_low = 0x80;
        *ret_high = 0xBF;
        if (c < 0x80)
                return 1;
        if (c < 0xC2 || c > 0xF4)
                return 0;
        if (c < 0xE0)
                return 2;
        if (c == 0xE0)
                *ret_low = 0xA0;
        else if (c == 0xED)
                *ret_high = 0x9F;
        else if (c == 0xF0)
                *ret_low = 0x90;
        else if (c == 0xF4)
                *ret_high = 0x8F;
        return c < 0xF0 ? 3 : 4;
}

size_t utf8_decode(const char *text, size_t size, int32_t *ret) {
        static const unsigned char lead_mask[] = { 0, 0x7F, 0x1F, 0x0F, 0x07 };
        const unsigned char *p = (const unsigned char *) text;
        unsigned char low, high;
        size_t length = lead(p[0], &low, &high);

        *ret = UNICODE_REPLACEMENT;
        if (length == 0)
                return 1;
        int32_t c = p[0] & lead_mask[length];
        for (size_t i = 1; i < length; i++) {
                if (i == size || p[i] < low || p[i] > high)
                        return i;
                c = c << 6 | (p[i] & 0x3F);
                low = 0x80;
                high = 0xBF;
        }
        *ret = c;
        return length;
}

size_t utf8_encode(int32_t c, char *ret) { return (size_t) utf8proc_encode_char(c, (utf8proc_uint8_t *) ret); }

size_t utf8_valid_prefix(const char *text, size_t size) {
        for (size_t i = 0; i < size;) {
                int32_t c;
                size_t n = utf8_decode(text + i, size - i, &c);
                /* a real U+FFFD is three bytes, EF BF BD */
                if (c == UNICODE_REPLACEMENT && !(n == 3 && (unsigned char) text[i + 2] == 0xBD))
                        return i;
                i += n;
        }
        return size;
}
