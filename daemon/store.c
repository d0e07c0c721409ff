/*
 * See store.h. Role: the one writer of state.db. Owns the connection, its statements, every struct job and the queue of event
 * rows that are not yet durable.
 * Invariants: jobs are sorted by id; a flush is one transaction and leaves either nothing marked or everything as it was;
 * memory is never behind the database.
 */
#include "daemon/store.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statfs.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/db.h"
#include "common/file.h"
#include "daemon/states.h"
#include "daemon/store_sql.h"

struct pending_event {
        uint64_t job, time;
        enum job_state from, to;
        char *what, *reason;
};

struct store {
        sqlite3 *db;
        sqlite3_stmt *statements[STATEMENT_MAX];
        char instance[17];
        struct job **jobs;
        size_t n_jobs, room;
        struct pending_event *events;
        size_t n_events, events_room;
        bool dirty;
};

/* ---- opening ---- */

static int refuse_network(const char *path, struct error *error) {
        /* NFS, SMB, CIFS, AFS, 9p, Lustre, Ceph, GPFS: their locks do not hold what WAL needs. */
        static const unsigned types[] = { 0x6969,     0x517b,     0xff534d42, 0xfe534d42, 0x5346414f,
                                          0x01021997, 0x0bd00bd0, 0x00c36400, 0x47504653 };
        struct statfs fs;
        const char *slash = strrchr(path, '/');
        cleanup_free char *folder = slash && slash != path ? strndup(path, (size_t) (slash - path)) : strdup("/");

        if (!folder || statfs(folder, &fs) < 0)
                return error_errno(error, folder ? errno : ENOMEM, "%s", path);
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if ((unsigned) fs.f_type == types[i])
                        return error_set(error, ENOTSUP, "%s: on a network file system; give a local --state-dir",
                                         path);
        return 0;
}

static int read_int(sqlite3 *db, const char *sql, int64_t *ret, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        int r = db_prepare(db, sql, &s, error);
        if (r < 0)
                return r;
        if (sqlite3_step(s) != SQLITE_ROW)
                return db_error(error, db, "SQLite");
        *ret = sqlite3_column_int64(s, 0);
        return 0;
}

static int prepare_schema(sqlite3 *db, const char *path, struct error *error) {
        int64_t version = 0;

        int r = read_int(db, "PRAGMA user_version", &version, error);
        if (r < 0)
                return r;
        if (version > STORE_VERSION)
                return error_set(error, ENOTSUP, "%s: written by a newer bertd (schema %" PRIi64 ", this one knows %d)",
                                 path, version, STORE_VERSION);
        if (version == STORE_VERSION)
                return 0;
        return db_exec(db, store_schema, error);
}

static int open_database(const char *path, sqlite3 **ret, struct error *error) {
        cleanup_db sqlite3 *db = NULL;

        int r = refuse_network(path, error);
        if (r < 0)
                return r;
        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL) !=
            SQLITE_OK)
                return db_error(error, db, path);
        (void) sqlite3_busy_timeout(db, 2000);
        (void) sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        r = db_exec(
                db,
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-4096;",
                error);
        if (r >= 0)
                r = prepare_schema(db, path, error);
        if (r < 0)
                return r;
        *ret = steal_pointer(&db);
        return 0;
}

static int load_instance(struct store *store, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        uint64_t id;

        if (getrandom(&id, sizeof(id), 0) != sizeof(id))
                return error_errno(error, errno, "random numbers");
        cleanup_free char *sql = format_string("INSERT OR IGNORE INTO meta VALUES('instance','%016" PRIx64 "')", id);
        if (!sql)
                return error_errno(error, ENOMEM, "instance");
        int r = db_exec(store->db, sql, error);
        if (r >= 0)
                r = db_prepare(store->db, "SELECT value FROM meta WHERE key='instance'", &s, error);
        if (r < 0)
                return r;
        if (sqlite3_step(s) != SQLITE_ROW)
                return db_error(error, store->db, "instance");
        (void) snprintf(store->instance, sizeof(store->instance), "%s", (const char *) sqlite3_column_text(s, 0));
        return 0;
}

/* ---- loading ---- */

static char *column_string(sqlite3_stmt *s, int i) {
        const char *text = (const char *) sqlite3_column_text(s, i);
        return text ? strdup(text) : NULL;
}

/* A row that an administrator or a bug has damaged is told from a good one before it is used. */
static bool job_is_sane(const struct job *job) {
        return job->name && job->user && job->cwd && (unsigned) job->kind < JOB_KIND_MAX &&
               (unsigned) job->state < JOB_STATE_MAX && (unsigned) job->wish < WISH_MAX &&
               (unsigned) job->launcher < LAUNCHER_MAX && job->exit_class < EXIT_CLASS_MAX && job->ranks >= 1 &&
               job->threads >= 1 && (job->kind != JOB_COMMAND || job->command);
}

static struct job *read_job(sqlite3_stmt *s) {
        int i = 0;
        struct job *job = calloc(1, sizeof(*job));
        if (!job)
                return NULL;

        job->id = (uint64_t) sqlite3_column_int64(s, i++);
        job->uid = (uid_t) sqlite3_column_int64(s, i++);
        job->gid = (gid_t) sqlite3_column_int64(s, i++);
        job->kind = (enum job_kind) job_kind_from_name(
                sqlite3_column_text(s, i) ? (const char *) sqlite3_column_text(s, i) : "");
        i++;
        job->state = (enum job_state) job_state_from_name(
                sqlite3_column_text(s, i) ? (const char *) sqlite3_column_text(s, i) : "");
        i++;
        job->wish = (enum stop_wish) sqlite3_column_int(s, i++);
        job->launcher = (enum launcher_kind) sqlite3_column_int(s, i++);
        job->priority = sqlite3_column_int(s, i++);
        job->ranks = (uint32_t) sqlite3_column_int64(s, i++);
        job->threads = (uint32_t) sqlite3_column_int64(s, i++);
        job->gpus = (uint32_t) sqlite3_column_int64(s, i++);
        job->max_without_progress = (uint32_t) sqlite3_column_int64(s, i++);
        job->backoff_min_sec = (uint32_t) sqlite3_column_int64(s, i++);
        job->backoff_max_sec = (uint32_t) sqlite3_column_int64(s, i++);
        job->grace_sec = (uint32_t) sqlite3_column_int64(s, i++);
        job->keep = (uint32_t) sqlite3_column_int64(s, i++);
        job->keep_every = (uint64_t) sqlite3_column_int64(s, i++);
        job->umask = (uint32_t) sqlite3_column_int64(s, i++);
        job->name = column_string(s, i++);
        job->user = column_string(s, i++);
        job->cwd = column_string(s, i++);
        job->run_dir = column_string(s, i++);
        job->on_exit = column_string(s, i++);
        size_t size = (size_t) sqlite3_column_bytes(s, i);
        const char *command = sqlite3_column_blob(s, i++);
        if (size > 0 && command[size - 1] == '\0' && (job->command = malloc(size))) {
                memcpy(job->command, command, size);
                job->command_size = size;
        }
        job->reason = column_string(s, i++);
        job->submitted = (uint64_t) sqlite3_column_int64(s, i++);
        job->started = (uint64_t) sqlite3_column_int64(s, i++);
        job->ended = (uint64_t) sqlite3_column_int64(s, i++);
        job->not_before = (uint64_t) sqlite3_column_int64(s, i++);
        job->step = (uint64_t) sqlite3_column_int64(s, i++);
        job->steps = (uint64_t) sqlite3_column_int64(s, i++);
        job->loss = sqlite3_column_type(s, i) == SQLITE_NULL ? NAN : sqlite3_column_double(s, i);
        i++;
        job->rate = sqlite3_column_type(s, i) == SQLITE_NULL ? NAN : sqlite3_column_double(s, i);
        i++;
        job->exit_code = sqlite3_column_int(s, i++);
        job->exit_class = sqlite3_column_int(s, i++);
        job->resume_from = (uint64_t) sqlite3_column_int64(s, i++);
        job->resume_abandon = sqlite3_column_int(s, i++) != 0;
        job->history_from = (uint32_t) sqlite3_column_int64(s, i++);
        return job;
}

static int append_job(struct store *store, struct job *job) {
        if (store->n_jobs == store->room) {
                size_t room = store->room ? store->room * 2 : 64;
                struct job **grown = realloc(store->jobs, room * sizeof(struct job *));
                if (!grown)
                        return -ENOMEM;
                store->jobs = grown;
                store->room = room;
        }
        store->jobs[store->n_jobs++] = job;
        return 0;
}

static void log_bad_row(void (*log)(const char *text), const char *what, uint64_t id) {
        cleanup_free char *text = format_string("state.db: %s %" PRIu64 " cannot be used and is left out", what, id);
        if (text && log)
                log(text);
}

static int load_jobs(struct store *store, void (*log)(const char *text), struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        int code;

        int r = db_prepare(store->db, "SELECT " STORE_JOB_COLUMNS " FROM job ORDER BY id", &s, error);
        if (r < 0)
                return r;
        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                struct job *job = read_job(s);
                if (!job)
                        return error_errno(error, ENOMEM, "jobs");
                if (!job_is_sane(job)) {
                        log_bad_row(log, "job", job->id);
                        job_free(job);
                } else if (append_job(store, job) < 0) {
                        job_free(job);
                        return error_errno(error, ENOMEM, "jobs");
                }
        }
        return code == SQLITE_DONE ? 0 : db_error(error, store->db, "jobs");
}

static void read_text(sqlite3_stmt *s, int i, char *buffer, size_t size) {
        const char *text = (const char *) sqlite3_column_text(s, i);
        (void) snprintf(buffer, size, "%s", text ? text : "");
}

static void read_attempt(sqlite3_stmt *s, struct attempt *attempt) {
        int i = 1;

        attempt_clear(attempt);
        attempt->number = (uint32_t) sqlite3_column_int64(s, i++);
        attempt->open = sqlite3_column_int(s, i++) != 0;
        read_text(s, i++, attempt->nonce, sizeof(attempt->nonce));
        read_text(s, i++, attempt->boot_id, sizeof(attempt->boot_id));
        attempt->pid = (pid_t) sqlite3_column_int(s, i++);
        attempt->pid_start = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->gpu_mask = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->started = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->ended = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->resumed = sqlite3_column_int(s, i++) != 0;
        attempt->first_step = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->step = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->checkpoint_step = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->exit_code = sqlite3_column_int(s, i++);
        attempt->signal = sqlite3_column_int(s, i++);
        attempt->exit_class = sqlite3_column_int(s, i++);
        job_set_text(&attempt->reason, (const char *) sqlite3_column_text(s, i++));
}

static int load_attempts(struct store *store, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        int code;

        int r = db_prepare(store->db, "SELECT " STORE_ATTEMPT_COLUMNS " FROM attempt ORDER BY job, number", &s, error);
        if (r < 0)
                return r;
        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                struct job *job = store_find(store, (uint64_t) sqlite3_column_int64(s, 0));
                if (!job)
                        continue;
                struct attempt *a = &job->attempt;
                read_attempt(s, a);
                if (a->open || a->number <= job->history_from || state_has_ended(job->state) || a->exit_class < 0 ||
                    a->exit_class >= EXIT_CLASS_MAX)
                        continue;
                struct policy_death death = { .exit_class = (enum exit_class) a->exit_class,
                                              .resumed = a->resumed,
                                              .first_step = a->first_step,
                                              .step = a->step,
                                              .checkpoint_step = a->checkpoint_step };
                if (job_history_add(job, &death) < 0)
                        return error_errno(error, ENOMEM, "attempts");
        }
        return code == SQLITE_DONE ? 0 : db_error(error, store->db, "attempts");
}

static int load_checkpoints(struct store *store, void (*log)(const char *text), struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        int code;

        int r = db_prepare(
                store->db,
                "SELECT job, step, size, created, state, attempt, restored, path FROM checkpoint ORDER BY job, step",
                &s, error);
        if (r < 0)
                return r;
        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                struct job *job = store_find(store, (uint64_t) sqlite3_column_int64(s, 0));
                struct checkpoint row = {
                        .step = (uint64_t) sqlite3_column_int64(s, 1),
                        .size = (uint64_t) sqlite3_column_int64(s, 2),
                        .created = (uint64_t) sqlite3_column_int64(s, 3),
                        .state = (enum checkpoint_state) sqlite3_column_int(s, 4),
                        .attempt = (uint32_t) sqlite3_column_int64(s, 5),
                        .restored = (uint32_t) sqlite3_column_int64(s, 6),
                        .path = (char *) sqlite3_column_text(s, 7),
                };
                if (!job)
                        continue;
                if (!row.path || (unsigned) row.state >= CHECKPOINT_STATE_MAX)
                        log_bad_row(log, "a checkpoint of job", job->id);
                else if (job_checkpoint_add(job, &row) < 0)
                        return error_errno(error, ENOMEM, "checkpoints");
        }
        return code == SQLITE_DONE ? 0 : db_error(error, store->db, "checkpoints");
}

int store_open(const char *path, void (*log)(const char *text), struct store **ret, struct error *error) {
        struct store *store = calloc(1, sizeof(*store));
        if (!store)
                return error_errno(error, ENOMEM, "%s", path);

        int r = open_database(path, &store->db, error);
        for (size_t i = 0; r >= 0 && i < STATEMENT_MAX; i++)
                r = db_prepare(store->db, store_statements[i], &store->statements[i], error);
        if (r >= 0)
                r = load_instance(store, error);
        if (r >= 0)
                r = load_jobs(store, log, error);
        if (r >= 0)
                r = load_attempts(store, error);
        if (r >= 0)
                r = load_checkpoints(store, log, error);
        if (r < 0) {
                store_free(store);
                return strncmp(error ? error->text : path, path, strlen(path)) == 0 ? r
                                                                                    : error_prefix(error, "%s", path);
        }
        *ret = store;
        return 0;
}

static void event_clear(struct pending_event *event) {
        free(event->what);
        free(event->reason);
}

void store_free(struct store *store) {
        if (!store)
                return;
        for (size_t i = 0; i < STATEMENT_MAX; i++)
                (void) sqlite3_finalize(store->statements[i]);
        (void) sqlite3_close(store->db);
        for (size_t i = 0; i < store->n_jobs; i++)
                job_free(store->jobs[i]);
        for (size_t i = 0; i < store->n_events; i++)
                event_clear(&store->events[i]);
        free(store->events);
        free(store->jobs);
        free(store);
}

const char *store_instance(const struct store *store) { return store->instance; }

/* ---- memory ---- */

size_t store_count(const struct store *store) { return store->n_jobs; }
struct job *store_at(const struct store *store, size_t i) {
        return store->jobs[i];
}

size_t store_lower_bound(const struct store *store, uint64_t id) {
        size_t low = 0, high = store->n_jobs;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (store->jobs[middle]->id < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

struct job *store_find(const struct store *store, uint64_t id) {
        size_t i = store_lower_bound(store, id);
        return i < store->n_jobs && store->jobs[i]->id == id ? store->jobs[i] : NULL;
}

/* ---- writing ---- */

static void bind_u64(sqlite3_stmt *s, int i, uint64_t v) { (void) sqlite3_bind_int64(s, i, (sqlite3_int64) v); }
static void bind_text(sqlite3_stmt *s, int i, const char *text) {
        (void) sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}
static void bind_blob(sqlite3_stmt *s, int i, const void *data, size_t size) {
        (void) sqlite3_bind_blob64(s, i, size ? data : "", size, SQLITE_STATIC);
}
/* SQLite stores NaN as NULL. */
static void bind_double(sqlite3_stmt *s, int i, double v) { (void) sqlite3_bind_double(s, i, v); }

/* The columns that change; the same order in STATEMENT_JOB_UPDATE. */
static int write_job(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_JOB_UPDATE];
        int i = 1;

        bind_u64(s, i++, job->id);
        bind_text(s, i++, job_state_name(job->state));
        bind_u64(s, i++, job->wish);
        bind_u64(s, i++, job->ranks);
        bind_text(s, i++, job->reason);
        bind_u64(s, i++, job->started);
        bind_u64(s, i++, job->ended);
        bind_u64(s, i++, job->not_before);
        bind_u64(s, i++, job->step);
        bind_u64(s, i++, job->steps);
        bind_double(s, i++, job->loss);
        bind_double(s, i++, job->rate);
        (void) sqlite3_bind_int(s, i++, job->exit_code);
        (void) sqlite3_bind_int(s, i++, job->exit_class);
        bind_u64(s, i++, job->resume_from);
        bind_u64(s, i++, job->resume_abandon);
        bind_u64(s, i++, job->history_from);
        return db_run(s, error);
}

static int write_attempt(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_ATTEMPT];
        const struct attempt *a = &job->attempt;
        int i = 1;

        bind_u64(s, i++, job->id);
        bind_u64(s, i++, a->number);
        bind_u64(s, i++, a->open);
        bind_text(s, i++, a->nonce);
        bind_text(s, i++, a->boot_id);
        bind_u64(s, i++, (uint64_t) a->pid);
        bind_u64(s, i++, a->pid_start);
        bind_u64(s, i++, a->gpu_mask);
        bind_u64(s, i++, a->started);
        bind_u64(s, i++, a->ended);
        bind_u64(s, i++, a->resumed);
        bind_u64(s, i++, a->first_step);
        bind_u64(s, i++, a->step);
        bind_u64(s, i++, a->checkpoint_step);
        (void) sqlite3_bind_int(s, i++, a->exit_code);
        (void) sqlite3_bind_int(s, i++, a->signal);
        (void) sqlite3_bind_int(s, i++, a->exit_class);
        bind_text(s, i++, a->reason ? a->reason : "");
        return db_run(s, error);
}

static int write_checkpoints(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_CHECKPOINT];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < job->n_ledger; i++) {
                const struct checkpoint *c = &job->ledger[i];
                if (!c->dirty)
                        continue;
                bind_u64(s, 1, job->id);
                bind_u64(s, 2, c->step);
                bind_u64(s, 3, c->size);
                bind_u64(s, 4, c->created);
                bind_u64(s, 5, c->state);
                bind_u64(s, 6, c->attempt);
                bind_u64(s, 7, c->restored);
                bind_text(s, 8, c->path);
                r = db_run(s, error);
        }
        return r;
}

static int write_event(struct store *store, const struct pending_event *event, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_EVENT];

        bind_u64(s, 1, event->job);
        bind_u64(s, 2, event->time);
        bind_text(s, 3, job_state_name(event->from));
        bind_text(s, 4, job_state_name(event->to));
        bind_text(s, 5, event->what ? event->what : "");
        bind_text(s, 6, event->reason ? event->reason : "");
        return db_run(s, error);
}

static int write_all_marked(struct store *store, struct error *error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < store->n_jobs; i++) {
                const struct job *job = store->jobs[i];
                if (!job->dirty)
                        continue;
                r = write_job(store, job, error);
                if (r >= 0 && job->attempt_dirty && job->attempt.number > 0)
                        r = write_attempt(store, job, error);
                if (r >= 0)
                        r = write_checkpoints(store, job, error);
        }
        for (size_t i = 0; r >= 0 && i < store->n_events; i++)
                r = write_event(store, &store->events[i], error);
        return r;
}

static void clear_marks(struct store *store) {
        for (size_t i = 0; i < store->n_jobs; i++) {
                struct job *job = store->jobs[i];
                if (!job->dirty)
                        continue;
                job->dirty = job->attempt_dirty = false;
                for (size_t j = 0; j < job->n_ledger; j++)
                        job->ledger[j].dirty = false;
        }
        for (size_t i = 0; i < store->n_events; i++)
                event_clear(&store->events[i]);
        store->n_events = 0;
        store->dirty = false;
}

static int finish_transaction(struct store *store, int r, struct error *error) {
        if (r >= 0)
                r = db_exec(store->db, "COMMIT", error);
        if (r < 0)
                (void) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return r;
}

bool store_pending(const struct store *store) { return store->dirty; }

int store_flush(struct store *store, struct error *error) {
        if (!store->dirty)
                return 0;
        int r = db_exec(store->db, "BEGIN IMMEDIATE", error);
        if (r < 0)
                return error_prefix(error, "state.db");
        r = finish_transaction(store, write_all_marked(store, error), error);
        if (r < 0)
                return error_prefix(error, "state.db");
        clear_marks(store);
        return 0;
}

void store_mark(struct store *store, struct job *job) { store->dirty = job->dirty = job->attempt_dirty = true; }

void store_note(struct store *store, struct job *job, enum job_state from, const char *what, const char *reason) {
        store_mark(store, job);
        if (store->n_events == store->events_room && store->n_events < STORE_PENDING_MAX) {
                size_t room = store->events_room ? store->events_room * 2 : 16;
                struct pending_event *grown = realloc(store->events, room * sizeof(*grown));
                if (!grown)
                        return;
                store->events = grown;
                store->events_room = room;
        }
        if (store->n_events == store->events_room) {
                event_clear(&store->events[0]);
                memmove(store->events, store->events + 1, (--store->n_events) * sizeof(*store->events));
        }
        store->events[store->n_events++] = (struct pending_event) { .job = job->id,
                                                                    .time = clock_realtime_usec(),
                                                                    .from = from,
                                                                    .to = job->state,
                                                                    .what = strdup(what),
                                                                    .reason = strdup(reason ? reason : "") };
}

/* ---- submit ---- */

static char *copy_or_null(const char *text) { return text && text[0] ? strdup(text) : NULL; }

static struct job *new_job(const struct submission *s, uid_t uid, gid_t gid, const char *user,
                           enum launcher_kind launcher) {
        struct job *job = calloc(1, sizeof(*job));
        if (!job)
                return NULL;
        *job = (struct job) {
                .uid = uid,
                .gid = gid,
                .kind = (enum job_kind) job_kind_from_name(s->kind),
                .state = JOB_QUEUED,
                .launcher = launcher,
                .priority = s->priority,
                .ranks = s->ranks,
                .threads = s->threads,
                .gpus = s->gpus,
                .max_without_progress = s->max_without_progress,
                .backoff_min_sec = s->backoff_min_sec,
                .backoff_max_sec = s->backoff_max_sec,
                .grace_sec = s->grace_sec,
                .keep = s->keep,
                .keep_every = s->keep_every,
                .umask = s->umask,
                .submitted = clock_realtime_usec(),
                .loss = NAN,
                .rate = NAN,
                .exit_code = -1,
                .exit_class = -1,
                .name = strdup(s->name),
                .user = strdup(user),
                .cwd = strdup(s->cwd),
                .run_dir = copy_or_null(s->run_dir),
                .on_exit = copy_or_null(s->on_exit),
        };
        if (job->kind == JOB_COMMAND)
                job->command = pack_strings(s->command, &job->command_size);
        if (!job->name || !job->user || !job->cwd || (job->kind == JOB_COMMAND && !job->command)) {
                job_free(job);
                return NULL;
        }
        return job;
}

static int insert_job(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_JOB_INSERT];
        int i = 1;

        bind_u64(s, i++, job->uid);
        bind_u64(s, i++, job->gid);
        bind_text(s, i++, job_kind_name(job->kind));
        bind_text(s, i++, job_state_name(job->state));
        bind_u64(s, i++, job->launcher);
        (void) sqlite3_bind_int(s, i++, job->priority);
        bind_u64(s, i++, job->ranks);
        bind_u64(s, i++, job->threads);
        bind_u64(s, i++, job->gpus);
        bind_u64(s, i++, job->max_without_progress);
        bind_u64(s, i++, job->backoff_min_sec);
        bind_u64(s, i++, job->backoff_max_sec);
        bind_u64(s, i++, job->grace_sec);
        bind_u64(s, i++, job->keep);
        bind_u64(s, i++, job->keep_every);
        bind_u64(s, i++, job->umask);
        bind_text(s, i++, job->name);
        bind_text(s, i++, job->user);
        bind_text(s, i++, job->cwd);
        bind_text(s, i++, job->run_dir);
        bind_text(s, i++, job->on_exit);
        bind_blob(s, i++, job->command, job->command_size);
        bind_u64(s, i++, job->submitted);
        return db_run(s, error);
}

static int insert_inputs(struct store *store, const struct job *job, const struct submission *submission,
                         struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_INPUT];
        size_t size;
        cleanup_free char *environment = pack_strings(submission->environment, &size);

        bind_u64(s, 1, job->id);
        bind_text(s, 2, submission->spec ? submission->spec : "");
        bind_blob(s, 3, environment, size);
        bind_blob(s, 4, submission->rlimits, submission->n_rlimits * sizeof(submission->rlimits[0]));
        return db_run(s, error);
}

int store_insert(struct store *store, const struct submission *submission, uid_t uid, gid_t gid, const char *user,
                 enum launcher_kind launcher, struct job **ret, struct error *error) {
        struct job *job = new_job(submission, uid, gid, user, launcher);
        if (!job)
                return error_errno(error, ENOMEM, "job");

        int r = db_exec(store->db, "BEGIN IMMEDIATE", error);
        if (r >= 0) {
                r = insert_job(store, job, error);
                job->id = (uint64_t) sqlite3_last_insert_rowid(store->db);
                if (r >= 0)
                        r = insert_inputs(store, job, submission, error);
                struct pending_event event = { .job = job->id,
                                               .time = job->submitted,
                                               .from = JOB_QUEUED,
                                               .to = JOB_QUEUED,
                                               .what = (char *) "submit" };
                if (r >= 0)
                        r = write_event(store, &event, error);
                if (r >= 0 && append_job(store, job) < 0)
                        r = error_errno(error, ENOMEM, "job");
                if (finish_transaction(store, r, error) < 0 && r >= 0) {
                        store->n_jobs--;
                        r = -EIO;
                }
        }
        if (r < 0) {
                job_free(job);
                return error_prefix(error, "state.db");
        }
        *ret = job;
        return 0;
}

/* ---- reading back ---- */

int store_load_spec(struct store *store, uint64_t id, char **ret, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_LOAD];
        int r = 0;

        bind_u64(s, 1, id);
        if (sqlite3_step(s) != SQLITE_ROW)
                r = error_set(error, EIO, "state.db: job %" PRIu64 " has no spec", id);
        else if (!(*ret = column_string(s, 0)))
                r = error_errno(error, ENOMEM, "spec");
        (void) sqlite3_reset(s);
        return r;
}

static int copy_inputs(sqlite3_stmt *s, struct job_inputs *ret, struct error *error) {
        size_t size = (size_t) sqlite3_column_bytes(s, 1), limits = (size_t) sqlite3_column_bytes(s, 2);
        const char *environment = sqlite3_column_blob(s, 1);
        const void *rlimits = sqlite3_column_blob(s, 2);

        *ret = (struct job_inputs) { .n_rlimits = (uint32_t) (limits / sizeof(ret->rlimits[0])) };
        if ((size > 0 && environment[size - 1] != '\0') || ret->n_rlimits > SUBMIT_RLIMITS_MAX)
                return error_set(error, EBADMSG, "state.db: damaged inputs");
        if (limits > 0)
                memcpy(ret->rlimits, rlimits, ret->n_rlimits * sizeof(ret->rlimits[0]));
        ret->environment = malloc(size + 1);
        if (!ret->environment)
                return error_errno(error, ENOMEM, "environment");
        if (size > 0)
                memcpy(ret->environment, environment, size);
        ret->environment_size = size;
        return 0;
}

int store_load_inputs(struct store *store, uint64_t id, struct job_inputs *ret, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_LOAD];
        int r;

        bind_u64(s, 1, id);
        if (sqlite3_step(s) != SQLITE_ROW)
                r = error_set(error, EIO, "state.db: job %" PRIu64 " has no inputs", id);
        else
                r = copy_inputs(s, ret, error);
        (void) sqlite3_reset(s);
        return r;
}

int store_events(struct store *store, uint64_t job, uint64_t after, uint32_t max,
                 int (*row)(void *userdata, const struct event_row *event), void *userdata, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_EVENTS];
        int r = 0, code = SQLITE_DONE;

        bind_u64(s, 1, job);
        bind_u64(s, 2, after > INT64_MAX ? INT64_MAX : after);
        bind_u64(s, 3, max);
        while (r >= 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct event_row event = {
                        .id = (uint64_t) sqlite3_column_int64(s, 0),
                        .time = (uint64_t) sqlite3_column_int64(s, 1),
                        .from = (const char *) sqlite3_column_text(s, 2),
                        .to = (const char *) sqlite3_column_text(s, 3),
                        .what = (const char *) sqlite3_column_text(s, 4),
                        .reason = (const char *) sqlite3_column_text(s, 5),
                };
                r = row(userdata, &event);
        }
        if (r >= 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "events");
        (void) sqlite3_reset(s);
        return r;
}

int store_remove(struct store *store, struct job *job, struct error *error) {
        sqlite3_stmt *s = store->statements[STATEMENT_REMOVE];

        int r = store_flush(store, error);
        if (r < 0)
                return r;
        bind_u64(s, 1, job->id);
        r = db_run(s, error);
        if (r < 0)
                return error_prefix(error, "state.db");
        size_t i = store_lower_bound(store, job->id);
        store->n_jobs--;
        memmove(&store->jobs[i], &store->jobs[i + 1], (store->n_jobs - i) * sizeof(struct job *));
        job_free(job);
        return 0;
}
