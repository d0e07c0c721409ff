/* See attempt_file.h. JSON has no unsigned 64-bit numbers: an unlimited limit is −1. */
#include "common/attempt_file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/names.h"

#define VERSION 1
#define FILE_MAX (4u << 20)

static void cleanup_json_p(json_t **json) { json_decref(*json); }
#define cleanup_json cleanup(cleanup_json_p)

/* ---- write ---- */

static json_t *string_array(char *const *strings) {
        json_t *array = json_array();

        for (; array && strings && *strings; strings++)
                if (json_array_append_new(array, json_string(*strings)) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static json_t *rlimit_array(const struct attempt_spec *a) {
        json_t *array = json_array();

        for (unsigned i = 0; array && i < a->n_rlimits; i++)
                (void) json_array_append_new(array, json_pack("[I,I,I]", (json_int_t) a->rlimits[i].resource,
                                                              (json_int_t) a->rlimits[i].limit.rlim_cur,
                                                              (json_int_t) a->rlimits[i].limit.rlim_max));
        return array;
}

/* A step, or [step, path, unconfirmed]. */
static json_t *known_checkpoint(const struct known_checkpoint *c) {
        return c->path ? json_pack("[I,s,b]", (json_int_t) c->step, c->path, (int) c->unconfirmed)
                       : json_integer((json_int_t) c->step);
}

static json_t *known_object(const struct known *known) {
        json_t *good = json_array(), *aside = json_array(), *root = json_object();

        for (size_t i = known->n; i-- > 0;)
                (void) json_array_append_new(good, known_checkpoint(&known->rows[i]));
        for (size_t i = 0; i < known->n_aside; i++)
                (void) json_array_append_new(aside, json_integer((json_int_t) known->aside[i]));
        (void) json_object_set_new(root, "good", good);
        (void) json_object_set_new(root, "aside", aside);
        if (known->until != UINT64_MAX)
                (void) json_object_set_new(root, "until", json_integer((json_int_t) known->until));
        return root;
}

static void set_exceptions(json_t *root, const struct attempt_spec *a) {
        char scheduling[SCHEDULING_MAX];

        if (a->ends_with == ENDS_WITH_LAST)
                (void) json_object_set_new(root, "ends_with", json_string("last"));
        if (a->hosts) {
                (void) json_object_set_new(root, "hosts", json_string(a->hosts));
                (void) json_object_set_new(root, "ranks", json_integer(a->ranks));
        }
        if (a->name) {
                (void) json_object_set_new(root, "name", json_string(a->name));
                (void) json_object_set_new(root, "counters", run_counters_object(&a->counters));
        }
        if (a->lease_timeout_sec > 0)
                (void) json_object_set_new(root, "lease_timeout_sec", json_integer(a->lease_timeout_sec));
        if (a->ran)
                (void) json_object_set_new(root, "ran", json_true());
        if (a->copy_to && a->copy_to[0]) {
                (void) json_object_set_new(root, "copy_to", json_string(a->copy_to));
                (void) json_object_set_new(root, "copy_keep", json_integer(a->copy_keep));
        }
        if (a->nice != 0)
                (void) json_object_set_new(root, "nice", json_integer(a->nice));
        if (a->cpu_list && a->cpu_list[0])
                (void) json_object_set_new(root, "cpu_list", json_string(a->cpu_list));
        if (scheduling_write(&a->scheduling, scheduling)[0])
                (void) json_object_set_new(root, "scheduling", json_string(scheduling));
}

char *attempt_file_write(const struct attempt_spec *a) {
        cleanup_json json_t *root = json_pack(
                "{s:i,s:I,s:I,s:s,s:s,s:o,s:s,s:I,s:o,s:o,s:I,s:s,s:s,s:I,s:i,s:s,s:i,s:i,s:o}", "version", VERSION,
                "job", (json_int_t) a->job, "attempt", (json_int_t) a->number, "nonce", a->nonce, "kind",
                job_kind_name(a->kind), "argv", string_array(a->argv), "cwd", a->cwd, "umask", (json_int_t) a->umask,
                "rlimits", rlimit_array(a), "environment", string_array(a->environment), "grace_usec",
                (json_int_t) a->grace_usec, "stop", a->stop_by_term ? "term" : "usr1", "log", a->log, "log_max_bytes",
                (json_int_t) a->log_max_bytes, "log_keep", (int) a->log_keep, "socket", a->socket, "hang_sec",
                a->hang_sec, "start_sec", a->start_sec, "checkpoints", known_object(&a->known));

        if (root)
                set_exceptions(root, a);
        return root ? json_dumps(root, JSON_INDENT(1)) : NULL;
}

/* ---- read ---- */

/* Strings of an array, NULL-terminated; NULL: no memory, or an entry is not a string. */
static char **read_strings(const json_t *array) {
        size_t n = json_array_size(array);
        char **strings = calloc(n + 1, sizeof(char *));

        for (size_t i = 0; strings && i < n; i++) {
                const char *text = json_string_value(json_array_get(array, i));
                strings[i] = text ? strdup(text) : NULL;
                if (!strings[i]) {
                        while (i-- > 0)
                                free(strings[i]);
                        free(strings);
                        return NULL;
                }
        }
        return strings;
}

static void free_strings(char **strings) {
        for (char **p = strings; p && *p; p++)
                free(*p);
        free(strings);
}

static rlim_t read_limit(const json_t *value) {
        json_int_t v = json_integer_value(value);
        return v < 0 || v == INT64_MAX ? RLIM_INFINITY : (rlim_t) v;
}

static void read_rlimits(struct attempt_spec *attempt, const json_t *array) {
        for (size_t i = 0; i < json_array_size(array) && attempt->n_rlimits < ATTEMPT_RLIMITS_MAX; i++) {
                const json_t *row = json_array_get(array, i);
                unsigned k = attempt->n_rlimits++;
                attempt->rlimits[k].resource = (int) json_integer_value(json_array_get(row, 0));
                attempt->rlimits[k].limit.rlim_cur = read_limit(json_array_get(row, 1));
                attempt->rlimits[k].limit.rlim_max = read_limit(json_array_get(row, 2));
        }
}

/* A whole number of seconds, −1 if the key is missing (an older bertd). */
static int read_seconds(const json_t *object, const char *key) {
        const json_t *value = json_object_get(object, key);
        json_int_t v = json_is_integer(value) ? json_integer_value(value) : -1;

        return v < 0 ? -1 : v > BERTD_HANG_MAX ? BERTD_HANG_MAX : (int) v;
}

/* bertd's ledger. An older bertd sends none; then its BERTD_RESUME is used. */
static void read_known(struct attempt_spec *a, const json_t *object) {
        const json_t *good = json_object_get(object, "good"), *aside = json_object_get(object, "aside"),
                     *until = json_object_get(object, "until");

        a->lists = json_is_object(object);
        for (size_t i = 0; i < json_array_size(good); i++) {
                const json_t *row = json_array_get(good, i), *step = json_is_array(row) ? json_array_get(row, 0) : row;
                known_add(&a->known, (uint64_t) json_integer_value(step), json_string_value(json_array_get(row, 1)),
                          json_is_true(json_array_get(row, 2)));
        }
        a->known.until = json_is_integer(until) ? (uint64_t) json_integer_value(until) : UINT64_MAX;
        a->known.aside = calloc(json_array_size(aside) + 1, sizeof(*a->known.aside));
        for (size_t i = 0; a->known.aside && i < json_array_size(aside); i++)
                a->known.aside[a->known.n_aside++] = (uint64_t) json_integer_value(json_array_get(aside, i));
}

static bool read_attempt(const json_t *object, struct attempt_spec *a) {
        const char *stop = json_string_value(json_object_get(object, "stop"));
        const char *ends_with = json_string_value(json_object_get(object, "ends_with"));
        const char *nonce = json_string_value(json_object_get(object, "nonce"));
        const char *cwd = json_string_value(json_object_get(object, "cwd"));
        const char *log = json_string_value(json_object_get(object, "log"));

        if (json_integer_value(json_object_get(object, "version")) != VERSION || !nonce || !*nonce || !cwd || !log)
                return false;
        int kind = job_kind_from_name(json_string_value(json_object_get(object, "kind")));
        if (kind < 0)
                return false;
        a->kind = (enum job_kind) kind;
        a->job = (uint64_t) json_integer_value(json_object_get(object, "job"));
        a->number = (uint32_t) json_integer_value(json_object_get(object, "attempt"));
        const char *cpus = json_string_value(json_object_get(object, "cpu_list"));
        a->nice = (int) json_integer_value(json_object_get(object, "nice"));
        a->cpu_list = cpus ? strdup(cpus) : NULL;
        const char *scheduling = json_string_value(json_object_get(object, "scheduling"));
        if (scheduling)
                (void) scheduling_read(scheduling, &a->scheduling);
        a->umask = (mode_t) json_integer_value(json_object_get(object, "umask")) & 0777;
        a->grace_usec = (uint64_t) json_integer_value(json_object_get(object, "grace_usec"));
        a->log_max_bytes = (uint64_t) json_integer_value(json_object_get(object, "log_max_bytes"));
        a->log_keep = (unsigned) json_integer_value(json_object_get(object, "log_keep"));
        a->hang_sec = read_seconds(object, "hang_sec");
        a->start_sec = read_seconds(object, "start_sec");
        a->lease_timeout_sec = (unsigned) MAX(read_seconds(object, "lease_timeout_sec"), 0);
        a->ran = json_is_true(json_object_get(object, "ran"));
        const char *copy_to = json_string_value(json_object_get(object, "copy_to"));
        a->copy_to = copy_to ? strdup(copy_to) : NULL;
        json_int_t keep = json_integer_value(json_object_get(object, "copy_keep"));
        a->copy_keep = keep >= 1 && keep <= BERTD_KEEP_MAX ? (uint32_t) keep : 1;
        a->stop_by_term = stop && strcmp(stop, "term") == 0;
        a->ends_with = ends_with && strcmp(ends_with, "last") == 0 ? ENDS_WITH_LAST : ENDS_WITH_FIRST;
        a->nonce = strdup(nonce);
        a->cwd = strdup(cwd);
        a->log = strdup(log);
        a->argv = read_strings(json_object_get(object, "argv"));
        a->environment = read_strings(json_object_get(object, "environment"));
        read_rlimits(a, json_object_get(object, "rlimits"));
        read_known(a, json_object_get(object, "checkpoints"));
        const char *hosts = json_string_value(json_object_get(object, "hosts"));
        a->hosts = hosts ? strdup(hosts) : NULL;
        a->ranks = (uint32_t) json_integer_value(json_object_get(object, "ranks"));
        const char *name = json_string_value(json_object_get(object, "name"));
        a->name = name ? strdup(name) : NULL;
        run_counters_read(json_object_get(object, "counters"), &a->counters);
        return a->nonce && a->cwd && a->log && a->argv && a->argv[0] && a->environment;
}

int attempt_file_read(const char *path, struct attempt_spec *ret, struct error *error) {
        cleanup_free char *text = NULL;
        json_error_t problem;
        size_t size;

        int r = file_read(path, FILE_MAX, &text, &size, error);
        if (r < 0)
                return r;
        cleanup_json json_t *object = json_loadb(text, size, 0, &problem);
        if (!object)
                return error_input(error, BERTD_EXIT_DATA, "%s:%d: %s", path, problem.line, problem.text);
        *ret = (struct attempt_spec) {};
        if (read_attempt(object, ret))
                return 0;
        attempt_file_free(ret);
        return error_input(error, BERTD_EXIT_DATA, "%s: not an attempt of format version 1", path);
}

void attempt_file_free(struct attempt_spec *attempt) {
        free(attempt->nonce);
        free(attempt->cwd);
        free(attempt->log);
        free(attempt->cpu_list);
        free(attempt->name);
        free(attempt->hosts);
        free(attempt->counters.lost);
        free(attempt->copy_to);
        free_strings(attempt->argv);
        free_strings(attempt->environment);
        known_free(&attempt->known);
        *attempt = (struct attempt_spec) {};
}
