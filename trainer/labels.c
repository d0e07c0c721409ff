/* Class names; see texts.h. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "trainer/texts.h"

int labels_add(struct labels *labels, const char *name, struct error *error) {
        char **grown = NULL, *copy = NULL;

        if (labels->n >= LABELS_MAX)
                return error_input(error, BERTD_EXIT_DATA, "more than %d classes: is this the label's column?",
                                   LABELS_MAX);
        if ((labels->n & (labels->n - 1)) == 0) { /* a power of two: full */
                grown = realloc(labels->name, MAX(2 * (size_t) labels->n, 1u) * sizeof(*grown));
                if (!grown)
                        return error_errno(error, ENOMEM, "labels");
                labels->name = grown;
        }
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
                        return error_input(error, BERTD_EXIT_CONFIG, "data.labels: '%.64s' is there twice", names[i]);
                r = labels_add(labels, names[i], error);
        }
        return r;
}

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
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key labels is no list of names", path);
        return r;
}
