/*
 * state.db: every job, attempt, checkpoint and event (contracts C3, C4). In memory are the jobs that have not ended, and ended
 * ones until they are durable, their on_exit has been started and store_release has come by; an ended job is read from the database when it is asked for.
 *
 * Who owns a struct job: the store, when store_find, store_at or store_insert gave it; it stays until store_release or
 * store_remove, so a pointer holds for one iteration of the loop. The caller, when store_load gave it: job_free, or store_adopt,
 * which makes it the store's.
 *
 * Life cycle:
 *   1. store_open loads what is open. An older database is copied to PATH.schema-N (copies.h) and migrated in one transaction
 *      (migrate.h). A database of a newer schema, or on a network file system, is refused.
 *   2. store_insert puts a new job into the open transaction; it exists once store_flush has returned 0. store_drop takes it back.
 *   3. A transition changes the struct in memory, then store_note queues its event row and marks the job; store_flush writes
 *      all that is marked, inserted and removed in one transaction. When it fails the marks stay: memory is the truth, and the next
 *      flush tries all of it again. Whoever undoes what he marked calls store_forget_notes, job_restore and store_undone. Nothing
 *      may be launched while store_pending().
 *   4. store_remove deletes an ended job with the next flush, store_drop_removed frees it then; store_free closes.
 */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/scheduling.h"
#include "daemon/rules/job.h"
#include "daemon/rules/submission.h"

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
 * ended job is lent for the call, its ledger holds its newest good checkpoint alone. A return that is not 0 ends it and is returned. */
int store_page(struct store *store, uint64_t first, uint32_t max, bool open,
               int (*row)(void *userdata, const struct job *job), void *userdata, struct error *error);

/* The newest job of that name, of the user's own if he has one; 0: none. */
int store_find_name(struct store *store, const char *name, uid_t uid, uint64_t *ret_id, struct error *error);

/* How many jobs there are in each state. */
void store_counts(const struct store *store, uint64_t counts[JOB_STATE_MAX]);

/* Whether the job's user may have it beside those in memory: −EDQUOT with the bound and the cure. And whether there is room for so many
 * bytes more of its texts, which are counted as they are now. */
int store_check_share(const struct store *store, const struct job *job, struct error *error);
bool store_has_room(struct store *store, struct job *job, size_t size);

/* −EDQUOT as above. Takes nothing of `submission`; `*ret` belongs to the store. Where it fails the whole transaction will: store_flush says so. */
int store_insert(struct store *store, const struct submission *submission, uid_t uid, gid_t gid, const char *user,
                 enum launcher_kind launcher, struct job **ret, struct error *error);

/* Marks the job's rows and queues an event row: from → to, what, reason ("" = none); where the transition ends an attempt, with
 * its exit class and the steps that it lost. */
void store_note(struct store *store, struct job *job, enum job_state from, const char *what, const char *reason);
/* The same with both of the job's reasons. */
void store_note_move(struct store *store, struct job *job, enum job_state from, const char *what);
void store_mark(struct store *store, struct job *job); /* rows changed, no event */
bool store_pending(const struct store *store);
/* What is inserted by now is enough for one flush: others wait for it. */
bool store_is_heavy(const struct store *store);
/* Takes what only one writer of state.db can have, for the flush to come. −EBUSY: another program has it. Nothing here waits for it. */
int store_begin(struct store *store, struct error *error);
int store_flush(struct store *store, struct error *error);
struct job *store_flushed(const struct store *store, size_t i); /* the jobs that the last flush wrote; NULL: no more */

/* After a flush that failed: what is not to be tried again. How many events were ever noted; the newest `n` of them are forgotten; a
 * job that was inserted goes; with all jobs restored, what is still marked is pending. */
uint64_t store_noted(const struct store *store);
void store_forget_notes(struct store *store, uint64_t n);
void store_drop(struct store *store, struct job *job);
void store_undone(struct store *store);

/* ---- what is not kept (include/bertd/job.h has the numbers) ---- */

/* From now on flushes remove ended jobs beyond `keep` (0: none), those that ended first before others, a few at a time; a job that
 * holds checkpoints stays and does not count. */
void store_keep_ended(struct store *store, uint64_t keep);
uint64_t store_held(const struct store *store); /* ended jobs that stay for their checkpoints */

/* A folder whose rows are gone, and that nobody has removed yet: of attempts first to last, of the whole job where first is 0. */
struct trash_row {
        uint64_t id, job;
        uint32_t first, last;
        uid_t uid;
        gid_t gid;
        const char *user; /* borrowed for the call */
};
#define TRASH_BUSY_MAX 16
bool store_has_trash(const struct store *store);
/* Calls back for each, oldest first, but for users in `busy`; a negative return ends it and is returned. */
int store_trash(struct store *store, const uid_t *busy, size_t n_busy,
                int (*row)(void *userdata, const struct trash_row *trash), void *userdata, struct error *error);
/* It has been removed, where next > 0 up to that attempt: the next flush forgets it. −ENOMEM. */
int store_trash_done(struct store *store, uint64_t id, uint32_t next);

/* How often the job was started after `after` until `until`, and when first, since its submission or its user's last resume; of the newest
 * POLICY_STARTS_MAX attempts. */
int store_starts(struct store *store, const struct job *job, uint64_t after, uint64_t until, uint32_t *ret_n,
                 uint64_t *ret_oldest, struct error *error);

/* Was the job's program executed by an attempt before its newest? One with the newest's exit class and code does not tell. */
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
/* Calls back for each event of the job after event `after`, oldest first, at most `max`; a return that is not 0 ends it and is returned. */
int store_events(struct store *store, uint64_t job, uint64_t after, uint32_t max,
                 int (*row)(void *userdata, const struct event_row *event), void *userdata, struct error *error);

/* Deletes the rows of an ended job with the next flush; −ENOMEM. Where that fails it is forgotten. */
int store_remove(struct store *store, const struct job *job);
/* It is to be removed by the flush to come. */
bool store_is_removed(const struct store *store, uint64_t id);
/* After a flush that succeeded: frees the removed jobs that are in memory. Nobody may hold a pointer to one. */
void store_drop_removed(struct store *store);

#endif
