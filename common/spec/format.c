/*
 * A spec as text: every key of its kind, by the same tables that read it. Scalars are made anew and freed here; lists are borrowed
 * from the spec.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/utf8.h"
#include "common/spec/fields.h"

/* struct raw with all its sections at hand. Scalars are owned; lists are borrowed from the spec. */
struct filled {
        struct raw top;
        struct raw_resources resources;
        struct raw_restart restart;
        struct raw_checkpoint checkpoint;
        struct raw_log log;
        struct raw_model model;
        struct raw_data data;
        struct raw_classifier classifier;
        struct raw_optimizer optimizer;
        struct raw_train train;
        struct raw_stage stage;
        struct filled *tasks; /* of a stage; owned */
        struct raw_data *raw_tasks;
        uint32_t n_tasks;
        char backoff[2][16], *backoff_sec[2];
};

/* The shortest text that reads back as the same number. */
static void write_double(double v, char *buffer, size_t size) {
        for (int digits = 6; digits <= 17; digits++) {
                (void) snprintf(buffer, size, "%.*g", digits, v);
                if (strtod(buffer, NULL) == v)
                        break;
        }
}

/* Cut to the buffer. */
static void write_field(const struct field *field, const void *from, char *buffer, size_t size) {
        switch (field->type) {
        case FIELD_I32:
                (void) snprintf(buffer, size, "%" PRId32, *(const int32_t *) from);
                break;
        case FIELD_U32:
                (void) snprintf(buffer, size, "%" PRIu32, *(const uint32_t *) from);
                break;
        case FIELD_U64:
        case FIELD_SIZE:
                (void) snprintf(buffer, size, "%" PRIu64, *(const uint64_t *) from);
                break;
        case FIELD_DOUBLE:
                write_double(*(const double *) from, buffer, size);
                break;
        case FIELD_ENUM:
                (void) snprintf(buffer, size, "%s", field->names[*(const unsigned *) from]);
                break;
        case FIELD_BOOL:
                (void) snprintf(buffer, size, "%s", field->names[*(const bool *) from]);
                break;
        default:
                (void) snprintf(buffer, size, "%s", *(char *const *) from);
                break;
        }
}

static char *format_field(const struct field *field, const void *from) {
        char text[64];

        if (field->type <= FIELD_PROGRAM)
                return strdup(*(char *const *) from);
        write_field(field, from, text, sizeof(text));
        return strdup(text);
}

/* Without an allocation: what it gives goes into checkpoints, and has no way to fail. */
const char *spec_get(const struct spec *spec, const char *key, char *buffer, size_t size) {
        for (size_t i = 0; i < spec_n_fields; i++)
                if (strcmp(spec_fields[i].key, key) == 0) {
                        write_field(&spec_fields[i], (const char *) spec + spec_fields[i].spec, buffer, size);
                        return buffer;
                }
        assert(false);
        return "";
}

static void walk_list(const struct spec *spec, const struct list *list, spec_each_t each, void *userdata) {
        char *const *entries = *AT(spec, list->spec, char **);
        uint32_t n = *AT(spec, list->spec_count, uint32_t);
        char count[16];

        (void) snprintf(count, sizeof(count), "%u", n);
        each(userdata, list->key, false, count);
        for (uint32_t i = 0; i < n; i++)
                each(userdata, list->key, list->paths, entries[i]);
}

void spec_walk(const struct spec *spec, spec_each_t each, void *userdata) {
        for (size_t i = 0; i < spec_n_fields; i++) {
                const struct field *field = &spec_fields[i];
                const void *from = (const char *) spec + field->spec;
                bool path = field->type == FIELD_PATH || field->type == FIELD_PROGRAM;
                char text[64];

                if (!(field->kinds & (1 << spec->kind)))
                        continue;
                if (field->type <= FIELD_PROGRAM) {
                        each(userdata, field->key, path, *(char *const *) from);
                        continue;
                }
                write_field(field, from, text, sizeof(text));
                each(userdata, field->key, false, is_absent(field, from) ? NULL : text);
        }
        for (size_t i = 0; i < spec_n_lists; i++)
                if (spec_lists[i].kinds & (1 << spec->kind))
                        walk_list(spec, &spec_lists[i], each, userdata);
}

/* ---- what Submit takes ---- */

static const char wire_types[] = {
        [FIELD_TEXT] = 's', [FIELD_PATH] = 's', [FIELD_PROGRAM] = 's', [FIELD_I32] = 'i',  [FIELD_U32] = 'u',
        [FIELD_U64] = 't',  [FIELD_SIZE] = 't', [FIELD_DOUBLE] = 'd',  [FIELD_ENUM] = 's', [FIELD_BOOL] = 's',
};

static bool is_fallback(const struct field *field, const void *from) {
        char text[64];
        uint64_t bytes;

        if (field->type == FIELD_SIZE)
                return parse_size(field->fallback, 0, UINT64_MAX, &bytes) == 0 && bytes == *(const uint64_t *) from;
        write_field(field, from, text, sizeof(text));
        return strcmp(text, field->fallback) == 0;
}

static bool is_sent(const struct field *field, const struct spec *spec, const void *from) {
        bool fits = field->wire && field->kinds & (1 << spec->kind);

        if (!fits || is_absent(field, from) || (field->type <= FIELD_PROGRAM && !*(char *const *) from))
                return false;
        return !field->sparse || !field->fallback || !is_fallback(field, from);
}

int spec_each_sent(const struct spec *spec, spec_sent_t each, void *userdata) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < spec_n_fields; i++) {
                const struct field *field = &spec_fields[i];
                const void *from = (const char *) spec + field->spec, *value = from;
                char text[64];

                if (!is_sent(field, spec, from))
                        continue;
                if (field->type <= FIELD_PROGRAM)
                        value = *(char *const *) from;
                else if (wire_types[field->type] == 's') {
                        write_field(field, from, text, sizeof(text));
                        value = text;
                }
                r = each(userdata, field->wire, wire_types[field->type], value);
        }
        for (size_t i = 0; r >= 0 && i < spec_n_lists; i++)
                if (spec_lists[i].wire && *AT(spec, spec_lists[i].spec_count, uint32_t) > 0)
                        r = each(userdata, spec_lists[i].wire, 'a', *AT(spec, spec_lists[i].spec, char **));
        if (r >= 0)
                r = each(userdata, "backoff_min_sec", 'u', &spec->restart.backoff_sec[0]);
        return r < 0 ? r : each(userdata, "backoff_max_sec", 'u', &spec->restart.backoff_sec[1]);
}

static int fill_fields(struct filled *filled, const struct spec *spec, struct error *error) {
        for (size_t i = 0; i < spec_n_fields; i++) {
                const struct field *field = &spec_fields[i];
                const void *from = (const char *) spec + field->spec;

                if (!(field->kinds & (1 << spec->kind)) || (field->type <= FIELD_PROGRAM && !*(char *const *) from) ||
                    is_absent(field, from) || (from == &spec->resources.ranks && !spec->resources.ranks_given))
                        continue;
                char *text = format_field(field, from);
                if (!text)
                        return error_errno(error, ENOMEM, "job spec");
                *AT(section_of(&filled->top, field->section), field->raw, char *) = text;
                if (!text_is_utf8(text)) /* libyaml's emitter takes nothing else (and libcyaml leaks when it refuses) */
                        return error_input(error, BERTD_EXIT_CONFIG, "%s: not UTF-8", field->key);
        }
        return 0;
}

static int fill_lists(struct filled *filled, const struct spec *spec, struct error *error) {
        for (size_t i = 0; i < spec_n_lists; i++) {
                char *const *entries = *AT(spec, spec_lists[i].spec, char **);
                uint32_t n = *AT(spec, spec_lists[i].spec_count, uint32_t);

                if (n == 0 || !(spec_lists[i].kinds & (1 << spec->kind)))
                        continue;
                for (uint32_t k = 0; k < n; k++)
                        if (!text_is_utf8(entries[k]))
                                return error_input(error, BERTD_EXIT_CONFIG, "%s: entry %u is not UTF-8",
                                                   spec_lists[i].key, k + 1);
                void *section = section_of(&filled->top, spec_lists[i].section);
                *AT(section, spec_lists[i].raw, char *const *) = entries;
                *AT(section, spec_lists[i].raw_count, uint32_t) = n;
        }
        for (uint32_t i = 0; i < 2 && spec->restart.n_backoff_sec == 2; i++) {
                (void) snprintf(filled->backoff[i], sizeof(filled->backoff[i]), "%u", spec->restart.backoff_sec[i]);
                filled->backoff_sec[i] = filled->backoff[i];
                filled->restart.backoff_sec = filled->backoff_sec;
                filled->restart.n_backoff_sec = 2;
        }
        return 0;
}

static int fill(struct filled *filled, const struct spec *spec, struct error *error) {
        *filled = (struct filled) {};
        filled->top.resources = &filled->resources;
        filled->top.restart = &filled->restart;
        filled->top.checkpoint = &filled->checkpoint;
        filled->top.log = &filled->log;
        filled->top.model = &filled->model;
        filled->top.data = &filled->data;
        filled->top.classifier = &filled->classifier;
        filled->top.optimizer = &filled->optimizer;
        filled->top.train = &filled->train;
        filled->top.stage = &filled->stage;
        filled->stage.data = &filled->data;
        filled->stage.optimizer = &filled->optimizer;
        filled->stage.train = &filled->train;
        int r = fill_fields(filled, spec, error);
        return r == 0 ? fill_lists(filled, spec, error) : r;
}

static void drop(struct filled *filled) {
        for (size_t i = 0; i < spec_n_fields && filled->top.stage; i++)
                free(*AT(section_of(&filled->top, spec_fields[i].section), spec_fields[i].raw, char *));
}

static void drop_stage(struct filled *stage) {
        for (uint32_t i = 0; i < stage->n_tasks; i++)
                drop(&stage->tasks[i]);
        free(stage->tasks);
        free(stage->raw_tasks);
        drop(stage);
}

/* The tasks say all of their data; the stage itself then says nothing of it. */
static int fill_tasks(struct filled *stage, const struct spec *spec, struct error *error) {
        if (spec->n_tasks == 0)
                return 0;
        stage->tasks = calloc(spec->n_tasks, sizeof(*stage->tasks));
        stage->raw_tasks = calloc(spec->n_tasks, sizeof(*stage->raw_tasks));
        if (!stage->tasks || !stage->raw_tasks)
                return error_errno(error, ENOMEM, "job spec");
        for (uint32_t i = 0; i < spec->n_tasks; i++) {
                stage->n_tasks = i + 1;
                int r = fill(&stage->tasks[i], spec->tasks[i], error);
                if (r < 0)
                        return r;
                stage->raw_tasks[i] = stage->tasks[i].data;
        }
        stage->stage.data = NULL;
        stage->stage.tasks = stage->raw_tasks;
        stage->stage.n_tasks = spec->n_tasks;
        return 0;
}

/* A stage's raw section at `section` of struct raw; NULL where a stage has none such. */
static void *own_section(struct filled *stage, size_t section) {
        return section == offsetof(struct raw, data) || section == offsetof(struct raw, optimizer) ||
                               section == offsetof(struct raw, train)
                       ? section_of(&stage->top, section)
                       : NULL;
}

static bool same_list(char *const *a, uint32_t n, char *const *b, uint32_t m) {
        for (uint32_t i = 0; i < n && n == m; i++)
                if (strcmp(a[i], b[i]) != 0)
                        return false;
        return n == m;
}

/* Takes out of a stage what the outer spec says, too. */
static void leave_differences(const struct filled *outer, struct filled *stage) {
        for (size_t i = 0; i < spec_n_fields; i++) {
                void *section = own_section(stage, spec_fields[i].section);
                char **own = section ? AT(section, spec_fields[i].raw, char *) : NULL;
                const char *its = text_of(&outer->top, &spec_fields[i]);
                if (!own || !*own || !its || strcmp(*own, its) != 0)
                        continue;
                free(*own);
                *own = NULL;
        }
        for (size_t i = 0; i < spec_n_lists; i++) {
                const struct list *list = &spec_lists[i];
                void *own = own_section(stage, list->section), *its = section_of(&outer->top, list->section);
                if (own && same_list(*AT(own, list->raw, char **), *AT(own, list->raw_count, uint32_t),
                                     *AT(its, list->raw, char **), *AT(its, list->raw_count, uint32_t))) {
                        *AT(own, list->raw, char **) = NULL;
                        *AT(own, list->raw_count, uint32_t) = 0;
                }
        }
}

/* A list that not every stage has is left to the stages. */
static void leave_lists(struct filled *outer, const struct spec *spec) {
        for (size_t i = 0; i < spec_n_lists; i++) {
                const struct list *list = &spec_lists[i];
                void *section = own_section(outer, list->section);
                bool everywhere = true;
                for (uint32_t s = 0; section && s < spec->n_stages; s++) {
                        const struct spec *stage = spec->stages[s];
                        everywhere = everywhere && *AT(stage, list->spec_count, uint32_t) > 0;
                        for (uint32_t t = 0; t < stage->n_tasks; t++)
                                everywhere = everywhere && *AT(stage->tasks[t], list->spec_count, uint32_t) > 0;
                }
                if (section && !everywhere) {
                        *AT(section, list->raw, char **) = NULL;
                        *AT(section, list->raw_count, uint32_t) = 0;
                }
        }
}

/* The same of a text that may be absent. */
static void leave_texts(struct filled *outer, const struct spec *spec) {
        for (size_t i = 0; i < spec_n_fields; i++) {
                const struct field *field = &spec_fields[i];
                void *section =
                        field->type == FIELD_TEXT && !field->fallback ? own_section(outer, field->section) : NULL;
                for (uint32_t s = 0; section && s < spec->n_stages; s++) {
                        if (*AT(spec->stages[s], field->spec, char *))
                                continue;
                        free(*AT(section, field->raw, char *));
                        *AT(section, field->raw, char *) = NULL;
                }
        }
}

static int fill_stages(struct filled *outer, struct filled *stages, struct raw_stage *raws, const struct spec *spec,
                       struct error *error) {
        leave_lists(outer, spec);
        leave_texts(outer, spec);
        for (uint32_t i = 0; i < spec->n_stages; i++) {
                int r = fill(&stages[i], spec->stages[i], error);
                if (r < 0)
                        return r;
                leave_differences(outer, &stages[i]);
                r = fill_tasks(&stages[i], spec->stages[i], error);
                if (r < 0)
                        return r;
                raws[i] = stages[i].stage;
                if (i == 0)
                        raws[i].moments = NULL;
        }
        return 0;
}

static int write_raw(struct filled *filled, const struct spec *spec, char **ret_text, struct error *error) {
        struct raw raw = filled->top;

        if (spec->kind == JOB_COMMAND) {
                raw.model = NULL;
                raw.data = NULL;
                raw.optimizer = NULL;
                raw.train = NULL;
        }
        if (spec->kind != JOB_FINETUNE)
                raw.classifier = NULL;
        return spec_raw_write(&raw, ret_text, error);
}

int spec_format(const struct spec *spec, char **ret_text, struct error *error) {
        cleanup_free struct filled *stages = calloc(spec_n_stages(spec), sizeof(*stages));
        cleanup_free struct raw_stage *raws = calloc(spec_n_stages(spec), sizeof(*raws));
        struct filled filled;

        if (!stages || !raws)
                return error_errno(error, ENOMEM, "job spec");
        int r = fill(&filled, spec, error);
        if (r == 0)
                r = fill_stages(&filled, stages, raws, spec, error);
        filled.top.stages = spec->n_stages > 0 ? raws : NULL;
        filled.top.n_stages = spec->n_stages;
        if (r == 0)
                r = write_raw(&filled, spec, ret_text, error);
        drop(&filled);
        for (uint32_t i = 0; i < spec->n_stages; i++)
                drop_stage(&stages[i]);
        return r;
}
