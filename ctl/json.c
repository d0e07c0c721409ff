/*
 * See json.h. json_pack is not used: setting keys one by one reads as the list of fields that it is, and a failed
 * allocation shows as a missing key, which json_object_set_new reports.
 */
#include "ctl/json.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/gpu_use.h"
#include "common/pace.h"

json_t *json_time(uint64_t realtime_usec) {
        char buffer[CLOCK_ISO8601_MAX];
        return json_text(clock_format_iso8601(realtime_usec, buffer));
}

json_t *json_number(double number) { return isfinite(number) ? json_real(number) : json_null(); }

/* sd-bus has checked that its strings are UTF-8; should one not be, it shows as a question mark. */
json_t *json_text(const char *text) {
        if (!text || !text[0])
                return json_null();
        json_t *value = json_string(text);
        return value ? value : json_string("?");
}

json_t *json_count(uint64_t number) { return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t) number); }

/* A string that is always there, as "". */
static json_t *plain_text(const char *text) { return text && text[0] ? json_text(text) : json_string(""); }

struct member {
        const char *key;
        json_t *value; /* taken; NULL: no memory */
};

static json_t *object_of(const struct member *members, size_t n) {
        json_t *object = json_object();
        bool complete = object != NULL;

        for (size_t i = 0; i < n; i++)
                if (json_object_set_new(object, members[i].key, members[i].value) < 0)
                        complete = false;
        if (complete)
                return object;
        json_decref(object);
        return NULL;
}

static json_t *strings(char *const *texts) {
        if (!texts)
                return json_null();
        json_t *array = json_array();
        for (char *const *t = texts; *t; t++)
                (void) json_array_append_new(array, plain_text(*t));
        return array;
}

/* "killed=12.500" and so on as an object. */
static json_t *numbers(char *const *texts) {
        json_t *object = json_object();

        for (char *const *t = texts; t && *t; t++) {
                const char *equals = strchr(*t, '=');
                cleanup_free char *name = equals ? strndup(*t, (size_t) (equals - *t)) : NULL;
                if (name)
                        (void) json_object_set_new(object, name, json_number(strtod(equals + 1, NULL)));
        }
        return object;
}

static json_t *steps_or_null(uint64_t number, bool known) { return known ? json_count(number) : json_null(); }

static json_t *value_of(const struct dict_other *other) {
        switch (other->kind) {
        case DICT_U64:
                return json_count(other->u64);
        case DICT_I64:
                return json_integer(other->i64);
        case DICT_DOUBLE:
                return json_number(other->number);
        case DICT_STRING:
                return json_text(other->string);
        default:
                return strings(other->strings);
        }
}

/* Takes `object`, which may be NULL. */
static json_t *with_others(json_t *object, const struct dict_others *others) {
        for (size_t i = 0; object && i < others->n; i++)
                if (json_object_set_new(object, others->items[i].key, value_of(&others->items[i])) < 0) {
                        json_decref(object);
                        object = NULL;
                }
        return object;
}

/* A rank that lags. */
static json_t *slowest_of(const struct job_info *job) {
        struct pace pace;

        if (!job->slowest || !pace_read(job->slowest, &pace))
                return json_null();
        return json_pack("{s:s,s:I,s:f,s:o}", "host", pace.host, "rank", (json_int_t) pace.rank, "ratio", pace.ratio,
                         "since", json_time(job->slowest_since));
}

static json_t *gpu_usage_of(const struct job_info *job) {
        json_t *array = json_array();
        struct gpu_use use;

        for (char *const *text = job->gpu_usage; text && *text; text++)
                if (gpu_use_read(*text, &use))
                        (void) json_array_append_new(
                                array, json_pack("{s:o,s:o,s:o,s:o}", "gpu", plain_text(use.name), "memory_used",
                                                 use.known ? json_count(use.used) : json_null(), "memory_total",
                                                 use.known ? json_count(use.total) : json_null(), "utilization",
                                                 use.load >= 0 ? json_integer(use.load) : json_null()));
        return array;
}

json_t *json_job(const struct job_info *job) {
        const bool has_progress = job->steps > 0 || job->step > 0;
        const bool has_checkpoint = job->checkpoint_step > 0 || (job->checkpoint_path && job->checkpoint_path[0]);
        uint64_t eta;
        const bool has_eta = job_eta(job, &eta);
        const struct member members[] = {
                { "id", json_count(job->id) },
                { "name", plain_text(job->name) },
                { "user", plain_text(job->user) },
                { "uid", json_count(job->uid) },
                { "state", plain_text(job->state) },
                { "reason", plain_text(job->reason) },
                { "status", plain_text(job->status) },
                { "kind", plain_text(job->kind) },
                { "launcher", json_text(job->launcher) },
                { "priority", json_integer(job->priority) },
                { "ranks", json_count(job->ranks) },
                { "threads", json_count(job->threads) },
                { "gpus", json_count(job->gpus) },
                { "hosts", strings(job->hosts) },
                { "use", job->use > 0 ? json_count(job->use) : json_null() },
                { "world", job->world > 0 ? json_count(job->world) : json_null() },
                { "hosts_in_use", strings(job->hosts_in_use) },
                { "slowest", slowest_of(job) },
                { "gpu_usage", gpu_usage_of(job) },
                { "gpu_usage_read", json_time(job->gpu_usage_read) },
                { "network", json_text(job->network) },
                { "copy_to", json_text(job->copy_to) },
                { "attempts", json_count(job->attempts) },
                { "step", steps_or_null(job->step, has_progress) },
                { "steps", steps_or_null(job->steps, job->steps > 0) },
                { "loss", json_number(job->loss) },
                { "rate", job->rate > 0 ? json_number(job->rate) : json_null() },
                { "eta_sec", has_eta ? json_count(eta) : json_null() },
                { "checkpoint_step", steps_or_null(job->checkpoint_step, has_checkpoint) },
                { "checkpoint_path", json_text(job->checkpoint_path) },
                { "submitted", json_time(job->submitted) },
                { "started", json_time(job->started) },
                { "ended", json_time(job->ended) },
                { "not_before", json_time(job->not_before) },
                { "next_try_sec", job->next_try_usec > 0
                                          ? json_count((job->next_try_usec + USEC_PER_SEC - 1) / USEC_PER_SEC)
                                          : json_null() },
                { "exit", job->exit >= 0 ? json_integer(job->exit) : json_null() },
                { "exit_class", json_text(job->exit_class) },
                { "exit_signal", json_text(job->exit_signal) },
                { "exit_rank", job->exit_rank >= 0 ? json_integer(job->exit_rank) : json_null() },
                { "exit_host", json_text(job->exit_host) },
                { "first_cause", json_text(job->first_cause) },
                { "evidence", json_text(job->evidence) },
                { "last_step", steps_or_null(job->last_step, has_progress) },
                { "lost_steps", json_count(job->lost_steps) },
                { "lost_sec", numbers(job->lost_sec) },
                { "goodput", json_number(job->goodput) },
                { "checkpoint_stall_sec", json_number(job->checkpoint_stall_sec) },
                { "checkpoint_write_sec", json_number(job->checkpoint_write_sec) },
                { "memory", job->memory > 0 ? json_count(job->memory) : json_null() },
                { "cpus", job->cpus > 0 ? json_number(job->cpus) : json_null() },
                { "hang_sec", json_integer(job->hang_sec) },
                { "start_sec", json_integer(job->start_sec) },
                { "on_nan", json_text(job->on_nan) },
                { "ends_with", json_text(job->ends_with) },
                { "first_exit", job->runs_on > 0 ? json_integer(job->first_exit) : json_null() },
                { "runs_on", json_count(job->runs_on) },
                { "log_max_size", job->log_max_size > 0 ? json_count(job->log_max_size) : json_null() },
                { "log_keep", job->log_keep > 0 ? json_count(job->log_keep) : json_null() },
                { "nice", json_integer(job->nice) },
                { "run_dir", json_text(job->run_dir) },
                { "log", json_text(job->log) },
                { "cwd", json_text(job->cwd) },
                { "command", strings(job->command) },
        };
        return with_others(object_of(members, ELEMENTSOF(members)), &job->others);
}

json_t *json_checkpoint(const struct checkpoint_info *checkpoint) {
        const struct member members[] = {
                { "step", json_count(checkpoint->step) },       { "path", json_text(checkpoint->path) },
                { "size", json_count(checkpoint->size) },       { "state", plain_text(checkpoint->state) },
                { "attempt", json_count(checkpoint->attempt) }, { "restored", json_count(checkpoint->restored) },
                { "created", json_time(checkpoint->created) },
        };
        return object_of(members, ELEMENTSOF(members));
}

static json_t *counts(const struct daemon_info *daemon) {
        json_t *object = json_object();
        for (int i = 0; i < JOB_STATE_MAX; i++)
                (void) json_object_set_new(object, job_state_name(i), json_count(daemon->counts[i]));
        return object;
}

/* "free GPU-..." and so on. */
static json_t *gpu_list_of(const struct daemon_info *daemon) {
        json_t *array = json_array();

        for (char *const *gpu = daemon->gpu_list; gpu && *gpu; gpu++) {
                const char *name = strchr(*gpu, ' ');
                cleanup_free char *state = name ? strndup(*gpu, (size_t) (name - *gpu)) : NULL;
                if (state)
                        (void) json_array_append_new(
                                array, json_pack("{s:o,s:o}", "gpu", plain_text(name + 1), "state", plain_text(state)));
        }
        return array;
}

json_t *json_daemon(const struct daemon_info *daemon, const char *socket) {
        const struct member members[] = {
                { "version", json_text(daemon->version) },
                { "pid", json_count(daemon->pid) },
                { "socket", json_text(socket) },
                { "state_dir", json_text(daemon->state_dir) },
                { "launcher", json_text(daemon->launcher) },
                { "slots", json_count(daemon->slots) },
                { "slots_used", json_count(daemon->slots_used) },
                { "gpus", json_count(daemon->gpus) },
                { "gpus_used", json_count(daemon->gpus_used) },
                { "gpus_busy", json_count(daemon->gpus_busy) },
                { "gpus_quarantined", json_count(daemon->gpus_quarantined) },
                { "gpu_list", gpu_list_of(daemon) },
                { "gpu_notes", daemon->gpu_notes ? strings(daemon->gpu_notes) : json_array() },
                { "draining", json_text(daemon->draining) },
                { "draining_since", json_time(daemon->draining_since) },
                { "storage_error", json_text(daemon->storage_error) },
                { "keep_ended", daemon->keep_ended > 0 ? json_count(daemon->keep_ended) : json_null() },
                { "held", json_count(daemon->held) },
                { "jobs", counts(daemon) },
        };
        return object_of(members, ELEMENTSOF(members));
}

json_t *json_jobs(const struct job_list *list) {
        json_t *array = json_array();

        for (size_t i = 0; i < list->n; i++)
                if (json_array_append_new(array, json_job(&list->jobs[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

int json_print(FILE *out, json_t *value, struct error *error) {
        cleanup_json json_t *owned = value;

        if (!owned)
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        if (json_dumpf(owned, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) < 0)
                return -EIO; /* main reports the output's error */
        (void) fputc('\n', out);
        return 0;
}
