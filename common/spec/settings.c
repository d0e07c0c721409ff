/* Keys set in place of what the file says; see spec.h. Works on the file's texts, so that reading checks them as it does the file's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/nearest.h"
#include "common/spec/fields.h"

static const struct field *find_field(const char *key, size_t n) {
        for (size_t i = 0; i < spec_n_fields; i++)
                if (strlen(spec_fields[i].key) == n && strncmp(spec_fields[i].key, key, n) == 0 &&
                    spec_fields[i].section != offsetof(struct raw, stage))
                        return &spec_fields[i];
        return NULL;
}

static void *make_section(struct raw *raw, size_t section) {
        static const struct {
                size_t section, size;
        } sections[] = {
                { offsetof(struct raw, resources), sizeof(struct raw_resources) },
                { offsetof(struct raw, restart), sizeof(struct raw_restart) },
                { offsetof(struct raw, checkpoint), sizeof(struct raw_checkpoint) },
                { offsetof(struct raw, log), sizeof(struct raw_log) },
                { offsetof(struct raw, model), sizeof(struct raw_model) },
                { offsetof(struct raw, data), sizeof(struct raw_data) },
                { offsetof(struct raw, classifier), sizeof(struct raw_classifier) },
                { offsetof(struct raw, optimizer), sizeof(struct raw_optimizer) },
                { offsetof(struct raw, train), sizeof(struct raw_train) },
        };

        for (size_t i = 0; i < ELEMENTSOF(sections) && !section_of(raw, section); i++)
                if (sections[i].section == section)
                        *AT(raw, section, void *) = calloc(1, sections[i].size);
        return section_of(raw, section);
}

/* A stage, or one of its tasks, whose own key would win over a setting; n_stages: none. */
static uint32_t find_own(const struct raw *raw, const struct field *field) {
        for (uint32_t s = 0; s < raw->n_stages; s++) {
                const struct raw_stage *stage = &raw->stages[s];
                void *section = field->section == offsetof(struct raw, data)        ? (void *) stage->data
                                : field->section == offsetof(struct raw, optimizer) ? (void *) stage->optimizer
                                : field->section == offsetof(struct raw, train)     ? (void *) stage->train
                                                                                    : NULL;
                bool own = section && *AT(section, field->raw, char *);
                for (uint32_t t = 0; field->section == offsetof(struct raw, data) && t < stage->n_tasks; t++)
                        own = own || *AT(&stage->tasks[t], field->raw, char *);
                if (own)
                        return s;
        }
        return raw->n_stages;
}

/* One is said in place of the other. */
static void drop_other(struct raw *raw, const char *key) {
        char **other = strcmp(key, "train.steps") == 0              ? &raw->train->epochs
                       : strcmp(key, "train.epochs") == 0           ? &raw->train->steps
                       : strcmp(key, "optimizer.warmup_steps") == 0 ? &raw->optimizer->warmup_ratio
                       : strcmp(key, "optimizer.warmup_ratio") == 0 ? &raw->optimizer->warmup_steps
                                                                    : NULL;

        if (!other)
                return;
        free(*other);
        *other = NULL;
}

/* "optimizer.lr=1" and "learning_rate=1" */
static int unknown_key(const char *setting, struct error *error) {
        size_t n = strcspn(setting, "="), best = NEAREST_FAR;
        cleanup_free char *key = strndup(setting, n);
        const char *nearest = NULL;

        for (size_t i = 0; key && setting[n] && i < spec_n_fields; i++) {
                const char *name = spec_fields[i].key, *dot = strrchr(name, '.');
                size_t d = spec_fields[i].section == offsetof(struct raw, stage) ? NEAREST_FAR
                                                                                 : nearest_distance(key, name);
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
                           "'%.80s': expected KEY=VALUE with a key of a spec, as optimizer.learning_rate=2e-5",
                           setting);
}

int spec_apply_setting(struct raw *raw, const char *path, const char *setting, struct error *error) {
        const char *equals = strchr(setting, '=');
        const struct field *field = equals ? find_field(setting, (size_t) (equals - setting)) : NULL;
        uint32_t own = field ? find_own(raw, field) : 0;

        if (!field)
                return unknown_key(setting, error);
        if (own < raw->n_stages)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: stages[%u] has its own %s: setting the file's would change nothing there", path,
                                   own, field->key);
        void *section = make_section(raw, field->section);
        char *text = section ? strdup(equals + 1) : NULL;
        if (!text)
                return error_errno(error, ENOMEM, "%s", path);
        free(*AT(section, field->raw, char *));
        *AT(section, field->raw, char *) = text;
        drop_other(raw, field->key);
        return 0;
}
