/* See migrate.h. Role: what schemas 1 to 5, whose numbers stood for several shapes, lack of the last of them. Owns
 * nothing. */
#include "daemon/store/migrate.h"

#include <stddef.h>

#include "daemon/store/sql.h"

/* For a database without bounds on attempts and events: prunes all at once. */
#define PRUNE_ALL                                                                                                    \
        "INSERT INTO trash(job, first, last, uid, gid, user)"                                                        \
        " SELECT job.id, " STORE_HEAD_ATTEMPTS "+1, max(number)-" STORE_TAIL_ATTEMPTS ", uid, gid, user"             \
        " FROM attempt JOIN job ON job.id=attempt.job GROUP BY job.id"                                               \
        " HAVING max(number) > " STORE_HEAD_ATTEMPTS "+" STORE_TAIL_ATTEMPTS ";"                                     \
        "UPDATE job SET attempts_dropped=last-first+1 FROM trash WHERE trash.job=job.id;"                            \
        "DELETE FROM attempt WHERE EXISTS(SELECT 1 FROM trash WHERE trash.job=attempt.job AND number BETWEEN first " \
        "AND last);"                                                                                                 \
        "UPDATE job SET events=(SELECT count(*) FROM event WHERE event.job=job.id);"                                 \
        "CREATE TEMP TABLE doomed AS SELECT id, job, time FROM (SELECT id, job, time,"                               \
        " row_number() OVER (PARTITION BY job ORDER BY id) AS n, count(*) OVER (PARTITION BY job) AS total"          \
        " FROM event WHERE job IN (SELECT id FROM main.job WHERE events > " STORE_HEAD_EVENTS "+" STORE_TAIL_EVENTS  \
        "))"                                                                                                         \
        " WHERE n > " STORE_HEAD_EVENTS " AND n <= total-" STORE_TAIL_EVENTS ";"                                     \
        "DELETE FROM event WHERE id IN (SELECT id FROM doomed);"                                                     \
        "UPDATE job SET events_dropped=n, drop_event=last FROM"                                                      \
        " (SELECT doomed.job AS of, count(*) AS n, max(doomed.id) AS last FROM doomed GROUP BY doomed.job) WHERE "   \
        "of=job.id;"                                                                                                 \
        "INSERT INTO event(id, job, time, from_state, to_state, what, reason)"                                       \
        " SELECT drop_event, job.id, max(doomed.time), '', '', 'dropped', " STORE_DROP_TEXT                          \
        " FROM job JOIN doomed ON doomed.job=job.id GROUP BY job.id;"                                                \
        "DROP TABLE doomed;"                                                                                         \
        "INSERT INTO event(job, time, from_state, to_state, what, reason)"                                           \
        " SELECT id, since_usec, '', '', 'dropped', " STORE_DROP_TEXT " FROM job"                                    \
        " WHERE attempts_dropped>0 AND drop_event=0;"                                                                \
        "UPDATE job SET drop_event=(SELECT max(id) FROM event WHERE event.job=job.id AND what='dropped')"            \
        " WHERE attempts_dropped>0 AND drop_event=0;"

/* Stored reasons may quote the job; the first schema 4 had no separate text for the owner. */
#define HIDE_REASONS(where)                                                                                      \
        "UPDATE job SET private=reason, reason=NULL WHERE private IS NULL AND reason IS NOT NULL AND " where ";" \
        "UPDATE attempt SET private=reason, reason='' WHERE private IS NULL AND reason<>'' AND " where ";"       \
        "UPDATE event SET private=reason, reason='' WHERE private IS NULL AND reason<>'' AND what<>'dropped' "   \
        "AND " where ";"

/* In historical order. A step is needed if its first column is missing. */
const struct legacy_step store_legacy_steps[] = {
        { 4, "job", "memory",
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
          "ALTER TABLE event ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;" },
        { 4, "attempt", "gpus", "ALTER TABLE attempt ADD COLUMN gpus TEXT;" },
        { 4, "input", "command", "ALTER TABLE input ADD COLUMN command BLOB;" },
        { 4, "job", "deaths",
          "ALTER TABLE job ADD COLUMN deaths INTEGER NOT NULL DEFAULT -1;"
          "ALTER TABLE job ADD COLUMN free_deaths INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE job ADD COLUMN lost_usec TEXT NOT NULL DEFAULT '';"
          "ALTER TABLE job ADD COLUMN holds_checkpoints INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE job ADD COLUMN events INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE job ADD COLUMN events_dropped INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE job ADD COLUMN attempts_dropped INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE job ADD COLUMN drop_event INTEGER NOT NULL DEFAULT 0;"
          "CREATE TABLE trash(id INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, first INTEGER NOT NULL,"
          " last INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, user TEXT NOT NULL);" PRUNE_ALL
          "UPDATE job SET holds_checkpoints=1 WHERE state IN (" STORE_ENDED ") AND EXISTS(SELECT 1 FROM checkpoint"
          " WHERE checkpoint.job=job.id AND checkpoint.state=0 AND instr(checkpoint.path, '/jobs/' || job.id || '/') "
          "> 0);" },
        { 4, "job", "end_order",
          "ALTER TABLE job ADD COLUMN end_order INTEGER NOT NULL DEFAULT 0;"
          "UPDATE job SET end_order=coalesce((SELECT max(id) FROM event WHERE event.job=job.id), 0) WHERE state IN "
          "(" STORE_ENDED ");" },
        { 4, "job", "ends_with",
          "ALTER TABLE job ADD COLUMN ends_with INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE job ADD COLUMN private TEXT;"
          "ALTER TABLE attempt ADD COLUMN private TEXT;"
          "ALTER TABLE event ADD COLUMN private TEXT;"
          "ALTER TABLE job ADD COLUMN log_max_size INTEGER NOT NULL DEFAULT 67108864;"
          "ALTER TABLE job ADD COLUMN log_keep INTEGER NOT NULL DEFAULT 2;"
          "ALTER TABLE job ADD COLUMN nice INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE job ADD COLUMN exit_owed INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE input ADD COLUMN cpu_list TEXT;" },
        { 4, "input", "scheduling", "ALTER TABLE input ADD COLUMN scheduling TEXT;" HIDE_REASONS("1") },
        { 4, "job", NULL, HIDE_REASONS("NOT EXISTS(SELECT 1 FROM sqlite_schema WHERE name='job_exit')") },
        /* A job's command was in its own row first. */
        { 4, "job", NULL,
          "UPDATE input SET command=(SELECT command FROM job WHERE id=input.job) WHERE command IS NULL AND"
          " EXISTS(SELECT 1 FROM job WHERE id=input.job AND length(command) > 0);" },
        { 5, "job", "stop_reason", "ALTER TABLE job RENAME COLUMN wish TO stop_reason;" },
        {},
};
