/* The classes of texts: names in an order; a class is an index. Zeroed = empty. */
#ifndef TRAINER_DATA_LABELS_H
#define TRAINER_DATA_LABELS_H

#include <stdint.h>

#include "common/error.h"

#define LABELS_MAX 4096

/* Class names; a class is an index. Zeroed = empty; labels_free leaves it so. */
struct labels {
        char **name;
        uint32_t n;
};

int labels_add(struct labels *labels, const char *name, struct error *error);
int32_t labels_find(const struct labels *labels, const char *name);       /* −1: not there */
int32_t labels_find_class(const struct labels *labels, const char *name); /* or LABEL_3, as transformers calls 3 */
int labels_set(struct labels *labels, char *const *names, uint32_t n, struct error *error);
void labels_free(struct labels *labels);

/* The order of classes, a total one, alike on every machine: numbers (a sign, digits, a decimal point; of any length) by value, then other
 * names; numbers of one value (1, 01, 1.0) and other names by code point. As strcmp does: < 0, 0 (the same name), > 0. */
int labels_compare(const char *a, const char *b);

/* For each of own's classes the index of the same name among `its`, −1 where it has none such, in `ret` (own.n). LABEL_3, as transformers
 * calls a class without a name, is the same as 3. */
enum labels_match { LABELS_NONE, LABELS_SOME, LABELS_ALL }; /* ALL: each name is in both */
enum labels_match labels_match(const struct labels *own, const struct labels *its, int32_t *ret);

/* ["World","Sports"]; the caller frees; NULL: no memory. And back; exit 76 naming `path`. */
char *labels_json(const struct labels *labels);
int labels_parse(struct labels *labels, const char *json, const char *path, struct error *error);

#endif
