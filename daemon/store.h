/*
 * state.db: every job, attempt, checkpoint and event (contracts C3, C4). In memory are the jobs that have not ended, and ended
 * ones until they are durable and store_release has come by; an ended job is read from the database when it is asked for.
 *
 * Who owns a struct job: the store, when store_find, store_at or store_insert gave it; it stays until store_release or
 * store_remove, so a pointer holds for one iteration of the loop. The caller, when store_load gave it: job_free, or store_adopt,
 * which makes it the store's.
 *
 * Life cycle:
 *   1. store_open loads what is open. An older database is migrated in one transaction. A database of a newer version, or on a network file system, is refused.
 *   2. store_insert: one durable transaction; the job exists once it returns 0.
 *   3. A transition changes the struct in memory, then store_note queues its event row and marks the job; store_flush writes
 *      all that is marked in one transaction. When it fails nothing is lost: memory is the truth, and the next flush tries all
 *      of it again. Nothing may be launched while store_pending().
 *   4. store_remove deletes an ended job, store_free closes.
 */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/job.h"
#include "daemon/submit.h"

#define STORE_VERSION 2
#define STORE_PENDING_MAX 65536 /* event rows kept while the disk is full; the oldest go first */

struct store;

/* `log` is told of rows that cannot be used; they are left out, never fatal. Without `may_create` a database that is missing or
 * empty is refused: jobs are known to have been in it. */
int store_open(const char *path, bool may_create, void (*log)(const char *text), struct store **ret,
               struct error *error);
void store_free(struct store *store);

/* 16 hex digits that name this state folder, made once. Borrowed. */
const char *store_instance(const struct store *store);

/* The jobs in memory. */
size_t store_count(const struct store *store);
struct job *store_at(const struct store *store, size_t i);      /* ascending ids */
struct job *store_find(const struct store *store, uint64_t id); /* NULL: none */

/* An ended job from the database, with its newest attempt and newest good checkpoint. −ENOENT: no such job. */
int store_load(struct store *store, uint64_t id, struct job **ret, struct error *error);
/* Takes a loaded job: it is about to be open again. −ENOMEM: it stays the caller's. */
int store_adopt(struct store *store, struct job *job);
/* Reads what of the job's ledger is not in memory, until job_ledger_trim or the next commit. */
int store_load_ledger(struct store *store, struct job *job, struct error *error);
/* Frees the ended jobs whose rows are all durable. Nobody may hold a pointer to one. */
void store_release(struct store *store);

/* Calls back for the jobs with id < first (0: the newest), newest first, at most `max`; only open ones where `open` says so. An
 * ended job is lent for the call, its ledger holds its newest good checkpoint alone. A negative return ends it. */
int store_page(struct store *store, uint64_t first, uint32_t max, bool open,
               int (*row)(void *userdata, const struct job *job), void *userdata, struct error *error);

/* How many jobs there are in each state. */
void store_counts(const struct store *store, uint64_t counts[JOB_STATE_MAX]);

/* Takes nothing of `submission`; `*ret` belongs to the store. */
int store_insert(struct store *store, const struct submission *submission, uid_t uid, gid_t gid, const char *user,
                 enum launcher_kind launcher, struct job **ret, struct error *error);

/* Marks the job's rows and queues an event row: from → to, what, reason ("" = none); where the transition ends an attempt, with
 * its exit class and the steps that it lost. */
void store_note(struct store *store, struct job *job, enum job_state from, const char *what, const char *reason);
void store_mark(struct store *store, struct job *job); /* rows changed, no event */
bool store_pending(const struct store *store);
int store_flush(struct store *store, struct error *error);

/* The job's inputs; the caller frees. Packed blocks as in job.h. */
int store_load_spec(struct store *store, uint64_t id, char **ret, struct error *error);
struct job_inputs {
        char *environment; /* packed */
        size_t environment_size;
        struct submit_rlimit rlimits[SUBMIT_RLIMITS_MAX];
        uint32_t n_rlimits;
};
int store_load_inputs(struct store *store, uint64_t id, struct job_inputs *ret, struct error *error);

struct event_row {
        uint64_t id, time;
        const char *from, *to, *what, *reason;
        const char *exit_class; /* empty: no attempt ended */
        uint64_t step, lost;
};
/* Calls back for each event of the job after event `after`, oldest first, at most `max`; a negative return ends it. */
int store_events(struct store *store, uint64_t job, uint64_t after, uint32_t max,
                 int (*row)(void *userdata, const struct event_row *event), void *userdata, struct error *error);

/* Deletes the rows of an ended job. One of the store's is freed; a loaded one stays the caller's. */
int store_remove(struct store *store, const struct job *job, struct error *error);

#endif
