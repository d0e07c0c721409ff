/* See schema.h. Role: what state.db consists of. Owns nothing. Invariant: a CHECK takes every value that a bertd has ever written. */
#include "daemon/store/schema.h"

#include <assert.h>
#include <string.h>

#include "common/cleanup.h"
#include "daemon/rules/job.h"
#include "daemon/store/sql.h"

#define COLUMN(name, type, otherwise, check) \
        { name, type, otherwise, check, 0 }
#define UINT32 "BETWEEN 0 AND 4294967295"
#define INT32 "BETWEEN -2147483648 AND 2147483647"
#define BOOLEAN "IN (0, 1)"
#define PACKED(column) "length(" column ") = 0 OR substr(" column ", -1) = x'00'" /* texts with their NULs */
#define STATES "'queued', 'starting', 'running', 'stopping', 'backoff', 'done', 'failed', 'cancelled', 'paused'"
#define EXIT_CLASSES                                                                                          \
        "'finished', 'stopped', 'user-error', 'bad-checkpoint', 'nan', 'failed', 'signal', 'killed', 'oom', " \
        "'mpi', 'disk-full', 'hang', 'reboot', 'lost', 'launch', 'missing'"
/* A CHECK is part of the tables of a database that exists: who adds a name raises `since` of the tables that hold it. */
static_assert(JOB_STATE_MAX == 9 && JOB_KIND_MAX == 3 && EXIT_CLASS_MAX == 16 && STOP_REASON_MAX == 5 &&
                      LAUNCHER_MAX == 2 && ON_NAN_MAX == 2 && ENDS_WITH_MAX == 2 && EXIT_OWED_MAX == 4 &&
                      CHECKPOINT_STATE_MAX == 4,
              "the CHECKs below name each value of these");
static_assert(sizeof(struct job_rlimit) == 24 && JOB_RLIMITS_MAX == 16, "input.rlimits");

static const struct store_column meta[] = {
        COLUMN("key", "TEXT PRIMARY KEY", NULL, NULL),
        COLUMN("value", "TEXT", NULL, NULL),
};

const struct store_column store_job_columns[] = {
        COLUMN("id", "INTEGER PRIMARY KEY AUTOINCREMENT", NULL, NULL),
        COLUMN("uid", "INTEGER", NULL, "uid " UINT32),
        COLUMN("gid", "INTEGER", NULL, "gid " UINT32),
        COLUMN("kind", "TEXT", NULL, "kind IN ('pretrain', 'finetune', 'command')"),
        COLUMN("state", "TEXT", NULL, "state IN (" STATES ")"),
        COLUMN("stop_reason", "INTEGER", "0", "stop_reason BETWEEN 0 AND 4"),
        COLUMN("launcher", "INTEGER", NULL, "launcher IN (0, 1)"),
        COLUMN("priority", "INTEGER", "0", "priority " INT32),
        COLUMN("ranks", "INTEGER", NULL, "ranks BETWEEN 1 AND 4294967295"),
        COLUMN("threads", "INTEGER", NULL, "threads BETWEEN 1 AND 4294967295"),
        COLUMN("gpus", "INTEGER", NULL, "gpus " UINT32),
        COLUMN("max_without_progress", "INTEGER", "5", "max_without_progress " UINT32),
        COLUMN("backoff_min_sec", "INTEGER", "5", "backoff_min_sec " UINT32),
        COLUMN("backoff_max_sec", "INTEGER", "600", "backoff_max_sec " UINT32),
        COLUMN("grace_sec", "INTEGER", "120", "grace_sec " UINT32),
        COLUMN("keep", "INTEGER", "3", "keep " UINT32),
        COLUMN("keep_every", "INTEGER", "0", NULL),
        COLUMN("umask", "INTEGER", "63", "umask BETWEEN 0 AND 511"),
        COLUMN("name", "TEXT", NULL, NULL),
        COLUMN("user", "TEXT", NULL, NULL),
        COLUMN("cwd", "TEXT", NULL, NULL),
        COLUMN("run_dir", "TEXT", "NULL", NULL),
        COLUMN("on_exit", "TEXT", "NULL", NULL),
        COLUMN("reason", "TEXT", "NULL", NULL),
        COLUMN("submitted", "INTEGER", "0", "submitted >= 0"),
        COLUMN("started", "INTEGER", "0", "started >= 0"),
        COLUMN("ended", "INTEGER", "0", "ended >= 0"),
        COLUMN("not_before", "INTEGER", "0", "not_before >= 0"),
        COLUMN("step", "INTEGER", "0", "step >= 0"),
        COLUMN("steps", "INTEGER", "0", "steps >= 0"),
        COLUMN("loss", "REAL", "NULL", NULL),
        COLUMN("rate", "REAL", "NULL", NULL),
        COLUMN("exit_code", "INTEGER", "-1", "exit_code " INT32),
        COLUMN("exit_class", "INTEGER", "-1", "exit_class BETWEEN -1 AND 15"),
        COLUMN("resume_from", "INTEGER", "0", "resume_from >= 0"),
        COLUMN("resume_abandon", "INTEGER", "0", "resume_abandon " BOOLEAN),
        COLUMN("history_from", "INTEGER", "0", "history_from " UINT32),
        COLUMN("memory", "INTEGER", "0", "memory >= 0"),
        COLUMN("cpus", "REAL", "0", "cpus >= 0"),
        COLUMN("hang_sec", "INTEGER", "-1", "hang_sec " INT32),
        COLUMN("start_sec", "INTEGER", "-1", "start_sec " INT32),
        COLUMN("on_nan", "INTEGER", "0", "on_nan IN (0, 1)"),
        COLUMN("lost_steps", "INTEGER", "0", "lost_steps >= 0"),
        COLUMN("run_steps", "INTEGER", "0", "run_steps >= 0"),
        COLUMN("run_usec", "INTEGER", "0", "run_usec >= 0"),
        COLUMN("active_usec", "INTEGER", "0", "active_usec >= 0"),
        COLUMN("since_usec", "INTEGER", "0", "since_usec >= 0"),
        COLUMN("checkpoint_stall", "REAL", "NULL", NULL),
        COLUMN("checkpoint_write", "REAL", "NULL", NULL),
        COLUMN("deaths", "INTEGER", "-1", "deaths BETWEEN -1 AND 4294967295"), /* -1: to be counted from the attempts */
        COLUMN("free_deaths", "INTEGER", "0", "free_deaths " UINT32),
        COLUMN("lost_usec", "TEXT", "''", NULL),
        COLUMN("holds_checkpoints", "INTEGER", "0", "holds_checkpoints " BOOLEAN),
        COLUMN("end_order", "INTEGER", "0", "end_order >= 0"), /* of those that have ended; no clock decides it */
        COLUMN("events", "INTEGER", "0", "events >= 0"),
        COLUMN("events_dropped", "INTEGER", "0", "events_dropped >= 0"),
        COLUMN("attempts_dropped", "INTEGER", "0", "attempts_dropped >= 0"),
        COLUMN("drop_event", "INTEGER", "0", "drop_event >= 0"),
        COLUMN("ends_with", "INTEGER", "0", "ends_with IN (0, 1)"),
        COLUMN("private", "TEXT", "NULL", NULL), /* reason, for the owner and root; NULL = as for everybody */
        COLUMN("log_max_size", "INTEGER", "67108864", "log_max_size >= 0"),
        COLUMN("log_keep", "INTEGER", "2", "log_keep " UINT32),
        COLUMN("nice", "INTEGER", "0", "nice BETWEEN -20 AND 19"),
        COLUMN("exit_owed", "INTEGER", "0", "exit_owed BETWEEN 0 AND 3"),
};
const size_t store_n_job_columns = ELEMENTSOF(store_job_columns);

static const struct store_column input[] = {
        COLUMN("job", "INTEGER PRIMARY KEY REFERENCES job ON DELETE CASCADE", NULL, NULL),
        COLUMN("spec", "TEXT", "''", NULL),
        COLUMN("environment", "BLOB", NULL, PACKED("environment")),
        COLUMN("rlimits", "BLOB", NULL, "length(rlimits) % 24 = 0 AND length(rlimits) <= 384"),
        COLUMN("command", "BLOB", "NULL", PACKED("command")),
        COLUMN("cpu_list", "TEXT", "NULL", NULL),   /* CPU affinity of the submitter; NULL = any */
        COLUMN("scheduling", "TEXT", "NULL", NULL), /* as common/scheduling.h; NULL = as usual */
};

static const struct store_column attempt[] = {
        COLUMN("job", "INTEGER REFERENCES job ON DELETE CASCADE", NULL, NULL),
        COLUMN("number", "INTEGER", NULL, "number BETWEEN 1 AND 4294967295"),
        COLUMN("open", "INTEGER", NULL, "open " BOOLEAN),
        COLUMN("nonce", "TEXT", "''", "length(nonce) <= 32"),
        COLUMN("boot_id", "TEXT", "''", "length(boot_id) <= 36"),
        COLUMN("pid", "INTEGER", "0", "pid BETWEEN 0 AND 2147483647"),
        COLUMN("pid_start", "INTEGER", "0", "pid_start >= 0"),
        COLUMN("gpu_mask", "INTEGER", "0", NULL), /* bit 63 is the sign */
        COLUMN("started", "INTEGER", "0", "started >= 0"),
        COLUMN("ended", "INTEGER", "0", "ended >= 0"),
        COLUMN("resumed", "INTEGER", "0", "resumed " BOOLEAN),
        COLUMN("first_step", "INTEGER", "0", "first_step >= 0"),
        COLUMN("step", "INTEGER", "0", "step >= 0"),
        COLUMN("checkpoint_step", "INTEGER", "0", "checkpoint_step >= 0"),
        COLUMN("exit_code", "INTEGER", "-1", "exit_code " INT32),
        COLUMN("signal", "INTEGER", "0", "signal " INT32),
        COLUMN("exit_class", "INTEGER", "-1", "exit_class BETWEEN -1 AND 15"),
        COLUMN("reason", "TEXT", "''", NULL),
        COLUMN("samples_first", "INTEGER", "0", "samples_first >= 0"),
        COLUMN("samples_last", "INTEGER", "0", "samples_last >= 0"),
        COLUMN("rank", "INTEGER", "-1", "rank " INT32),
        COLUMN("host", "TEXT", "NULL", NULL),
        COLUMN("evidence", "TEXT", "NULL", NULL),
        COLUMN("gpus", "TEXT", "NULL", NULL),
        COLUMN("private", "TEXT", "NULL", NULL),
};

static const struct store_column checkpoint[] = {
        COLUMN("job", "INTEGER REFERENCES job ON DELETE CASCADE", NULL, NULL),
        COLUMN("step", "INTEGER", NULL, "step >= 0"),
        COLUMN("size", "INTEGER", "0", "size >= 0"),
        COLUMN("created", "INTEGER", "0", "created >= 0"),
        COLUMN("state", "INTEGER", NULL, "state BETWEEN 0 AND 3"),
        COLUMN("attempt", "INTEGER", "0", "attempt " UINT32),
        COLUMN("restored", "INTEGER", "0", "restored " UINT32),
        COLUMN("path", "TEXT", NULL, NULL),
};

static const struct store_column event[] = {
        COLUMN("id", "INTEGER PRIMARY KEY AUTOINCREMENT", NULL, NULL),
        COLUMN("job", "INTEGER REFERENCES job ON DELETE CASCADE", NULL, NULL),
        COLUMN("time", "INTEGER", "0", "time >= 0"),
        COLUMN("from_state", "TEXT", "''", "from_state IN ('', " STATES ")"),
        COLUMN("to_state", "TEXT", "''", "to_state IN ('', " STATES ")"),
        COLUMN("what", "TEXT", "''", NULL),
        COLUMN("reason", "TEXT", "''", NULL),
        COLUMN("class", "TEXT", "''", "class IN ('', " EXIT_CLASSES ")"),
        COLUMN("step", "INTEGER", "0", "step >= 0"),
        COLUMN("lost", "INTEGER", "0", "lost >= 0"),
        COLUMN("private", "TEXT", "NULL", NULL),
};

static const struct store_column trash[] = {
        COLUMN("id", "INTEGER PRIMARY KEY AUTOINCREMENT", NULL, NULL),
        COLUMN("job", "INTEGER", NULL, "job >= 0"),
        COLUMN("first", "INTEGER", NULL, "first " UINT32),
        COLUMN("last", "INTEGER", NULL, "last " UINT32),
        COLUMN("uid", "INTEGER", NULL, "uid " UINT32),
        COLUMN("gid", "INTEGER", NULL, "gid " UINT32),
        COLUMN("user", "TEXT", NULL, NULL),
};

/* Rows of an older bertd that these tables do not take as they were: `sql` is the row as it was. */
static const struct store_column refused[] = {
        COLUMN("id", "INTEGER PRIMARY KEY AUTOINCREMENT", NULL, NULL),
        COLUMN("job", "ANY", "NULL", NULL),
        COLUMN("origin", "TEXT", NULL, NULL),             /* its table */
        COLUMN("kept", "INTEGER", NULL, "kept " BOOLEAN), /* 1: is in its table, with other values in these columns */
        COLUMN("columns", "TEXT", NULL, NULL),
        COLUMN("sql", "TEXT", NULL, NULL),
};

#define COLUMNS(array) array, ELEMENTSOF(array)
#define BY_ID "o.id = n.id", ") STRICT"
const struct store_table store_tables[] = {
        { "refused", COLUMNS(refused), "job", BY_ID, 5 },
        { "job", COLUMNS(store_job_columns), "id", BY_ID, 5 },
        { "meta", COLUMNS(meta), NULL, "o.key = n.key", ") STRICT, WITHOUT ROWID", 5 },
        { "input", COLUMNS(input), "job", "o.job = n.job", ") STRICT", 5 },
        { "attempt", COLUMNS(attempt), "job", "o.job = n.job AND o.number = n.number",
          ", PRIMARY KEY(job, number)) STRICT, WITHOUT ROWID", 5 },
        { "checkpoint", COLUMNS(checkpoint), "job", "o.job = n.job AND o.step = n.step",
          ", PRIMARY KEY(job, step)) STRICT, WITHOUT ROWID", 5 },
        { "event", COLUMNS(event), "job", BY_ID, 5 },
        { "trash", COLUMNS(trash), "job", BY_ID, 5 },
};
const size_t store_n_tables = ELEMENTSOF(store_tables);

/* What ended is counted and what is open is found without reading the rest. */
const char *const store_indices[] = {
        "CREATE INDEX IF NOT EXISTS event_job ON event(job, id)",
        "CREATE INDEX IF NOT EXISTS job_open ON job(id) WHERE state NOT IN (" STORE_ENDED ")",
        "CREATE INDEX IF NOT EXISTS job_ended ON job(state, holds_checkpoints) WHERE state IN (" STORE_ENDED ")",
        "CREATE INDEX IF NOT EXISTS job_oldest ON job(uid, end_order, id) WHERE state IN (" STORE_ENDED
        ") AND holds_checkpoints=0",
        "CREATE INDEX IF NOT EXISTS job_name ON job(name, uid)",
        "CREATE INDEX IF NOT EXISTS job_exit ON job(id) WHERE exit_owed>0",
        NULL,
};

int store_version(void) {
        int newest = 0;

        for (size_t i = 0; i < store_n_tables; i++) {
                const struct store_table *t = &store_tables[i];
                newest = MAX(newest, t->since);
                for (size_t j = 0; j < t->n_columns; j++)
                        newest = MAX(newest, t->columns[j].since);
        }
        return newest;
}

static bool may_be_null(const struct store_column *c) { return c->otherwise && strcmp(c->otherwise, "NULL") == 0; }

void store_declare_column(FILE *out, const struct store_column *c) {
        (void) fprintf(out, "%s %s", c->name, c->type);
        if (!may_be_null(c))
                (void) fputs(" NOT NULL", out);
        if (c->otherwise && !may_be_null(c))
                (void) fprintf(out, " DEFAULT %s", c->otherwise);
        if (c->check)
                (void) fprintf(out, " CHECK(%s)", c->check);
}

void store_declare_table(FILE *out, const struct store_table *t) {
        (void) fprintf(out, "CREATE TABLE %s(", t->name);
        for (size_t i = 0; i < t->n_columns; i++) {
                (void) fputs(i > 0 ? ", " : "", out);
                store_declare_column(out, &t->columns[i]);
        }
        (void) fputs(t->tail, out);
}

void store_declare_good(FILE *out, const struct store_column *c) {
        static const struct {
                char first; /* of the type */
                const char *typeof_is;
        } types[] = { { 'I', "'integer'" }, { 'R', "'real', 'integer'" }, { 'T', "'text'" }, { 'B', "'blob'" } };

        (void) fputc('(', out);
        if (may_be_null(c))
                (void) fprintf(out, "%s IS NULL OR ", c->name);
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (types[i].first == c->type[0])
                        (void) fprintf(out, "typeof(%s) IN (%s)", c->name, types[i].typeof_is);
        if (c->type[0] == 'A')
                (void) fputs("true", out);
        if (c->check)
                (void) fprintf(out, " AND (%s)", c->check);
        (void) fputc(')', out);
}
