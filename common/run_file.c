/* See run_file.h. Owns nothing. Invariant: what was read is within the bounds of Submit. */
#include "common/run_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/json_read.h"

#define VERSION 1
#define BYTES_MAX (8u << 20)

static const char *const state_names[RUN_CHECKPOINT_STATE_MAX] = {
        [RUN_GOOD] = "good", [RUN_DEMOTED] = "demoted", [RUN_UNCONFIRMED] = "unconfirmed"
};

const char *run_checkpoint_state_name(enum run_checkpoint_state state) { return state_names[state]; }

static void cleanup_json_p(json_t **json) { json_decref(*json); }
#define cleanup_json cleanup(cleanup_json_p)

/* ---- write ---- */

json_t *run_counters_object(const struct run_counters *c) {
        return json_pack("{s:I,s:I,s:I,s:I,s:I,s:s}", "deaths", (json_int_t) c->deaths, "free_deaths",
                         (json_int_t) c->free_deaths, "run_steps", (json_int_t) c->run_steps, "run_usec",
                         (json_int_t) c->run_usec, "active_usec", (json_int_t) c->active_usec, "lost",
                         c->lost ? c->lost : "");
}

static json_t *checkpoint_object(const struct run_checkpoint *c, const char *run_dir) {
        const char *path = c->path;

        if (path && path_is_below(path, run_dir)) {
                path += strlen(run_dir);
                path += strspn(path, "/");
        }
        return json_pack("{s:I,s:s,s:s*}", "step", (json_int_t) c->step, "state", state_names[c->state], "path", path);
}

char *run_file_write(const struct run_file *file, const char *run_dir) {
        json_t *rows = json_array();

        for (size_t i = 0; rows && i < file->n; i++)
                (void) json_array_append_new(rows, checkpoint_object(&file->checkpoints[i], run_dir));
        cleanup_json json_t *root = json_pack(
                "{s:i,s:s,s:s,s:I,s:I,s:o,s:o,s:I}", "version", VERSION, "name", file->name, "host", file->host, "job",
                (json_int_t) file->job, "attempt", (json_int_t) file->attempt, "counters",
                run_counters_object(&file->counters), "checkpoints", rows, "updated", (json_int_t) file->updated);
        return root ? json_dumps(root, JSON_INDENT(1)) : NULL;
}

/* ---- read ---- */

static uint64_t number_at(const json_t *object, const char *key, uint64_t max) {
        json_int_t v = json_integer_value(json_object_get(object, key));

        return v < 0 || (uint64_t) v > max ? 0 : (uint64_t) v;
}

static char *text_copy(const json_t *object, const char *key, size_t max) {
        const char *text = json_text_at(object, key);

        return text && text[0] && strlen(text) <= max ? strdup(text) : NULL;
}

void run_counters_read(const json_t *object, struct run_counters *ret) {
        *ret = (struct run_counters) {
                .deaths = (uint32_t) number_at(object, "deaths", BERTD_RETRIES_MAX),
                .free_deaths = (uint32_t) number_at(object, "free_deaths", BERTD_RETRIES_MAX),
                .run_steps = number_at(object, "run_steps", BERTD_STEPS_MAX),
                .run_usec = number_at(object, "run_usec", BERTD_SECONDS_MAX * UINT64_C(1000000)),
                .active_usec = number_at(object, "active_usec", BERTD_SECONDS_MAX * UINT64_C(1000000)),
                .lost = text_copy(object, "lost", BERTD_LOST_MAX),
        };
}

/* False: not such a row. */
static bool read_checkpoint(const json_t *object, const char *run_dir, struct run_checkpoint *ret) {
        const char *state = json_text_at(object, "state"), *path = json_text_at(object, "path");

        *ret = (struct run_checkpoint) { .step = number_at(object, "step", BERTD_STEPS_MAX),
                                         .state = RUN_CHECKPOINT_STATE_MAX };
        for (int i = 0; state && i < RUN_CHECKPOINT_STATE_MAX; i++)
                if (strcmp(state_names[i], state) == 0)
                        ret->state = (enum run_checkpoint_state) i;
        if (ret->step == 0 || ret->state == RUN_CHECKPOINT_STATE_MAX)
                return false;
        if (path)
                ret->path = path[0] == '/' ? strdup(path) : format_string("%s/%s", run_dir, path);
        return true;
}

static bool read_object(const json_t *object, const char *run_dir, struct run_file *file) {
        const json_t *rows = json_object_get(object, "checkpoints");
        size_t n = MIN(json_array_size(rows), (size_t) BERTD_PAST_CHECKPOINTS_MAX);

        if (json_integer_value(json_object_get(object, "version")) != VERSION)
                return false;
        file->name = text_copy(object, "name", BERTD_NAME_MAX);
        file->host = text_copy(object, "host", BERTD_NAME_MAX);
        file->job = number_at(object, "job", BERTD_ID_MAX);
        file->attempt = (uint32_t) number_at(object, "attempt", UINT32_MAX);
        file->updated = number_at(object, "updated", INT64_MAX);
        run_counters_read(json_object_get(object, "counters"), &file->counters);
        file->checkpoints = calloc(n + 1, sizeof(*file->checkpoints));
        for (size_t i = 0; file->checkpoints && i < n; i++)
                file->n += read_checkpoint(json_array_get(rows, i), run_dir, &file->checkpoints[file->n]);
        return file->name && file->checkpoints;
}

int run_file_read(const char *run_dir, struct run_file *ret, struct error *error) {
        cleanup_free char *path = format_string("%s/" RUN_FILE, run_dir), *text = NULL;
        json_error_t why;
        size_t size;

        *ret = (struct run_file) {};
        int r = path ? file_read(path, BYTES_MAX, &text, &size, error) : error_errno(error, ENOMEM, "%s", run_dir);
        if (r < 0)
                return r;
        cleanup_json json_t *object = json_read(text, size, 0, &why);
        if (!object)
                return error_input(error, BERTD_EXIT_DATA, "%s:%d: %s", path, why.line, why.text);
        if (read_object(object, run_dir, ret))
                return 0;
        run_file_clear(ret);
        return error_input(error, BERTD_EXIT_DATA, "%s: not a run's file of format version 1", path);
}

void run_file_clear(struct run_file *file) {
        for (size_t i = 0; i < file->n; i++)
                free(file->checkpoints[i].path);
        free(file->checkpoints);
        free(file->counters.lost);
        free(file->name);
        free(file->host);
        *file = (struct run_file) {};
}
