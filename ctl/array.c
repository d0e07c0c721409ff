/* See array.h. */
#include "ctl/array.h"

#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/file.h"

static int no_memory(struct error *error) { return error_input(error, BERTCTL_EXIT_FAILED, "out of memory"); }

const char *array_short_key(const char *key) {
        const char *dot = strrchr(key, '.');
        return dot ? dot + 1 : key;
}

static int parse_axis(const char *text, struct array_axis *axis, struct error *error) {
        const char *equals = strchr(text, '=');
        size_t commas = 0;

        if (!equals || equals == text || !equals[1])
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "--array: expected KEY=VALUE,VALUE,..., e.g. train.seed=1,2,3; not '%.80s'", text);
        for (const char *p = equals; *p; p++)
                commas += *p == ',';
        axis->key = strdup(text);
        axis->values = calloc(commas + 1, sizeof(*axis->values));
        if (!axis->key || !axis->values)
                return no_memory(error);
        char *rest = axis->key + (equals - text);
        *rest++ = '\0';
        for (char *value; (value = strsep(&rest, ","));) {
                for (size_t i = 0; i < axis->n; i++)
                        if (strcmp(axis->values[i], value) == 0)
                                return error_input(error, BERTCTL_EXIT_USAGE, "--array: %s: '%.40s' is given twice",
                                                   axis->key, value);
                if (!value[0])
                        return error_input(error, BERTCTL_EXIT_USAGE, "--array: %s: an empty value", axis->key);
                axis->values[axis->n++] = value;
        }
        return 0;
}

int array_parse(const struct option_list *options, struct array *ret, struct error *error) {
        if (options->n > ARRAY_AXES_MAX)
                return error_input(error, BERTCTL_EXIT_USAGE, "--array: more than %d keys", ARRAY_AXES_MAX);
        for (size_t i = 0; i < options->n; i++) {
                ret->n = i + 1; /* for array_free */
                int r = parse_axis(options->items[i], &ret->axes[i], error);
                if (r < 0)
                        return r;
                for (size_t k = 0; k < i; k++)
                        if (strcmp(ret->axes[k].key, ret->axes[i].key) == 0)
                                return error_input(error, BERTCTL_EXIT_USAGE, "--array: %s is given twice",
                                                   ret->axes[i].key);
        }
        if (array_size(ret) > ARRAY_SIZE_MAX)
                return error_input(error, BERTCTL_EXIT_USAGE, "--array: more than %d jobs", ARRAY_SIZE_MAX);
        return 0;
}

void array_free(struct array *array) {
        for (size_t i = 0; i < array->n; i++) {
                free(array->axes[i].key);
                free(array->axes[i].values);
        }
        *array = (struct array) {};
}

size_t array_size(const struct array *array) {
        size_t size = array->n > 0;

        for (size_t i = 0; i < array->n && size <= ARRAY_SIZE_MAX; i++)
                size *= array->axes[i].n;
        return size;
}

int array_member(const struct array *array, size_t index, char *ret_settings[ARRAY_AXES_MAX], char **ret_label,
                 struct error *error) {
        cleanup_free char *label = strdup("");

        for (size_t i = array->n; label && i-- > 0;) {
                const struct array_axis *axis = &array->axes[i];
                const char *value = axis->values[index % axis->n];
                char *longer =
                        format_string("%s=%s%s%s", array_short_key(axis->key), value, label[0] ? "," : "", label);
                free(label);
                label = longer;
                index /= axis->n;
                ret_settings[i] = format_string("%s=%s", axis->key, value);
                if (!ret_settings[i])
                        return no_memory(error);
        }
        if (!label)
                return no_memory(error);
        *ret_label = steal_pointer(&label);
        return 0;
}
