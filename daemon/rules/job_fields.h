/*
 * All fields of a job. These rows generate the members of struct job (job.h) and struct submission
 * (submission.h), table `job` of state.db, its statements and migrations (store/columns.c), what Submit takes
 * (bus/submit.c) and what clients see (bus/jobview.c). tests/check-fields compares include/bertd/bus.h with them.
 *
 * To add a field: a row with the next schema version. state.db gains the column when it is next opened. In JOB_ASKED
 * clients may send it; with EVERYBODY or OWNER they see it. The code that uses it gives it its meaning.
 *
 * A row: the schema version that brought it; its C type, which gives its SQL and D-Bus type (enum job_field_type); its
 * name as member, column and key; whether it CHANGES after the insert or is FIXED; then, in any order, members of
 * struct job_field.
 */
#ifndef DAEMON_RULES_JOB_FIELDS_H
#define DAEMON_RULES_JOB_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/job.h"
#include "bertd/limits.h"
#include "bertd/logs.h"

#define EVERYBODY .shown = SHOWN_TO_ALL
#define OWNER .shown = SHOWN_TO_OWNER /* and root */
#define RANGE(low, high, fallback) .min = (low), .max = (high), .initial = (fallback)
#define BYTES(low, high) .min = (low), .max = (high)
#define NAMES(list, number) .names = (const char *const[]) list, .n_names = (number)
#define UNKNOWN .unknown = true /* NaN at first, NULL in state.db */

/* clang-format off */

/* In Submit and in struct job. */
#define JOB_ASKED(X) \
        X(1, char *, name, FIXED, EVERYBODY, BYTES(1, BERTD_NAME_MAX), .required = true) \
        X(1, enum job_kind, kind, FIXED, NAMES(JOB_KIND_NAMES, JOB_KIND_MAX), .by_name = true, \
          .initial = JOB_KIND_MAX, .required = true) \
        X(1, int32_t, priority, FIXED, EVERYBODY, \
          RANGE(BERTD_PRIORITY_MIN, BERTD_PRIORITY_MAX, BERTD_PRIORITY_DEFAULT)) \
        X(1, char *, run_dir, FIXED, BYTES(0, BERTD_PATH_MAX), .path = true) /* NULL: the job's own folder */ \
        X(1, uint32_t, ranks, CHANGES, EVERYBODY, RANGE(1, BERTD_RANKS_MAX, BERTD_RANKS_DEFAULT), .required = true) \
        X(1, uint32_t, threads, FIXED, EVERYBODY, \
          RANGE(1, BERTD_THREADS_MAX, BERTD_THREADS_DEFAULT), .required = true) \
        X(1, uint32_t, gpus, FIXED, EVERYBODY, RANGE(0, BERTD_GPUS_MAX, BERTD_GPUS_DEFAULT), .required = true) \
        X(1, uint32_t, max_without_progress, FIXED, RANGE(0, BERTD_RETRIES_MAX, BERTD_RETRIES_DEFAULT)) \
        X(1, uint32_t, backoff_min_sec, FIXED, RANGE(0, BERTD_BACKOFF_FIRST_MAX, BERTD_BACKOFF_FIRST_DEFAULT)) \
        X(1, uint32_t, backoff_max_sec, FIXED, RANGE(0, BERTD_BACKOFF_LAST_MAX, BERTD_BACKOFF_LAST_DEFAULT)) \
        X(1, uint32_t, grace_sec, FIXED, RANGE(1, BERTD_GRACE_MAX, BERTD_GRACE_DEFAULT)) \
        X(1, char *, on_exit, FIXED, BYTES(0, BERTD_PATH_MAX)) /* NULL: none */ \
        X(1, const char *, cwd, FIXED, EVERYBODY, BYTES(1, BERTD_PATH_MAX), .path = true, .required = true) \
        X(1, uint32_t, umask, FIXED, RANGE(0, 0777, 022)) \
        X(2, uint64_t, memory, FIXED, EVERYBODY, RANGE(0, BERTD_MEMORY_MAX, 0)) /* limit in bytes, 0 = none */ \
        X(2, double, cpus, FIXED, EVERYBODY, RANGE(0, BERTD_CPUS_MAX, 0)) /* limit, 0 = none */ \
        /* see include/bertd/bus.h; also the next */ \
        X(2, int32_t, hang_sec, FIXED, EVERYBODY, RANGE(-1, BERTD_HANG_MAX, -1)) \
        X(2, int32_t, start_sec, FIXED, EVERYBODY, RANGE(-1, BERTD_HANG_MAX, -1)) \
        X(2, enum on_nan, on_nan, FIXED, EVERYBODY, NAMES(ON_NAN_NAMES, ON_NAN_MAX)) \
        X(4, enum ends_with, ends_with, FIXED, EVERYBODY, NAMES(ENDS_WITH_NAMES, ENDS_WITH_MAX), \
          .command_only = true) \
        X(4, uint64_t, log_max_size, FIXED, EVERYBODY, \
          RANGE(BERTD_LOG_SIZE_MIN, BERTD_LOG_SIZE_MAX, BERTD_LOG_SIZE_DEFAULT)) \
        X(4, uint32_t, log_keep, FIXED, EVERYBODY, RANGE(1, BERTD_LOG_KEEP_MAX, BERTD_LOG_KEEP_DEFAULT)) \
        X(4, int32_t, nice, FIXED, EVERYBODY, RANGE(BERTD_NICE_MIN, BERTD_NICE_MAX, 0)) \
        X(6, char *, comment, FIXED, OWNER, BYTES(0, BERTD_COMMENT_MAX)) /* NULL: none */ \
        X(8, char *, hosts, FIXED, BYTES(0, BERTD_HOSTS_BYTES_MAX)) /* see common/hosts.h; this host first; NULL: alone */ \
        X(8, uint32_t, use, CHANGES, RANGE(0, BERTD_HOSTS_MAX, 0)) /* of them; 0 = all */ \
        X(8, char *, network, FIXED, EVERYBODY, BYTES(0, BERTD_NETWORK_MAX)) \
        X(8, char *, travels, FIXED, BYTES(0, BERTD_TRAVELS_MAX)) /* names of variables, with commas */ \
        X(8, uint32_t, unmanaged, FIXED, RANGE(0, 1, 0)) /* 1: hosts without a bertd may be used */ \
        X(8, uint32_t, host_timeout_sec, FIXED, \
          RANGE(BERTD_HOST_TIMEOUT_MIN, BERTD_HOST_TIMEOUT_MAX, BERTD_HOST_TIMEOUT_DEFAULT)) \
        X(8, uint32_t, shrink, FIXED, RANGE(0, 1, 0)) /* 1: starts with fewer hosts if there are no more */ \
        X(8, uint32_t, host_cooldown_min_sec, FIXED, RANGE(1, BERTD_COOLDOWN_MAX, BERTD_COOLDOWN_FIRST_DEFAULT)) \
        X(8, uint32_t, host_cooldown_max_sec, FIXED, RANGE(1, BERTD_COOLDOWN_MAX, BERTD_COOLDOWN_LAST_DEFAULT)) \
        X(8, char *, copy_to, FIXED, OWNER, BYTES(0, BERTD_PATH_MAX)) /* NULL: no copies of checkpoints */ \
        X(8, uint32_t, keep, FIXED, RANGE(1, BERTD_KEEP_MAX, BERTD_KEEP_DEFAULT)) /* of the copies; the program reads it in its spec */ \
        /* of a lease, as the next two: "h1:42", the job of another host that has it; NULL: not a lease */ \
        X(8, char *, lease_of, FIXED, EVERYBODY, BYTES(0, BERTD_LEASE_OF_MAX), .lease_only = true) \
        X(8, uint32_t, lease_attempt, FIXED, EVERYBODY, RANGE(0, INT32_MAX, 0), .lease_only = true) \
        X(8, char *, lease_name, FIXED, EVERYBODY, BYTES(0, BERTD_NAME_MAX), .lease_only = true) /* of that job */

/* Set by bertd. Times are microseconds since the epoch, 0 = not yet. */
#define JOB_KEPT(X) \
        X(1, uid_t, uid, FIXED, EVERYBODY, .required = true) \
        X(1, gid_t, gid, FIXED, .required = true) \
        X(1, const char *, user, FIXED, EVERYBODY, .required = true) \
        X(1, enum job_state, state, CHANGES, EVERYBODY, NAMES(JOB_STATE_NAMES, JOB_STATE_MAX), .by_name = true, \
          .required = true) \
        X(1, enum stop_reason, stop_reason, CHANGES, .n_names = STOP_REASON_MAX) \
        X(1, enum launcher_kind, launcher, FIXED, EVERYBODY, NAMES(LAUNCHER_NAMES, LAUNCHER_MAX), .required = true) \
        X(1, char *, reason, CHANGES, .sentence = true) /* of the last transition, for everybody; NULL = none */ \
        /* the same for the owner and root: it may quote the job; NULL = reason */ \
        X(4, char *, private, CHANGES, .sentence = true) \
        X(1, uint64_t, submitted, FIXED, EVERYBODY) \
        X(1, uint64_t, started, CHANGES, EVERYBODY) \
        X(1, uint64_t, ended, CHANGES, EVERYBODY) \
        X(1, uint64_t, not_before, CHANGES) \
        X(1, uint64_t, step, CHANGES, EVERYBODY) \
        X(1, uint64_t, steps, CHANGES, EVERYBODY) \
        X(1, double, loss, CHANGES, EVERYBODY, UNKNOWN) \
        X(1, double, rate, CHANGES, UNKNOWN) \
        X(1, int32_t, exit_code, CHANGES, EVERYBODY, .key = "exit", .initial = -1) /* -1 = none yet; also the next */ \
        X(1, int32_t, exit_class, CHANGES, EVERYBODY, NAMES(EXIT_CLASS_NAMES, EXIT_CLASS_MAX), .initial = -1) \
        X(1, uint64_t, resume_from, CHANGES) /* with resume_abandon: the step that `resume --from` named */ \
        X(1, bool, resume_abandon, CHANGES) /* until a checkpoint after resume_from has been committed */ \
        X(1, uint32_t, history_from, CHANGES) /* deaths of attempts after this one count */ \
        X(2, uint64_t, lost_steps, CHANGES, EVERYBODY) /* done by failed attempts, and repeated */ \
        X(2, uint64_t, run_steps, CHANGES) /* steps of all attempts */ \
        X(2, uint64_t, run_usec, CHANGES) /* time between the first and last step of each */ \
        X(2, uint64_t, active_usec, CHANGES) /* wall time since the first start, without pauses */ \
        X(2, uint64_t, since_usec, CHANGES) /* the last transition */ \
        X(2, double, checkpoint_stall, CHANGES, EVERYBODY, UNKNOWN, .key = "checkpoint_stall_sec") \
        X(2, double, checkpoint_write, CHANGES, EVERYBODY, UNKNOWN, .key = "checkpoint_write_sec") \
        X(3, int32_t, deaths, CHANGES) /* struct policy_counters; -1: to be counted from the attempts */ \
        X(3, int32_t, free_deaths, CHANGES) \
        X(3, uint64_t *, lost_usec, CHANGES) /* wall time lost, by exit class; NULL: none */ \
        X(3, bool, holds_checkpoints, CHANGES) /* has ended with checkpoints in its folder: kept until rm */ \
        X(4, enum exit_owed, exit_owed, CHANGES, .n_names = EXIT_OWED_MAX) \
        X(8, char *, hosts_in_use, CHANGES) /* of the newest attempt, the head first; NULL: this one alone */ \
        X(8, char *, host_state, CHANGES) /* cool-downs, see rules/hosts.h; NULL: none */

#define JOB_STORED(X) JOB_ASKED(X) JOB_KEPT(X)

/* In Submit but not in struct job: C type, name and the rest as above. keep_every is not used: the program reads it from its spec. */
#define JOB_INPUTS(X) \
        X(uint64_t, keep_every, RANGE(0, INT64_MAX, 0)) \
        X(char *, spec, BYTES(0, BERTD_SPEC_MAX), .lines = true) \
        X(char **, command, .command_only = true) \
        X(char **, environment) \
        X(typeof(struct job_rlimit[JOB_RLIMITS_MAX]), rlimits) \
        X(char *, cpu_list, BYTES(0, BERTD_CPU_LIST_MAX)) /* NULL: any CPU */ \
        X(char *, scheduling, BYTES(0, BERTD_SCHEDULING_MAX)) /* see common/scheduling.h; NULL: default */ \
        /* of a run that is continued from its folder: see rules/past.h */ \
        X(bool, continues, RANGE(0, 1, 0)) \
        X(uint32_t, past_deaths, RANGE(0, BERTD_RETRIES_MAX, 0)) \
        X(uint32_t, past_free_deaths, RANGE(0, BERTD_RETRIES_MAX, 0)) \
        X(uint64_t, past_run_steps, RANGE(0, BERTD_STEPS_MAX, 0)) \
        X(uint64_t, past_run_usec, RANGE(0, BERTD_SECONDS_MAX * INT64_C(1000000), 0)) \
        X(uint64_t, past_active_usec, RANGE(0, BERTD_SECONDS_MAX * INT64_C(1000000), 0)) \
        X(char *, past_lost, BYTES(0, BERTD_LOST_MAX)) \
        X(struct past_checkpoint *, past_checkpoints) \
        X(char *, channel, BYTES(0, 32), .lease_only = true) /* see common/handover.h */

/* Computed for clients: key, D-Bus type, who may see it. bus/jobview.c has a function for each. */
#define JOB_COMPUTED(X) \
        X(id, "t", SHOWN_TO_ALL) \
        X(kind, "s", SHOWN_TO_ALL) \
        X(reason, "s", SHOWN_TO_ALL) \
        X(attempts, "u", SHOWN_TO_ALL) \
        X(attempt_started, "t", SHOWN_TO_ALL) \
        X(not_before, "t", SHOWN_TO_ALL) \
        X(next_try_usec, "t", SHOWN_TO_ALL) \
        X(rate, "d", SHOWN_TO_ALL) \
        X(eta_sec, "t", SHOWN_TO_ALL) \
        X(checkpoint_step, "t", SHOWN_TO_ALL) \
        X(checkpoint_path, "s", SHOWN_TO_ALL) \
        X(lost_sec, "as", SHOWN_TO_ALL) \
        X(goodput, "d", SHOWN_TO_ALL) \
        X(exit_signal, "s", SHOWN_TO_ALL) \
        X(exit_rank, "i", SHOWN_TO_ALL) \
        X(exit_host, "s", SHOWN_TO_ALL) \
        X(last_step, "t", SHOWN_TO_ALL) \
        X(first_exit, "i", SHOWN_TO_ALL) \
        X(runs_on, "u", SHOWN_TO_ALL) \
        X(hosts, "as", SHOWN_TO_ALL) \
        X(use, "u", SHOWN_TO_ALL) \
        X(world, "u", SHOWN_TO_ALL) \
        X(hosts_in_use, "as", SHOWN_TO_ALL) \
        X(slowest, "s", SHOWN_TO_ALL) \
        X(slowest_since, "t", SHOWN_TO_ALL) \
        X(gpu_usage, "as", SHOWN_TO_ALL) \
        X(gpu_usage_read, "t", SHOWN_TO_ALL) \
        X(run_dir, "s", SHOWN_TO_ALL) \
        X(log, "s", SHOWN_TO_ALL) \
        X(evidence, "s", SHOWN_TO_OWNER) \
        X(first_cause, "s", SHOWN_TO_OWNER) \
        X(status, "s", SHOWN_TO_OWNER) \
        X(command, "as", SHOWN_TO_OWNER)

/* clang-format on */

/* By the C type of the member. */
enum job_field_type {
        FIELD_U32,
        FIELD_U64, /* at most INT64_MAX in state.db */
        FIELD_I32,
        FIELD_BOOL,
        FIELD_DOUBLE,
        FIELD_TEXT,    /* char *, owned; NULL = none */
        FIELD_SHARED,  /* const char *: text_shared */
        FIELD_LOST,    /* uint64_t *, by exit class: job_lost_text */
        FIELD_STRINGS, /* char **; of an input; also the next */
        FIELD_RLIMITS,
        FIELD_PAST, /* struct past_checkpoint * */
        FIELD_TYPE_MAX
};

enum job_field_shown { SHOWN_TO_NOBODY, SHOWN_TO_ALL, SHOWN_TO_OWNER };

#define NO_OFFSET SIZE_MAX

struct job_field {
        const char *name;
        const char *key; /* on the wire; NULL: its name */
        enum job_field_type type;
        unsigned since;       /* schema version */
        bool changes;         /* after its row was inserted */
        size_t stored, asked; /* offsets in struct job and struct submission; NO_OFFSET */
        enum job_field_shown shown;
        int64_t min, max;         /* bounds of Submit: a number's value, a text's bytes */
        int64_t initial;          /* initial value of a number */
        const char *const *names; /* of an enum, sent by name; exit_class may be -1 */
        int n_names;
        bool by_name;      /* also stored by name */
        bool unknown;      /* of a double: NaN is stored as NULL */
        bool required;     /* a row of state.db without it is invalid */
        bool path;         /* absolute */
        bool lines;        /* may have control characters */
        bool sentence;     /* see job_set_text */
        bool command_only; /* refused for another kind */
        bool lease_only;   /* taken by Lease, not by Submit */
};

#define JOB_ONE(...) +1
enum { JOB_N_STORED = 0 JOB_STORED(JOB_ONE), JOB_N_FIELDS = JOB_N_STORED JOB_INPUTS(JOB_ONE) };

/* Those of struct job first, then the inputs. */
extern const struct job_field job_fields[JOB_N_FIELDS];

static inline const char *job_field_key(const struct job_field *field) { return field->key ? field->key : field->name; }
static inline bool job_field_is_text(const struct job_field *field) {
        return field->type == FIELD_TEXT || field->type == FIELD_SHARED;
}
/* Its D-Bus type. */
const char *job_field_signature(const struct job_field *field);

/* Of a type up to FIELD_BOOL: its value; its range in a valid struct. */
int64_t job_field_number(const struct job_field *field, const void *at);
void job_field_set_number(const struct job_field *field, void *at, int64_t value);
void job_field_limits(const struct job_field *field, int64_t *ret_min, int64_t *ret_max);

/* The number of a name, −EINVAL. */
int job_field_from_name(const struct job_field *field, const char *name);

#endif
