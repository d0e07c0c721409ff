/* See store_sql.h. Role: every word of SQL that the daemon speaks, but for pragmas. Owns nothing. */
#include "daemon/store_sql.h"

#include "daemon/store.h"

#define ENDED "'done', 'failed', 'cancelled'"

/* Of version 1; a new database then takes every step of the migration, so that there is one path. */
const char store_schema[] =
        "BEGIN;"
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
        "CREATE TABLE job(id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, gid INTEGER NOT NULL, kind TEXT "
        "NOT NULL,"
        " state TEXT NOT NULL, wish INTEGER NOT NULL DEFAULT 0, launcher INTEGER NOT NULL, priority INTEGER NOT NULL,"
        " ranks INTEGER NOT NULL, threads INTEGER NOT NULL, gpus INTEGER NOT NULL, max_without_progress INTEGER NOT "
        "NULL,"
        " backoff_min_sec INTEGER NOT NULL, backoff_max_sec INTEGER NOT NULL, grace_sec INTEGER NOT NULL, keep INTEGER "
        "NOT NULL,"
        " keep_every INTEGER NOT NULL, umask INTEGER NOT NULL, name TEXT NOT NULL, user TEXT NOT NULL, cwd TEXT NOT "
        "NULL,"
        " run_dir TEXT, on_exit TEXT, command BLOB, reason TEXT, submitted INTEGER NOT NULL, started INTEGER NOT NULL "
        "DEFAULT 0,"
        " ended INTEGER NOT NULL DEFAULT 0, not_before INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL DEFAULT 0,"
        " steps INTEGER NOT NULL DEFAULT 0, loss REAL, rate REAL, exit_code INTEGER NOT NULL DEFAULT -1,"
        " exit_class INTEGER NOT NULL DEFAULT -1, resume_from INTEGER NOT NULL DEFAULT 0,"
        " resume_abandon INTEGER NOT NULL DEFAULT 0, history_from INTEGER NOT NULL DEFAULT 0);"
        "CREATE TABLE input(job INTEGER PRIMARY KEY REFERENCES job ON DELETE CASCADE, spec TEXT NOT NULL,"
        " environment BLOB NOT NULL, rlimits BLOB NOT NULL);"
        "CREATE TABLE attempt(job INTEGER NOT NULL REFERENCES job ON DELETE CASCADE, number INTEGER NOT NULL,"
        " open INTEGER NOT NULL, nonce TEXT NOT NULL, boot_id TEXT NOT NULL, pid INTEGER NOT NULL, pid_start INTEGER "
        "NOT NULL,"
        " gpu_mask INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL, resumed INTEGER NOT NULL,"
        " first_step INTEGER NOT NULL, step INTEGER NOT NULL, checkpoint_step INTEGER NOT NULL, exit_code INTEGER NOT "
        "NULL,"
        " signal INTEGER NOT NULL, exit_class INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(job, number)) "
        "WITHOUT ROWID;"
        "CREATE TABLE checkpoint(job INTEGER NOT NULL REFERENCES job ON DELETE CASCADE, step INTEGER NOT NULL,"
        " size INTEGER NOT NULL, created INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,"
        " restored INTEGER NOT NULL, path TEXT NOT NULL, PRIMARY KEY(job, step)) WITHOUT ROWID;"
        "CREATE TABLE event(id INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL REFERENCES job ON DELETE "
        "CASCADE,"
        " time INTEGER NOT NULL, from_state TEXT NOT NULL, to_state TEXT NOT NULL, what TEXT NOT NULL, reason TEXT NOT "
        "NULL);"
        "CREATE INDEX event_job ON event(job, id);"
        "PRAGMA user_version=1;"
        "COMMIT;";

/* Each takes a database from version i + 1 to i + 2, in one transaction. What ended is counted and what is open is found without
 * reading the rest. */
const char *const store_migrations[STORE_VERSION - 1] = {
        "BEGIN IMMEDIATE;"
        "ALTER TABLE job ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN cpus REAL NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN hang_sec INTEGER NOT NULL DEFAULT -1;"
        "ALTER TABLE job ADD COLUMN start_sec INTEGER NOT NULL DEFAULT -1;"
        "ALTER TABLE job ADD COLUMN on_nan INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN lost_steps INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN run_steps INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN run_usec INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN active_usec INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN since_usec INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN checkpoint_stall REAL;"
        "ALTER TABLE job ADD COLUMN checkpoint_write REAL;"
        "ALTER TABLE attempt ADD COLUMN samples_first INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE attempt ADD COLUMN samples_last INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE attempt ADD COLUMN rank INTEGER NOT NULL DEFAULT -1;"
        "ALTER TABLE attempt ADD COLUMN host TEXT;"
        "ALTER TABLE attempt ADD COLUMN evidence TEXT;"
        "ALTER TABLE event ADD COLUMN class TEXT NOT NULL DEFAULT '';"
        "ALTER TABLE event ADD COLUMN step INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE event ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;"
        "CREATE INDEX job_open ON job(id) WHERE state NOT IN (" ENDED ");"
        "CREATE INDEX job_ended ON job(state) WHERE state IN (" ENDED ");"
        "PRAGMA user_version=2;"
        "COMMIT;",
};

const char *const store_statements[STATEMENT_MAX] = {
        [STATEMENT_JOB_INSERT] =
                "INSERT INTO job(uid, gid, kind, state, launcher, priority, ranks, threads, gpus, max_without_progress,"
                " backoff_min_sec, backoff_max_sec, grace_sec, keep, keep_every, umask, name, user, cwd, run_dir, "
                "on_exit, command, submitted, memory, cpus, hang_sec, start_sec, on_nan, since_usec)"
                " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [STATEMENT_JOB_UPDATE] =
                "UPDATE job SET state=?2, wish=?3, ranks=?4, reason=?5, started=?6, ended=?7, "
                "not_before=?8, step=?9, steps=?10, loss=?11, rate=?12, exit_code=?13, exit_class=?14, "
                "resume_from=?15, resume_abandon=?16, history_from=?17, lost_steps=?18, run_steps=?19, "
                "run_usec=?20, active_usec=?21, since_usec=?22, checkpoint_stall=?23, "
                "checkpoint_write=?24 WHERE id=?1",
        [STATEMENT_INPUT] = "INSERT INTO input VALUES(?,?,?,?)",
        [STATEMENT_ATTEMPT] = "INSERT OR REPLACE INTO attempt(" STORE_ATTEMPT_COLUMNS
                              ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [STATEMENT_CHECKPOINT] =
                "INSERT OR REPLACE INTO checkpoint(" STORE_CHECKPOINT_COLUMNS ") VALUES(?,?,?,?,?,?,?,?)",
        [STATEMENT_EVENT] = "INSERT INTO event(job, time, from_state, to_state, what, reason, class, step, lost) "
                            "VALUES(?,?,?,?,?,?,?,?,?)",
        [STATEMENT_LOAD_INPUT] = "SELECT spec, environment, rlimits FROM input WHERE job=?",
        [STATEMENT_LOAD_OPEN] =
                "SELECT " STORE_JOB_COLUMNS " FROM job INDEXED BY job_open WHERE state NOT IN (" ENDED ") ORDER BY id",
        [STATEMENT_LOAD_JOB] = "SELECT " STORE_JOB_COLUMNS " FROM job WHERE id=?",
        [STATEMENT_LOAD_PAGE] = "SELECT " STORE_JOB_COLUMNS " FROM job WHERE id<? ORDER BY id DESC LIMIT ?",
        [STATEMENT_LOAD_ATTEMPTS] = "SELECT " STORE_ATTEMPT_COLUMNS " FROM attempt WHERE job=? ORDER BY number",
        [STATEMENT_LOAD_NEWEST_ATTEMPT] =
                "SELECT " STORE_ATTEMPT_COLUMNS " FROM attempt WHERE job=? ORDER BY number DESC LIMIT 1",
        [STATEMENT_LOAD_CHECKPOINTS] = "SELECT " STORE_CHECKPOINT_COLUMNS " FROM checkpoint WHERE job=? ORDER BY step",
        [STATEMENT_LOAD_NEWEST_CHECKPOINT] = "SELECT " STORE_CHECKPOINT_COLUMNS
                                             " FROM checkpoint WHERE job=? AND state=0 ORDER BY step DESC LIMIT 1",
        [STATEMENT_PRUNE_CHECKPOINTS] =
                "DELETE FROM checkpoint WHERE job=?1 AND"
                " (step<(SELECT step FROM checkpoint WHERE job=?1 ORDER BY step DESC LIMIT 1 OFFSET ?2) OR (state=3 AND"
                " restored=0 AND"
                " step<(SELECT step FROM checkpoint WHERE job=?1 ORDER BY step DESC LIMIT 1 OFFSET ?3)))",
        [STATEMENT_COUNT_ENDED] =
                "SELECT state, count(*) FROM job INDEXED BY job_ended WHERE state IN (" ENDED ") GROUP BY state",
        [STATEMENT_EVENTS] = "SELECT id, time, from_state, to_state, what, reason, class, step, lost FROM event "
                             "WHERE job=? AND id>? ORDER BY id LIMIT ?",
        [STATEMENT_REMOVE] = "DELETE FROM job WHERE id=?",
};
