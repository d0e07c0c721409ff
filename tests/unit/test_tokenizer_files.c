/*
 * Folders of tokenizers as others write them. Ids are those of transformers 4.57.1 and 5.24.0 (AutoTokenizer without
 * special tokens), which agree on all of these but CR alone, which only 4.57 takes for a line's end, and spaces at a
 * line's end, which only 5.24 drops; tests/parity/folder_texts.py computes more of them anew.
 */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/text/assets.h"
#include "trainer/text/encoder.h"

#define SPECIALS "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
#define WORDS "the\ncat\nsat\n##s\nfoo\nbar\n##bar\ncaf\n##e\ncafe\n\xE4\xB8\xAD\n.\n"
#define VOCAB SPECIALS WORDS
#define FILES_MAX 3

/* tokenizer.json: `end` is what follows in its vocabulary, `added` in its added tokens. */
#define SPECIAL(id, name)                                                                                  \
        "{\"id\":" id ",\"content\":\"" name "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false," \
        "\"normalized\":false,\"special\":true}"
#define TOKENIZER_JSON(normalizer, pre, model, added)                                                               \
        "{\"added_tokens\":[" SPECIAL("0", "[PAD]") "," SPECIAL("4", "[MASK]") added                                \
                "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true," normalizer "},"                \
                "\"pre_tokenizer\":{\"type\":\"" pre                                                                \
                "\"},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}," \
                "\"model\":{" model                                                                                 \
                ",\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"the\":5,"               \
                "\"cat\":6,\"sat\":7,\"##s\":8,\"foo\":9,\"bar\":10,\"##bar\":11,\"caf\":12,\"##e\":13,\"cafe\":14}}}"
#define WORDPIECE                                                                                                    \
        "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_" \
        "word\":100"
#define UNCASED "\"lowercase\":true,\"strip_accents\":null,\"handle_chinese_chars\":true"
#define CASED "\"lowercase\":false,\"strip_accents\":null,\"handle_chinese_chars\":true"
#define ACCENTS "\"lowercase\":false,\"strip_accents\":true,\"handle_chinese_chars\":true"
#define TOKEN(content, flags) "{\"content\":\"" content "\"" flags "}"
#define RAW ",\"normalized\":false"

static char folder[64];

struct cell {
        const char *files[FILES_MAX][2]; /* name, text */
        const char *text, *ids;
        const char *says; /* in the notes; NULL: there are none */
};

static const struct cell cells[] = {
        { { { "vocab.txt", VOCAB } }, "FOO caf\xC3\xA9 cats [MASK] [mask]", "9 14 6 8 4 1 1 1", NULL },
        { { { "vocab.txt", SPECIALS "the\n\ncat\nfoo\n" } }, "the cat foo", "5 7 8", "vocab.txt: 1 lines are empty" },
        { { { "vocab.txt", VOCAB "the\n" } },
          "the cat",
          "17 6",
          "vocab.txt: 1 lines are empty or hold a token that is given again" },
        { { { "vocab.txt", "\xEF\xBB\xBF" VOCAB "\n\n" } }, "the.", "5 16", NULL },
        { { { "vocab.txt", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nthe\r\ncat" } }, "the cat", "5 6", NULL },
        { { { "vocab.txt", "[PAD]\r[UNK]\r[CLS]\r[SEP]\r[MASK]\rthe\rcat" } }, "the cat", "5 6", NULL },
        { { { "vocab.txt", SPECIALS "the\xE2\x80\xA8\ncat \t\nfoo\xC2\x85\n" } }, "the cat foo", "5 6 7", NULL },
        /* added tokens */
        { { { "vocab.txt", VOCAB }, { "added_tokens.json", "{\"[NEW]\": 17, \"foobar\": 18}" } },
          "Sat[NEW]the [ new ] Foobarx",
          "7 17 5 1 1 1 18 1",
          NULL },
        { { { "vocab.txt", VOCAB }, { "added_tokens.json", "{\"[NEW]\": 18, \"foobar\": 17}" } },
          "[NEW] foobar",
          "18 17",
          NULL },
        { { { "vocab.txt", VOCAB }, { "added_tokens.json", "{\"[NEW]\": 20}" } },
          "[new] the",
          "17 5",
          "'[NEW]' has id 20 in its file; as in transformers, it is 17" },
        { { { "vocab.txt", VOCAB "\n" }, { "added_tokens.json", "{\"[NEW]\": 18}" } }, "[NEW]", "18", NULL },
        { { { "vocab.txt", VOCAB },
            { "special_tokens_map.json",
              "{\"additional_special_tokens\": [\"<e1>\", \"</e1>\"], \"mask_token\": \"[MASK]\"}" } },
          "<E1> <e1>the</e1> Cafe",
          "1 1 1 17 5 18 14",
          NULL },
        { { { "vocab.txt", VOCAB },
            { "tokenizer_config.json",
              "{\"model_max_length\": 1000000000000000019884624838656, "
              "\"added_tokens_decoder\": {\"17\": " TOKEN("[NEW]", RAW) ", \"18\": " TOKEN(
                      "foobar", ",\"single_word\":true") ", \"19\": " TOKEN("<E1>", RAW ",\"lstrip\":true,"
                                                                                        "\"rstrip\":true,"
                                                                                        "\"special\":true") "}}" },
            { "special_tokens_map.json", "{\"additional_special_tokens\": [\"cat\"]}" } },
          "Foobar, foobarx  <E1> <e1> [new]cat",
          "18 1 1 19 1 1 1 1 1 1 6",
          NULL },
        { { { "vocab.txt", VOCAB },
            { "tokenizer_config.json",
              "{\"added_tokens_decoder\": {\"17\": " TOKEN(" foo", RAW) ", \"18\": " TOKEN(
                      "  ",
                      RAW) ", \"19\": " TOKEN("x", RAW
                                              ",\"lstrip\":true,\"rstrip\":true") ", \"5\": " TOKEN("the", RAW
                                                                                                    ",\"single_word\":"
                                                                                                    "true") "}}" } },
          "the foo x   x  the\xC3\xA9 the_ the- \xC3\xA9the the\xE2\x92\xB6 2the the\xE2\x80\x8D",
          "5 17 19 18 19 18 5 13 5 1 5 1 1 1 1 5",
          NULL },
        { { { "vocab.txt", VOCAB },
            { "tokenizer_config.json",
              "{\"added_tokens_decoder\": {\"17\": " TOKEN("\xE4\xB8\xAD\xE6\x96\x87", "") ", \"18\": " TOKEN(
                      "\xC3\x89t\xC3\xA9", "") ", \"19\": " TOKEN("new york", "") "}}" } },
          "\xE4\xB8\xAD\xE6\x96\x87 ete \xC3\xA9T\xC3\x89! New  York new\tYork",
          "17 18 18 1 1 1 19",
          NULL },
        { { { "vocab.txt", VOCAB },
            { "tokenizer_config.json",
              "{\"do_lower_case\": false, \"added_tokens_decoder\": {\"17\": " TOKEN("foo the", RAW) ", \"9\": " TOKEN(
                      "foo", RAW) ", \"18\": " TOKEN("o t", "") "}}" } },
          "foo the foox fo o the Foo",
          "17 9 1 1 18 1 1",
          NULL },
        /* special tokens of other names */
        { { { "vocab.txt", "[PAD]\n<unk>\n<s>\n</s>\n[MASK]\n" WORDS },
            { "tokenizer_config.json", "{\"cls_token\": \"<s>\", \"sep_token\": {\"__type\": \"AddedToken\", "
                                       "\"content\": \"</s>\"}, \"unk_token\": \"<unk>\"}" } },
          "<s> the zzz [CLS]</s>",
          "2 5 1 1 1 1 3",
          NULL },
        /* tokenizer.json */
        { { { "tokenizer.json", TOKENIZER_JSON(UNCASED, "BertPreTokenizer", WORDPIECE, "," SPECIAL("15", "[NEW]")) } },
          "FOO caf\xC3\xA9 [NEW] [new] [MASK]",
          "9 14 15 1 1 1 4",
          NULL },
        { { { "tokenizer.json", TOKENIZER_JSON(ACCENTS, "BertPreTokenizer", WORDPIECE, "") },
            { "tokenizer_config.json",
              "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"do_lower_case\": true}" } },
          "FOO foo caf\xC3\xA9",
          "1 9 14",
          NULL },
        { { { "tokenizer.json", TOKENIZER_JSON(CASED, "BertPreTokenizer", WORDPIECE, "") } },
          "FOO foo caf\xC3\xA9",
          "9 9 14",
          "tokenizer_config.json's (1, 1, 1), which is used" },
        { { { "tokenizer.json", TOKENIZER_JSON(UNCASED, "BertPreTokenizer", WORDPIECE, "") },
            { "tokenizer_config.json", "{\"do_lower_case\": false}" } },
          "FOO foo caf\xC3\xA9",
          "1 9 1",
          "tokenizer_config.json's (0, 0, 1), which is used" },
        { { { "tokenizer.json", TOKENIZER_JSON(UNCASED, "BertPreTokenizer", WORDPIECE, "") },
            { "vocab.txt", SPECIALS "cat\nthe\n" } },
          "the cat",
          "5 6",
          "differ from id 5 on; tokenizer.json is used" },
        { { { "tokenizer.json", TOKENIZER_JSON(UNCASED, "BertPreTokenizer", WORDPIECE, "") },
            { "vocab.txt", "<html>\n" } },
          "the cat",
          "5 6",
          "vocab.txt: no token [PAD], which a BERT vocabulary must have; tokenizer.json is used" },
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) { return remove(path); }

static void remove_files(void) { (void) nftw(folder, remove_one, 4, FTW_DEPTH | FTW_PHYS); }

static void write_files(const char *const files[FILES_MAX][2]) {
        char path[128];

        remove_files(); /* of a test that failed */
        assert_int_equal(mkdir(folder, 0700), 0);
        for (size_t i = 0; i < FILES_MAX && files[i][0]; i++) {
                struct error error = {};
                (void) snprintf(path, sizeof(path), "%s/%s", folder, files[i][0]);
                assert_int_equal(file_write_atomic(path, files[i][1], strlen(files[i][1]), 0600, &error), 0);
        }
}

static void assert_ids(const struct vocab *vocab, const struct text_options *options, bool special, const char *text,
                       const char *expected) {
        struct encoder *encoder;
        struct ids ids = {};
        char got[256] = "";
        size_t used = 0;

        assert_int_equal(encoder_new(vocab, options, 1, &encoder), 0);
        assert_int_equal((special ? encoder_encode_special : encoder_encode)(encoder, 0, text, strlen(text), &ids), 0);
        for (size_t i = 0; i < ids.n && used < sizeof(got); i++) {
                assert_in_range(ids.data[i], 0, vocab_size(vocab) - 1);
                used += (size_t) snprintf(got + used, sizeof(got) - used, "%s%d", i ? " " : "", ids.data[i]);
        }
        free(ids.data);
        encoder_free(encoder);
        assert_string_equal(got, expected);
}

/* By the folder, and by what a checkpoint keeps of it. */
static void check_cell(const struct cell *cell) {
        cleanup_vocab struct vocab *vocab = NULL, *kept = NULL;
        cleanup_assets struct assets assets = {};
        char a[VOCAB_HASH_MAX], b[VOCAB_HASH_MAX];
        struct error error = {};

        if (assets_tokenizer(&assets, folder, NULL, &vocab, &error) < 0)
                fail_msg("%s", error.text);
        if (!cell->says != !vocab_notes(vocab) || (cell->says && !strstr(vocab_notes(vocab), cell->says)))
                fail_msg("%s: says %s", cell->text, vocab_notes(vocab) ? vocab_notes(vocab) : "nothing");
        assert_ids(vocab, vocab_options(vocab), true, cell->text, cell->ids);
        assert_int_equal(assets_vocab(&assets, "kept", &kept, &error), 0);
        assert_ids(kept, vocab_options(vocab), true, cell->text, cell->ids);
        vocab_hash(vocab, a);
        vocab_hash(kept, b);
        assert_string_equal(a, b);
}

static void test_folders(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(cells); i++) {
                write_files(cells[i].files);
                check_cell(&cells[i]);
                remove_files();
        }
}

static void test_refused(void **state) {
        static const struct {
                const char *files[FILES_MAX][2];
                const char *says;
        } refused[] = {
                { { { "tokenizer.json", TOKENIZER_JSON(UNCASED, "BertPreTokenizer", "\"type\":\"BPE\"", "") } },
                  "tokenizer.json: model.type is BPE" },
                { { { "tokenizer.json", TOKENIZER_JSON(UNCASED, "Whitespace", WORDPIECE, "") } },
                  "pre_tokenizer is Whitespace" },
                { { { "tokenizer.json", TOKENIZER_JSON("\"clean_text\":false", "BertPreTokenizer", WORDPIECE, "") } },
                  "clean_text is false" },
                { { { "tokenizer.json",
                      TOKENIZER_JSON(UNCASED, "BertPreTokenizer",
                                     "\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"@\"", "") } },
                  "continuing_subword_prefix is '@'" },
                { { { "tokenizer.json",
                      TOKENIZER_JSON(UNCASED, "BertPreTokenizer",
                                     "\"type\":\"WordPiece\",\"max_input_chars_per_word\":20", "") } },
                  "max_input_chars_per_word is not 100" },
                { { { "tokenizer.json", TOKENIZER_JSON(UNCASED, "BertPreTokenizer", "\"type\":\"Unigram\"", "") } },
                  "copy spiece.model" },
                { { { "tokenizer.json", "{\"model\":" }, { "vocab.txt", VOCAB } }, "tokenizer.json:1: " },
                { { { "vocab.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 231508\n" } },
                  "vocab.txt: a Git LFS pointer" },
                { { { "vocab.txt", VOCAB }, { "tokenizer_config.json", "{\"do_lower_case\": \"yes\"}" } },
                  "do_lower_case: expected true or false" },
                { { { "vocab.txt", VOCAB },
                    { "tokenizer_config.json", "{\"tokenizer_class\": \"BertJapaneseTokenizer\"}" } },
                  "BertJapaneseTokenizer is not supported" },
                { { { "vocab.txt", VOCAB }, { "tokenizer_config.json", "{\"cls_token\": \"[SEP]\"}" } },
                  "[SEP] is the token of another role" },
                { { { "vocab.txt", VOCAB }, { "tokenizer_config.json", "{\"additional_special_tokens\": [7]}" } },
                  "an added token is not a text" },
                { { { "readme.md", "" } }, "has no vocab.txt" },
        };
        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                struct error error = {};
                struct vocab *vocab;
                write_files(refused[i].files);
                assert_true(vocab_load(folder, &vocab, &error) < 0);
                if (!strstr(error.text, refused[i].says) || !strstr(error.text, folder))
                        fail_msg("said: %s", error.text);
                assert_true(error.exit == BERTD_EXIT_DATA || error.exit == BERTD_EXIT_INPUT);
                remove_files();
        }
}

/* In a corpus, text cannot name a special token; other added tokens are themselves. */
static void test_corpus(void **state) {
        static const char *const files[FILES_MAX][2] = {
                { "vocab.txt", VOCAB },
                { "tokenizer_config.json", "{\"cls_token\": \"<s>\", \"additional_special_tokens\": [\"<e1>\"]}" },
        };
        cleanup_vocab struct vocab *vocab = NULL;
        struct error error = {};

        write_files(files);
        assert_int_equal(vocab_load(folder, &vocab, &error), 0);
        assert_int_equal(vocab_special(vocab, "[CLS]"), 17);
        assert_ids(vocab, vocab_options(vocab), true, "<e1>the<s> [SEP]", "18 5 17 3");
        assert_ids(vocab, vocab_options(vocab), false, "<e1>the<s> [SEP]", "18 5 1 1 1 1 1 1");
        remove_files();
}

/* One that has no vocabulary of its own, or none that we can read. */
static void test_given_beside(void **state) {
        static const char *const files[FILES_MAX][2] = {
                { "given.txt", VOCAB },
                { "tokenizer.json",
                  TOKENIZER_JSON(UNCASED, "BertPreTokenizer", "\"type\":\"Unigram\"", "," SPECIAL("17", "[NEW]")) },
                { "tokenizer_config.json", "{\"do_lower_case\": false}" },
        };
        cleanup_vocab struct vocab *vocab = NULL;
        cleanup_assets struct assets assets = {};
        struct error error = {};
        char path[128];

        write_files(files);
        (void) snprintf(path, sizeof(path), "%s/given.txt", folder);
        assert_int_equal(assets_tokenizer(&assets, folder, path, &vocab, &error), 0);
        assert_ids(vocab, vocab_options(vocab), true, "the The [NEW]", "5 1 17");
        remove_files();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_folders),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_corpus),
                cmocka_unit_test(test_given_beside),
        };
        (void) snprintf(folder, sizeof(folder), "/tmp/test_tokenizer_files.%d", (int) getpid());
        return cmocka_run_group_tests(tests, NULL, NULL);
}
