/* Learning a vocabulary: order of tokens, ties, limits, and independence of the order of counting. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/text/vocab_learn.h"

static char *learn(const char *const *words, const uint64_t *counts, size_t n, bool backwards, uint32_t size) {
        struct vocab_learn_settings settings = { .size = size };
        struct word_counts table = {};
        struct error error = {};
        uint32_t n_tokens;
        char *text;

        for (size_t i = 0; i < n; i++) {
                size_t k = backwards ? n - 1 - i : i;
                assert_int_equal(word_counts_add(&table, words[k], strlen(words[k]), counts[k]), 0);
        }
        assert_int_equal(vocab_learn(&table, &settings, &text, &n_tokens, &error), 0);
        word_counts_free(&table);
        return text;
}

/* Hugging Face's WordPieceTrainer (0.23.2) learns the same tokens from these counts. */
static void test_small(void **state) {
        static const char *const words[] = { "low", "lower", "newest", "widest" };
        static const uint64_t counts[] = { 5, 2, 6, 3 };
        cleanup_free char *text = learn(words, counts, ELEMENTSOF(words), false, 32);
        assert_string_equal(
                text,
                "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nd\ne\ni\nl\nn\no\nr\ns\nt\nw\n##d\n##e\n##i\n##o\n##r\n##s\n##t\n"
                "##w\n##es\n##est\nlo\nlow\nne\n##west\nnewest\nwi\n##dest\n");
}

static void test_order_of_counting(void **state) {
        enum { N = 300 };
        char storage[N][16];
        const char *words[N];
        uint64_t counts[N];
        for (int i = 0; i < N; i++) {
                (void) snprintf(storage[i], sizeof(storage[i]), "w%xq%d", i * 7919, i % 13);
                words[i] = storage[i];
                counts[i] = (uint64_t) (i % 5 + 1);
        }
        cleanup_free char *a = learn(words, counts, N, false, 120), *b = learn(words, counts, N, true, 120);
        assert_string_equal(a, b);
}

static void test_repeated_letters_and_no_text(void **state) {
        static const char *const words[] = { "aaaa", "aaa" };
        static const uint64_t counts[] = { 4, 3 };
        cleanup_free char *text = learn(words, counts, 2, false, 100), *none = NULL;
        assert_non_null(strstr(text, "\naaaa\n"));

        struct vocab_learn_settings settings = { .size = 100 };
        struct word_counts empty = {};
        struct error error = {}, small = {};
        uint32_t n;
        assert_true(vocab_learn(&empty, &settings, &none, &n, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        settings.size = 3;
        assert_true(vocab_learn(&empty, &settings, &none, &n, &small) < 0);
        assert_int_equal(small.exit, BERTD_EXIT_USAGE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_small),
                cmocka_unit_test(test_order_of_counting),
                cmocka_unit_test(test_repeated_letters_and_no_text),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
