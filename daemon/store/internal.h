/* Shared by the files of the store: open.c, read.c, store.c. For daemon/store/ only. */
#ifndef DAEMON_STORE_INTERNAL_H
#define DAEMON_STORE_INTERNAL_H

#include <sqlite3.h>

#include "daemon/store/store.h"
#include "daemon/store/sql.h"

struct pending_event {
        uint64_t job, time, step, lost;
        enum job_state from, to;
        int exit_class; /* −1: no attempt ended */
        char *what, *reason, *private;
};

struct removal {
        uint64_t id;
        enum job_state state;
        bool held, lease;
};

/* Memory used by a user's jobs. */
struct usage {
        uid_t uid;
        size_t jobs, texts; /* texts: bytes */
};

struct gone {
        uint64_t id;
        uint32_t next; /* see store_trash_done */
};

struct store {
        sqlite3 *db;
        sqlite3_stmt *statements[STATEMENT_MAX];
        void (*log)(const char *text);
        char instance[17];
        struct job **jobs; /* in memory, sorted by id */
        size_t n_jobs, room;
        struct usage *usage; /* per user with jobs in memory */
        size_t n_usage, texts;
        struct job **marked,
                **flushed; /* `room` entries each: jobs to write in the next flush; written by the last one */
        size_t n_marked, n_flushed;
        uint64_t ended[JOB_STATE_MAX]; /* number of jobs only in the database, by state */
        struct pending_event *events;
        size_t n_events, events_room;
        uint64_t noted;           /* events, ever */
        struct removal *removals; /* for the next flush */
        size_t n_removals;
        uint64_t held;                   /* of `ended`: with checkpoints */
        uint64_t leases;                 /* of `ended`: leases, which keep_ended does not count */
        uint64_t expired_leases;         /* by this flush */
        uint64_t keep_ended;             /* number of others to keep, 0: all */
        uint64_t expired[JOB_STATE_MAX]; /* by this flush */
        uint64_t trash;                  /* rows of trash */
        struct gone *gone;               /* rows whose folders were removed, until the next flush */
        size_t n_gone;
        bool dirty;
        int wal_pages;        /* after the last commit */
        size_t inputs;        /* bytes of the new jobs in the open transaction */
        bool begun;           /* a transaction is open */
        struct error failure; /* code > 0: one of its statements failed, so it cannot be committed */
};

/* store.c */
/* Prepared at its first use: an idle daemon needs none. NULL only for want of memory, of which SQLite's error speaks.
 */
sqlite3_stmt *store_statement(struct store *store, int statement);
int store_keep(struct store *store, struct job *job); /* adds it to memory; −ENOMEM */

/* prune.c: in a flush's transaction */
int store_count_event(struct store *store, uint64_t job, struct error *error); /* after one was written: prunes */
int store_drop_attempts(struct store *store, const struct job *job, struct error *error); /* that are too old now */
int store_expire(struct store *store,
                 struct error *error); /* removes a few of the oldest ended jobs beyond keep_ended */
int store_forget_trash(struct store *store, struct error *error); /* rows of `gone` */

/* share.c: adds a job to memory (−ENOMEM), recounts, removes it. May shrink it if its rows are durable. */
int store_count_in(struct store *store, struct job *job);
void store_count_again(struct store *store, struct job *job);
void store_count_out(struct store *store, const struct job *job);

/* prune.c: queues the folders of attempts first to last, or of the job if first is 0, for removal; the job's row must
 * still exist */
int store_add_trash(struct store *store, uint64_t job, uint64_t first, uint64_t last, struct error *error);

/* read.c: at the start */
int store_read_open(struct store *store, struct error *error);
int store_read_counts(struct store *store, struct error *error);
int store_read_owed(struct store *store,
                    struct error *error); /* loads ended jobs whose on_exit is owed; after the counts */

#endif
