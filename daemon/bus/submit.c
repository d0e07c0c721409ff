/*
 * See submit.h. Role: checks submissions, by the rows of rules/job_fields.h that have a place in struct submission.
 * Owns nothing between calls. Invariants: after submission_check every string is valid UTF-8 or bounded bytes without
 * control characters where it is shown, every number is in range, and the job fits the host.
 */
#include "daemon/bus/submit.h"

#include <assert.h>
#include <inttypes.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/cpu_list.h"
#include "common/file.h"
#include "common/hosts.h"
#include "common/limits.h"
#include "common/scheduling.h"
#include "daemon/rules/past.h"
#include "daemon/rules/states.h"

/* NULL: Submit does not take it. */
static void *asked(const struct submission *submission, const struct job_field *field) {
        return field->asked == NO_OFFSET ? NULL : (char *) submission + field->asked;
}

static int read_string(sd_bus_message *m, char **ret) {
        const char *text;

        int r = sd_bus_message_read_basic(m, 's', &text);
        if (r < 0)
                return r;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static int read_rlimits(struct submission *submission, sd_bus_message *m, struct error *error) {
        int r = sd_bus_message_enter_container(m, 'a', "(utt)");
        if (r < 0)
                return r;
        struct job_rlimit limit;
        while ((r = sd_bus_message_read(m, "(utt)", &limit.resource, &limit.soft, &limit.hard)) > 0) {
                if (submission->n_rlimits >= JOB_RLIMITS_MAX)
                        return error_set(error, EINVAL, "rlimits: more than %d", JOB_RLIMITS_MAX);
                submission->rlimits[submission->n_rlimits++] = limit;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_past_row(struct past_checkpoint *row, sd_bus_message *m, struct error *error) {
        const char *state, *path;

        int r = sd_bus_message_read(m, "(tttss)", &row->step, &row->size, &row->created, &state, &path);
        if (r <= 0)
                return r;
        int number = past_state_from_name(state);
        if (number < 0)
                return error_set(error, EINVAL, "past_checkpoints: \"%.64s\", expected good, demoted or unconfirmed",
                                 state);
        row->state = (enum checkpoint_state) number;
        row->path = strdup(path);
        return row->path ? 1 : -ENOMEM;
}

static int read_past(struct submission *s, sd_bus_message *m, struct error *error) {
        int r = sd_bus_message_enter_container(m, 'a', "(tttss)");
        if (r < 0)
                return r;
        s->past_checkpoints = calloc(BERTD_PAST_CHECKPOINTS_MAX, sizeof(*s->past_checkpoints));
        if (!s->past_checkpoints)
                return -ENOMEM;
        while (sd_bus_message_at_end(m, false) == 0) {
                if (s->n_past == BERTD_PAST_CHECKPOINTS_MAX)
                        return error_set(error, EINVAL, "past_checkpoints: more than %d", BERTD_PAST_CHECKPOINTS_MAX);
                r = read_past_row(&s->past_checkpoints[s->n_past], m, error);
                if (r <= 0)
                        return r < 0 ? r : -EBADMSG;
                s->n_past++;
        }
        return sd_bus_message_exit_container(m);
}

/* "stop or rollback" */
static void put_names(const struct job_field *field, char *buffer, size_t size) {
        size_t n = 0;

        for (int i = 0; i < field->n_names && n < size; i++) {
                const char *after = i + 2 < field->n_names ? ", " : i + 1 < field->n_names ? " or " : "";
                n += (size_t) snprintf(buffer + n, size - n, "%s%s", field->names[i], after);
        }
}

/* An empty string is not a value. */
static int read_word(const struct job_field *field, struct submission *submission, sd_bus_message *m,
                     struct error *error) {
        const char *word;
        char names[256];

        int r = sd_bus_message_read_basic(m, 's', &word);
        if (r < 0 || (!word[0] && field->initial < field->n_names))
                return r < 0 ? r : 0;
        int number = job_field_from_name(field, word);
        put_names(field, names, sizeof(names));
        if (number < 0)
                return error_set(error, EINVAL, "%s: \"%.64s\", expected %s", field->name, word, names);
        job_field_set_number(field, asked(submission, field), number);
        return 1;
}

/* 1; 0: empty. */
static int read_value(const struct job_field *field, struct submission *submission, sd_bus_message *m,
                      struct error *error) {
        void *at = asked(submission, field);
        int r;

        if (field->names)
                return read_word(field, submission, m, error);
        switch (field->type) {
        case FIELD_TEXT:
        case FIELD_SHARED:
                r = read_string(m, at);
                return r < 0 ? r : (*(char **) at)[0] != '\0';
        case FIELD_STRINGS:
                r = sd_bus_message_read_strv(m, at);
                return r < 0 ? r : *(char ***) at && **(char ***) at;
        case FIELD_RLIMITS:
                return read_rlimits(submission, m, error);
        case FIELD_PAST:
                return read_past(submission, m, error);
        default:
                return sd_bus_message_read_basic(m, job_field_signature(field)[0], at);
        }
}

static const struct job_field *find_field(const char *key) {
        for (size_t i = 0; i < JOB_N_FIELDS; i++)
                if (job_fields[i].asked != NO_OFFSET && strcmp(job_fields[i].name, key) == 0)
                        return &job_fields[i];
        return NULL;
}

static int read_field(struct submission *submission, sd_bus_message *m, bool seen[JOB_N_FIELDS], struct error *error) {
        const char *key, *contents;

        int r = sd_bus_message_read_basic(m, 's', &key);
        if (r < 0)
                return r;
        const struct job_field *field = find_field(key);
        if (!field)
                return error_set(error, EINVAL, "unknown key \"%.64s\"", key);
        if (seen[field - job_fields])
                return error_set(error, EINVAL, "%s: given twice", key);
        seen[field - job_fields] = true;
        r = sd_bus_message_peek_type(m, NULL, &contents);
        if (r < 0)
                return r;
        if (strcmp(contents, job_field_signature(field)) != 0)
                return error_set(error, EINVAL, "%s: has type %.32s, expected %s", key, contents,
                                 job_field_signature(field));
        r = sd_bus_message_enter_container(m, 'v', contents);
        if (r >= 0)
                r = read_value(field, submission, m, error);
        submission->given[field - job_fields] = r > 0;
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int submission_read(struct submission *submission, sd_bus_message *m, struct error *error) {
        bool seen[JOB_N_FIELDS] = {};

        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_field(submission, m, seen, error);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? error_errno(error, -r, "the request cannot be read") : 0;
}

static size_t strings_size(char *const *texts) {
        size_t size = 0;

        for (size_t i = 0; texts && texts[i]; i++)
                size += strlen(texts[i]) + 1 + sizeof(char *);
        return size;
}

size_t submission_size(const struct submission *submission) {
        size_t size = 0;

        for (size_t i = 0; i < JOB_N_FIELDS; i++) {
                const struct job_field *field = &job_fields[i];
                const void *at = asked(submission, field);
                if (at && job_field_is_text(field))
                        size += *(char *const *) at ? strlen(*(char *const *) at) : 0;
                else if (at && field->type == FIELD_STRINGS)
                        size += strings_size(*(char *const *const *) at);
        }
        for (uint32_t i = 0; i < submission->n_past; i++)
                size += sizeof(submission->past_checkpoints[i]) + strlen(submission->past_checkpoints[i].path);
        return size;
}

static bool has_control(const char *text) {
        for (const unsigned char *p = (const unsigned char *) text; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        return true;
        return false;
}

static int check_string(const struct job_field *field, const char *text, struct error *error) {
        size_t size = text ? strlen(text) : 0;

        if (!text && field->min == 0)
                return 0;
        if (!text)
                return error_set(error, EINVAL, "%s: missing", field->name);
        if (size < (size_t) field->min || size > (size_t) field->max)
                return error_set(error, EINVAL, "%s: has %zu bytes, expected %" PRIi64 " to %" PRIi64, field->name,
                                 size, field->min, field->max);
        if (field->path && size > 0 && text[0] != '/')
                return error_set(error, EINVAL, "%s: \"%.128s\" is not an absolute path", field->name, text);
        if (!field->lines && has_control(text))
                return error_set(error, EINVAL, "%s: contains a control character", field->name);
        return 0;
}

/* With the cure, which the table does not have. */
static int check_sizes(const struct submission *submission, struct error *error) {
        int r;

        if ((r = limits_check_name(submission->name, error)) < 0 ||
            (r = limits_check_path("run_dir", submission->run_dir, error)) < 0 ||
            (r = limits_check_path("on_exit", submission->on_exit, error)) < 0 ||
            (r = limits_check_path("cwd", submission->cwd, error)) < 0 ||
            (r = limits_check_command(submission->command, error)) < 0)
                return r;
        return limits_check_inputs(submission->spec, submission->environment, error);
}

static int check_number(const struct job_field *field, const void *at, struct error *error) {
        /* Values above state.db's maximum are shown as -1. */
        bool huge = field->type == FIELD_U64 && *(const uint64_t *) at > INT64_MAX;
        int64_t value = huge ? -1 : job_field_number(field, at);

        if (value >= field->min && value <= field->max)
                return 0;
        return error_set(error, EINVAL, "%s: is %" PRIi64 ", expected %" PRIi64 " to %" PRIi64, field->name, value,
                         field->min, field->max);
}

/* NaN is in no range. */
static int check_double(const struct job_field *field, double value, struct error *error) {
        if (value >= (double) field->min && value <= (double) field->max)
                return 0;
        return error_set(error, EINVAL, "%s: is %g, expected %" PRIi64 " to %" PRIi64, field->name, value, field->min,
                         field->max);
}

/* Value of a name, or of a missing one. */
static int check_word(const struct job_field *field, const void *at, struct error *error) {
        return job_field_number(field, at) < field->n_names ? 0 : error_set(error, EINVAL, "%s: missing", field->name);
}

static int check_field(const struct job_field *field, const void *at, struct error *error) {
        if (field->names)
                return check_word(field, at, error);
        if (job_field_is_text(field))
                return check_string(field, *(char *const *) at, error);
        if (field->type == FIELD_DOUBLE)
                return check_double(field, *(const double *) at, error);
        return field->type <= FIELD_BOOL ? check_number(field, at, error) : 0;
}

static int check_fields(const struct submission *submission, struct error *error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < JOB_N_FIELDS; i++) {
                const void *at = asked(submission, &job_fields[i]);
                if (at)
                        r = check_field(&job_fields[i], at, error);
        }
        return r;
}

static int check_rlimits(const struct submission *submission, struct error *error) {
        for (uint32_t i = 0; i < submission->n_rlimits; i++) {
                const struct job_rlimit *limit = &submission->rlimits[i];
                if (limit->resource >= RLIM_NLIMITS)
                        return error_set(error, EINVAL, "rlimits: no resource %u", limit->resource);
                if (limit->soft > limit->hard)
                        return error_set(error, EINVAL, "rlimits: resource %u has a soft limit above the hard one",
                                         limit->resource);
        }
        return 0;
}

int submission_add_home(struct submission *submission, const char *home) {
        size_t n = 0;

        for (; submission->environment && submission->environment[n]; n++)
                if (strncmp(submission->environment[n], "HOME=", 5) == 0)
                        return 0;
        char *variable = format_string("HOME=%s", home);
        if (!variable || array_resize(&submission->environment, n + 2, sizeof(*submission->environment)) < 0) {
                free(variable);
                return -ENOMEM;
        }
        submission->environment[n] = variable;
        submission->environment[n + 1] = NULL;
        return 0;
}

static void clamp_limit(struct job_rlimit *limit, const struct rlimit *own) {
        limit->hard = MIN(limit->hard, (uint64_t) own->rlim_max);
        limit->soft = MIN(limit->soft, limit->hard);
}

void submission_clamp_limits(struct submission *submission, const struct rlimit own[RLIM_NLIMITS]) {
        struct job_rlimit all[JOB_RLIMITS_MAX];
        static_assert(JOB_RLIMITS_MAX == RLIM_NLIMITS, "one of each");

        for (uint32_t i = 0; i < RLIM_NLIMITS; i++)
                all[i] = (struct job_rlimit) { i, own[i].rlim_cur, own[i].rlim_max };
        for (uint32_t i = 0; i < submission->n_rlimits; i++) {
                uint32_t resource = submission->rlimits[i].resource;
                all[resource] = submission->rlimits[i];
                clamp_limit(&all[resource], &own[resource]);
        }
        memcpy(submission->rlimits, all, sizeof(all));
        submission->n_rlimits = RLIM_NLIMITS;
}

static int check_limits(const struct submission *submission, struct error *error) {
        if (submission->memory > 0 && submission->memory < BERTD_MEMORY_MIN)
                return error_set(error, EINVAL, "memory: is %" PRIu64 " bytes, expected 0 (no limit) or %llu and more",
                                 submission->memory, BERTD_MEMORY_MIN);
        if (submission->cpus > 0 && submission->cpus < BERTD_CPUS_MIN)
                return error_set(error, EINVAL, "cpus: is %g, expected 0 (no limit) or %g and more", submission->cpus,
                                 BERTD_CPUS_MIN);
        struct cpu_list cpus;
        if (submission->cpu_list && submission->cpu_list[0] && cpu_list_read(submission->cpu_list, &cpus) < 0)
                return error_set(error, EINVAL, "cpu_list: \"%.64s\", expected CPUs, e.g. 0-3,8", submission->cpu_list);
        struct scheduling scheduling;
        if (submission->scheduling && scheduling_read(submission->scheduling, &scheduling) < 0)
                return error_set(error, EINVAL, "scheduling: \"%.64s\", expected e.g. batch,io-best-effort:7",
                                 submission->scheduling);
        return 0;
}

static int check_kind(const struct submission *submission, struct error *error) {
        const char *kind = job_kind_name(submission->kind);

        for (size_t i = 0; submission->kind != JOB_COMMAND && i < JOB_N_FIELDS; i++)
                if (job_fields[i].command_only && submission->given[i])
                        return error_set(error, EINVAL, "%s: not for a job of kind %s", job_fields[i].name, kind);
        if (submission->kind == JOB_COMMAND &&
            (!submission->command || !submission->command[0] || !submission->command[0][0]))
                return error_set(error, EINVAL, "command: missing, a job of kind command needs one");
        if (submission->kind != JOB_COMMAND && (!submission->spec || !submission->spec[0]))
                return error_set(error, EINVAL, "spec: missing, a job of kind %s needs one", kind);
        for (size_t i = 0; submission->environment && submission->environment[i]; i++)
                if (!strchr(submission->environment[i], '=') || submission->environment[i][0] == '=')
                        return error_set(error, EINVAL, "environment: \"%.64s\" is not NAME=VALUE",
                                         submission->environment[i]);
        return 0;
}

/* Names become arguments of ssh. */
static int check_hosts(const struct submission *submission, struct error *error) {
        cleanup_hosts struct host_list list = {};
        struct error own = {};

        if (submission->hosts && submission->hosts[0] && hosts_add(&list, submission->hosts, &own) < 0)
                return error_set(error, EINVAL, "hosts: %s", own.text);
        if (submission->hosts && strpbrk(submission->hosts, "[ \t"))
                return error_set(error, EINVAL, "hosts: expected names separated by commas");
        if (submission->use > list.n)
                return error_set(error, EINVAL, "use: is %u, but hosts has %u", submission->use, list.n);
        if (submission->host_cooldown_min_sec > submission->host_cooldown_max_sec)
                return error_set(error, EINVAL, "host_cooldown_min_sec: is %u, above host_cooldown_max_sec %u",
                                 submission->host_cooldown_min_sec, submission->host_cooldown_max_sec);
        return 0;
}

int submission_check(const struct submission *submission, const struct submit_host *host, bool *ret_too_large,
                     struct error *error) {
        int r;

        *ret_too_large = false;
        if ((r = check_sizes(submission, error)) < 0)
                return r;
        if ((r = check_fields(submission, error)) < 0 || (r = check_kind(submission, error)) < 0 ||
            (r = check_rlimits(submission, error)) < 0 || (r = check_limits(submission, error)) < 0 ||
            (r = past_check(submission, error)) < 0)
                return r;
        if (submission->backoff_min_sec > submission->backoff_max_sec)
                return error_set(error, EINVAL, "backoff_min_sec: is %u, above backoff_max_sec %u",
                                 submission->backoff_min_sec, submission->backoff_max_sec);
        if (check_hosts(submission, error) < 0)
                return -EINVAL;
        if (submission->name && submission->name[strspn(submission->name, "0123456789")] == '\0')
                return error_set(error, EINVAL, "name: '%.64s' is ambiguous: it looks like a job id", submission->name);
        uint64_t slots = (uint64_t) submission->ranks * submission->threads;
        if (slots > host->slots) {
                *ret_too_large = true;
                return error_set(error, EINVAL, "ranks × threads: %u × %u = %" PRIu64 " slots, this host has %" PRIu64,
                                 submission->ranks, submission->threads, slots, host->slots);
        }
        if (!host->limits && (submission->memory > 0 || submission->cpus > 0))
                return error_set(error, EINVAL,
                                 "%s: this bertd cannot enforce it (only root's under systemd can); leave it out",
                                 submission->memory > 0 ? "memory" : "cpus");
        if (submission->gpus > host->gpus) {
                *ret_too_large = true;
                return error_set(error, EINVAL, "gpus: %u, this host has %u", submission->gpus, host->gpus);
        }
        return 0;
}
