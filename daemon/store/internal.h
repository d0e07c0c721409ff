/* What the files of the store share: open.c, read.c, store.c. Nobody else includes it. */
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
        bool held;
};

/* What a user's jobs in memory take. */
struct usage {
        uid_t uid;
        size_t jobs, texts; /* texts: bytes */
};

struct gone {
        uint64_t id;
        uint32_t next; /* as store_trash_done has it */
};

struct store {
        sqlite3 *db;
        sqlite3_stmt *statements[STATEMENT_MAX];
        void (*log)(const char *text);
        char instance[17];
        struct job **jobs; /* in memory, sorted by id */
        size_t n_jobs, room;
        struct usage *usage; /* of each user who has jobs in memory */
        size_t n_usage, texts;
        struct job **marked, **flushed; /* of `room` each: to be written by the next flush; by the last one */
        size_t n_marked, n_flushed;
        uint64_t ended[JOB_STATE_MAX]; /* jobs that are only in the database, by state */
        struct pending_event *events;
        size_t n_events, events_room;
        uint64_t noted;           /* events, ever */
        struct removal *removals; /* by the flush to come */
        size_t n_removals;
        uint64_t held;                   /* of `ended`: those that hold checkpoints */
        uint64_t keep_ended;             /* of the others, 0: all */
        uint64_t expired[JOB_STATE_MAX]; /* by this flush */
        uint64_t trash;                  /* rows of trash */
        struct gone *gone;               /* those whose folders have been removed, until the next flush */
        size_t n_gone;
        bool dirty;
        int wal_pages;        /* after the last commit */
        size_t inputs;        /* bytes of the new jobs in the open transaction */
        bool begun;           /* a transaction is open */
        struct error failure; /* code > 0: a statement of it failed, so it cannot be committed */
};

/* store.c */
int store_keep(struct store *store, struct job *job); /* into memory, at its place; −ENOMEM */

/* prune.c: in a flush's transaction */
int store_count_event(struct store *store, uint64_t job, struct error *error); /* one was written: makes room for it */
int store_drop_attempts(struct store *store, const struct job *job,
                        struct error *error);                     /* that its newest has made too old */
int store_expire(struct store *store, struct error *error);       /* the oldest ended jobs beyond keep_ended, a few */
int store_forget_trash(struct store *store, struct error *error); /* rows of `gone` */

/* share.c: a job comes into memory (−ENOMEM), is counted anew, leaves. Where its rows are durable it may be made smaller. */
int store_count_in(struct store *store, struct job *job);
void store_count_again(struct store *store, struct job *job);
void store_count_out(struct store *store, const struct job *job);

/* prune.c: the folders of attempts first to last, or where first is 0 of the job, are to be removed; the job's row is still there */
int store_add_trash(struct store *store, uint64_t job, uint64_t first, uint64_t last, struct error *error);

/* read.c: at the start */
int store_read_open(struct store *store, struct error *error);
int store_read_counts(struct store *store, struct error *error);
int store_read_owed(struct store *store, struct error *error); /* ended jobs whose on_exit is owed; after the counts */

#endif
