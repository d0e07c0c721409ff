/* See encoder.h. Owns a WordPiece encoder and a cache a thread, or a preprocessed text a thread. */
#include "trainer/text/encoder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/text/albert.h"
#include "trainer/text/basic.h"
#include "trainer/text/sentencepiece.h"

struct encoder {
        const struct vocab *vocab;
        const struct sentencepiece_model *model; /* NULL: WordPiece */
        struct text_options options;
        int n_threads;
        struct wordpiece *wordpiece;
        struct wordpiece_cache **caches;
        struct albert_text *texts;
        struct added_tokens added;           /* with BERT's own special tokens, in WordPiece */
        struct added_split *plain, *special; /* NULL: no added tokens */
};

static int open_wordpiece(struct encoder *encoder, const struct vocab *vocab) {
        encoder->caches = calloc((size_t) encoder->n_threads, sizeof(struct wordpiece_cache *));
        int r = encoder->caches ? wordpiece_new(vocab, &encoder->options, &encoder->wordpiece) : -ENOMEM;
        for (int i = 0; i < encoder->n_threads && r >= 0; i++)
                r = wordpiece_cache_new(&encoder->caches[i]);
        return r;
}

static int fold_sentencepiece(const struct text_options *options, const char *text, size_t size, char **ret,
                              size_t *ret_size) {
        struct albert_text albert = {};
        int r = albert_preprocess(options, text, size, &albert);

        if (r >= 0) {
                *ret = steal_pointer(&albert.text);
                *ret_size = albert.size;
        }
        albert_text_free(&albert);
        return r;
}

/* [PAD] and its like are looked for as those with a role are; a SentencePiece text has them as plain text. */
static int add_special(struct encoder *encoder, const struct vocab *vocab) {
        static const char *const names[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(names); i++) {
                int32_t id = vocab_id(vocab, names[i]);
                if (id >= 0 && id == vocab_special(vocab, names[i]) && !added_find(&encoder->added, names[i]))
                        r = added_put(&encoder->added, &(struct added_token) { .id = id,
                                                                               .content = (char *) names[i],
                                                                               .role = added_role(names[i]),
                                                                               .special = true });
        }
        return r;
}

static int open_added(struct encoder *encoder, const struct vocab *vocab) {
        const struct added_tokens *added = vocab_added(vocab);
        added_fold fold = encoder->model ? fold_sentencepiece : basic_normalize;
        int r = 0;

        if (added->n == 0)
                return 0;
        for (uint32_t i = 0; r >= 0 && i < added->n; i++)
                r = added_put(&encoder->added, &added->item[i]);
        if (r >= 0 && !encoder->model)
                r = add_special(encoder, vocab);
        if (r >= 0)
                r = added_split_new(&encoder->added, false, &encoder->options, fold, &encoder->plain);
        return r < 0 ? r : added_split_new(&encoder->added, true, &encoder->options, fold, &encoder->special);
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
        if (r >= 0)
                r = open_added(encoder, vocab);
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
        added_split_free(encoder->plain);
        added_split_free(encoder->special);
        added_free(&encoder->added);
        free(encoder);
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
                r = ids_reserve(ids, n);
        if (r < 0)
                return r;
        if (n > 0)
                memcpy(ids->data + ids->n, found, n * sizeof(*found));
        ids->n += n;
        return 0;
}

/* What lies between added tokens. */
static int encode_text(const struct encoder *encoder, int thread, const char *text, size_t size, struct ids *ids) {
        if (encoder->model)
                return encode_sentencepiece(encoder, thread, text, size, ids);
        return wordpiece_encode(encoder->wordpiece, encoder->caches[thread], text, size, ids);
}

struct encoding {
        const struct encoder *encoder;
        int thread;
        struct ids *ids;
};

static int take_text(void *context, const char *text, size_t size) {
        const struct encoding *e = context;
        return encode_text(e->encoder, e->thread, text, size, e->ids);
}

static int take_token(void *context, int32_t id) {
        const struct encoding *e = context;
        return ids_append(e->ids, id);
}

static int encode_split(const struct encoder *encoder, const struct added_split *split, int thread, const char *text,
                        size_t size, struct ids *ids) {
        struct encoding encoding = { .encoder = encoder, .thread = thread, .ids = ids };
        const struct added_sink sink = { .context = &encoding, .text = take_text, .token = take_token };
        return added_split(split, text, size, &sink);
}

int encoder_encode(const struct encoder *encoder, int thread, const char *text, size_t size, struct ids *ids) {
        if (encoder->plain)
                return encode_split(encoder, encoder->plain, thread, text, size, ids);
        return encode_text(encoder, thread, text, size, ids);
}

int encoder_encode_special(const struct encoder *encoder, int thread, const char *text, size_t size, struct ids *ids) {
        if (encoder->special)
                return encode_split(encoder, encoder->special, thread, text, size, ids);
        if (encoder->model)
                return encode_sentencepiece(encoder, thread, text, size, ids);
        return wordpiece_encode_special(encoder->wordpiece, encoder->caches[thread], text, size, ids);
}

int encoder_pieces(const struct encoder *encoder, int thread, const char *text, size_t size, char **ret_pieces) {
        struct albert_text *albert = &encoder->texts[thread];
        int r = albert_preprocess(&encoder->options, text, size, albert);
        return r < 0 ? r : sentencepiece_encode_pieces(encoder->model, albert->text, albert->size, ret_pieces);
}
