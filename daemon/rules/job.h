/*
 * A job and its newest attempt as the daemon keeps them in memory. The store owns every struct job: it creates them on
 * start and at submit, writes them on each transition, and frees them on rm. Large inputs (spec, command, environment,
 * limits) stay in state.db. job_fields.h has the fields that are stored, and what they mean.
 *
 * Times are microseconds since the epoch, 0 = not yet.
 */
#ifndef DAEMON_RULES_JOB_H
#define DAEMON_RULES_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bertd/job.h"
#include "daemon/rules/job_fields.h"
#include "daemon/rules/policy.h"
#include "daemon/rules/queue.h"

#define JOB_RLIMITS_MAX 16

struct job_rlimit {
        uint32_t resource;
        uint64_t soft, hard; /* UINT64_MAX = none */
};

/* Reason of the current stop. A later reason replaces a weaker one, never a stronger one. */
enum stop_reason { STOP_NONE, STOP_SHUTDOWN, STOP_PAUSE, STOP_CANCEL, STOP_CANCEL_NOW, STOP_REASON_MAX };

enum launcher_kind { LAUNCHER_FORK, LAUNCHER_SYSTEMD, LAUNCHER_MAX };
#define LAUNCHER_NAMES \
        { "fork", "systemd" }

enum checkpoint_state {
        CHECKPOINT_GOOD,
        CHECKPOINT_DEMOTED,
        CHECKPOINT_ABANDONED,
        CHECKPOINT_DELETED,
        CHECKPOINT_UNCONFIRMED, /* a program's: it may not have reached the disk; used only without a good one */
        CHECKPOINT_STATE_MAX
};
#define CHECKPOINT_STATE_NAMES \
        { "good", "demoted", "abandoned", "deleted", "unconfirmed" }

/* One row of the ledger. */
struct checkpoint {
        uint64_t step, size, created;
        enum checkpoint_state state;
        uint32_t attempt;  /* that wrote it */
        uint32_t restored; /* number of attempts that started from it */
        char *path;
        bool dirty;
};

/* See on_exit.h. State in the row: on_exit must be started, may have been started, may have been started twice. Then
 * what is done about it now. */
enum exit_owed { EXIT_OWED_NONE, EXIT_OWED_START, EXIT_OWED_STARTED, EXIT_OWED_REPEATED, EXIT_OWED_MAX };
enum exit_phase { EXIT_WAITS, EXIT_TURN, EXIT_BEGINS };

#define NONCE_SIZE 33 /* 32 hex digits */
#define BOOT_ID_SIZE 37
#define LEDGER_MAX 2048        /* rows kept for a job: the newest */
#define LEDGER_DELETED_MAX 512 /* rows within which a deleted, unused one is kept */

struct attempt {
        uint32_t number; /* 0 = none yet */
        bool open;
        char nonce[NONCE_SIZE];
        char boot_id[BOOT_ID_SIZE];
        pid_t pid;          /* the shim's, 0 = unknown */
        uint64_t pid_start; /* field 22 of /proc/PID/stat */
        char *gpus;         /* names of its GPUs, separated by commas; NULL = none */
        uint64_t gpu_mask;  /* from schema 2, until replaced by names: bit i = GPU i of that daemon's list; else 0 */
        uint64_t started, ended;
        bool resumed;
        uint64_t first_step, step; /* start step (0 = from the beginning); last completed step */
        uint64_t checkpoint_step;
        uint64_t samples_first, samples_last; /* of the current update; both 0 = unknown */
        int exit_code, signal, exit_class;    /* −1, 0, −1 = none */
        int rank;                             /* the rank that failed first, −1 = unknown */
        char *host;                           /* where it ran, NULL = unknown */
        char *reason;                         /* first cause, NULL = none */
        char *private;                        /* the same for the owner and root, NULL = reason */
        char *more, *more_private; /* not stored: addition to both, e.g. processes left behind; NULL = none */
        char *evidence;            /* folder with the stacks of a hang, NULL = none */
};

struct attempt_run; /* daemon/attempt/run.h: state of an open attempt */
struct waiter;

#define JOB_MEMBER(since, type, member, ...) type member;
struct job {
        uint64_t id;
        JOB_STORED(JOB_MEMBER)
        char *status;             /* status reported by the attempt, not stored; NULL = none */
        struct attempt attempt;   /* the newest */
        struct attempt *previous; /* the previous one, NULL = none, or not needed because `attempt` has ended */

        /* Ascending by step. In memory are the newest good row and those not durable yet; the whole ledger only between
         * store_load_ledger and job_ledger_trim. */
        struct checkpoint *ledger;
        size_t n_ledger;
        bool ledger_whole;
        struct policy_death *history;
        size_t n_history;

        /* Not stored. */
        bool dirty, attempt_dirty;
        bool stop_due; /* send the stop to the shim after the commit */
        enum exit_phase exit_phase;
        uint64_t exit_pause,
                exit_after;      /* on_exit could not be started: pause and time of the next try, on CLOCK_BOOTTIME */
        uint64_t wake_boottime;  /* JOB_BACKOFF: time of the retry, on CLOCK_BOOTTIME */
        struct queue_entry wait; /* JOB_QUEUED: result of the last planning */
        struct attempt_run *run;
        struct waiter *waiters;
        size_t texts; /* bytes counted by the store against its user's share */
};

/* Hosts that run it: 1 for a job of this host alone. More: it is started by bertd-gang. */
uint32_t job_n_hosts(const struct job *job);

/* bertd starts it by mpirun. */
static inline bool job_uses_mpirun(const struct job *job) {
        return (job->kind != JOB_COMMAND && job->ranks > 1) || job_n_hosts(job) > 1;
}

/* On this host. */
/* Of a job of another host: never retried, paused or resumed. Shown as kind "lease"; otherwise a command. */
#define JOB_KIND_LEASE "lease"
static inline bool job_is_lease(const struct job *job) { return job->lease_of != NULL; }

static inline uint64_t job_slots(const struct job *job) { return (uint64_t) job->ranks * job->threads; }

/* One shared copy per text; NULL without memory or for NULL. Reference counted; pair each call with text_unshare. */
const char *text_shared(const char *text);
void text_unshare(const char *text);

/* Sets an owned text of a job or attempt (NULL or "" = none), as UTF-8 and cut to BERTD_REASON_MAX bytes; without
 * memory it becomes NULL. */
void job_set_text(char **to, const char *text);

/* Both at once; `private` NULL or the same as reason: reason. */
void job_set_reason(struct job *job, const char *reason, const char *private);
void attempt_set_reason(struct attempt *attempt, const char *reason, const char *private);
/* The reason for the owner and root; NULL = none. */
static inline const char *job_private(const struct job *job) { return job->private ? job->private : job->reason; }
static inline const char *attempt_private(const struct attempt *a) { return a->private ? a->private : a->reason; }

/* Bytes of all its texts in memory. */
size_t job_texts(const struct job *job);
/* Frees or shortens dispensable texts, so that BERTD_TEXTS_OF_UID_MAX holds whatever attempts report. Its rows must be
 * durable. */
void job_shrink(struct job *job);
void attempt_clear(struct attempt *attempt); /* the contents, not the struct */

/* Makes room for a new attempt: the newest becomes the previous (dropped without memory), `attempt` is cleared. */
void job_push_attempt(struct job *job);
/* The last ended attempt; NULL: none. */
const struct attempt *job_last_ended(const struct job *job);

/* The part of the ledger in memory. job_checkpoint returns NULL if there is no such row; add replaces the row of the
 * same step (−ENOMEM; −ENOSPC: older than all of a full ledger). */
struct checkpoint *job_checkpoint(const struct job *job, uint64_t step);
int job_checkpoint_add(struct job *job, const struct checkpoint *row);
/* The newest good one, or if there is none the newest unconfirmed one; NULL: none. */
const struct checkpoint *job_newest_good(const struct job *job);
struct checkpoint *job_newest_until(const struct job *job, uint64_t step); /* the same among those of at most `step` */
bool checkpoint_is_usable(const struct checkpoint *checkpoint); /* an attempt may start from it: good or unconfirmed */
/* Frees rows that need not be in memory. Invalidates pointers to rows. */
void job_ledger_trim(struct job *job);

/* Appends the newest attempt's death to the history (bounded: drops the oldest). */
int job_history_add(struct job *job, const struct policy_death *death);
/* An ended attempt as input of the policy. */
struct policy_death job_death(const struct attempt *attempt);

/* Whether it (or its program) has ever reported progress; whether it has completed a step. */
bool job_reports(const struct job *job);
bool job_has_stepped(const struct job *job);

/* Adds wall time lost by a death of this class. */
void job_lose(struct job *job, enum exit_class exit_class, uint64_t usec);
/* "killed=12500000 oom=300": lost_usec as stored in state.db, "" = none; NULL: no memory. Unknown words are skipped. */
char *job_lost_text(const struct job *job);
void job_set_lost(struct job *job, const char *text);

/* The counters of its deaths. */
static inline struct policy_counters job_counters(const struct job *job) {
        return (struct policy_counters) { .costing = (uint32_t) job->deaths, .free = (uint32_t) job->free_deaths };
}
void job_set_counters(struct job *job, struct policy_counters counters);

/* A new job with initial values. NULL: no memory. */
struct job *job_new(void);
void job_free(struct job *job);

/* Saves what an undoable change alters, with the ledger in memory. −ENOMEM. */
struct job_saved {
        struct job job; /* owns copies of reasons and ledger, nothing else */
};
int job_save(const struct job *job, struct job_saved *ret);
void job_restore(struct job *job, struct job_saved *saved); /* takes what `saved` owns */
void job_saved_free(struct job_saved *saved);

/* Total size of a string vector with its NULs, packed into one block. NULL without words or memory. */
char *pack_strings(char *const *words, size_t *ret_size);
/* The next word of a packed block after `word` (NULL: the first), or NULL at the end. */
const char *packed_next(const char *block, size_t size, const char *word);
/* A NULL-terminated vector that points into the block; the caller frees the vector alone. NULL: no memory. */
char **unpack_strings(const char *block, size_t size);

#endif
