/* See gang_file.h. */
#include "common/gang_file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/names.h"

#define VERSION 1
#define FILE_MAX (1u << 20)

static void cleanup_json_p(json_t **json) { json_decref(*json); }
#define cleanup_json cleanup(cleanup_json_p)

/* ---- write ---- */

static json_t *strings(char *const *texts) {
        json_t *array = json_array();

        for (; array && texts && *texts; texts++)
                if (json_array_append_new(array, json_string(*texts)) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

char *gang_file_write(const struct gang_plan *p) {
        cleanup_json json_t *root = json_pack(
                "{s:i,s:I,s:I,s:s,s:s,s:s,s:o,s:o,s:b,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:s*,s:o,s:b,s:b,s:b,s:s*,s:s*,s:b,s:"
                "o}",
                "version", VERSION, "job", (json_int_t) p->job, "attempt", (json_int_t) p->attempt, "kind",
                job_kind_name(p->kind), "name", p->name, "head", p->head, "hosts", strings(p->hosts), "spares",
                strings(p->spares), "shrink", (int) p->shrink, "cooling", (int) p->cooling, "ranks",
                (json_int_t) p->ranks, "gpus", (json_int_t) p->gpus, "threads", (json_int_t) p->threads, "memory",
                (json_int_t) p->memory, "host_timeout_sec", (json_int_t) p->host_timeout_sec, "grace_sec",
                (json_int_t) p->grace_sec, "network", p->network, "travels", strings(p->travels), "lasts",
                (int) p->lasts, "unmanaged", (int) p->unmanaged, "ran", (int) p->ran, "spec", p->spec, "scratch",
                p->scratch, "private_shm", (int) p->private_shm, "argv", strings(p->argv));

        return root ? json_dumps(root, JSON_INDENT(1)) : NULL;
}

/* ---- read ---- */

static void free_strings(char **texts) {
        for (char **t = texts; t && *t; t++)
                free(*t);
        free(texts);
}

/* A missing list is an empty one. NULL: no memory, or not a list of texts. */
static char **read_strings(const json_t *array) {
        size_t n = json_array_size(array);
        char **texts = calloc(n + 1, sizeof(char *));

        for (size_t i = 0; texts && i < n; i++) {
                const char *text = json_string_value(json_array_get(array, i));
                texts[i] = text ? strdup(text) : NULL;
                if (!texts[i]) {
                        free_strings(texts);
                        return NULL;
                }
        }
        return texts;
}

static char *read_text(const json_t *root, const char *key) {
        const char *text = json_string_value(json_object_get(root, key));

        return text ? strdup(text) : NULL;
}

static uint32_t read_number(const json_t *root, const char *key, uint32_t min, uint32_t max) {
        json_int_t value = json_integer_value(json_object_get(root, key));

        return value < min ? min : value > max ? max : (uint32_t) value;
}

static bool are_hosts(char *const *names) {
        size_t n = 0;

        for (; names && names[n]; n++)
                if (n == BERTD_HOSTS_MAX || !host_is_name(names[n]))
                        return false;
        return names != NULL;
}

static bool is_whole(const struct gang_plan *p) {
        bool has_head = false;

        if (!are_hosts(p->hosts) || !are_hosts(p->spares) || !p->head || !p->name || !p->travels || !p->argv ||
            !p->argv[0])
                return false;
        for (size_t i = 0; p->hosts[i]; i++)
                has_head = has_head || host_is(p->hosts[i], p->head);
        return has_head;
}

static bool read_plan(const json_t *root, struct gang_plan *p) {
        int kind = job_kind_from_name(json_string_value(json_object_get(root, "kind")));
        json_int_t memory = json_integer_value(json_object_get(root, "memory"));

        if (json_integer_value(json_object_get(root, "version")) != VERSION || kind < 0)
                return false;
        *p = (struct gang_plan) {
                .job = (uint64_t) json_integer_value(json_object_get(root, "job")),
                .attempt = (uint32_t) json_integer_value(json_object_get(root, "attempt")),
                .kind = (enum job_kind) kind,
                .name = read_text(root, "name"),
                .head = read_text(root, "head"),
                .hosts = read_strings(json_object_get(root, "hosts")),
                .spares = read_strings(json_object_get(root, "spares")),
                .shrink = json_is_true(json_object_get(root, "shrink")),
                .cooling = json_is_true(json_object_get(root, "cooling")),
                .ranks = read_number(root, "ranks", 1, BERTD_RANKS_MAX),
                .gpus = read_number(root, "gpus", 0, BERTD_GPUS_MAX),
                .threads = read_number(root, "threads", 1, BERTD_THREADS_MAX),
                .memory = memory > 0 ? (uint64_t) memory : 0,
                .host_timeout_sec =
                        read_number(root, "host_timeout_sec", BERTD_HOST_TIMEOUT_MIN, BERTD_HOST_TIMEOUT_MAX),
                .grace_sec = read_number(root, "grace_sec", 0, INT32_MAX),
                .network = read_text(root, "network"),
                .travels = read_strings(json_object_get(root, "travels")),
                .lasts = json_is_true(json_object_get(root, "lasts")),
                .unmanaged = json_is_true(json_object_get(root, "unmanaged")),
                .ran = json_is_true(json_object_get(root, "ran")),
                .spec = read_text(root, "spec"),
                .scratch = read_text(root, "scratch"),
                .private_shm = json_is_true(json_object_get(root, "private_shm")),
                .argv = read_strings(json_object_get(root, "argv")),
        };
        return is_whole(p);
}

int gang_file_read(const char *path, struct gang_plan *ret, struct error *error) {
        cleanup_free char *text = NULL;
        json_error_t problem;
        size_t size;

        int r = file_read(path, FILE_MAX, &text, &size, error);
        if (r < 0)
                return r;
        cleanup_json json_t *root = json_loadb(text, size, 0, &problem);
        if (!root)
                return error_input(error, BERTD_EXIT_DATA, "%s:%d: %s", path, problem.line, problem.text);
        *ret = (struct gang_plan) {};
        if (read_plan(root, ret))
                return 0;
        gang_file_free(ret);
        return error_input(error, BERTD_EXIT_DATA, "%s: not a gang's plan of format version 1", path);
}

void gang_file_free(struct gang_plan *p) {
        free_strings(p->hosts);
        free_strings(p->spares);
        free_strings(p->travels);
        free_strings(p->argv);
        free(p->name);
        free(p->head);
        free(p->network);
        free(p->spec);
        free(p->scratch);
        *p = (struct gang_plan) {};
}
