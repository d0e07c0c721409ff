/*
 * Role: reads rows of state.db into structs. Owns nothing: jobs go to the store, to the caller, or are freed.
 * Invariants: a row damaged by an administrator or a bug is skipped, never used; each statement is reset before the
 * return.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/db.h"
#include "common/file.h"
#include "daemon/rules/states.h"
#include "daemon/store/columns.h"
#include "daemon/store/internal.h"

#define ATTEMPTS_MAX 65 /* per open job: those counted for an older bertd, and the open one */

static void log_bad_row(const struct store *store, const char *what, uint64_t id) {
        cleanup_free char *text = format_string("state.db: %s %" PRIu64 " is damaged and was skipped", what, id);
        if (text && store->log)
                store->log(text);
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
        attempt->samples_first = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->samples_last = (uint64_t) sqlite3_column_int64(s, i++);
        attempt->rank = sqlite3_column_int(s, i++);
        job_set_text(&attempt->host, (const char *) sqlite3_column_text(s, i++));
        job_set_text(&attempt->evidence, (const char *) sqlite3_column_text(s, i++));
        job_set_text(&attempt->gpus, (const char *) sqlite3_column_text(s, i++));
        job_set_text(&attempt->private, (const char *) sqlite3_column_text(s, i++));
}

/* `counted`: for a job of an older bertd without counters. */
static int note_death(struct job *job, struct policy_counters *counted) {
        const struct attempt *a = &job->attempt;

        if (a->open || a->number <= job->history_from || state_has_ended(job->state) || a->exit_class < 0 ||
            a->exit_class >= EXIT_CLASS_MAX || a->exit_class == EXIT_CLASS_WAIT)
                return 0;
        struct policy_death death = job_death(a);
        int r = job_history_add(job, &death);
        if (r >= 0)
                policy_count(counted, job->history, job->n_history);
        return r;
}

/* Reads all rows of one job by `statement`, newest attempt last; deaths go to the history. */
static int read_attempts(struct store *store, struct job *job, int statement, struct error *error) {
        sqlite3_stmt *s = store_statement(store, statement);
        struct policy_counters counted = {};
        int r = 0, code = SQLITE_DONE;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) job->id);
        if (statement == STATEMENT_LOAD_ATTEMPTS) {
                (void) sqlite3_bind_int64(s, 2, ATTEMPTS_MAX);
                (void) sqlite3_bind_int(s, 3, EXIT_CLASS_WAIT);
        }
        while (r >= 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                job_push_attempt(job);
                read_attempt(s, &job->attempt);
                if (note_death(job, &counted) < 0)
                        r = error_errno(error, ENOMEM, "attempts");
        }
        if (r >= 0 && job->deaths < 0)
                job_set_counters(job, counted);
        if (r >= 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "attempts");
        (void) sqlite3_reset(s);
        return r;
}

static int read_checkpoints(struct store *store, struct job *job, int statement, struct error *error) {
        sqlite3_stmt *s = store_statement(store, statement);
        int r = 0, code = SQLITE_DONE;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) job->id);
        while (r >= 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct checkpoint row = {
                        .step = (uint64_t) sqlite3_column_int64(s, 1),
                        .size = (uint64_t) sqlite3_column_int64(s, 2),
                        .created = (uint64_t) sqlite3_column_int64(s, 3),
                        .state = (enum checkpoint_state) sqlite3_column_int(s, 4),
                        .attempt = (uint32_t) sqlite3_column_int64(s, 5),
                        .restored = (uint32_t) sqlite3_column_int64(s, 6),
                        .path = (char *) sqlite3_column_text(s, 7),
                };
                if (!row.path || (unsigned) row.state >= CHECKPOINT_STATE_MAX)
                        log_bad_row(store, "a checkpoint of job", job->id);
                else if (job_checkpoint_add(job, &row) == -ENOMEM)
                        r = error_errno(error, ENOMEM, "checkpoints");
        }
        if (r >= 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "checkpoints");
        (void) sqlite3_reset(s);
        return r;
}

/* The job in the statement's row, without attempts and ledger. A damaged row gives −EBADMSG and a line in the log. */
static int read_row(const struct store *store, sqlite3_stmt *s, struct job **ret, struct error *error) {
        struct job *job = job_new();

        if (!job)
                return error_errno(error, ENOMEM, "jobs");
        if (columns_read(s, job)) {
                *ret = job;
                return 0;
        }
        log_bad_row(store, "job", job->id);
        int r = error_set(error, EBADMSG, "state.db: job %" PRIu64 " cannot be used", job->id);
        job_free(job);
        return r;
}

/* The part of an ended job that is read into memory. */
static int read_newest(struct store *store, struct job *job, struct error *error) {
        int r = read_attempts(store, job, STATEMENT_LOAD_NEWEST_ATTEMPT, error);

        return r < 0 ? r : read_checkpoints(store, job, STATEMENT_LOAD_NEWEST_CHECKPOINT, error);
}

/* ---- at the start ---- */

/* `keep`: reads the rest of a job and adds it to memory. */
static int read_jobs(struct store *store, unsigned statement,
                     int (*keep)(struct store *store, struct job *job, struct error *error), struct error *error) {
        sqlite3_stmt *s = store_statement(store, statement);
        int r = 0, code = SQLITE_DONE;

        while (r >= 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct job *job = NULL;
                r = read_row(store, s, &job, error);
                if (r == -EBADMSG)
                        r = 0;
                else if (r >= 0 && (r = keep(store, job, error)) < 0)
                        job_free(job);
        }
        if (r >= 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "jobs");
        (void) sqlite3_reset(s);
        return r;
}

static int keep_open(struct store *store, struct job *job, struct error *error) {
        int r = read_attempts(store, job, STATEMENT_LOAD_ATTEMPTS, error);

        if (r >= 0)
                r = read_checkpoints(store, job, STATEMENT_LOAD_NEWEST_CHECKPOINT, error);
        return r >= 0 && store_keep(store, job) < 0 ? error_errno(error, ENOMEM, "jobs") : r;
}

static int keep_owed(struct store *store, struct job *job, struct error *error) {
        int r = read_newest(store, job, error);

        return r >= 0 && store_adopt(store, job) < 0 ? error_errno(error, ENOMEM, "jobs") : r;
}

int store_read_open(struct store *store, struct error *error) {
        return read_jobs(store, STATEMENT_LOAD_OPEN, keep_open, error);
}

int store_read_owed(struct store *store, struct error *error) {
        return read_jobs(store, STATEMENT_LOAD_OWED, keep_owed, error);
}

int store_read_counts(struct store *store, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_COUNT_ENDED);
        int code;

        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                int state = job_state_from_name((const char *) sqlite3_column_text(s, 0));
                store->ended[state] = (uint64_t) sqlite3_column_int64(s, 1);
                store->held += (uint64_t) sqlite3_column_int64(s, 2);
                store->leases += (uint64_t) sqlite3_column_int64(s, 3);
        }
        int r = code == SQLITE_DONE ? 0 : db_error(error, store->db, "jobs");
        (void) sqlite3_reset(s);
        s = store_statement(store, STATEMENT_COUNT_TRASH);
        if (r >= 0 && sqlite3_step(s) != SQLITE_ROW)
                r = db_error(error, store->db, "trash");
        store->trash = (uint64_t) sqlite3_column_int64(s, 0);
        (void) sqlite3_reset(s);
        return r;
}

/* ---- ended jobs ---- */

int store_load(struct store *store, uint64_t id, struct job **ret, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_LOAD_JOB);
        struct job *job = NULL;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) MIN(id, (uint64_t) INT64_MAX));
        int code = sqlite3_step(s), r;
        if (code == SQLITE_ROW)
                r = read_row(store, s, &job, error);
        else
                r = code == SQLITE_DONE ? -ENOENT : db_error(error, store->db, "state.db");
        (void) sqlite3_reset(s);
        if (r >= 0)
                r = read_newest(store, job, error);
        if (r < 0) {
                job_free(job);
                return r;
        }
        *ret = job;
        return 0;
}

int store_find_name(struct store *store, const char *name, uid_t uid, uint64_t *ret_id, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_FIND_NAME);

        (void) sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
        (void) sqlite3_bind_int64(s, 2, uid);
        int r = sqlite3_step(s) == SQLITE_ROW ? 0 : db_error(error, store->db, "state.db");
        *ret_id = r < 0 ? 0 : (uint64_t) sqlite3_column_int64(s, 0);
        db_clear(s);
        return r;
}

/* A job in memory is newer than its row. */
int store_load_ledger(struct store *store, struct job *job, struct error *error) {
        struct job rows = { .id = job->id };

        if (job->ledger_whole)
                return 0;
        int r = read_checkpoints(store, &rows, STATEMENT_LOAD_CHECKPOINTS, error);
        for (size_t i = 0; r >= 0 && i < job->n_ledger; i++)
                if (job_checkpoint_add(&rows, &job->ledger[i]) == -ENOMEM)
                        r = error_errno(error, ENOMEM, "checkpoints");
        struct job *unused = r < 0 ? &rows : job;
        for (size_t i = 0; i < unused->n_ledger; i++)
                free(unused->ledger[i].path);
        free(unused->ledger);
        if (r < 0)
                return r;
        job->ledger = rows.ledger;
        job->n_ledger = rows.n_ledger;
        job->ledger_whole = true;
        return 0;
}

static int page_row(struct store *store, sqlite3_stmt *s, int (*row)(void *userdata, const struct job *job),
                    void *userdata, struct error *error) {
        struct job *job = store_find(store, (uint64_t) sqlite3_column_int64(s, 0));

        if (job)
                return row(userdata, job);
        int r = read_row(store, s, &job, error);
        if (r < 0)
                return r == -EBADMSG ? 0 : r;
        r = read_newest(store, job, error);
        if (r >= 0)
                r = row(userdata, job);
        job_free(job);
        return r;
}

static int page_open(const struct store *store, uint64_t first, uint32_t max,
                     int (*row)(void *userdata, const struct job *job), void *userdata) {
        int r = 0;

        for (size_t i = store->n_jobs; r == 0 && i-- > 0 && max > 0;) {
                const struct job *job = store->jobs[i];
                if (job->id >= first || state_has_ended(job->state))
                        continue;
                r = row(userdata, job);
                max--;
        }
        return r;
}

int store_page(struct store *store, uint64_t first, uint32_t max, bool open,
               int (*row)(void *userdata, const struct job *job), void *userdata, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_LOAD_PAGE);
        int r = 0, code = SQLITE_DONE;

        if (first == 0 || first > INT64_MAX)
                first = INT64_MAX;
        if (open)
                return page_open(store, first, max, row, userdata);
        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) first);
        (void) sqlite3_bind_int64(s, 2, max);
        while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW)
                r = page_row(store, s, row, userdata, error);
        if (r == 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "state.db");
        (void) sqlite3_reset(s);
        return r;
}

int store_starts(struct store *store, const struct job *job, uint64_t after, uint64_t until, uint32_t *ret_n,
                 uint64_t *ret_oldest, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_STARTS);
        int r = 0;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) job->id);
        (void) sqlite3_bind_int64(s, 2, job->history_from);
        (void) sqlite3_bind_int64(s, 3, POLICY_STARTS_MAX);
        (void) sqlite3_bind_int64(s, 4, (sqlite3_int64) after);
        (void) sqlite3_bind_int64(s, 5, (sqlite3_int64) until);
        (void) sqlite3_bind_int(s, 6, EXIT_CLASS_WAIT); /* the program was not started */
        if (sqlite3_step(s) != SQLITE_ROW) {
                r = db_error(error, store->db, "attempts");
        } else {
                *ret_n = (uint32_t) sqlite3_column_int64(s, 0);
                *ret_oldest = (uint64_t) sqlite3_column_int64(s, 1);
        }
        (void) sqlite3_reset(s);
        return r;
}

int store_has_run(struct store *store, const struct job *job, bool *ret, struct error *error) {
        const int numbers[] = { EXIT_CLASS_STOPPED, EXIT_CLASS_LAUNCH,       EXIT_CLASS_USER_ERROR,
                                EXIT_CLASS_MISSING, job->attempt.exit_class, job->attempt.exit_code,
                                EXIT_CLASS_WAIT };
        sqlite3_stmt *s = store_statement(store, STATEMENT_HAS_RUN);
        int r = 0;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) job->id);
        (void) sqlite3_bind_int64(s, 2, job->attempt.number);
        for (int i = 0; i < (int) ELEMENTSOF(numbers); i++)
                (void) sqlite3_bind_int(s, 3 + i, numbers[i]);
        if (sqlite3_step(s) == SQLITE_ROW)
                *ret = sqlite3_column_int(s, 0) != 0;
        else
                r = db_error(error, store->db, "attempts");
        (void) sqlite3_reset(s);
        return r;
}

/* ---- inputs and events ---- */

int store_load_spec(struct store *store, uint64_t id, char **ret, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_LOAD_INPUT);
        int r = 0;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) (id));
        if (sqlite3_step(s) != SQLITE_ROW)
                r = error_set(error, EIO, "state.db: job %" PRIu64 " has no spec", id);
        else {
                const char *text = (const char *) sqlite3_column_text(s, 0);
                *ret = strdup(text ? text : "");
                r = *ret ? 0 : error_errno(error, ENOMEM, "spec");
        }
        (void) sqlite3_reset(s);
        return r;
}

static int copy_command(sqlite3_stmt *s, char **ret, size_t *ret_size, struct error *error) {
        size_t size = (size_t) sqlite3_column_bytes(s, 0);
        const char *command = sqlite3_column_blob(s, 0);

        *ret = NULL;
        *ret_size = size;
        if (size == 0)
                return 0;
        if (command[size - 1] != '\0')
                return error_set(error, EBADMSG, "state.db: a damaged command");
        *ret = malloc(size);
        if (!*ret)
                return error_errno(error, ENOMEM, "command");
        memcpy(*ret, command, size);
        return 0;
}

int store_load_command(struct store *store, uint64_t id, char **ret, size_t *ret_size, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_LOAD_COMMAND);

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) id);
        int r = sqlite3_step(s) == SQLITE_ROW
                        ? copy_command(s, ret, ret_size, error)
                        : error_set(error, EIO, "state.db: the command of job %" PRIu64 " cannot be read", id);
        (void) sqlite3_reset(s);
        return r;
}

static int copy_inputs(sqlite3_stmt *s, struct job_inputs *ret, struct error *error) {
        size_t size = (size_t) sqlite3_column_bytes(s, 1), limits = (size_t) sqlite3_column_bytes(s, 2);
        const char *environment = sqlite3_column_blob(s, 1);
        const void *rlimits = sqlite3_column_blob(s, 2);

        *ret = (struct job_inputs) { .n_rlimits = (uint32_t) (limits / sizeof(ret->rlimits[0])) };
        read_text(s, 3, ret->cpu_list, sizeof(ret->cpu_list));
        read_text(s, 4, ret->scheduling, sizeof(ret->scheduling));
        if ((size > 0 && environment[size - 1] != '\0') || ret->n_rlimits > JOB_RLIMITS_MAX)
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
        sqlite3_stmt *s = store_statement(store, STATEMENT_LOAD_INPUT);
        int r;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) (id));
        if (sqlite3_step(s) != SQLITE_ROW)
                r = error_set(error, EIO, "state.db: job %" PRIu64 " has no inputs", id);
        else
                r = copy_inputs(s, ret, error);
        (void) sqlite3_reset(s);
        return r;
}

int store_events(struct store *store, uint64_t job, uint64_t after, uint32_t max,
                 int (*row)(void *userdata, const struct event_row *event), void *userdata, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_EVENTS);
        int r = 0, code = SQLITE_DONE;

        (void) sqlite3_bind_int64(s, 1, (sqlite3_int64) (job));
        (void) sqlite3_bind_int64(s, 2, (sqlite3_int64) (after > INT64_MAX ? INT64_MAX : after));
        (void) sqlite3_bind_int64(s, 3, (sqlite3_int64) (max));
        while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
                struct event_row event = {
                        .id = (uint64_t) sqlite3_column_int64(s, 0),
                        .time = (uint64_t) sqlite3_column_int64(s, 1),
                        .from = (const char *) sqlite3_column_text(s, 2),
                        .to = (const char *) sqlite3_column_text(s, 3),
                        .what = (const char *) sqlite3_column_text(s, 4),
                        .reason = (const char *) sqlite3_column_text(s, 5),
                        .exit_class = (const char *) sqlite3_column_text(s, 6),
                        .step = (uint64_t) sqlite3_column_int64(s, 7),
                        .lost = (uint64_t) sqlite3_column_int64(s, 8),
                        .private = (const char *) sqlite3_column_text(s, 9),
                };
                if (!event.private)
                        event.private = event.reason;
                r = row(userdata, &event);
        }
        if (r == 0 && code != SQLITE_DONE)
                r = db_error(error, store->db, "events");
        (void) sqlite3_reset(s);
        return r;
}
