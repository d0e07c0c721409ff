/* See meta.h. Owns an item's key and value. */
#include "trainer/checkpoint/meta.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/parse.h"

static struct checkpoint_meta_item *find(const struct checkpoint_meta *meta, const char *key) {
        for (uint32_t i = 0; i < meta->n; i++)
                if (strcmp(meta->items[i].key, key) == 0)
                        return &meta->items[i];
        return NULL;
}

/* A new item without a value; NULL: no memory. */
static struct checkpoint_meta_item *add(struct checkpoint_meta *meta, const char *key) {
        char *own = strdup(key);

        if (!own || array_reserve(&meta->items, &meta->room, meta->n + (size_t) 1, sizeof(*meta->items)) < 0) {
                free(own);
                return NULL;
        }
        meta->bytes += strlen(key);
        meta->items[meta->n] = (struct checkpoint_meta_item) { .key = own };
        return &meta->items[meta->n++];
}

/* Takes `value`. */
static int keep(struct checkpoint_meta *meta, const char *key, char *value) {
        struct checkpoint_meta_item *item = find(meta, key);
        size_t old = item ? strlen(item->value) : 0, size = strlen(value);

        if (size > CHECKPOINT_META_VALUE_MAX || (!item && meta->n == CHECKPOINT_META_KEYS_MAX) ||
            meta->bytes - old + size + strlen(key) > CHECKPOINT_META_BYTES_MAX)
                return -E2BIG;
        if (!item)
                item = add(meta, key);
        if (!item)
                return -ENOMEM;
        free(item->value);
        item->value = value;
        meta->bytes = meta->bytes - old + size;
        return 0;
}

void checkpoint_meta_set(struct checkpoint_meta *meta, const char *key, const char *format, ...) {
        char *value = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&value, format, ap) < 0)
                value = NULL;
        va_end(ap);
        int r = value ? keep(meta, key, value) : -ENOMEM;
        if (r == 0)
                return;
        if (r == -ENOMEM)
                (void) error_errno(&meta->failed, ENOMEM, "meta key %.64s", key);
        else if (meta->failed.code == 0) {
                (void) error_set(
                        &meta->failed, E2BIG,
                        "meta key %.64s: %zu bytes; a checkpoint keeps %zu of a value, and of all %zu in %u keys", key,
                        strlen(value), CHECKPOINT_META_VALUE_MAX, CHECKPOINT_META_BYTES_MAX, CHECKPOINT_META_KEYS_MAX);
                meta->failed.exit = BERTD_EXIT_DATA;
        }
        free(value);
}

void checkpoint_meta_copy(struct checkpoint_meta *to, const struct checkpoint_meta *from) {
        for (uint32_t i = 0; i < from->n; i++)
                checkpoint_meta_set(to, from->items[i].key, "%s", from->items[i].value);
        if (from->failed.code > 0 && to->failed.code == 0)
                to->failed = from->failed;
}

int checkpoint_meta_check(const struct checkpoint_meta *meta, struct error *error) {
        if (meta->failed.code > 0 && error && error->code == 0)
                *error = meta->failed;
        return -meta->failed.code;
}

void checkpoint_meta_free(struct checkpoint_meta *meta) {
        for (uint32_t i = 0; i < meta->n; i++) {
                free(meta->items[i].key);
                free(meta->items[i].value);
        }
        free(meta->items);
        *meta = (struct checkpoint_meta) {};
}

const char *checkpoint_meta_get(const struct checkpoint_meta *meta, const char *key) {
        const struct checkpoint_meta_item *item = find(meta, key);
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

int checkpoint_meta_double(const struct checkpoint_meta *meta, const char *path, const char *key, double *ret,
                           struct error *error) {
        const char *value = checkpoint_meta_get(meta, key);
        char *end = NULL;

        if (!value) {
                *ret = NAN;
                return 0;
        }
        double number = strtod(value, &end);
        if (!value[0] || value[strcspn(value, " \t\n\v\f\r")] || *end)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key %s is '%.64s', expected a figure",
                                   path, key, value);
        *ret = number;
        return 0;
}

int checkpoint_meta_flag(const struct checkpoint_meta *meta, const char *path, const char *key, bool *ret,
                         struct error *error) {
        const char *value = checkpoint_meta_get(meta, key);

        if (value && strcmp(value, "1") != 0)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key %s is '%.64s', expected 1 or none",
                                   path, key, value);
        *ret = value != NULL;
        return 0;
}
