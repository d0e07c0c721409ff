/*
 * See submit.h. Role: the gate for what users send. Owns nothing between calls.
 * Invariants: after submission_check every string is valid UTF-8 or bounded bytes without control characters where it is
 * shown, every number is in range, and the job fits the host.
 */
#include "daemon/bus/submit.h"

#include <assert.h>
#include <inttypes.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bertd/job.h"
#include "bertd/logs.h"
#include "common/cleanup.h"
#include "common/cpu_list.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/scheduling.h"
#include "daemon/rules/states.h"

enum submit_field {
        FIELD_NAME,
        FIELD_KIND,
        FIELD_PRIORITY,
        FIELD_RUN_DIR,
        FIELD_RANKS,
        FIELD_THREADS,
        FIELD_GPUS,
        FIELD_MAX_WITHOUT_PROGRESS,
        FIELD_BACKOFF_MIN_SEC,
        FIELD_BACKOFF_MAX_SEC,
        FIELD_GRACE_SEC,
        FIELD_KEEP,
        FIELD_KEEP_EVERY,
        FIELD_ON_EXIT,
        FIELD_SPEC,
        FIELD_COMMAND,
        FIELD_CWD,
        FIELD_ENVIRONMENT,
        FIELD_UMASK,
        FIELD_RLIMITS,
        FIELD_MEMORY,
        FIELD_CPUS,
        FIELD_HANG_SEC,
        FIELD_START_SEC,
        FIELD_ON_NAN,
        FIELD_ENDS_WITH,
        FIELD_LOG_MAX_SIZE,
        FIELD_LOG_KEEP,
        FIELD_NICE,
        FIELD_CPU_LIST,
        FIELD_SCHEDULING,
        FIELD_MAX
};

static const struct field {
        const char *key, *type;
        size_t offset;
        int64_t min, max; /* numbers: the value; strings: bytes */
        bool path;        /* absolute, when given */
} fields[] = {
#define AT(member) offsetof(struct submission, member)
        [FIELD_NAME] = { "name", "s", AT(name), 1, BERTD_NAME_MAX, false },
        [FIELD_KIND] = { "kind", "s", AT(kind), 1, 16, false },
        [FIELD_PRIORITY] = { "priority", "i", AT(priority), BERTD_PRIORITY_MIN, BERTD_PRIORITY_MAX, false },
        [FIELD_RUN_DIR] = { "run_dir", "s", AT(run_dir), 0, BERTD_PATH_MAX, true },
        [FIELD_RANKS] = { "ranks", "u", AT(ranks), 1, BERTD_RANKS_MAX, false },
        [FIELD_THREADS] = { "threads", "u", AT(threads), 1, BERTD_THREADS_MAX, false },
        [FIELD_GPUS] = { "gpus", "u", AT(gpus), 0, BERTD_GPUS_MAX, false },
        [FIELD_MAX_WITHOUT_PROGRESS] = { "max_without_progress", "u", AT(max_without_progress), 0, BERTD_RETRIES_MAX,
                                         false },
        [FIELD_BACKOFF_MIN_SEC] = { "backoff_min_sec", "u", AT(backoff_min_sec), 0, BERTD_BACKOFF_FIRST_MAX, false },
        [FIELD_BACKOFF_MAX_SEC] = { "backoff_max_sec", "u", AT(backoff_max_sec), 0, BERTD_BACKOFF_LAST_MAX, false },
        [FIELD_GRACE_SEC] = { "grace_sec", "u", AT(grace_sec), 1, BERTD_GRACE_MAX, false },
        [FIELD_KEEP] = { "keep", "u", AT(keep), 1, BERTD_KEEP_MAX, false },
        [FIELD_KEEP_EVERY] = { "keep_every", "t", AT(keep_every), 0, INT64_MAX, false },
        [FIELD_ON_EXIT] = { "on_exit", "s", AT(on_exit), 0, BERTD_PATH_MAX, false },
        [FIELD_SPEC] = { "spec", "s", AT(spec), 0, BERTD_SPEC_MAX, false },
        [FIELD_COMMAND] = { "command", "as", AT(command), 0, 0, false },
        [FIELD_CWD] = { "cwd", "s", AT(cwd), 1, BERTD_PATH_MAX, true },
        [FIELD_ENVIRONMENT] = { "environment", "as", AT(environment), 0, 0, false },
        [FIELD_UMASK] = { "umask", "u", AT(umask), 0, 0777, false },
        [FIELD_RLIMITS] = { "rlimits", "a(utt)", AT(rlimits), 0, JOB_RLIMITS_MAX, false },
        [FIELD_MEMORY] = { "memory", "t", AT(memory), 0, BERTD_MEMORY_MAX, false },
        [FIELD_CPUS] = { "cpus", "d", AT(cpus), 0, BERTD_CPUS_MAX, false },
        [FIELD_HANG_SEC] = { "hang_sec", "i", AT(hang_sec), -1, BERTD_HANG_MAX, false },
        [FIELD_START_SEC] = { "start_sec", "i", AT(start_sec), -1, BERTD_HANG_MAX, false },
        [FIELD_ON_NAN] = { "on_nan", "s", AT(on_nan), 0, 16, false },
        [FIELD_ENDS_WITH] = { "ends_with", "s", AT(ends_with), 0, 16, false },
        [FIELD_LOG_MAX_SIZE] = { "log_max_size", "t", AT(log_max_size), BERTD_LOG_SIZE_MIN, BERTD_LOG_SIZE_MAX, false },
        [FIELD_LOG_KEEP] = { "log_keep", "u", AT(log_keep), 1, BERTD_LOG_KEEP_MAX, false },
        [FIELD_NICE] = { "nice", "i", AT(nice), BERTD_NICE_MIN, BERTD_NICE_MAX, false },
        [FIELD_CPU_LIST] = { "cpu_list", "s", AT(cpu_list), 0, BERTD_CPU_LIST_MAX, false },
        [FIELD_SCHEDULING] = { "scheduling", "s", AT(scheduling), 0, SCHEDULING_MAX - 1, false },
#undef AT
};
static_assert(ELEMENTSOF(fields) == FIELD_MAX, "a field without a row");
static_assert(FIELD_MAX <= 32, "the set of seen keys is 32 bits");

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

static int read_value(const struct field *field, struct submission *submission, sd_bus_message *m,
                      struct error *error) {
        void *at = (char *) submission + field->offset;

        if (strcmp(field->type, "s") == 0)
                return read_string(m, at);
        if (strcmp(field->type, "as") == 0)
                return sd_bus_message_read_strv(m, at);
        if (strcmp(field->type, "a(utt)") == 0)
                return read_rlimits(submission, m, error);
        return sd_bus_message_read_basic(m, field->type[0], at);
}

static int read_field(struct submission *submission, sd_bus_message *m, uint32_t *seen, struct error *error) {
        const char *key, *contents;
        size_t i = 0;

        int r = sd_bus_message_read_basic(m, 's', &key);
        if (r < 0)
                return r;
        while (i < FIELD_MAX && strcmp(fields[i].key, key) != 0)
                i++;
        if (i == FIELD_MAX)
                return error_set(error, EINVAL, "unknown key \"%.64s\"", key);
        if (*seen & 1u << i)
                return error_set(error, EINVAL, "%s: given twice", key);
        *seen |= 1u << i;
        r = sd_bus_message_peek_type(m, NULL, &contents);
        if (r < 0)
                return r;
        if (strcmp(contents, fields[i].type) != 0)
                return error_set(error, EINVAL, "%s: has type %.32s, expected %s", key, contents, fields[i].type);
        r = sd_bus_message_enter_container(m, 'v', contents);
        if (r < 0)
                return r;
        r = read_value(&fields[i], submission, m, error);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int submission_read(struct submission *submission, sd_bus_message *m, struct error *error) {
        uint32_t seen = 0;

        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_field(submission, m, &seen, error);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? error_errno(error, -r, "the request cannot be read") : 0;
}

size_t submission_size(const struct submission *submission) {
        size_t size = 0;

        for (size_t i = 0; i < FIELD_MAX; i++) {
                const void *at = (const char *) submission + fields[i].offset;
                const char *text = strcmp(fields[i].type, "s") == 0 ? *(char *const *) at : NULL;
                char **texts = strcmp(fields[i].type, "as") == 0 ? *(char **const *) at : NULL;
                size += text ? strlen(text) : 0;
                for (size_t k = 0; texts && texts[k]; k++)
                        size += strlen(texts[k]) + 1 + sizeof(char *);
        }
        return size;
}

static bool has_control(const char *text) {
        for (const unsigned char *p = (const unsigned char *) text; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        return true;
        return false;
}

static int check_string(const struct field *field, const char *text, struct error *error) {
        size_t size = text ? strlen(text) : 0;

        if (!text && field->min == 0)
                return 0;
        if (!text)
                return error_set(error, EINVAL, "%s: missing", field->key);
        if (size < (size_t) field->min || size > (size_t) field->max)
                return error_set(error, EINVAL, "%s: has %zu bytes, expected %" PRIi64 " to %" PRIi64, field->key, size,
                                 field->min, field->max);
        if (field->path && size > 0 && text[0] != '/')
                return error_set(error, EINVAL, "%s: \"%.128s\" is not an absolute path", field->key, text);
        if (field != &fields[FIELD_SPEC] && has_control(text))
                return error_set(error, EINVAL, "%s: contains a control character", field->key);
        return 0;
}

/* With the cure, which the table has no room for. */
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

static int check_number(const struct field *field, const void *at, struct error *error) {
        int64_t value = 0;

        switch (field->type[0]) {
        case 'i':
                value = *(const int32_t *) at;
                break;
        case 'u':
                value = *(const uint32_t *) at;
                break;
        default:
                value = *(const uint64_t *) at > INT64_MAX ? -1 : (int64_t) * (const uint64_t *) at;
        }
        if (value < field->min || value > field->max)
                return error_set(error, EINVAL, "%s: is %" PRIi64 ", expected %" PRIi64 " to %" PRIi64, field->key,
                                 value, field->min, field->max);
        return 0;
}

/* NaN is in no range. */
static int check_double(const struct field *field, double value, struct error *error) {
        if (value >= (double) field->min && value <= (double) field->max)
                return 0;
        return error_set(error, EINVAL, "%s: is %g, expected %" PRIi64 " to %" PRIi64, field->key, value, field->min,
                         field->max);
}

static int check_field(const struct field *field, const struct submission *submission, struct error *error) {
        const void *at = (const char *) submission + field->offset;

        if (strcmp(field->type, "s") == 0)
                return check_string(field, *(char *const *) at, error);
        if (field->type[0] == 'a')
                return 0;
        if (field->type[0] == 'd')
                return check_double(field, *(const double *) at, error);
        return check_number(field, at, error);
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
        char **grown = variable ? realloc(submission->environment, (n + 2) * sizeof(char *)) : NULL;
        if (!grown) {
                free(variable);
                return -ENOMEM;
        }
        grown[n] = variable;
        grown[n + 1] = NULL;
        submission->environment = grown;
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
        const char *answer = submission->on_nan;

        if (submission->memory > 0 && submission->memory < BERTD_MEMORY_MIN)
                return error_set(error, EINVAL, "memory: is %" PRIu64 " bytes, expected 0 (no limit) or %llu and more",
                                 submission->memory, BERTD_MEMORY_MIN);
        if (submission->cpus > 0 && submission->cpus < BERTD_CPUS_MIN)
                return error_set(error, EINVAL, "cpus: is %g, expected 0 (no limit) or %g and more", submission->cpus,
                                 BERTD_CPUS_MIN);
        if (answer && answer[0] && on_nan_from_name(answer) < 0)
                return error_set(error, EINVAL, "on_nan: \"%s\", expected stop or rollback", answer);
        if (submission->ends_with && submission->ends_with[0] && ends_with_from_name(submission->ends_with) < 0)
                return error_set(error, EINVAL, "ends_with: \"%s\", expected first or last", submission->ends_with);
        struct cpu_list cpus;
        if (submission->cpu_list && submission->cpu_list[0] && cpu_list_read(submission->cpu_list, &cpus) < 0)
                return error_set(error, EINVAL, "cpu_list: \"%.64s\", expected CPUs as in 0-3,8", submission->cpu_list);
        struct scheduling scheduling;
        if (submission->scheduling && scheduling_read(submission->scheduling, &scheduling) < 0)
                return error_set(error, EINVAL, "scheduling: \"%.64s\", expected as in batch,io-best-effort:7",
                                 submission->scheduling);
        return 0;
}

static int check_kind(const struct submission *submission, struct error *error) {
        int kind = job_kind_from_name(submission->kind);

        if (kind < 0)
                return error_set(error, EINVAL, "kind: \"%s\", expected pretrain, finetune or command",
                                 submission->kind);
        if (kind == JOB_COMMAND && (!submission->command || !submission->command[0] || !submission->command[0][0]))
                return error_set(error, EINVAL, "command: missing, a job of kind command needs one");
        if (kind != JOB_COMMAND && submission->command && submission->command[0])
                return error_set(error, EINVAL, "command: not for a job of kind %s", submission->kind);
        if (kind != JOB_COMMAND && submission->ends_with && submission->ends_with[0])
                return error_set(error, EINVAL, "ends_with: not for a job of kind %s", submission->kind);
        if (kind != JOB_COMMAND && (!submission->spec || !submission->spec[0]))
                return error_set(error, EINVAL, "spec: missing, a job of kind %s needs one", submission->kind);
        for (size_t i = 0; submission->environment && submission->environment[i]; i++)
                if (!strchr(submission->environment[i], '=') || submission->environment[i][0] == '=')
                        return error_set(error, EINVAL, "environment: \"%.64s\" is not NAME=VALUE",
                                         submission->environment[i]);
        return 0;
}

int submission_check(const struct submission *submission, const struct submit_host *host, bool *ret_too_large,
                     struct error *error) {
        int r;

        *ret_too_large = false;
        if ((r = check_sizes(submission, error)) < 0)
                return r;
        for (size_t i = 0; i < FIELD_MAX; i++)
                if ((r = check_field(&fields[i], submission, error)) < 0)
                        return r;
        if ((r = check_kind(submission, error)) < 0 || (r = check_rlimits(submission, error)) < 0 ||
            (r = check_limits(submission, error)) < 0)
                return r;
        if (submission->backoff_min_sec > submission->backoff_max_sec)
                return error_set(error, EINVAL, "backoff_min_sec: is %u, above backoff_max_sec %u",
                                 submission->backoff_min_sec, submission->backoff_max_sec);
        if (submission->name && submission->name[strspn(submission->name, "0123456789")] == '\0')
                return error_set(error, EINVAL, "name: '%.64s' would be taken for a job's id", submission->name);
        uint64_t slots = (uint64_t) submission->ranks * submission->threads;
        if (slots > host->slots) {
                *ret_too_large = true;
                return error_set(error, EINVAL, "ranks × threads: %u × %u = %" PRIu64 " slots, this host has %" PRIu64,
                                 submission->ranks, submission->threads, slots, host->slots);
        }
        if (!host->limits && (submission->memory > 0 || submission->cpus > 0))
                return error_set(
                        error, EINVAL,
                        "%s: this bertd cannot hold a job to it (only one of root's under systemd can): leave it out",
                        submission->memory > 0 ? "memory" : "cpus");
        if (submission->gpus > host->gpus) {
                *ret_too_large = true;
                return error_set(error, EINVAL, "gpus: %u, this host has %u", submission->gpus, host->gpus);
        }
        return 0;
}
