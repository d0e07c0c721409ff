/* See assets.h. Owns nothing. */
#include "trainer/text/assets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/hex.h"
#include "trainer/text/tokenizer_files.h"

bool asset_name_valid(const char *name) {
        size_t n = strlen(name);

        for (size_t i = 0; i < n; i++)
                if (name[i] <= ' ' || name[i] > '~' || name[i] == '/')
                        return false;
        return n > 0 && n < ASSET_NAME_MAX && name[0] != '.';
}

static struct asset *find(const struct assets *assets, const char *name) {
        for (uint32_t i = 0; i < assets->n; i++)
                if (strcmp(assets->item[i].name, name) == 0)
                        return (struct asset *) &assets->item[i];
        return NULL;
}

const struct asset *assets_find(const struct assets *assets, const char *name) { return find(assets, name); }

/* Takes the bytes. */
static int take(struct assets *assets, const char *name, char *data, size_t size, struct error *error) {
        struct asset *asset = find(assets, name);

        if (!asset_name_valid(name) || size > ASSET_BYTES_MAX || (!asset && assets->n == ASSETS_MAX)) {
                free(data);
                return error_input(error, BERTD_EXIT_DATA,
                                   "asset %.64s: %zu bytes, expected a file name and at most %zu bytes", name, size,
                                   ASSET_BYTES_MAX);
        }
        if (!asset)
                asset = &assets->item[assets->n++];
        free(asset->data);
        XXH128_hash_t h = XXH3_128bits(data, size);
        *asset = (struct asset) { .data = data, .size = size };
        (void) snprintf(asset->name, sizeof(asset->name), "%s", name);
        hex_128(h.high64, h.low64, asset->checksum);
        return 0;
}

int assets_add(struct assets *assets, const char *name, const void *data, size_t size, struct error *error) {
        char *copy = malloc(size + 1);

        if (!copy)
                return error_errno(error, ENOMEM, "asset %.64s", name);
        memcpy(copy, data, size);
        copy[size] = '\0';
        return take(assets, name, copy, size, error);
}

static int take_added(struct assets *assets, const struct vocab *vocab, struct error *error) {
        char *text = vocab_added(vocab)->n > 0 ? added_format(vocab_added(vocab)) : NULL;

        if (vocab_added(vocab)->n == 0)
                return 0;
        return text ? take(assets, ASSET_ADDED, text, strlen(text), error)
                    : error_errno(error, ENOMEM, "asset " ASSET_ADDED);
}

int assets_tokenizer(struct assets *assets, const char *path, const char *file, struct vocab **ret,
                     struct error *error) {
        cleanup_tokenizer struct tokenizer_files files = {};
        cleanup_vocab struct vocab *vocab = NULL;

        int r = file ? tokenizer_read_beside(path, file, &files, error) : tokenizer_read(path, &files, error);
        if (r >= 0)
                r = vocab_of_files(path, &files, &vocab, error);
        if (r < 0)
                return r;
        const char *name = vocab_sentencepiece(vocab) ? ASSET_SENTENCEPIECE : ASSET_VOCAB;
        r = take(assets, name, steal_pointer(&files.text), files.size, error);
        if (r >= 0)
                r = take_added(assets, vocab, error);
        if (r >= 0)
                *ret = steal_pointer(&vocab);
        return r;
}

int assets_read(struct assets *assets, const char *name, const char *path, struct error *error) {
        char *data = NULL;
        size_t size;
        cleanup_vocab struct vocab *vocab = NULL;

        if (!name)
                return assets_tokenizer(assets, path, NULL, &vocab, error);
        int r = vocab_read(path, &data, &size, error);
        return r < 0 ? r : take(assets, name, data, size, error);
}

const struct asset *assets_vocabulary(const struct assets *assets) {
        const struct asset *text = find(assets, ASSET_VOCAB);

        return text ? text : find(assets, ASSET_SENTENCEPIECE);
}

int assets_vocab(const struct assets *assets, const char *path, struct vocab **ret, struct error *error) {
        const struct asset *asset = assets_vocabulary(assets);

        if (!asset || (find(assets, ASSET_VOCAB) && find(assets, ASSET_SENTENCEPIECE)))
                return error_input(error, BERTD_EXIT_DATA, "%s: expected one of %s and %s in it", path, ASSET_VOCAB,
                                   ASSET_SENTENCEPIECE);
        const struct asset *listed = find(assets, ASSET_ADDED);
        struct added_tokens added = {};
        int r = listed ? added_parse(&added, path, listed->data, listed->size, error) : 0;
        if (r >= 0)
                r = vocab_parse(path, asset->data, asset->size, &added, ret, error);
        added_free(&added);
        return r;
}

void assets_free(struct assets *assets) {
        for (uint32_t i = 0; i < assets->n; i++)
                free(assets->item[i].data);
        *assets = (struct assets) {};
}
