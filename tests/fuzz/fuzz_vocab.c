/* A vocabulary file, or tokenizer.json with added tokens, and text that is cut by it: the file's own bytes. */
#include <stdbool.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/text/encoder.h"

static void check_tokens(const struct vocab *vocab) {
        char hash[VOCAB_HASH_MAX];

        for (uint32_t i = 0; i < vocab_size(vocab); i++) {
                const char *token = vocab_token(vocab, (int32_t) i);
                int32_t id = vocab_id(vocab, token);
                assert(id < 0 || (token[0] && strncmp(vocab_token(vocab, id), token, strlen(token)) == 0));
        }
        assert(!vocab_token(vocab, -1) && !vocab_token(vocab, (int32_t) vocab_size(vocab)));
        vocab_hash(vocab, hash);
}

static void encode_split(const struct vocab *vocab, const struct text_options *options, const char *text, size_t size,
                         struct ids *ids) {
        struct encoder *encoder;

        assert(encoder_new(vocab, options, 1, &encoder) == 0);
        assert(encoder_encode(encoder, 0, text, size, ids) == 0);
        assert(encoder_encode_special(encoder, 0, text, size, ids) == 0);
        encoder_free(encoder);
}

static void encode(const struct vocab *vocab, const struct text_options *options, const char *text, size_t size) {
        static struct wordpiece_cache *cache;
        cleanup_wordpiece struct wordpiece *wordpiece = NULL;
        struct ids ids = {};

        wordpiece_cache_free(cache); /* it holds ids of one vocabulary */
        assert(wordpiece_cache_new(&cache) == 0 && wordpiece_new(vocab, options, &wordpiece) == 0);
        for (int pass = 0; pass < 2; pass++) { /* the second from the cache */
                assert(wordpiece_encode(wordpiece, cache, text, size, &ids) == 0);
                assert(wordpiece_encode_special(wordpiece, cache, text, size, &ids) == 0);
        }
        encode_split(vocab, options, text, size, &ids);
        for (size_t i = 0; i < ids.n; i++)
                assert(ids.data[i] >= 0 && (uint32_t) ids.data[i] < vocab_size(vocab));
        free(ids.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path;
        cleanup_vocab struct vocab *vocab = NULL;
        struct error error = {};

        if (!path)
                path = fuzz_path("vocab.txt");
        fuzz_write(path, data, size);
        if (vocab_load(path, &vocab, &error) < 0) {
                assert(error.exit == BERTD_EXIT_DATA && strstr(error.text, path));
                return 0;
        }
        check_tokens(vocab);
        cleanup_free char *text = malloc(size);
        memcpy(text, data, size);
        bool uncased = size % 2 == 0;
        encode(vocab, &(struct text_options) { .lowercase = uncased, .strip_accents = uncased, .chinese = true }, text,
               size);
        return 0;
}
