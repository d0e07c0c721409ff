/* See sentences.h. Works on bytes: the marks beyond ASCII that matter (。！？ and closing quotes) are compared as UTF-8. */
#include "trainer/text/sentences.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "common/cleanup.h"

#define ABBREVIATION_BYTES_MAX 8

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool begins_with(const char *text, size_t size, const char *what) {
        size_t n = strlen(what);
        return size >= n && memcmp(text, what, n) == 0;
}

/* Bytes of the mark that ends a sentence at `text`, or 0. */
static size_t end_mark(const char *text, size_t size, bool *ret_ideographic) {
        static const char *const marks[] = { "\xE3\x80\x82", "\xEF\xBC\x81", "\xEF\xBC\x9F" };

        *ret_ideographic = false;
        if (*text == '.' || *text == '!' || *text == '?')
                return 1;
        if ((unsigned char) *text < 0xE3)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(marks); i++) {
                *ret_ideographic = begins_with(text, size, marks[i]);
                if (*ret_ideographic)
                        return strlen(marks[i]);
        }
        return 0;
}

/* Bytes of the closing quote, bracket or further end mark at `text`, or 0. */
static size_t closer(const char *text, size_t size) {
        static const char *const closers[] = { "\xE2\x80\x9D", "\xE2\x80\x99", "\xC2\xBB",
                                               "\xE3\x80\x8D", "\xE3\x80\x8F", "\xEF\xBC\x89" };
        bool ideographic;

        if (memchr("\"')]}*`", *text, 7))
                return 1;
        for (size_t i = 0; (unsigned char) *text >= 0x80 && i < ELEMENTSOF(closers); i++)
                if (begins_with(text, size, closers[i]))
                        return strlen(closers[i]);
        return end_mark(text, size, &ideographic);
}

static bool is_abbreviation(const char *word, size_t size) {
        static const char *const known[] = { "mr",   "mrs",  "ms",   "dr",   "prof", "st",  "vs",     "etc",  "cf",
                                             "fig",  "figs", "sec",  "no",   "vol",  "pp",  "ed",     "eds",  "al",
                                             "inc",  "ltd",  "co",   "corp", "jr",   "sr",  "gen",    "col",  "lt",
                                             "sgt",  "capt", "rev",  "gov",  "sen",  "rep", "approx", "dept", "est",
                                             "resp", "esp",  "viz",  "jan",  "feb",  "mar", "apr",    "jun",  "jul",
                                             "aug",  "sep",  "sept", "oct",  "nov",  "dec" };
        char lower[ABBREVIATION_BYTES_MAX + 1];

        if (size == 0 || size > ABBREVIATION_BYTES_MAX)
                return false;
        if ((size == 1 && isalpha((unsigned char) word[0])) || memchr(word, '.', size))
                return true; /* an initial; "e.g", "U.S" */
        for (size_t i = 0; i < size; i++)
                lower[i] = (char) tolower((unsigned char) word[i]);
        lower[size] = '\0';
        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (strcmp(lower, known[i]) == 0)
                        return true;
        return false;
}

static bool is_number(const char *word, size_t size) {
        size_t i = 0;
        while (i < size && (isdigit((unsigned char) word[i]) || word[i] == '.'))
                i++;
        return size > 0 && i == size;
}

/* Whether the full stop at `stop` belongs to the word before it. */
static bool stop_is_of_word(const char *text, size_t stop) {
        size_t begin = stop;
        while (begin > 0 && stop - begin <= ABBREVIATION_BYTES_MAX && !is_space(text[begin - 1]) &&
               text[begin - 1] != '(')
                begin--;
        size_t before = begin;
        while (before > 0 && is_space(text[before - 1]))
                before--;
        if (before == 0 && is_number(text + begin, stop - begin))
                return true;
        return is_abbreviation(text + begin, stop - begin);
}

static bool can_begin_sentence(char c) {
        return isupper((unsigned char) c) || isdigit((unsigned char) c) || (unsigned char) c >= 0x80 ||
               memchr("\"'([{`*<", c, 8);
}

/* If the mark at `at`, `mark` bytes long, ends a sentence: where that sentence ends; else 0. */
static size_t end_after_mark(const char *text, size_t size, size_t at, size_t mark, bool ideographic) {
        size_t end = at + mark, next;

        for (size_t n; end < size && (n = closer(text + end, size - end)) > 0;)
                end += n;
        if (ideographic || end == size)
                return end;
        for (next = end; next < size && is_space(text[next]);)
                next++;
        if (next == size)
                return end;
        if (next == end || !can_begin_sentence(text[next]))
                return 0;
        return text[at] == '.' && end == at + 1 && stop_is_of_word(text, at) ? 0 : end;
}

size_t sentence_length(const char *text, size_t size) {
        for (size_t i = 0; i < size;) {
                bool ideographic;
                size_t mark = end_mark(text + i, size - i, &ideographic);
                if (mark == 0) {
                        i++;
                        continue;
                }
                size_t end = end_after_mark(text, size, i, mark, ideographic);
                if (end > 0)
                        return end;
                i += mark;
        }
        return size;
}
