/* Unicode classes and folding as tokenizers has them, UTF-8 as lossy decoding has it, and sentences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "trainer/text/sentences.h"
#include "trainer/text/unicode.h"

static void test_classes(void **state) {
        static const struct {
                int32_t code_point;
                enum unicode_class class;
        } cells[] = {
                { 0, UNICODE_REMOVED },          { 0x07, UNICODE_REMOVED },
                { 0x7F, UNICODE_REMOVED },       { 0x85, UNICODE_REMOVED },
                { 0xFFFD, UNICODE_REMOVED },     { 0x200B, UNICODE_REMOVED },
                { 0xE000, UNICODE_REMOVED },     { '\t', UNICODE_SPACE },
                { '\r', UNICODE_SPACE },         { 0x0B, UNICODE_REMOVED },
                { ' ', UNICODE_SPACE },          { 0xA0, UNICODE_SPACE },
                { 0x3000, UNICODE_SPACE },       { '$', UNICODE_PUNCTUATION },
                { '^', UNICODE_PUNCTUATION },    { '`', UNICODE_PUNCTUATION },
                { 0x3002, UNICODE_PUNCTUATION }, { 0x2014, UNICODE_PUNCTUATION },
                { 0x20AC, UNICODE_LETTER },      { 0x4E00, UNICODE_CHINESE },
                { 0xF900, UNICODE_CHINESE },     { 0x2B820, UNICODE_LETTER },
                { 0x301, UNICODE_MARK },         { 0x0378, UNICODE_LETTER }, /* unassigned: stays */
                { 0x061D, UNICODE_LETTER }, /* punctuation since Unicode 14, after tokenizers' tables */
        };
        for (size_t i = 0; i < ELEMENTSOF(cells); i++)
                if (unicode_class(cells[i].code_point) != cells[i].class)
                        fail_msg("U+%04X: class %d", (unsigned) cells[i].code_point,
                                 unicode_class(cells[i].code_point));
}

static void assert_fold(int32_t c, bool lowercase, bool strip, const int32_t *expected, int n) {
        int32_t parts[UNICODE_EXPANSION_MAX];
        struct text_options options = { .lowercase = lowercase, .strip_accents = strip };
        assert_int_equal(unicode_fold(c, &options, parts), n);
        assert_memory_equal(parts, expected, (size_t) n * sizeof(*parts));
}

static void test_fold(void **state) {
        assert_fold(0xC9, true, true, (int32_t[]) { 'e' }, 1);
        assert_fold(0xC9, true, false, (int32_t[]) { 0xE9 }, 1);
        assert_fold(0xC9, false, true, (int32_t[]) { 'E' }, 1);
        assert_fold(0x130, true, true, (int32_t[]) { 'i' }, 1);
        assert_fold(0x130, true, false, (int32_t[]) { 'i', 0x307 }, 2);
        assert_fold(0xAC01, true, true, (int32_t[]) { 0x1100, 0x1161, 0x11A8 }, 3);
        assert_fold(0x226E, true, true, (int32_t[]) { '<' }, 1);
        assert_fold(0x301, true, true, NULL, 0);
        assert_fold(0xA7CB, true, false, (int32_t[]) { 0x264 }, 1);
}

static void test_utf8(void **state) {
        static const struct {
                const char *text;
                size_t length;
                int32_t code_point;
        } cells[] = {
                { "a", 1, 'a' },
                { "\xC3\xA9", 2, 0xE9 },
                { "\xE4\xB8\x80", 3, 0x4E00 },
                { "\xF0\x9F\x98\x80", 4, 0x1F600 },
                { "\xC0\x80", 1, 0xFFFD },
                { "\x80", 1, 0xFFFD },
                { "\xE4\xB8", 2, 0xFFFD },
                { "\xED\xA0\x80", 1, 0xFFFD },
                { "\xF4\x90\x80\x80", 1, 0xFFFD },
                { "\xF0\x9F\x98q", 3, 0xFFFD },
                { "\xFF", 1, 0xFFFD },
        };
        for (size_t i = 0; i < ELEMENTSOF(cells); i++) {
                int32_t c;
                assert_int_equal(utf8_decode(cells[i].text, strlen(cells[i].text), &c), cells[i].length);
                assert_int_equal(c, cells[i].code_point);
        }
        assert_int_equal(utf8_valid_prefix("ab\xEF\xBF\xBD", 5), 5);
        assert_int_equal(utf8_valid_prefix("ab\xC3", 3), 2);
}

static void test_sentences(void **state) {
        static const struct {
                const char *first, *rest;
        } cells[] = {
                { "One.", " Two." },
                { "Is it?", " It is." },
                { "He said \"go!\"", " Then left." },
                { "No end here", "" },
                { "Dr. Smith of the U.S. Army met J. Doe.", " Later." },
                { "Version 2.6 is out.", " See below." },
                { "1. First things first.", " Second." },
                { "See e.g. Figure 2.", " Good." },
                { "wait... not yet", "" },
                { "\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82", "\xE5\x86\x8D\xE8\xA7\x81\xE3\x80\x82" },
                { "End\nof line.", "\nNext" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cells); i++) {
                char text[256];
                (void) snprintf(text, sizeof(text), "%s%s", cells[i].first, cells[i].rest);
                if (sentence_length(text, strlen(text)) != strlen(cells[i].first))
                        fail_msg("\"%s\" cut after %zu bytes", text, sentence_length(text, strlen(text)));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_classes),
                cmocka_unit_test(test_fold),
                cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_sentences),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
