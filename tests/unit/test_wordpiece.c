/* Vocabulary files, good and bad, and the encoder: longest match, limits, special tokens, cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "trainer/text/vocab_file.h"
#include "trainer/text/wordpiece.h"

#define SPECIALS "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

static char path[64];

static int load(const char *text, size_t size, struct vocab **ret, struct error *error) {
        struct error ignored = {};
        assert_int_equal(file_write_atomic(path, text, size, 0600, &ignored), 0);
        return vocab_load(path, ret, error);
}

static void test_bad_files(void **state) {
        static const struct {
                const char *text, *says;
        } cells[] = {
                { "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", "no token [MASK]" },
                { "", "no token [PAD]" },
                { SPECIALS "a\xFF\n", ":6: not a UTF-8" },
        };
        for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
                struct error error = {};
                struct vocab *vocab;
                assert_true(load(cells[i].text, strlen(cells[i].text), &vocab, &error) < 0);
                assert_int_equal(error.exit, BERTD_EXIT_DATA);
                if (!strstr(error.text, cells[i].says) || !strstr(error.text, path))
                        fail_msg("said: %s", error.text);
        }
}

/* As transformers: the last of two lines counts, an empty one is an id without a token, those at the end are none. */
static void test_odd_lines(void **state) {
        static const char text[] = "\xEF\xBB\xBF" SPECIALS "a\n\nb\na\n \n\n";
        cleanup_vocab struct vocab *vocab = NULL;
        struct error error = {};
        assert_int_equal(load(text, strlen(text), &vocab, &error), 0);
        assert_int_equal(vocab_size(vocab), 9);
        assert_int_equal(vocab_id(vocab, "[PAD]"), 0);
        assert_int_equal(vocab_id(vocab, "a"), 8);
        assert_int_equal(vocab_id(vocab, "b"), 7);
        assert_int_equal(vocab_id(vocab, ""), -1);
        assert_string_equal(vocab_token(vocab, 5), "a");
        assert_string_equal(vocab_token(vocab, 6), "");
}

/* The hash is what checkpoints of all years know their vocabulary by. */
static void test_hash(void **state) {
        static const char text[] = SPECIALS "\xE2\x80\xA8\na\xC2\x85\nb \n";
        cleanup_vocab struct vocab *vocab = NULL;
        char hash[VOCAB_HASH_MAX];
        struct error error = {};
        assert_int_equal(load(text, strlen(text), &vocab, &error), 0);
        vocab_hash(vocab, hash);
        assert_string_equal(hash, "e8b47479cfdad12920245049a746c4d8");
        assert_int_equal(vocab_size(vocab), 8);
        assert_int_equal(vocab_id(vocab, "a"), 6);
}

static void test_missing_and_large(void **state) {
        struct error error = {}, large = {};
        struct vocab *vocab;
        assert_true(vocab_load("/nonexistent/vocab.txt", &vocab, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_INPUT);
        cleanup_free char *text = calloc(1, VOCAB_FILE_BYTES_MAX + 1);
        assert_true(load(text, VOCAB_FILE_BYTES_MAX + 1, &vocab, &large) < 0);
        assert_int_equal(large.exit, BERTD_EXIT_DATA);
}

static void test_lookup(void **state) {
        cleanup_vocab struct vocab *lf = NULL, *crlf = NULL;
        char a[VOCAB_HASH_MAX], b[VOCAB_HASH_MAX];
        struct error error = {};
        const char *with_cr = "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nab\r\n##c";
        assert_int_equal(load(SPECIALS "ab\n##c\n", strlen(SPECIALS "ab\n##c\n"), &lf, &error), 0);
        assert_int_equal(load(with_cr, strlen(with_cr), &crlf, &error), 0);
        assert_int_equal(vocab_size(lf), 7);
        assert_int_equal(vocab_id(lf, "[MASK]"), 4);
        assert_int_equal(vocab_id(lf, "##c"), 6);
        assert_int_equal(vocab_id(lf, "a"), -1);
        assert_int_equal(vocab_id(lf, "abc"), -1);
        assert_string_equal(vocab_token(lf, 5), "ab");
        assert_null(vocab_token(lf, 7));
        assert_null(vocab_token(lf, -1));
        vocab_hash(lf, a);
        vocab_hash(crlf, b);
        assert_string_equal(a, b);
        assert_int_equal(strlen(a), 32);
}

struct encoder {
        struct vocab *vocab;
        struct wordpiece *wordpiece;
        struct wordpiece_cache *cache;
};

static int open_encoder(void **state) {
        static const char text[] = SPECIALS "un\n##aff\n##able\naff\nhello\n!\n\xE4\xB8\x80\nx\n##x\nmask\n[\n]"
                                            "\nna\xC3\xAFve\nnaive\n\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8\n";
        struct text_options options = { .lowercase = true, .strip_accents = true, .chinese = true };
        struct encoder *encoder = calloc(1, sizeof(*encoder));
        struct error error = {};
        assert_int_equal(load(text, strlen(text), &encoder->vocab, &error), 0);
        assert_int_equal(wordpiece_new(encoder->vocab, &options, &encoder->wordpiece), 0);
        assert_int_equal(wordpiece_cache_new(&encoder->cache), 0);
        *state = encoder;
        return 0;
}

static int close_encoder(void **state) {
        struct encoder *encoder = *state;
        wordpiece_cache_free(encoder->cache);
        wordpiece_free(encoder->wordpiece);
        vocab_free(encoder->vocab);
        free(encoder);
        return 0;
}

/* Encodes twice: by matching, and out of the cache. */
static void assert_encodes(const struct encoder *encoder, bool special, const char *text, const char *expected) {
        for (int turn = 0; turn < 2; turn++) {
                struct ids ids = {};
                char got[1024] = "";
                size_t used = 0;
                int r = (special ? wordpiece_encode_special : wordpiece_encode)(encoder->wordpiece, encoder->cache,
                                                                                text, strlen(text), &ids);
                assert_int_equal(r, 0);
                for (size_t i = 0; i < ids.n && used < sizeof(got); i++)
                        used += (size_t) snprintf(got + used, sizeof(got) - used, "%s%s", i ? " " : "",
                                                  vocab_token(encoder->vocab, ids.data[i]));
                free(ids.data);
                assert_string_equal(got, expected);
        }
}

static void test_encode(void **state) {
        const struct encoder *encoder = *state;
        assert_encodes(encoder, false, "", "");
        assert_encodes(encoder, false, " \t\n", "");
        assert_encodes(encoder, false, "Unaffable HELLO!", "un ##aff ##able hello !");
        assert_encodes(encoder, false, "unaffablez", "[UNK]");
        assert_encodes(encoder, false, "hel\xC2\xADlo he\xFFllo", "hello hello");
        assert_encodes(encoder, false, "x\xE4\xB8\x80x", "x \xE4\xB8\x80 x");
        assert_encodes(encoder, false, "NA\xC3\x8FVE nai\xCC\x88ve", "naive naive");
        assert_encodes(encoder, false, "\xEA\xB0\x81", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"); /* Hangul to jamo */
        assert_encodes(encoder, false, "[MASK]", "[ mask ]");
        assert_encodes(encoder, true, "hello[MASK]x [CLS", "hello [MASK] x [ [UNK]");
        assert_encodes(encoder, true, "[mask]", "[ mask ]");
}

static void test_word_of_100_characters(void **state) {
        const struct encoder *encoder = *state;
        for (size_t n = 99; n <= 101; n++) {
                char text[128] = "";
                struct ids ids = {};
                memset(text, 'x', n);
                assert_int_equal(wordpiece_encode(encoder->wordpiece, encoder->cache, text, n, &ids), 0);
                assert_int_equal(ids.n, n > 100 ? 1 : n);
                assert_int_equal(ids.data[0], vocab_id(encoder->vocab, n > 100 ? "[UNK]" : "x"));
                free(ids.data);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bad_files),
                cmocka_unit_test(test_odd_lines),
                cmocka_unit_test(test_hash),
                cmocka_unit_test(test_missing_and_large),
                cmocka_unit_test(test_lookup),
                cmocka_unit_test_setup_teardown(test_encode, open_encoder, close_encoder),
                cmocka_unit_test_setup_teardown(test_word_of_100_characters, open_encoder, close_encoder),
        };
        (void) snprintf(path, sizeof(path), "/tmp/test_wordpiece.%d", (int) getpid());
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        (void) unlink(path);
        return failed;
}
