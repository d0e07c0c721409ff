/* See encoder.h. Owns a WordPiece encoder and a cache a thread, or a preprocessed text a thread. */
#include "trainer/text/encoder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/text/albert.h"
#include "trainer/text/sentencepiece.h"

struct encoder {
        const struct vocab *vocab;
        const struct sentencepiece_model *model; /* NULL: WordPiece */
        struct text_options options;
        int n_threads;
        struct wordpiece *wordpiece;
        struct wordpiece_cache **caches;
        struct albert_text *texts;
};

static int open_wordpiece(struct encoder *encoder, const struct vocab *vocab) {
        encoder->caches = calloc((size_t) encoder->n_threads, sizeof(struct wordpiece_cache *));
        int r = encoder->caches ? wordpiece_new(vocab, &encoder->options, &encoder->wordpiece) : -ENOMEM;
        for (int i = 0; i < encoder->n_threads && r >= 0; i++)
                r = wordpiece_cache_new(&encoder->caches[i]);
        return r;
}

int encoder_new(const struct vocab *vocab, const struct text_options *options, int n_threads, struct encoder **ret) {
        struct encoder *encoder = calloc(1, sizeof(*encoder));
        int r = 0;

        if (!encoder)
                return -ENOMEM;
        encoder->vocab = vocab;
        encoder->options = *options;
        encoder->n_threads = n_threads;
        encoder->model = vocab_sentencepiece(vocab);
        if (!encoder->model)
                r = open_wordpiece(encoder, vocab);
        else if (!(encoder->texts = calloc((size_t) n_threads, sizeof(*encoder->texts))))
                r = -ENOMEM;
        if (r < 0) {
                encoder_free(encoder);
                return r;
        }
        *ret = encoder;
        return 0;
}

const struct vocab *encoder_vocab(const struct encoder *encoder) { return encoder->vocab; }
const struct text_options *encoder_options(const struct encoder *encoder) { return &encoder->options; }

void encoder_free(struct encoder *encoder) {
        if (!encoder)
                return;
        for (int i = 0; i < encoder->n_threads; i++) {
                if (encoder->caches)
                        wordpiece_cache_free(encoder->caches[i]);
                if (encoder->texts)
                        albert_text_free(&encoder->texts[i]);
        }
        free(encoder->caches);
        free(encoder->texts);
        wordpiece_free(encoder->wordpiece);
        free(encoder);
}

static int reserve(struct ids *ids, size_t more) {
        if (ids->n + more <= ids->capacity)
                return 0;
        size_t capacity = 2 * (ids->n + more);
        int32_t *data = realloc(ids->data, capacity * sizeof(*data));
        if (!data)
                return -ENOMEM;
        ids->data = data;
        ids->capacity = capacity;
        return 0;
}

int encoder_append(struct ids *ids, int32_t id) {
        if (reserve(ids, 1) < 0)
                return -ENOMEM;
        ids->data[ids->n++] = id;
        return 0;
}

static int encode_sentencepiece(const struct encoder *encoder, int thread, const char *text, size_t size,
                                struct ids *ids) {
        struct albert_text *albert = &encoder->texts[thread];
        cleanup_free int32_t *found = NULL;
        size_t n = 0;

        int r = albert_preprocess(&encoder->options, text, size, albert);
        if (r >= 0)
                r = sentencepiece_encode(encoder->model, albert->text, albert->size, &found, &n);
        if (r >= 0)
                r = reserve(ids, n);
        if (r < 0)
                return r;
        if (n > 0)
                memcpy(ids->data + ids->n, found, n * sizeof(*found));
        ids->n += n;
        return 0;
}

int encoder_encode(const struct encoder *encoder, int thread, const char *text, size_t size, struct ids *ids) {
        if (encoder->model)
                return encode_sentencepiece(encoder, thread, text, size, ids);
        return wordpiece_encode(encoder->wordpiece, encoder->caches[thread], text, size, ids);
}

int encoder_encode_special(const struct encoder *encoder, int thread, const char *text, size_t size, struct ids *ids) {
        if (encoder->model)
                return encode_sentencepiece(encoder, thread, text, size, ids);
        return wordpiece_encode_special(encoder->wordpiece, encoder->caches[thread], text, size, ids);
}

int encoder_pieces(const struct encoder *encoder, int thread, const char *text, size_t size, char **ret_pieces) {
        struct albert_text *albert = &encoder->texts[thread];
        int r = albert_preprocess(&encoder->options, text, size, albert);
        return r < 0 ? r : sentencepiece_encode_pieces(encoder->model, albert->text, albert->size, ret_pieces);
}
