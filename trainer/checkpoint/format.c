/* See format.h: shapes, and the digests over what a checkpoint records about itself. */
#include "trainer/checkpoint/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the state on the stack */
#include <xxhash.h>

#include "common/hex.h"

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
                       char hex[HEX_128_SIZE]) {
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
        hex_128(h.high64, h.low64, hex);
}

void checkpoint_assets_digest(const struct assets *assets, char hex[HEX_128_SIZE]) {
        XXH3_state_t state;

        XXH3_INITSTATE(&state);
        (void) XXH3_128bits_reset(&state);
        for (uint32_t i = 0; i < assets->n; i++) {
                hash_text(&state, assets->item[i].name);
                hash_text(&state, assets->item[i].checksum);
        }
        XXH128_hash_t h = XXH3_128bits_digest(&state);
        hex_128(h.high64, h.low64, hex);
}
