/* See corpus_sidecar.h. Every key is required on reading but unknown ones are let pass: a newer writer may add some. */
#include "trainer/data/corpus_sidecar.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"

static void cleanup_json_p(json_t **json) { json_decref(*json); }

char *corpus_sidecar_format(const struct corpus_sidecar *s) {
        cleanup(cleanup_json_p) json_t *json = json_pack(
                "{s:i, s:s, s:I, s:s, s:b, s:b, s:b, s:b, s:b, s:I, s:I, s:I, s:s}", "version", CORPUS_SIDECAR_VERSION,
                "vocab_hash", s->vocab_hash, "vocab_size", (json_int_t) s->vocab_size, "format", s->format, "lowercase",
                s->options.lowercase, "strip_accents", s->options.strip_accents, "chinese", s->options.chinese,
                "quotes", s->options.quotes, "nfkd", s->options.nfkd, "documents", (json_int_t) s->n_documents,
                "sentences", (json_int_t) s->n_sentences, "tokens", (json_int_t) s->n_tokens, "bertd", BERTD_VERSION);
        return json ? json_dumps(json, JSON_INDENT(2)) : NULL;
}

static int wrong(struct error *error, const char *path, const char *what) {
        return error_input(error, BERTD_EXIT_DATA, "%s: %s", path, what);
}

static int parse(const json_t *json, const char *path, struct corpus_sidecar *ret, struct error *error) {
        const char *hash, *format;
        json_int_t version, vocab_size, documents, sentences, tokens;
        int lowercase, strip_accents, chinese, quotes = 0, nfkd = 0; /* the last two: absent in older files */

        if (json_unpack((json_t *) json, "{s:I}", "version", &version) < 0)
                return wrong(error, path, "no number \"version\", expected the sidecar that prepare writes");
        if (version != CORPUS_SIDECAR_VERSION)
                return error_input(error, BERTD_EXIT_DATA, "%s: version %lld, expected %d", path, (long long) version,
                                   CORPUS_SIDECAR_VERSION);
        if (json_unpack((json_t *) json, "{s:s, s:I, s:s, s:b, s:b, s:b, s?b, s?b, s:I, s:I, s:I}", "vocab_hash", &hash,
                        "vocab_size", &vocab_size, "format", &format, "lowercase", &lowercase, "strip_accents",
                        &strip_accents, "chinese", &chinese, "quotes", &quotes, "nfkd", &nfkd, "documents", &documents,
                        "sentences", &sentences, "tokens", &tokens) < 0)
                return wrong(error, path,
                             "a key is missing or has the wrong type, expected the sidecar that prepare writes");
        if (strlen(hash) != VOCAB_HASH_MAX - 1 || strlen(format) >= sizeof(ret->format) || vocab_size < 0 ||
            vocab_size > UINT32_MAX)
                return wrong(error, path, "vocab_hash, vocab_size or format is out of range");
        *ret = (struct corpus_sidecar) {
                .vocab_size = (uint32_t) vocab_size,
                .options = { .lowercase = lowercase,
                             .strip_accents = strip_accents,
                             .chinese = chinese,
                             .quotes = quotes,
                             .nfkd = nfkd },
                .n_documents = (uint64_t) documents,
                .n_sentences = (uint64_t) sentences,
                .n_tokens = (uint64_t) tokens,
        };
        memcpy(ret->vocab_hash, hash, VOCAB_HASH_MAX);
        memcpy(ret->format, format, strlen(format) + 1);
        return 0;
}

int corpus_sidecar_read(const char *path, struct corpus_sidecar *ret, struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;
        json_error_t json_error;
        struct error local = {};

        int r = file_read(path, CORPUS_SIDECAR_BYTES_MAX, &text, &size, &local);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_input(error, BERTD_EXIT_DATA, "%s", local.text);
        cleanup(cleanup_json_p) json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &json_error);
        if (!json)
                return error_input(error, BERTD_EXIT_DATA, "%s:%d: %s", path, json_error.line, json_error.text);
        r = parse(json, path, ret, error);
        return r < 0 ? r : 1;
}
