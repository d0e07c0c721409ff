/* What a checkpoint says about itself: meta items, shapes and the digest over both. See checkpoint.h. Owns nothing. */
#define XXH_STATIC_LINKING_ONLY /* the state on the stack */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/parse.h"
#include "trainer/checkpoint.h"

static struct checkpoint_meta_item *find(struct checkpoint_meta *meta, const char *key) {
        for (uint32_t i = 0; i < meta->n; i++)
                if (strcmp(meta->items[i].key, key) == 0)
                        return &meta->items[i];
        return NULL;
}

void checkpoint_meta_set(struct checkpoint_meta *meta, const char *key, const char *format, ...) {
        struct checkpoint_meta_item *item = find(meta, key);
        va_list ap;

        if (!item) {
                if (meta->n == CHECKPOINT_META_MAX)
                        return;
                item = &meta->items[meta->n++];
                *item = (struct checkpoint_meta_item) {};
                (void) snprintf(item->key, sizeof(item->key), "%s", key);
        }
        va_start(ap, format);
        (void) vsnprintf(item->value, sizeof(item->value), format, ap);
        va_end(ap);
}

const char *checkpoint_meta_get(const struct checkpoint_meta *meta, const char *key) {
        const struct checkpoint_meta_item *item = find((struct checkpoint_meta *) meta, key);
        return item ? item->value : NULL;
}

int checkpoint_meta_u64(const struct checkpoint_meta *meta, const char *path, const char *key, uint64_t *ret,
                        struct error *error) {
        const char *value = checkpoint_meta_get(meta, key);

        if (!value || parse_u64(value, 0, UINT64_MAX, ret) < 0)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key %s is %s, expected a number", path,
                                   key, value ? value : "missing");
        return 0;
}

void checkpoint_format_shape(const struct checkpoint_tensor *tensor, char *buffer, size_t size) {
        int used = snprintf(buffer, size, "[");

        for (uint32_t d = 0; d < tensor->n_dims; d++)
                used += snprintf(buffer + used, size - (size_t) used, "%s%u", d > 0 ? ", " : "", tensor->shape[d]);
        (void) snprintf(buffer + used, size - (size_t) used, "]");
}

/* The terminating zero is hashed too: it keeps neighbours apart. */
static void hash_text(XXH3_state_t *state, const char *text) {
        (void) XXH3_128bits_update(state, text, strlen(text) + 1);
}

void checkpoint_digest(const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors, uint32_t n,
                       char hex[33]) {
        XXH3_state_t state;
        char shape[64];

        XXH3_INITSTATE(&state);
        (void) XXH3_128bits_reset(&state);
        for (uint32_t i = 0; i < meta->n; i++) {
                if (strcmp(meta->items[i].key, "digest") == 0 || strcmp(meta->items[i].key, CHECKPOINT_FILE_KEY) == 0)
                        continue;
                hash_text(&state, meta->items[i].key);
                hash_text(&state, meta->items[i].value);
        }
        for (uint32_t i = 0; i < n; i++) {
                checkpoint_format_shape(&tensors[i], shape, sizeof(shape));
                hash_text(&state, tensors[i].name);
                hash_text(&state, tensors[i].kind);
                hash_text(&state, tensors[i].dtype);
                hash_text(&state, shape);
                hash_text(&state, tensors[i].checksum);
        }
        XXH128_hash_t h = XXH3_128bits_digest(&state);
        (void) snprintf(hex, 33, "%016llx%016llx", (unsigned long long) h.high64, (unsigned long long) h.low64);
}

void checkpoint_assets_digest(const struct assets *assets, char hex[33]) {
        XXH3_state_t state;

        XXH3_INITSTATE(&state);
        (void) XXH3_128bits_reset(&state);
        for (uint32_t i = 0; i < assets->n; i++) {
                hash_text(&state, assets->item[i].name);
                hash_text(&state, assets->item[i].checksum);
        }
        XXH128_hash_t h = XXH3_128bits_digest(&state);
        (void) snprintf(hex, 33, "%016llx%016llx", (unsigned long long) h.high64, (unsigned long long) h.low64);
}
