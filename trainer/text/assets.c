/* See assets.h. Owns nothing. */
#include "trainer/text/assets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"

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
        (void) snprintf(asset->checksum, sizeof(asset->checksum), "%016llx%016llx", (unsigned long long) h.high64,
                        (unsigned long long) h.low64);
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

int assets_read(struct assets *assets, const char *name, const char *path, struct error *error) {
        char *data = NULL;
        size_t size;

        int r = vocab_read(path, &data, &size, error);
        if (r < 0)
                return r;
        if (!name)
                name = vocab_is_sentencepiece(data, size) ? ASSET_SENTENCEPIECE : ASSET_VOCAB;
        return take(assets, name, data, size, error);
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
        return vocab_parse(path, asset->data, asset->size, ret, error);
}

void assets_free(struct assets *assets) {
        for (uint32_t i = 0; i < assets->n; i++)
                free(assets->item[i].data);
        *assets = (struct assets) {};
}
