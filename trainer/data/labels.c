/* See labels.h. Owns the names. */
#include "trainer/data/labels.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/cleanup.h"

int labels_add(struct labels *labels, const char *name, struct error *error) {
        char *copy = NULL;

        if (labels->n >= LABELS_MAX)
                return error_input(error, BERTD_EXIT_DATA, "more than %d classes: is this the label's column?",
                                   LABELS_MAX);
        bool full = (labels->n & (labels->n - 1)) == 0; /* a power of two */
        if (full && array_resize(&labels->name, 2 * (size_t) labels->n, sizeof(*labels->name)) < 0)
                return error_errno(error, ENOMEM, "labels");
        copy = strdup(name);
        if (!copy)
                return error_errno(error, ENOMEM, "labels");
        labels->name[labels->n++] = copy;
        return 0;
}

int32_t labels_find(const struct labels *labels, const char *name) {
        for (uint32_t i = 0; i < labels->n; i++)
                if (strcmp(labels->name[i], name) == 0)
                        return (int32_t) i;
        return -1;
}

int labels_set(struct labels *labels, char *const *names, uint32_t n, struct error *error) {
        int r = 0;

        for (uint32_t i = 0; r >= 0 && i < n; i++) {
                if (labels_find(labels, names[i]) >= 0)
                        return error_input(error, BERTD_EXIT_CONFIG, "data.labels: '%.64s' is given twice", names[i]);
                r = labels_add(labels, names[i], error);
        }
        return r;
}

/* ---- order ---- */

/* A decimal number as text: its digits before and after the point, without zeros that do not count. */
struct number {
        bool negative;
        const char *whole, *fraction;
        size_t n_whole, n_fraction;
};

static size_t count_digits(const char *text) { return strspn(text, "0123456789"); }

/* False: not a number. */
static bool parse_number(const char *text, struct number *ret) {
        bool sign = *text == '-' || *text == '+';
        const char *whole = text + sign, *point = whole + count_digits(whole),
                   *fraction = *point == '.' ? point + 1 : point;
        size_t n_fraction = count_digits(fraction);

        if (fraction[n_fraction] != '\0' || (point == whole && n_fraction == 0))
                return false;
        for (; whole < point && *whole == '0'; whole++)
                ;
        for (; n_fraction > 0 && fraction[n_fraction - 1] == '0'; n_fraction--)
                ;
        *ret = (struct number) {
                .whole = whole, .n_whole = (size_t) (point - whole), .fraction = fraction, .n_fraction = n_fraction
        };
        ret->negative = *text == '-' && (ret->n_whole > 0 || n_fraction > 0);
        return true;
}

/* Digits that lack at the end are zeros. */
static int compare_digits(const char *a, size_t n, const char *b, size_t m) {
        int r = memcmp(a, b, MIN(n, m));

        return r != 0 ? r : (n > m) - (n < m);
}

static int compare_numbers(const struct number *a, const struct number *b) {
        if (a->negative != b->negative)
                return a->negative ? -1 : 1;
        int r = a->n_whole != b->n_whole ? (a->n_whole > b->n_whole ? 1 : -1)
                                         : compare_digits(a->whole, a->n_whole, b->whole, b->n_whole);
        if (r == 0)
                r = compare_digits(a->fraction, a->n_fraction, b->fraction, b->n_fraction);
        return a->negative ? -r : r;
}

int labels_compare(const char *a, const char *b) {
        struct number x, y;
        bool a_number = parse_number(a, &x), b_number = parse_number(b, &y);

        if (a_number != b_number)
                return a_number ? -1 : 1;
        int r = a_number ? compare_numbers(&x, &y) : 0;
        return r != 0 ? r : strcmp(a, b); /* UTF-8's order of bytes is that of code points */
}

/* ---- the same classes ---- */

/* "LABEL_3" is 3. */
static const char *plain_name(const char *name) {
        static const char generic[] = "LABEL_";
        size_t n = strlen(generic);

        return strncmp(name, generic, n) == 0 && name[n] != '\0' && name[n + count_digits(name + n)] == '\0' ? name + n
                                                                                                             : name;
}

int32_t labels_find_class(const struct labels *labels, const char *name) {
        int32_t exact = labels_find(labels, name);

        for (uint32_t i = 0; exact < 0 && i < labels->n; i++)
                if (strcmp(plain_name(labels->name[i]), plain_name(name)) == 0)
                        return (int32_t) i;
        return exact;
}

enum labels_match labels_match(const struct labels *own, const struct labels *its, int32_t *ret) {
        uint32_t found = 0;

        for (uint32_t i = 0; i < own->n; i++) {
                ret[i] = labels_find_class(its, own->name[i]);
                if (ret[i] >= 0 && labels_find(its, own->name[i]) < 0 && labels_find(own, its->name[ret[i]]) >= 0)
                        ret[i] = -1; /* "1" beside "LABEL_1", which has that row */
                found += ret[i] >= 0;
        }
        return found == 0 ? LABELS_NONE : found == own->n && found == its->n ? LABELS_ALL : LABELS_SOME;
}

/* ---- all ---- */

void labels_free(struct labels *labels) {
        for (uint32_t i = 0; i < labels->n; i++)
                free(labels->name[i]);
        free(labels->name);
        *labels = (struct labels) {};
}

char *labels_json(const struct labels *labels) {
        json_t *array = json_array();

        for (uint32_t i = 0; i < labels->n; i++)
                (void) json_array_append_new(array, json_string(labels->name[i]));
        char *text = array ? json_dumps(array, JSON_COMPACT | JSON_ENSURE_ASCII) /* may be cut anywhere */ : NULL;
        json_decref(array);
        return text;
}

int labels_parse(struct labels *labels, const char *json, const char *path, struct error *error) {
        json_t *array = json_loads(json, 0, NULL);
        int r = json_is_array(array) ? 0 : -EINVAL;

        for (size_t i = 0; r >= 0 && i < json_array_size(array); i++) {
                const char *name = json_string_value(json_array_get(array, i));
                r = name ? labels_add(labels, name, error) : -EINVAL;
        }
        json_decref(array);
        if (r == -EINVAL)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key labels is not a list of names",
                                   path);
        return r;
}
