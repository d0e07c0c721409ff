/* See checked.h. The file: a line of hex digits each. */
#include "trainer/data/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/file.h"

#define LINE CHECKED_TEXT_MAX /* digits and a newline, or their NUL in memory */

bool checked_has(const struct checked *checked, const char *state) {
        for (size_t i = 0; i < checked->n; i++)
                if (strcmp(checked->list[i], state) == 0)
                        return true;
        return false;
}

int checked_add(struct checked *checked, const char *state) {
        if (checked_has(checked, state))
                return 0;
        if (array_resize(&checked->list, checked->n + 1, sizeof(*checked->list)) < 0)
                return -ENOMEM;
        strncpy(checked->list[checked->n], state, LINE - 1);
        checked->list[checked->n++][LINE - 1] = '\0';
        return 0;
}

void checked_load(struct checked *checked, const char *path) {
        cleanup_free char *text = NULL;
        size_t size = 0;

        if (file_read(path, CHECKED_MAX * LINE, &text, &size, NULL) < 0)
                return;
        for (size_t at = 0; at + LINE <= size; at += LINE) {
                text[at + LINE - 1] = '\0';
                (void) checked_add(checked, text + at);
        }
        checked->n_saved = checked->n;
}

int checked_save(struct checked *checked, const char *path, struct error *error) {
        size_t n = MIN(checked->n, (size_t) CHECKED_MAX), first = checked->n - n;
        cleanup_free char *text = NULL;

        if (checked->n == checked->n_saved)
                return 0;
        text = malloc(n * LINE);
        if (!text)
                return error_errno(error, ENOMEM, "%s", path);
        for (size_t i = 0; i < n; i++) {
                memcpy(text + i * LINE, checked->list[first + i], LINE);
                text[i * LINE + LINE - 1] = '\n';
        }
        int r = file_write_atomic(path, text, n * LINE, 0644, error);
        if (r >= 0)
                checked->n_saved = checked->n;
        return r;
}

void checked_free(struct checked *checked) {
        free(checked->list);
        *checked = (struct checked) {};
}
