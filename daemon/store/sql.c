/* See sql.h. Role: the statements; schema.c has the tables. Owns nothing. */
#include "daemon/store/sql.h"

#include "daemon/store/columns.h"

#define ENDED STORE_ENDED

const char *const store_statements[STATEMENT_MAX] = {
        [STATEMENT_JOB_INSERT] = "INSERT INTO job(" COLUMNS_JOB ") VALUES(" COLUMNS_VALUES ")",
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
        [STATEMENT_LOAD_COMMAND] = "SELECT command FROM input WHERE job=?",
        [STATEMENT_LOAD_OPEN] =
                "SELECT " COLUMNS_JOB " FROM job INDEXED BY job_open WHERE state NOT IN (" ENDED ") ORDER BY id",
        [STATEMENT_LOAD_OWED] = "SELECT " COLUMNS_JOB
                                " FROM job INDEXED BY job_exit WHERE exit_owed>0 AND state IN (" ENDED ") ORDER BY id",
        [STATEMENT_LOAD_JOB] = "SELECT " COLUMNS_JOB " FROM job WHERE id=?",
        [STATEMENT_FIND_NAME] = "SELECT coalesce((SELECT max(id) FROM job WHERE name=?1 AND uid=?2),"
                                " (SELECT max(id) FROM job WHERE name=?1))",
        [STATEMENT_LOAD_PAGE] = "SELECT " COLUMNS_JOB " FROM job WHERE id<? ORDER BY id DESC LIMIT ?",
        [STATEMENT_LOAD_ATTEMPTS] =
                "SELECT * FROM (SELECT " STORE_ATTEMPT_COLUMNS " FROM attempt WHERE job=?1 AND (exit_class<>?3 OR"
                " number=(SELECT max(number) FROM attempt WHERE job=?1)) ORDER BY number DESC LIMIT ?2)"
                " ORDER BY number",
        [STATEMENT_LOAD_NEWEST_ATTEMPT] =
                "SELECT " STORE_ATTEMPT_COLUMNS " FROM attempt WHERE job=? ORDER BY number DESC LIMIT 1",
        [STATEMENT_LOAD_CHECKPOINTS] = "SELECT " STORE_CHECKPOINT_COLUMNS " FROM checkpoint WHERE job=? ORDER BY step",
        [STATEMENT_LOAD_NEWEST_CHECKPOINT] =
                "SELECT " STORE_CHECKPOINT_COLUMNS
                " FROM checkpoint WHERE job=? AND state IN (0, 4) ORDER BY state, step DESC LIMIT 1",
        [STATEMENT_PRUNE_CHECKPOINTS] =
                "DELETE FROM checkpoint WHERE job=?1 AND"
                " (step<(SELECT step FROM checkpoint WHERE job=?1 ORDER BY step DESC LIMIT 1 OFFSET ?2) OR (state=3 AND"
                " restored=0 AND"
                " step<(SELECT step FROM checkpoint WHERE job=?1 ORDER BY step DESC LIMIT 1 OFFSET ?3)))",
        [STATEMENT_COUNT_ENDED] = "SELECT state, count(*), sum(holds_checkpoints), sum(lease_of IS NOT NULL) FROM job "
                                  "INDEXED BY job_ended WHERE state "
                                  "IN (" ENDED ") GROUP BY state",
        [STATEMENT_EVENTS] =
                "SELECT id, time, from_state, to_state, what, reason, class, step, lost, private FROM event "
                "WHERE job=? AND id>? ORDER BY id LIMIT ?",
        [STATEMENT_REMOVE] = "DELETE FROM job WHERE id=?",
        [STATEMENT_STARTS] =
                "SELECT count(*), min(started) FROM (SELECT started FROM attempt WHERE job=?1 AND number>?2 "
                "AND exit_class<>?6 ORDER BY number DESC LIMIT ?3) WHERE started > ?4 AND started <= ?5",
        /* Neither not started (?4: "launch", 126 and 127 with ?5), nor kept waiting (?6), nor stopped before that (?3),
         * nor ended as the newest (?7, ?8). */
        [STATEMENT_HAS_RUN] =
                "SELECT EXISTS(SELECT 1 FROM attempt WHERE job=?1 AND number<?2 AND NOT (exit_class=?3 AND exit_code<0"
                " AND signal=0) AND exit_class NOT IN (?4, ?6) AND NOT (exit_class=?5 AND exit_code IN (126, 127))"
                " AND NOT (exit_class=?7 AND exit_code=?8) AND exit_class<>?9)",
        [STATEMENT_COUNT_EVENT] =
                "UPDATE job SET events=events+1 WHERE id=?1 RETURNING events-events_dropped, drop_event",
        [STATEMENT_DOOMED_EVENT] =
                "SELECT id, time FROM event WHERE job=?1 AND id<>?2 ORDER BY id LIMIT 1 OFFSET " STORE_HEAD_EVENTS,
        [STATEMENT_DROP_EVENT] = "DELETE FROM event WHERE id IN (?1, ?2)",
        [STATEMENT_COUNT_DROPPED] =
                "UPDATE job SET events_dropped=events_dropped+?2, attempts_dropped=attempts_dropped+?3,"
                " drop_event=CASE WHEN ?4>0 THEN ?4 WHEN drop_event>0 THEN drop_event ELSE"
                " (SELECT seq+1 FROM sqlite_sequence WHERE name='event') END WHERE id=?1",
        [STATEMENT_DROP_NOTE] =
                "INSERT OR REPLACE INTO event(id, job, time, from_state, to_state, what, reason) SELECT drop_event,"
                " id, coalesce((SELECT time FROM event WHERE id=drop_event), ?2), '', '', 'dropped', " STORE_DROP_TEXT
                " FROM job WHERE id=?1",
        /* Not the newest one that has run: those after it may only have waited for hosts (?3). */
        [STATEMENT_DROP_ATTEMPTS] =
                "DELETE FROM attempt WHERE job=?1 AND number>" STORE_HEAD_ATTEMPTS
                " AND number<=?2-" STORE_TAIL_ATTEMPTS " AND number<>ifnull((SELECT max(number) FROM attempt WHERE "
                "job=?1 AND number<?2 AND exit_class<>?3), 0)"
                " RETURNING number",
        [STATEMENT_TRASH] =
                "INSERT INTO trash(job, first, last, uid, gid, user) SELECT id, ?2, ?3, uid, gid, user FROM job "
                "WHERE id=?1",
        [STATEMENT_TRASH_NEXT] = "SELECT id, job, first, last, uid, gid, user FROM trash WHERE uid NOT IN (?1, ?2, ?3, "
                                 "?4, ?5, ?6, ?7, ?8, "
                                 "?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) "
                                 "ORDER BY id",
        [STATEMENT_SETTING] = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value=?2",
        [STATEMENT_LOAD_SETTING] = "SELECT value FROM meta WHERE key=?1",
        [STATEMENT_COUNT_TRASH] = "SELECT count(*) FROM trash",
        [STATEMENT_TRASH_DONE] = "DELETE FROM trash WHERE id=?",
        [STATEMENT_TRASH_LESS] = "UPDATE trash SET first=?2 WHERE id=?1",
        /* Oldest beyond the newest ?2. */
        [STATEMENT_OLDEST_LEASES] =
                "SELECT id, state FROM job INDEXED BY job_lease WHERE state IN (" ENDED ") AND lease_of IS NOT NULL "
                "ORDER BY end_order DESC, id DESC LIMIT ?1 OFFSET ?2",
        /* From the user with most, so that no user's jobs push out another's. */
        [STATEMENT_OLDEST_ENDED] =
                "SELECT id, state FROM job INDEXED BY job_oldest WHERE state IN (" ENDED
                ") AND holds_checkpoints=0 AND lease_of IS NULL AND "
                "uid=(SELECT uid FROM job INDEXED BY job_oldest WHERE state IN (" ENDED
                ") AND holds_checkpoints=0 AND lease_of IS NULL "
                "GROUP BY uid ORDER BY count(*) DESC, min(end_order) LIMIT 1) ORDER BY end_order, id LIMIT ?",
};
