/* See sql.h. Role: every word of SQL that the daemon speaks, but for pragmas. Owns nothing. */
#include "daemon/store/sql.h"

#include "daemon/store/columns.h"
#include "daemon/store/store.h"

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

#define NUMBER_(n) #n
#define NUMBER(n) NUMBER_(n)
#define HEAD_ATTEMPTS NUMBER(BERTD_ATTEMPTS_HEAD)
#define TAIL_ATTEMPTS NUMBER(BERTD_ATTEMPTS_TAIL)
#define HEAD_EVENTS NUMBER(BERTD_EVENTS_HEAD)
#define TAIL_EVENTS NUMBER(BERTD_EVENTS_TAIL)
/* What stands in place of those that are not kept. */
#define DROP_TEXT                                                                                                  \
        "printf('%s%s%s dropped', iif(events_dropped=0, '', printf('%d older event%s', events_dropped,"            \
        " iif(events_dropped=1, '', 's'))), iif(events_dropped>0 AND attempts_dropped>0, ' and ', ''),"            \
        " iif(attempts_dropped=0, '', printf('%d older attempt%s', attempts_dropped, iif(attempts_dropped=1, '', " \
        "'s'))))"

/* Of a database without bounds on attempts and events: what prune.c does one by one. */
#define PRUNE_ALL                                                                                                    \
        "INSERT INTO trash(job, first, last, uid, gid, user)"                                                        \
        " SELECT job.id, " HEAD_ATTEMPTS "+1, max(number)-" TAIL_ATTEMPTS ", uid, gid, user"                         \
        " FROM attempt JOIN job ON job.id=attempt.job GROUP BY job.id"                                               \
        " HAVING max(number) > " HEAD_ATTEMPTS "+" TAIL_ATTEMPTS ";"                                                 \
        "UPDATE job SET attempts_dropped=last-first+1 FROM trash WHERE trash.job=job.id;"                            \
        "DELETE FROM attempt WHERE EXISTS(SELECT 1 FROM trash WHERE trash.job=attempt.job AND number BETWEEN first " \
        "AND last);"                                                                                                 \
        "UPDATE job SET events=(SELECT count(*) FROM event WHERE event.job=job.id);"                                 \
        "CREATE TEMP TABLE doomed AS SELECT id, job, time FROM (SELECT id, job, time,"                               \
        " row_number() OVER (PARTITION BY job ORDER BY id) AS n, count(*) OVER (PARTITION BY job) AS total"          \
        " FROM event WHERE job IN (SELECT id FROM main.job WHERE events > " HEAD_EVENTS "+" TAIL_EVENTS "))"         \
        " WHERE n > " HEAD_EVENTS " AND n <= total-" TAIL_EVENTS ";"                                                 \
        "DELETE FROM event WHERE id IN (SELECT id FROM doomed);"                                                     \
        "UPDATE job SET events_dropped=n, drop_event=last FROM"                                                      \
        " (SELECT doomed.job AS of, count(*) AS n, max(doomed.id) AS last FROM doomed GROUP BY doomed.job) WHERE "   \
        "of=job.id;"                                                                                                 \
        "INSERT INTO event(id, job, time, from_state, to_state, what, reason)"                                       \
        " SELECT drop_event, job.id, max(doomed.time), '', '', 'dropped', " DROP_TEXT                                \
        " FROM job JOIN doomed ON doomed.job=job.id GROUP BY job.id;"                                                \
        "DROP TABLE doomed;"                                                                                         \
        "INSERT INTO event(job, time, from_state, to_state, what, reason)"                                           \
        " SELECT id, since_usec, '', '', 'dropped', " DROP_TEXT " FROM job"                                          \
        " WHERE attempts_dropped>0 AND drop_event=0;"                                                                \
        "UPDATE job SET drop_event=(SELECT max(id) FROM event WHERE event.job=job.id AND what='dropped')"            \
        " WHERE attempts_dropped>0 AND drop_event=0;"

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
        "BEGIN IMMEDIATE;"
        "ALTER TABLE input ADD COLUMN command BLOB;" /* of an older job: in its own row */
        "ALTER TABLE attempt ADD COLUMN gpus TEXT;"
        "CREATE INDEX job_name ON job(name, uid);"
        "ALTER TABLE job ADD COLUMN deaths INTEGER NOT NULL DEFAULT -1;" /* -1: to be counted from the attempts */
        "ALTER TABLE job ADD COLUMN free_deaths INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN lost_usec TEXT NOT NULL DEFAULT '';"
        "ALTER TABLE job ADD COLUMN holds_checkpoints INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN end_order INTEGER NOT NULL DEFAULT 0;" /* of those that have ended; no clock decides it */
        "ALTER TABLE job ADD COLUMN events INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN events_dropped INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN attempts_dropped INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN drop_event INTEGER NOT NULL DEFAULT 0;"
        "CREATE TABLE trash(id INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, first INTEGER NOT NULL,"
        " last INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, user TEXT NOT NULL);" PRUNE_ALL
        "UPDATE job SET holds_checkpoints=1 WHERE state IN (" ENDED ") AND EXISTS(SELECT 1 FROM checkpoint WHERE"
        " checkpoint.job=job.id AND checkpoint.state=0 AND instr(checkpoint.path, '/jobs/' || job.id || '/') > 0);"
        "DROP INDEX job_ended;"
        "CREATE INDEX job_ended ON job(state, holds_checkpoints) WHERE state IN (" ENDED ");"
        "UPDATE job SET end_order=coalesce((SELECT max(id) FROM event WHERE event.job=job.id), 0) WHERE state IN "
        "(" ENDED ");"
        "CREATE INDEX job_oldest ON job(uid, end_order, id) WHERE state IN (" ENDED ") AND holds_checkpoints=0;"
        "PRAGMA user_version=3;"
        "COMMIT;",
        "BEGIN IMMEDIATE;"
        "ALTER TABLE job ADD COLUMN ends_with INTEGER NOT NULL DEFAULT 0;" /* enum ends_with */
        "ALTER TABLE job ADD COLUMN private TEXT;" /* reason, for the owner and root; NULL = as for everybody */
        "ALTER TABLE attempt ADD COLUMN private TEXT;"
        "ALTER TABLE event ADD COLUMN private TEXT;"
        /* What an older bertd kept may quote the job. */
        "UPDATE job SET private=reason, reason=NULL WHERE reason IS NOT NULL;"
        "UPDATE attempt SET private=reason, reason='' WHERE reason<>'';"
        "UPDATE event SET private=reason, reason='' WHERE reason<>'' AND what<>'dropped';"
        "ALTER TABLE job ADD COLUMN log_max_size INTEGER NOT NULL DEFAULT 67108864;"
        "ALTER TABLE job ADD COLUMN log_keep INTEGER NOT NULL DEFAULT 2;"
        "ALTER TABLE job ADD COLUMN nice INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE job ADD COLUMN exit_owed INTEGER NOT NULL DEFAULT 0;" /* enum exit_owed */
        "CREATE INDEX job_exit ON job(id) WHERE exit_owed>0;"
        "ALTER TABLE input ADD COLUMN cpu_list TEXT;"   /* CPU affinity of the submitter; NULL = any */
        "ALTER TABLE input ADD COLUMN scheduling TEXT;" /* as common/scheduling.h; NULL = as usual */
        "PRAGMA user_version=4;"
        "COMMIT;",
};

const char *const store_statements[STATEMENT_MAX] = {
        [STATEMENT_JOB_INSERT] = "INSERT INTO job(" COLUMNS_JOB ", keep, keep_every) VALUES(" COLUMNS_VALUES ", 0, 0)",
        [STATEMENT_JOB_UPDATE] = "UPDATE job SET " COLUMNS_UPDATE "end_order=CASE WHEN :state NOT IN (" ENDED
                                 ") THEN 0 WHEN end_order>0 THEN end_order ELSE"
                                 " (SELECT seq FROM sqlite_sequence WHERE name='event') END WHERE id=:id",
        [STATEMENT_INPUT] = "INSERT INTO input(job, spec, environment, rlimits, command, cpu_list, scheduling) "
                            "VALUES(?,?,?,?,?,?,?)",
        [STATEMENT_ATTEMPT] = "INSERT OR REPLACE INTO attempt(" STORE_ATTEMPT_COLUMNS
                              ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [STATEMENT_CHECKPOINT] =
                "INSERT OR REPLACE INTO checkpoint(" STORE_CHECKPOINT_COLUMNS ") VALUES(?,?,?,?,?,?,?,?)",
        [STATEMENT_EVENT] =
                "INSERT INTO event(job, time, from_state, to_state, what, reason, class, step, lost, private) "
                "VALUES(?,?,?,?,?,?,?,?,?,?)",
        [STATEMENT_LOAD_INPUT] = "SELECT spec, environment, rlimits, cpu_list, scheduling FROM input WHERE job=?",
        [STATEMENT_LOAD_COMMAND] =
                "SELECT coalesce(input.command, job.command) FROM job LEFT JOIN input ON input.job = job.id "
                "WHERE job.id=?",
        [STATEMENT_LOAD_OPEN] =
                "SELECT " COLUMNS_JOB " FROM job INDEXED BY job_open WHERE state NOT IN (" ENDED ") ORDER BY id",
        [STATEMENT_LOAD_OWED] = "SELECT " COLUMNS_JOB
                                " FROM job INDEXED BY job_exit WHERE exit_owed>0 AND state IN (" ENDED ") ORDER BY id",
        [STATEMENT_LOAD_JOB] = "SELECT " COLUMNS_JOB " FROM job WHERE id=?",
        [STATEMENT_FIND_NAME] = "SELECT coalesce((SELECT max(id) FROM job WHERE name=?1 AND uid=?2),"
                                " (SELECT max(id) FROM job WHERE name=?1))",
        [STATEMENT_LOAD_PAGE] = "SELECT " COLUMNS_JOB " FROM job WHERE id<? ORDER BY id DESC LIMIT ?",
        [STATEMENT_LOAD_ATTEMPTS] =
                "SELECT * FROM (SELECT " STORE_ATTEMPT_COLUMNS " FROM attempt WHERE job=?1 ORDER BY "
                "number DESC LIMIT ?2) ORDER BY number",
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
                "SELECT state, count(*), sum(holds_checkpoints) FROM job INDEXED BY job_ended WHERE state "
                "IN (" ENDED ") GROUP BY state",
        [STATEMENT_EVENTS] =
                "SELECT id, time, from_state, to_state, what, reason, class, step, lost, private FROM event "
                "WHERE job=? AND id>? ORDER BY id LIMIT ?",
        [STATEMENT_REMOVE] = "DELETE FROM job WHERE id=?",
        [STATEMENT_STARTS] =
                "SELECT count(*), min(started) FROM (SELECT started FROM attempt WHERE job=?1 AND number>?2 "
                "ORDER BY number DESC LIMIT ?3) WHERE started > ?4 AND started <= ?5",
        /* Neither not started (?4: "launch", 126 and 127 with ?5), nor kept waiting (?6), nor stopped before that (?3), nor ended as
         * the newest (?7, ?8). */
        [STATEMENT_HAS_RUN] =
                "SELECT EXISTS(SELECT 1 FROM attempt WHERE job=?1 AND number<?2 AND NOT (exit_class=?3 AND exit_code<0"
                " AND signal=0) AND exit_class NOT IN (?4, ?6) AND NOT (exit_class=?5 AND exit_code IN (126, 127))"
                " AND NOT (exit_class=?7 AND exit_code=?8))",
        [STATEMENT_COUNT_EVENT] =
                "UPDATE job SET events=events+1 WHERE id=?1 RETURNING events-events_dropped, drop_event",
        [STATEMENT_DOOMED_EVENT] =
                "SELECT id, time FROM event WHERE job=?1 AND id<>?2 ORDER BY id LIMIT 1 OFFSET " HEAD_EVENTS,
        [STATEMENT_DROP_EVENT] = "DELETE FROM event WHERE id IN (?1, ?2)",
        [STATEMENT_COUNT_DROPPED] =
                "UPDATE job SET events_dropped=events_dropped+?2, attempts_dropped=attempts_dropped+?3,"
                " drop_event=CASE WHEN ?4>0 THEN ?4 WHEN drop_event>0 THEN drop_event ELSE"
                " (SELECT seq+1 FROM sqlite_sequence WHERE name='event') END WHERE id=?1",
        [STATEMENT_DROP_NOTE] =
                "INSERT OR REPLACE INTO event(id, job, time, from_state, to_state, what, reason) SELECT drop_event,"
                " id, coalesce((SELECT time FROM event WHERE id=drop_event), ?2), '', '', 'dropped', " DROP_TEXT
                " FROM job WHERE id=?1",
        [STATEMENT_DROP_ATTEMPTS] =
                "DELETE FROM attempt WHERE job=?1 AND number>" HEAD_ATTEMPTS " AND number<=?2-" TAIL_ATTEMPTS,
        [STATEMENT_TRASH] =
                "INSERT INTO trash(job, first, last, uid, gid, user) SELECT id, ?2, ?3, uid, gid, user FROM job "
                "WHERE id=?1",
        [STATEMENT_TRASH_NEXT] = "SELECT id, job, first, last, uid, gid, user FROM trash WHERE uid NOT IN (?1, ?2, ?3, "
                                 "?4, ?5, ?6, ?7, ?8, "
                                 "?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) "
                                 "ORDER BY id",
        [STATEMENT_COUNT_TRASH] = "SELECT count(*) FROM trash",
        [STATEMENT_TRASH_DONE] = "DELETE FROM trash WHERE id=?",
        [STATEMENT_TRASH_LESS] = "UPDATE trash SET first=?2 WHERE id=?1",
        /* Of the user who has most: nobody's jobs make room for another's. */
        [STATEMENT_OLDEST_ENDED] =
                "SELECT id, state FROM job INDEXED BY job_oldest WHERE state IN (" ENDED
                ") AND holds_checkpoints=0 AND "
                "uid=(SELECT uid FROM job INDEXED BY job_oldest WHERE state IN (" ENDED ") AND holds_checkpoints=0 "
                "GROUP BY uid ORDER BY count(*) DESC, min(end_order) LIMIT 1) ORDER BY end_order, id LIMIT ?",
};
