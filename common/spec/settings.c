/* See spec.h: keys set by options. They replace the file's texts before those are read, so that both are checked alike.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/nearest.h"
#include "common/file.h"
#include "common/spec/fields.h"
#include "common/spec/yaml.h"
#include "common/utf8.h"

static bool is_settable(const struct field *field) {
        return (!is_list(field) || field->type == FIELD_NAMES) && field->entry == 0 &&
               strncmp(field->key, STAGE_PREFIX, strlen(STAGE_PREFIX)) != 0;
}

/* The row of a key that can be set: neither a list, unless of names, nor a stage's key. */
static size_t find_row(const char *key, size_t n) {
        size_t row = 0;

        for (; row < spec_n_fields; row++) {
                const struct field *field = &spec_fields[row];
                if (strlen(field->key) == n && strncmp(field->key, key, n) == 0 && is_settable(field))
                        break;
        }
        return row;
}

/* The first stage that sets the key, itself or in a task, and would override the setting; n_parts: none. */
static uint32_t find_own(const struct part *file, size_t row) {
        uint32_t s = 0;

        for (; s < file->n_parts; s++) {
                bool own = file->parts[s].given[row].name;
                for (uint32_t t = 0; t < file->parts[s].n_parts; t++)
                        own = own || file->parts[s].parts[t].given[row].name;
                if (own)
                        break;
        }
        return s;
}

/* The two exclude each other: setting one removes the other. */
static void drop_other(struct part *file, const char *key) {
        static const char *const pairs[][2] = { { "train.steps", "train.epochs" },
                                                { "optimizer.warmup_steps", "optimizer.warmup_ratio" } };

        for (size_t i = 0; i < ELEMENTSOF(pairs); i++)
                for (size_t k = 0; k < 2; k++)
                        if (strcmp(key, pairs[i][k]) == 0)
                                given_clear(&file->given[field_of(pairs[i][1 - k])]);
}

/* The key of a list, which no setting can give. */
static bool names_list(const char *setting) {
        size_t n = strcspn(setting, "=");

        for (size_t i = 0; setting[n] && i < spec_n_fields; i++)
                if (strlen(spec_fields[i].key) == n && strncmp(spec_fields[i].key, setting, n) == 0)
                        return !is_settable(&spec_fields[i]);
        return false;
}

/* Suggests the nearest key, also for one without its section: "optimizer.lr=1", "learning_rate=1". */
static int unknown_key(const char *setting, struct error *error) {
        size_t n = strcspn(setting, "="), best = NEAREST_FAR;
        cleanup_free char *key = strndup(setting, n);
        const char *nearest = NULL;

        for (size_t i = 0; key && setting[n] && i < spec_n_fields; i++) {
                const char *name = spec_fields[i].key, *dot = strrchr(name, '.');
                if (!is_settable(&spec_fields[i]))
                        continue;
                size_t d = nearest_distance(key, name);
                if (dot && !strchr(key, '.'))
                        d = MIN(d, nearest_distance(key, dot + 1));
                if (d < best) {
                        best = d;
                        nearest = name;
                }
        }
        if (nearest)
                return error_input(error, BERTD_EXIT_CONFIG, "'%.80s': unknown key: did you mean %s?", setting,
                                   nearest);
        return error_input(error, BERTD_EXIT_CONFIG,
                           "'%.80s': expected KEY=VALUE with a key of a spec, e.g. optimizer.learning_rate=2e-5",
                           setting);
}

/* "--ranks", "--set train.seed" */
static char *name_setting(const struct spec_setting *setting, const struct field *field) {
        return setting->key ? format_string("--%s", setting->option)
                            : format_string("--%s %s", setting->option, field->key);
}

/* A list of names is one text with commas. */
static int replace(struct given *given, bool names, char *name, const char *value, struct error *error) {
        char *text = strdup(value), **entries = names ? calloc(2, sizeof(*entries)) : NULL;

        given_clear(given);
        given->name = name;
        if (entries && text) {
                entries[0] = text;
                given->entries = entries;
                given->n = 1;
        } else {
                free(entries);
                given->text = text;
        }
        return name && text && !names == !entries ? 0 : error_errno(error, ENOMEM, "a setting");
}

int spec_apply_setting(struct part *file, const char *path, const struct spec_setting *setting, struct error *error) {
        const char *equals = setting->key ? NULL : strchr(setting->value, '='),
                   *value = equals ? equals + 1 : setting->value;
        size_t row = setting->key ? field_of(setting->key)
                     : equals     ? find_row(setting->value, (size_t) (equals - setting->value))
                                  : spec_n_fields;

        if (row == spec_n_fields && names_list(setting->value))
                return error_input(error, BERTD_EXIT_CONFIG, "--%s %.*s: a list; change it in the file",
                                   setting->option, (int) strcspn(setting->value, "="), setting->value);
        if (row == spec_n_fields)
                return unknown_key(setting->value, error);
        uint32_t own = find_own(file, row);
        if (own < file->n_parts)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: stages[%u] sets %s itself; change it there", path,
                                   own, spec_fields[row].key);
        struct given *given = &file->given[row];
        int r = replace(given, spec_fields[row].type == FIELD_NAMES, name_setting(setting, &spec_fields[row]), value,
                        error);
        if (r < 0)
                return r;
        if (!setting->key && yaml_is_null(value))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: null; give a value or leave the key out",
                                   given->name);
        if (!text_is_utf8(value))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: not UTF-8", given->name);
        drop_other(file, spec_fields[row].key);
        return 0;
}
