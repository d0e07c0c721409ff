/*
 * Role: prunes state.db so that it cannot fill up: attempts and events of a job between the oldest and the newest, and
 * ended jobs beyond a number. All of it is part of a flush's transaction. Folders are removed later: the same
 * transaction writes a row of `trash`, which is deleted when the folder is gone, so that no folder is left if bertd is
 * killed in between. Owns nothing. Invariants: the oldest and the newest rows of a job stay; one event row, after the
 * oldest, gives the number of the others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/db.h"
#include "daemon/base/loop.h"
#include "daemon/rules/states.h"
#include "daemon/store/internal.h"

#define EXPIRE_MAX 32      /* ended jobs removed per flush, because the loop blocks meanwhile */
#define LEASES_KEPT 64     /* ended ones */
#define TRASH_ROWS_MAX 256 /* with this many folders waiting, no further job is removed */

static void bind_u64(sqlite3_stmt *s, int i, uint64_t v) {
        (void) sqlite3_bind_int64(s, i, (sqlite3_int64) MIN(v, (uint64_t) INT64_MAX));
}

/* Reads the first columns of the one row, all integers. 1; 0: no row. */
static int read_row(sqlite3_stmt *s, uint64_t *columns, int n, struct error *error) {
        int code = sqlite3_step(s), r = code == SQLITE_ROW;

        if (code != SQLITE_ROW && code != SQLITE_DONE)
                r = db_error(error, sqlite3_db_handle(s), "SQLite");
        for (int i = 0; r > 0 && i < n; i++)
                columns[i] = (uint64_t) sqlite3_column_int64(s, i);
        db_clear(s);
        return r;
}

/* Counts dropped rows and writes the row with their number: at `event`, at its old place, or as the newest. */
static int note_dropped(struct store *store, uint64_t job, uint64_t events, uint64_t attempts, uint64_t event,
                        uint64_t time, struct error *error) {
        sqlite3_stmt *count = store_statement(store, STATEMENT_COUNT_DROPPED),
                     *note = store_statement(store, STATEMENT_DROP_NOTE);

        bind_u64(count, 1, job);
        bind_u64(count, 2, events);
        bind_u64(count, 3, attempts);
        bind_u64(count, 4, event);
        int r = db_run(count, error);
        bind_u64(note, 1, job);
        bind_u64(note, 2, time);
        return r < 0 ? r : db_run(note, error);
}

/* Replaces the event after the oldest with that row. */
static int drop_event(struct store *store, uint64_t job, uint64_t note, struct error *error) {
        sqlite3_stmt *find = store_statement(store, STATEMENT_DOOMED_EVENT),
                     *drop = store_statement(store, STATEMENT_DROP_EVENT);
        uint64_t doomed[2];

        bind_u64(find, 1, job);
        bind_u64(find, 2, note);
        int r = read_row(find, doomed, 2, error);
        if (r <= 0)
                return r;
        bind_u64(drop, 1, doomed[0]);
        bind_u64(drop, 2, note);
        r = db_run(drop, error);
        return r < 0 ? r : note_dropped(store, job, 1, 0, doomed[0], doomed[1], error);
}

int store_count_event(struct store *store, uint64_t job, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_COUNT_EVENT);
        uint64_t row[2]; /* number of events, and the id of the row about dropped ones */

        bind_u64(s, 1, job);
        int r = read_row(s, row, 2, error);
        if (r <= 0 || row[0] <= BERTD_EVENTS_HEAD + BERTD_EVENTS_TAIL)
                return r;
        return drop_event(store, job, row[1], error);
}

int store_add_trash(struct store *store, uint64_t job, uint64_t first, uint64_t last, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_TRASH);

        bind_u64(s, 1, job);
        bind_u64(s, 2, first);
        bind_u64(s, 3, last);
        store->trash++;
        return db_run(s, error);
}

int store_drop_attempts(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_DROP_ATTEMPTS);
        uint64_t newest = job->attempt.number, n = 0, first = 0, last = 0;
        int r = 0, code = SQLITE_DONE;

        if (newest <= BERTD_ATTEMPTS_HEAD + BERTD_ATTEMPTS_TAIL)
                return 0;
        bind_u64(s, 1, job->id);
        bind_u64(s, 2, newest);
        (void) sqlite3_bind_int(s, 3, EXIT_CLASS_WAIT);
        while (r >= 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                uint64_t number = (uint64_t) sqlite3_column_int64(s, 0);
                if (n++ > 0 && number != last + 1)
                        r = store_add_trash(store, job->id, first, last, error);
                first = n == 1 || number != last + 1 ? number : first;
                last = number;
        }
        if (r >= 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "attempts");
        (void) sqlite3_reset(s);
        if (r < 0 || n == 0)
                return r;
        r = store_add_trash(store, job->id, first, last, error);
        return r < 0 ? r : note_dropped(store, job->id, 0, n, 0, loop_realtime(), error);
}

/* ---- ended jobs ---- */

/* Includes jobs in memory: this flush writes their ends to the database and may remove them again. */
static uint64_t count_surplus(const struct store *store) {
        uint64_t n = 0;

        for (int state = 0; state < JOB_STATE_MAX; state++)
                n += store->ended[state];
        n -= store->held + store->leases;
        if (n + store->n_jobs <= store->keep_ended)
                return 0;
        for (size_t i = 0; i < store->n_jobs; i++)
                n += state_has_ended(store->jobs[i]->state) && !store->jobs[i]->holds_checkpoints &&
                     !job_is_lease(store->jobs[i]);
        for (size_t i = 0; i < store->n_removals; i++)
                n -= !store->removals[i].held && !store->removals[i].lease;
        return n > store->keep_ended ? n - store->keep_ended : 0;
}

struct oldest {
        uint64_t id;
        int state;
};

/* At most `max` of the oldest; skips jobs that are still in memory. */
static int find_oldest(struct store *store, int statement, struct oldest *ret, size_t max, size_t *ret_n,
                       struct error *error) {
        sqlite3_stmt *s = store_statement(store, statement);
        int code = SQLITE_DONE;

        *ret_n = 0;
        bind_u64(s, 1, max);
        if (statement == STATEMENT_OLDEST_LEASES)
                bind_u64(s, 2, LEASES_KEPT);
        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                uint64_t id = (uint64_t) sqlite3_column_int64(s, 0);
                if (!store_find(store, id))
                        ret[(*ret_n)++] =
                                (struct oldest) { id, job_state_from_name((const char *) sqlite3_column_text(s, 1)) };
        }
        int r = code == SQLITE_DONE ? 0 : db_error(error, store->db, "jobs");
        (void) sqlite3_reset(s);
        return r;
}

static int expire(struct store *store, const struct oldest *oldest, size_t n, struct error *error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++) {
                sqlite3_stmt *s = store_statement(store, STATEMENT_REMOVE);
                r = store_add_trash(store, oldest[i].id, 0, 0, error);
                bind_u64(s, 1, oldest[i].id);
                if (r >= 0)
                        r = db_run(s, error);
                store->expired[oldest[i].state]++;
        }
        return r;
}

/* Of those that another host's jobs leave here, however often they start, the newest are kept. */
static int expire_leases(struct store *store, struct error *error) {
        struct oldest oldest[EXPIRE_MAX];
        size_t n = 0;

        if (store->leases <= LEASES_KEPT || store->trash >= TRASH_ROWS_MAX)
                return 0;
        int r = find_oldest(store, STATEMENT_OLDEST_LEASES, oldest, EXPIRE_MAX, &n, error);
        store->expired_leases += n;
        return r < 0 ? r : expire(store, oldest, n, error);
}

int store_expire(struct store *store, struct error *error) {
        struct oldest oldest[EXPIRE_MAX];
        size_t n = 0;
        uint64_t surplus = store->keep_ended > 0 && store->trash < TRASH_ROWS_MAX ? count_surplus(store) : 0;

        int r = expire_leases(store, error);
        if (r >= 0 && surplus > 0)
                r = find_oldest(store, STATEMENT_OLDEST_ENDED, oldest, MIN(surplus, (uint64_t) EXPIRE_MAX), &n, error);
        return r < 0 ? r : expire(store, oldest, n, error);
}

void store_keep_ended(struct store *store, uint64_t keep) {
        store->keep_ended = keep;
        if (count_surplus(store) > 0)
                store->dirty = true;
}

uint64_t store_held(const struct store *store) {
        uint64_t n = store->held;

        for (size_t i = 0; i < store->n_jobs; i++)
                n += store->jobs[i]->holds_checkpoints;
        return n;
}

/* ---- folders ---- */

bool store_has_trash(const struct store *store) { return store->trash > 0; }

int store_trash(struct store *store, const uid_t *busy, size_t n_busy,
                int (*row)(void *userdata, const struct trash_row *trash), void *userdata, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_TRASH_NEXT);
        int r = 0, code = SQLITE_DONE;

        for (size_t i = 0; i < n_busy && i < TRASH_BUSY_MAX; i++)
                bind_u64(s, (int) i + 1, busy[i]);
        for (size_t i = n_busy; i < TRASH_BUSY_MAX; i++)
                (void) sqlite3_bind_int64(s, (int) i + 1, -1);
        while (r >= 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct trash_row trash = {
                        .id = (uint64_t) sqlite3_column_int64(s, 0),
                        .job = (uint64_t) sqlite3_column_int64(s, 1),
                        .first = (uint32_t) sqlite3_column_int64(s, 2),
                        .last = (uint32_t) sqlite3_column_int64(s, 3),
                        .uid = (uid_t) sqlite3_column_int64(s, 4),
                        .gid = (gid_t) sqlite3_column_int64(s, 5),
                        .user = (const char *) sqlite3_column_text(s, 6),
                };
                r = row(userdata, &trash);
        }
        if (r >= 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "trash");
        (void) sqlite3_reset(s);
        return r;
}

int store_trash_done(struct store *store, uint64_t id, uint32_t next) {
        if (array_resize(&store->gone, store->n_gone + 1, sizeof(*store->gone)) < 0)
                return -ENOMEM;
        store->gone[store->n_gone++] = (struct gone) { id, next };
        store->dirty = true;
        return 0;
}

int store_forget_trash(struct store *store, struct error *error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < store->n_gone; i++) {
                const struct gone *gone = &store->gone[i];
                sqlite3_stmt *s = store_statement(store, gone->next > 0 ? STATEMENT_TRASH_LESS : STATEMENT_TRASH_DONE);
                bind_u64(s, 1, gone->id);
                if (gone->next > 0)
                        bind_u64(s, 2, gone->next);
                r = db_run(s, error);
                store->trash -= gone->next == 0;
        }
        return r;
}
