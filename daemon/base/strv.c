/* See strv.h. Invariant: words[n] is NULL once there are words. */
#include "daemon/base/strv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"

void strv_take(struct strv *strv, char *word) {
        if (!word || array_resize(&strv->words, strv->n + 2, sizeof(*strv->words)) < 0) {
                free(word);
                strv->failed = true;
                return;
        }
        strv->words[strv->n++] = word;
        strv->words[strv->n] = NULL;
}

void strv_add(struct strv *strv, const char *word) { strv_take(strv, strdup(word)); }

void strv_format(struct strv *strv, const char *format, ...) {
        va_list ap;
        char *text = NULL;

        va_start(ap, format);
        int n = vasprintf(&text, format, ap);
        va_end(ap);
        strv_take(strv, n < 0 ? NULL : text);
}

const char *strv_environment(const struct strv *strv, const char *name) {
        size_t length = strlen(name);

        for (size_t i = 0; i < strv->n; i++)
                if (strncmp(strv->words[i], name, length) == 0 && strv->words[i][length] == '=')
                        return strv->words[i] + length + 1;
        return NULL;
}

void strv_free(struct strv *strv) {
        for (size_t i = 0; i < strv->n; i++)
                free(strv->words[i]);
        free(strv->words);
        *strv = (struct strv) {};
}
