/*
 * state.db: every job, attempt, checkpoint and event (contracts C3, C4). In memory are open jobs, and ended ones until
 * they are durable, their on_exit has been started and store_release was called; other ended jobs are read from the
 * database on demand.
 *
 * Owner of a struct job: the store, if it came from store_find, store_at or store_insert; it lives until store_release
 * or store_remove, so a pointer is valid for one iteration of the loop. The caller, if it came from store_load: free it
 * with job_free, or pass it to the store with store_adopt.
 *
 * Life cycle:
 *   1. store_open loads what is open. An older database is copied to PATH.schema-N (copies.h) and migrated in one
 * transaction (migrate.h). A database of a newer schema, or on a network file system, is refused.
 *   2. store_insert puts a new job into the open transaction; it exists once store_flush has returned 0. store_drop
 * takes it back.
 *   3. A transition changes the struct in memory, then store_note queues its event row and marks the job; store_flush
 * writes all that is marked, inserted and removed in one transaction. If it fails the marks stay: memory is
 * authoritative, and the next flush retries everything. To undo a marked change call store_forget_notes, job_restore
 * and store_undone. Nothing may be launched while store_pending().
 *   4. store_remove deletes an ended job with the next flush, store_drop_removed frees it then; store_free closes.
 */
#ifndef DAEMON_STORE_STORE_H
#define DAEMON_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/scheduling.h"
#include "daemon/rules/job.h"
#include "daemon/rules/submission.h"

#define STORE_PENDING_MAX 65536 /* event rows kept while the disk is full; beyond that the oldest are dropped */

struct store;

/* `log` gets a line per damaged row, which is skipped, never fatal. Without `may_create` a missing or empty database is
 * refused, because it must have had jobs. */
int store_open(const char *path, bool may_create, void (*log)(const char *text), struct store **ret,
               struct error *error);
void store_free(struct store *store);

/* 16 hex digits that identify this state folder, created once. Borrowed. */
const char *store_instance(const struct store *store);

/* The jobs in memory. */
size_t store_count(const struct store *store);
struct job *store_at(const struct store *store, size_t i);      /* ascending ids */
struct job *store_find(const struct store *store, uint64_t id); /* NULL: none */

/* An ended job from the database, with its newest attempt and newest good checkpoint. −ENOENT: no such job. */
int store_load(struct store *store, uint64_t id, struct job **ret, struct error *error);
/* Takes a loaded job that becomes open again. −ENOMEM: the caller keeps it. */
int store_adopt(struct store *store, struct job *job);
/* Reads the rest of the job's ledger into memory, until job_ledger_trim or the next commit. */
int store_load_ledger(struct store *store, struct job *job, struct error *error);
/* Frees ended jobs whose rows are all durable. Invalidates pointers to them. */
void store_release(struct store *store);

/* Calls back for the jobs with id < first (0: the newest), newest first, at most `max`; only open ones if `open`. An
 * ended job is valid only during the call, its ledger has only its newest good checkpoint. A non-zero return ends it
 * and is returned. */
int store_page(struct store *store, uint64_t first, uint32_t max, bool open,
               int (*row)(void *userdata, const struct job *job), void *userdata, struct error *error);

/* The newest job of that name, preferably of the user; 0: none. */
int store_find_name(struct store *store, const char *name, uid_t uid, uint64_t *ret_id, struct error *error);

/* Number of jobs in each state. */
void store_counts(const struct store *store, uint64_t counts[JOB_STATE_MAX]);

/* Whether the job's user may have it in addition to those in memory: −EDQUOT with the bound and the cure. And whether
 * there is space for more bytes of its texts, which are recounted. */
int store_check_share(const struct store *store, const struct job *job, struct error *error);
bool store_has_room(struct store *store, struct job *job, size_t size);

/* −EDQUOT as above. Takes nothing of `submission`; `*ret` belongs to the store. After a failure the whole transaction
 * fails in store_flush. */
int store_insert(struct store *store, const struct submission *submission, uid_t uid, gid_t gid, const char *user,
                 enum launcher_kind launcher, struct job **ret, struct error *error);

/* Marks the job's rows and queues an event row: from → to, what, reason ("" = none); if the transition ends an attempt,
 * with its exit class and lost steps. */
void store_note(struct store *store, struct job *job, enum job_state from, const char *what, const char *reason);
/* The same with both reasons of the job. */
void store_note_move(struct store *store, struct job *job, enum job_state from, const char *what);
void store_mark(struct store *store, struct job *job); /* rows changed, no event */
bool store_pending(const struct store *store);
/* Whether enough is inserted for one flush, so that others should wait. */
bool store_is_heavy(const struct store *store);
/* Takes the write lock of state.db for the next flush. −EBUSY: another program has it. Never blocks. */
int store_begin(struct store *store, struct error *error);
int store_flush(struct store *store, struct error *error);
struct job *store_flushed(const struct store *store, size_t i); /* jobs written by the last flush; NULL: no more */

/* Undo after a failed flush: the number of events ever noted; drops the newest `n` of them; drops an inserted job; with
 * all jobs restored, the remaining marks are pending. */
uint64_t store_noted(const struct store *store);
void store_forget_notes(struct store *store, uint64_t n);
void store_drop(struct store *store, struct job *job);
void store_undone(struct store *store);

/* A setting, written with the next flush; NULL: none. The caller frees what is loaded; NULL: not set. */
int store_set_setting(struct store *store, const char *key, const char *value, struct error *error);
int store_load_setting(struct store *store, const char *key, char **ret, struct error *error);

/* ---- what is not kept (include/bertd/job.h has the numbers) ---- */

/* From now on flushes remove ended jobs beyond `keep` (0: none), oldest end first, a few at a time; a job with
 * checkpoints is kept and does not count. */
void store_keep_ended(struct store *store, uint64_t keep);
uint64_t store_held(const struct store *store); /* ended jobs kept for their checkpoints */

/* A folder without rows that must be removed: of attempts first to last, or of the whole job if first is 0. */
struct trash_row {
        uint64_t id, job;
        uint32_t first, last;
        uid_t uid;
        gid_t gid;
        const char *user; /* borrowed for the call */
};
#define TRASH_BUSY_MAX 16
bool store_has_trash(const struct store *store);
/* Calls back for each, oldest first, except for users in `busy`; a negative return ends it and is returned. */
int store_trash(struct store *store, const uid_t *busy, size_t n_busy,
                int (*row)(void *userdata, const struct trash_row *trash), void *userdata, struct error *error);
/* It was removed, if next > 0 up to that attempt: the next flush deletes its row. −ENOMEM. */
int store_trash_done(struct store *store, uint64_t id, uint32_t next);

/* Number of starts of the job after `after` until `until`, and the first of them, since its submission or its user's
 * last resume; among the newest POLICY_STARTS_MAX attempts. */
int store_starts(struct store *store, const struct job *job, uint64_t after, uint64_t until, uint32_t *ret_n,
                 uint64_t *ret_oldest, struct error *error);

/* Whether an attempt before the newest executed the job's program. Attempts with the newest's exit class and code do
 * not count. */
int store_has_run(struct store *store, const struct job *job, bool *ret, struct error *error);

/* The job's inputs; the caller frees. Packed blocks as in job.h. */
int store_load_spec(struct store *store, uint64_t id, char **ret, struct error *error);
/* NULL and 0: not a command. */
int store_load_command(struct store *store, uint64_t id, char **ret, size_t *ret_size, struct error *error);
struct job_inputs {
        char *environment; /* packed */
        size_t environment_size;
        struct job_rlimit rlimits[JOB_RLIMITS_MAX];
        uint32_t n_rlimits;
        char cpu_list[BERTD_CPU_LIST_MAX + 1]; /* empty: any CPU */
        char scheduling[SCHEDULING_MAX];
};
int store_load_inputs(struct store *store, uint64_t id, struct job_inputs *ret, struct error *error);

struct event_row {
        uint64_t id, time;
        const char *from, *to, *what, *reason, *private; /* private: never NULL */
        const char *exit_class;                          /* empty: no attempt ended */
        uint64_t step, lost;
};
/* Calls back for each event of the job after event `after`, oldest first, at most `max`; a non-zero return ends it and
 * is returned. */
int store_events(struct store *store, uint64_t job, uint64_t after, uint32_t max,
                 int (*row)(void *userdata, const struct event_row *event), void *userdata, struct error *error);

/* Deletes the rows of an ended job with the next flush; −ENOMEM. Dropped if that flush fails. */
int store_remove(struct store *store, const struct job *job);
/* Whether the next flush removes it. */
bool store_is_removed(const struct store *store, uint64_t id);
/* After a successful flush: frees removed jobs in memory. Invalidates pointers to them. */
void store_drop_removed(struct store *store);

#endif
