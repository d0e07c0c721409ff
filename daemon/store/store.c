/*
 * See store.h. Role: the jobs in memory and the one writer of state.db; open.c opens it, read.c reads it. Owns the
 * connection, its statements, the jobs in memory and the queue of event rows that are not yet durable.
 * Invariants: jobs are sorted by id; a flush is one transaction and leaves either nothing marked or everything as it
 * was; memory is never older than the database.
 */
#include "daemon/store/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/db.h"
#include "common/file.h"
#include "daemon/base/loop.h"
#include "daemon/rules/states.h"
#include "daemon/store/columns.h"
#include "daemon/store/internal.h"

#define HEAVY_BYTES (128u << 10)

static void event_clear(struct pending_event *event) {
        free(event->what);
        free(event->reason);
        free(event->private);
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
        free(store->removals);
        free(store->usage);
        free(store->marked);
        free(store->flushed);
        free(store->gone);
        free(store->jobs);
        free(store);
}

sqlite3_stmt *store_statement(struct store *store, int statement) {
        sqlite3_stmt **s = &store->statements[statement];

        if (!*s)
                (void) db_prepare(store->db, store_statements[statement], s, NULL);
        return *s;
}

const char *store_instance(const struct store *store) { return store->instance; }

/* ---- memory ---- */

size_t store_count(const struct store *store) { return store->n_jobs; }
struct job *store_at(const struct store *store, size_t i) {
        return store->jobs[i];
}

/* Index of the first job with an id >= the given one. */
static size_t lower_bound(const struct store *store, uint64_t id) {
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
        size_t i = lower_bound(store, id);
        return i < store->n_jobs && store->jobs[i]->id == id ? store->jobs[i] : NULL;
}

/* The lists of marks are as large as the list of jobs, so marking cannot fail. */
static int grow(struct store *store) {
        struct job ***lists[] = { &store->jobs, &store->marked, &store->flushed };
        size_t room = store->room;

        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                room = store->room;
                if (array_reserve(lists[i], &room, store->n_jobs + 1, sizeof(**lists[i])) < 0)
                        return -ENOMEM;
        }
        store->room = room;
        return 0;
}

int store_keep(struct store *store, struct job *job) {
        if (grow(store) < 0 || store_count_in(store, job) < 0)
                return -ENOMEM;
        size_t i = lower_bound(store, job->id);
        memmove(&store->jobs[i + 1], &store->jobs[i], (store->n_jobs++ - i) * sizeof(struct job *));
        store->jobs[i] = job;
        return 0;
}

int store_adopt(struct store *store, struct job *job) {
        if (store_keep(store, job) < 0)
                return -ENOMEM;
        store->ended[job->state]--;
        store->held -= job->holds_checkpoints;
        store->leases -= job_is_lease(job);
        return 0;
}

void store_release(struct store *store) {
        size_t kept = 0;

        for (size_t i = 0; i < store->n_jobs; i++) {
                struct job *job = store->jobs[i];
                if (!state_has_ended(job->state) || job->dirty || job->run || job->waiters ||
                    job->exit_owed != EXIT_OWED_NONE) {
                        store->jobs[kept++] = job;
                        continue;
                }
                store->ended[job->state]++;
                store_count_out(store, job);
                store->held += job->holds_checkpoints;
                store->leases += job_is_lease(job);
                job_free(job);
        }
        store->n_jobs = kept;
}

void store_counts(const struct store *store, uint64_t counts[JOB_STATE_MAX]) {
        memcpy(counts, store->ended, sizeof(store->ended));
        for (size_t i = 0; i < store->n_jobs; i++)
                counts[store->jobs[i]->state]++;
}

/* ---- writing ---- */

/* Limits values to the column's maximum: a failed CHECK would fail the whole commit. */
static void bind_u64(sqlite3_stmt *s, int i, uint64_t v) {
        (void) sqlite3_bind_int64(s, i, (sqlite3_int64) MIN(v, (uint64_t) INT64_MAX));
}
static void bind_text(sqlite3_stmt *s, int i, const char *text) {
        (void) sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}
static void bind_blob(sqlite3_stmt *s, int i, const void *data, size_t size) {
        (void) sqlite3_bind_blob64(s, i, size ? data : "", size, SQLITE_STATIC);
}

static int write_job(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_JOB_UPDATE);

        bind_u64(s, columns_bind(s, job, false), job->id);
        return db_run(s, error);
}

static int write_attempt(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_ATTEMPT);
        const struct attempt *a = &job->attempt;
        int i = 1;

        bind_u64(s, i++, job->id);
        bind_u64(s, i++, a->number);
        bind_u64(s, i++, a->open);
        bind_text(s, i++, a->nonce);
        bind_text(s, i++, a->boot_id);
        bind_u64(s, i++, (uint64_t) a->pid);
        bind_u64(s, i++, a->pid_start);
        (void) sqlite3_bind_int64(s, i++, (sqlite3_int64) a->gpu_mask); /* 64 bits */
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
        bind_u64(s, i++, a->samples_first);
        bind_u64(s, i++, a->samples_last);
        (void) sqlite3_bind_int(s, i++, a->rank);
        bind_text(s, i++, a->host);
        bind_text(s, i++, a->evidence);
        bind_text(s, i++, a->gpus);
        bind_text(s, i++, a->private);
        int r = db_run(s, error);
        return r < 0 ? r : store_drop_attempts(store, job, error);
}

static int write_checkpoints(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_CHECKPOINT);
        bool written = false;
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
                written = true;
        }
        if (r < 0 || !written)
                return r;
        s = store_statement(store, STATEMENT_PRUNE_CHECKPOINTS);
        bind_u64(s, 1, job->id);
        bind_u64(s, 2, LEDGER_MAX - 1);
        bind_u64(s, 3, LEDGER_DELETED_MAX - 1);
        return db_run(s, error);
}

static int write_event(struct store *store, const struct pending_event *event, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_EVENT);

        bind_u64(s, 1, event->job);
        bind_u64(s, 2, event->time);
        bind_text(s, 3, job_state_name(event->from));
        bind_text(s, 4, job_state_name(event->to));
        bind_text(s, 5, event->what ? event->what : "");
        bind_text(s, 6, event->reason ? event->reason : "");
        bind_text(s, 7, exit_class_name(event->exit_class));
        bind_u64(s, 8, event->step);
        bind_u64(s, 9, event->lost);
        bind_text(s, 10, event->private);
        int r = db_run(s, error);
        return r < 0 ? r : store_count_event(store, event->job, error);
}

static int write_all_marked(struct store *store, struct error *error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < store->n_marked; i++) {
                const struct job *job = store->marked[i];
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
        struct job **marked = store->marked;

        for (size_t i = 0; i < store->n_marked; i++) {
                struct job *job = marked[i];
                job->dirty = job->attempt_dirty = false;
                for (size_t j = 0; j < job->n_ledger; j++)
                        job->ledger[j].dirty = false;
                job_ledger_trim(job);
                store_count_again(store, job);
        }
        for (size_t i = 0; i < store->n_events; i++)
                event_clear(&store->events[i]);
        store->marked = store->flushed;
        store->flushed = marked;
        store->n_flushed = store->n_marked;
        store->n_marked = store->n_events = store->n_gone = 0;
        for (int state = 0; state < JOB_STATE_MAX; state++)
                store->ended[state] -= store->expired[state];
        store->leases -= store->expired_leases;
        store->dirty = false;
}

/* SQLite continues with removed files: commits to them are lost when bertd exits. */
static int refuse_removed(const struct store *store, struct error *error) {
        const char *path = sqlite3_db_filename(store->db, "main"), *wal = sqlite3_filename_wal(path);
        int moved = 0;

        (void) sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
        if (!moved && (access(wal, F_OK) == 0 || errno != ENOENT))
                return 0;
        return error_set(error, ENOENT, "%s while bertd runs; see \"IF STATE.DB IS DAMAGED\" in bertd(8)",
                         moved ? "removed or replaced" : "state.db-wal was removed");
}

static int lock(const struct store *store, struct error *error) {
        int code = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

        if ((code & 0xff) == SQLITE_BUSY)
                return error_set(error, EBUSY, "another program keeps it locked (see `fuser %s`)",
                                 sqlite3_db_filename(store->db, "main"));
        return code == SQLITE_OK ? 0 : db_error(error, store->db, "SQLite");
}

static int begin(struct store *store, struct error *error) {
        if (store->begun)
                return 0;
        int r = refuse_removed(store, error);
        if (r >= 0)
                r = lock(store, error);
        store->begun = r >= 0;
        return r;
}

int store_begin(struct store *store, struct error *error) {
        int r = begin(store, error);
        return r < 0 ? error_prefix(error, "state.db") : 0;
}

static int write_removals(struct store *store, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_REMOVE);
        int r = 0;

        for (size_t i = 0; r >= 0 && i < store->n_removals; i++) {
                r = store_add_trash(store, store->removals[i].id, 0, 0, error);
                bind_u64(s, 1, store->removals[i].id);
                if (r >= 0)
                        r = db_run(s, error);
        }
        return r;
}

static void roll_back(struct store *store) {
        (void) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        store->begun = false;
}

/* After a failed statement SQLite may have rolled back already: must not write outside the transaction. */
static int finish(struct store *store, struct error *error) {
        int r = store->failure.code ? error_set(error, store->failure.code, "%s", store->failure.text) : 0;

        if (r >= 0)
                r = write_all_marked(store, error);
        if (r >= 0)
                r = write_removals(store, error);
        if (r >= 0)
                r = store_forget_trash(store, error);
        if (r >= 0)
                r = store_expire(store, error);
        if (r >= 0)
                r = db_exec(store->db, "COMMIT", error);
        if (r < 0)
                roll_back(store);
        store->begun = false;
        store->inputs = 0;
        store->failure = (struct error) {};
        return r;
}

bool store_pending(const struct store *store) { return store->dirty; }

bool store_is_heavy(const struct store *store) { return store->inputs > HEAVY_BYTES; }

int store_flush(struct store *store, struct error *error) {
        store->n_flushed = 0;
        if (!store->dirty) {
                if (store->begun)
                        roll_back(store);
                return 0;
        }
        int r = begin(store, error);
        if (r < 0)
                return error_prefix(error, "state.db");
        uint64_t trash = store->trash;
        memset(store->expired, 0, sizeof(store->expired));
        store->expired_leases = 0;
        r = finish(store, error);
        if (r < 0) {
                store->trash = trash;
                return error_prefix(error, "state.db");
        }
        clear_marks(store);
        return 0;
}

uint64_t store_noted(const struct store *store) { return store->noted; }

void store_forget_notes(struct store *store, uint64_t n) {
        for (; n > 0 && store->n_events > 0; n--)
                event_clear(&store->events[--store->n_events]);
}

struct job *store_flushed(const struct store *store, size_t i) {
        return i < store->n_flushed ? store->flushed[i] : NULL;
}

void store_undone(struct store *store) {
        size_t kept = 0;

        for (size_t i = 0; i < store->n_marked; i++)
                if (store->marked[i]->dirty) {
                        job_ledger_trim(store->marked[i]); /* it may take long until they are written */
                        store->marked[kept++] = store->marked[i];
                }
        store->n_marked = kept;
        store->n_removals = 0;
        store->dirty = store->n_marked > 0 || store->n_events > 0 || store->n_gone > 0;
}

void store_mark(struct store *store, struct job *job) {
        if (!job->dirty)
                store->marked[store->n_marked++] = job;
        store->dirty = job->dirty = job->attempt_dirty = true;
}

/* Steps of the attempt after its last checkpoint. */
static uint64_t lost_by(const struct attempt *a) {
        return a->exit_class != EXIT_CLASS_FINISHED && a->step > a->checkpoint_step ? a->step - a->checkpoint_step : 0;
}

static void note(struct store *store, struct job *job, enum job_state from, const char *what, const char *reason,
                 const char *private) {
        store_mark(store, job);
        store->noted++;
        if (store->n_events < STORE_PENDING_MAX &&
            array_reserve(&store->events, &store->events_room, store->n_events + 1, sizeof(*store->events)) < 0)
                return;
        if (store->n_events == STORE_PENDING_MAX) {
                event_clear(&store->events[0]);
                memmove(store->events, store->events + 1, (--store->n_events) * sizeof(*store->events));
        }
        bool attempt_ended = state_holds_resources(from) && !state_holds_resources(job->state);
        store->events[store->n_events++] =
                (struct pending_event) { .job = job->id,
                                         .time = loop_realtime(),
                                         .from = from,
                                         .to = job->state,
                                         .exit_class = attempt_ended ? job->attempt.exit_class : -1,
                                         .step = job->step,
                                         .lost = attempt_ended ? lost_by(&job->attempt) : 0,
                                         .what = strdup(what),
                                         .reason = strdup(reason ? reason : ""),
                                         .private = private ? strdup(private) : NULL };
}

void store_note(struct store *store, struct job *job, enum job_state from, const char *what, const char *reason) {
        note(store, job, from, what, reason, NULL);
}

void store_note_move(struct store *store, struct job *job, enum job_state from, const char *what) {
        note(store, job, from, what, job->reason, job->private);
}

/* ---- submit ---- */

/* Copies the submission. "" of a text is none. */
static bool take_field(const struct job_field *field, const struct submission *s, struct job *job) {
        const void *from = (const char *) s + field->asked;
        void *to = (char *) job + field->stored;
        const char *text = job_field_is_text(field) ? *(const char *const *) from : NULL;

        if (field->type <= FIELD_BOOL)
                job_field_set_number(field, to, job_field_number(field, from));
        else if (field->type == FIELD_DOUBLE)
                *(double *) to = *(const double *) from;
        else if (field->type == FIELD_SHARED)
                *(const char **) to = text_shared(text);
        else
                *(char **) to = text && text[0] ? strdup(text) : NULL;
        return !text || !text[0] || *(char **) to;
}

static struct job *new_job(const struct submission *s, uid_t uid, gid_t gid, const char *user,
                           enum launcher_kind launcher) {
        struct job *job = job_new();
        bool taken = job != NULL;

        for (size_t i = 0; taken && i < JOB_N_STORED; i++)
                if (job_fields[i].asked != NO_OFFSET)
                        taken = take_field(&job_fields[i], s, job);
        if (taken) {
                job->uid = uid;
                job->gid = gid;
                job->user = text_shared(user);
                job->launcher = launcher;
                job->submitted = job->since_usec = loop_realtime();
        }
        if (taken && job->user)
                return job;
        job_free(job);
        return NULL;
}

static int insert_job(struct store *store, const struct job *job, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_JOB_INSERT);

        (void) columns_bind(s, job, true);
        return db_run(s, error);
}

static int insert_inputs(struct store *store, const struct job *job, const struct submission *submission,
                         struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_INPUT);
        size_t size, command_size;
        cleanup_free char *environment = pack_strings(submission->environment, &size),
                          *command = pack_strings(submission->command, &command_size);

        if ((submission->environment && submission->environment[0] && !environment) ||
            (submission->command && submission->command[0] && !command))
                return error_errno(error, ENOMEM, "environment or command");
        bind_u64(s, 1, job->id);
        bind_text(s, 2, submission->spec ? submission->spec : "");
        bind_blob(s, 3, environment, size);
        bind_blob(s, 4, submission->rlimits, submission->n_rlimits * sizeof(submission->rlimits[0]));
        bind_blob(s, 5, command, command_size);
        bind_text(s, 6, submission->cpu_list);
        bind_text(s, 7, submission->scheduling);
        store->inputs += size + command_size + (submission->spec ? strlen(submission->spec) : 0);
        return db_run(s, error);
}

static int insert_rows(struct store *store, struct job *job, const struct submission *submission, struct error *error) {
        int r = insert_job(store, job, error);

        job->id = (uint64_t) sqlite3_last_insert_rowid(store->db);
        if (r >= 0)
                r = insert_inputs(store, job, submission, error);
        struct pending_event event = { .job = job->id,
                                       .time = job->submitted,
                                       .from = JOB_QUEUED,
                                       .to = JOB_QUEUED,
                                       .exit_class = -1,
                                       .what = (char *) "submit" };
        return r < 0 ? r : write_event(store, &event, error);
}

int store_insert(struct store *store, const struct submission *submission, uid_t uid, gid_t gid, const char *user,
                 enum launcher_kind launcher, struct job **ret, struct error *error) {
        struct job *job = new_job(submission, uid, gid, user, launcher);
        if (!job)
                return error_errno(error, ENOMEM, "job");

        int r = store_check_share(store, job, error);
        /* After a failed statement the transaction may have ended: further writes would be durable at once. */
        if (r >= 0 && store->failure.code)
                r = error_set(error, store->failure.code, "state.db: %s", store->failure.text);
        else if (r >= 0 && (r = begin(store, error)) < 0)
                (void) error_prefix(error, "state.db");
        if (r < 0) {
                job_free(job);
                return r;
        }
        store->dirty = true;
        r = insert_rows(store, job, submission, error);
        if (r >= 0 && store_keep(store, job) < 0)
                r = error_errno(error, ENOMEM, "job");
        if (r < 0) {
                job_free(job);
                store->failure = *error;
                return error_prefix(error, "state.db");
        }
        *ret = job;
        return 0;
}

static void unmark(struct store *store, const struct job *job) {
        size_t kept = 0;

        for (size_t i = 0; i < store->n_marked; i++)
                if (store->marked[i] != job)
                        store->marked[kept++] = store->marked[i];
        store->n_marked = kept;
}

void store_drop(struct store *store, struct job *job) {
        size_t i = lower_bound(store, job->id);

        unmark(store, job);
        store->n_jobs--;
        memmove(&store->jobs[i], &store->jobs[i + 1], (store->n_jobs - i) * sizeof(struct job *));
        store_count_out(store, job);
        job_free(job);
}

int store_remove(struct store *store, const struct job *job) {
        if (array_resize(&store->removals, store->n_removals + 1, sizeof(*store->removals)) < 0)
                return -ENOMEM;
        store->removals[store->n_removals++] = (struct removal) {
                .id = job->id, .state = job->state, .held = job->holds_checkpoints, .lease = job_is_lease(job)
        };
        store->dirty = true;
        return 0;
}

bool store_is_removed(const struct store *store, uint64_t id) {
        for (size_t i = 0; i < store->n_removals; i++)
                if (store->removals[i].id == id)
                        return true;
        return false;
}

void store_drop_removed(struct store *store) {
        for (size_t i = 0; i < store->n_removals; i++) {
                struct job *job = store_find(store, store->removals[i].id);
                if (job)
                        store_drop(store, job);
                else {
                        store->ended[store->removals[i].state]--;
                        store->held -= store->removals[i].held;
                        store->leases -= store->removals[i].lease;
                }
        }
        store->n_removals = store->n_flushed = 0;
}
