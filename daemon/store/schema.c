/* See schema.h. Role: the tables of state.db. Owns nothing. Invariant: a CHECK accepts every value that a bertd has
 * ever written. */
#include "daemon/store/schema.h"

#include <assert.h>
#include <string.h>

#include "common/cleanup.h"
#include "daemon/rules/job.h"
#include "daemon/store/columns.h"
#include "daemon/store/sql.h"

#define COLUMN(name, type, otherwise, check) \
        { name, type, otherwise, check, 0, NULL }
#define UINT32 "BETWEEN 0 AND 4294967295"
#define INT32 "BETWEEN -2147483648 AND 2147483647"
#define BOOLEAN "IN (0, 1)"
#define PACKED(column) "length(" column ") = 0 OR substr(" column ", -1) = x'00'" /* texts with their NULs */
#define STATES "'queued', 'starting', 'running', 'stopping', 'backoff', 'done', 'failed', 'cancelled', 'paused'"
#define EXIT_CLASSES                                                                                          \
        "'finished', 'stopped', 'user-error', 'bad-checkpoint', 'nan', 'failed', 'signal', 'killed', 'oom', " \
        "'mpi', 'disk-full', 'hang', 'reboot', 'lost', 'launch', 'missing', 'host-lost', 'wait'"
/* Existing databases contain the CHECKs: after adding a name, raise `since` of the tables that use it. */
static_assert(JOB_STATE_MAX == 9 && JOB_KIND_MAX == 3 && EXIT_CLASS_MAX == 18 && STOP_REASON_MAX == 5 &&
                      LAUNCHER_MAX == 2 && ON_NAN_MAX == 2 && ENDS_WITH_MAX == 2 && EXIT_OWED_MAX == 4 &&
                      CHECKPOINT_STATE_MAX == 5,
              "the CHECKs below name each value of these");
static_assert(sizeof(struct job_rlimit) == 24 && JOB_RLIMITS_MAX == 16, "input.rlimits");

static const struct store_column meta[] = {
        COLUMN("key", "TEXT PRIMARY KEY", NULL, NULL),
        COLUMN("value", "TEXT", NULL, NULL),
};

/* The rows of job_fields that are columns, by name. */
#define JOB_AT(since, type, member, ...) AT_##member,
enum { JOB_STORED(JOB_AT) };
#define JOB_COLUMN(version, type, member, ...) \
        { #member, NULL, NULL, NULL, version > 5 ? version : 0, &job_fields[AT_##member] },

/* clang-format off */
static const struct store_column job[] = {
        COLUMN("id", "INTEGER PRIMARY KEY AUTOINCREMENT", NULL, "id > 0"),
        JOB_STORED(JOB_COLUMN)
        COLUMN("end_order", "INTEGER", "0", "end_order >= 0"), /* order of ended jobs, independent of the clock */
        COLUMN("events", "INTEGER", "0", "events >= 0"),
        COLUMN("events_dropped", "INTEGER", "0", "events_dropped >= 0"),
        COLUMN("attempts_dropped", "INTEGER", "0", "attempts_dropped >= 0"),
        COLUMN("drop_event", "INTEGER", "0", "drop_event >= 0"),
};
/* clang-format on */

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
        COLUMN("open", "INTEGER", "0", "open " BOOLEAN), /* of the newest attempt the job's state decides */
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
        COLUMN("exit_class", "INTEGER", "-1", "exit_class BETWEEN -1 AND 17"),
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
        COLUMN("state", "INTEGER", NULL, "state BETWEEN 0 AND 4"),
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

/* Rows of an older bertd that violate these tables: `sql` is the original row. */
static const struct store_column refused[] = {
        COLUMN("id", "INTEGER PRIMARY KEY AUTOINCREMENT", NULL, NULL),
        COLUMN("job", "ANY", "NULL", NULL),
        COLUMN("origin", "TEXT", NULL, NULL),             /* its table */
        COLUMN("kept", "INTEGER", NULL, "kept " BOOLEAN), /* 1: kept in its table, with other values in these columns */
        COLUMN("columns", "TEXT", NULL, NULL),
        COLUMN("sql", "TEXT", NULL, NULL),
};

#define COLUMNS(array) array, ELEMENTSOF(array)
#define BY_ID "o.id = n.id", ") STRICT"
const struct store_table store_tables[] = {
        { "refused", COLUMNS(refused), "job", BY_ID, 5 },
        { "job", COLUMNS(job), "id", BY_ID, 8 },
        { "meta", COLUMNS(meta), NULL, "o.key = n.key", ") STRICT, WITHOUT ROWID", 6 },
        { "input", COLUMNS(input), "job", "o.job = n.job", ") STRICT", 6 },
        { "attempt", COLUMNS(attempt), "job", "o.job = n.job AND o.number = n.number",
          ", PRIMARY KEY(job, number)) STRICT, WITHOUT ROWID", 8 },
        { "checkpoint", COLUMNS(checkpoint), "job", "o.job = n.job AND o.step = n.step",
          ", PRIMARY KEY(job, step)) STRICT, WITHOUT ROWID", 7 },
        { "event", COLUMNS(event), "job", BY_ID, 8 },
        { "trash", COLUMNS(trash), "job", BY_ID, 6 },
};
const size_t store_n_tables = ELEMENTSOF(store_tables);

/* For counting ended jobs and finding open ones without reading the rest. */
const char *const store_indices[] = {
        "CREATE INDEX IF NOT EXISTS event_job ON event(job, id)",
        "CREATE INDEX IF NOT EXISTS job_open ON job(id) WHERE state NOT IN (" STORE_ENDED ")",
        "CREATE INDEX IF NOT EXISTS job_ended ON job(state, holds_checkpoints, lease_of) WHERE state IN (" STORE_ENDED
        ")",
        "CREATE INDEX IF NOT EXISTS job_oldest ON job(uid, end_order, id) WHERE state IN (" STORE_ENDED
        ") AND holds_checkpoints=0 AND lease_of IS NULL",
        "CREATE INDEX IF NOT EXISTS job_lease ON job(end_order, id) WHERE state IN (" STORE_ENDED
        ") AND lease_of IS NOT NULL",
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

/* ---- SQL ---- */

static const char *type_of(const struct store_column *c) { return c->field ? columns_type(c->field) : c->type; }

static bool may_be_null(const struct store_column *c) {
        return c->field ? columns_may_be_null(c->field) : c->otherwise && strcmp(c->otherwise, "NULL") == 0;
}

static bool is_required(const struct store_column *c) { return c->field ? c->field->required : !c->otherwise; }

static bool has_check(const struct store_column *c) {
        return c->field ? c->field->type <= FIELD_BOOL : c->check != NULL;
}

static void write_check(FILE *out, const struct store_column *c) {
        if (c->field)
                columns_write_check(out, c->field);
        else
                (void) fputs(c->check, out);
}

void store_declare_otherwise(FILE *out, const struct store_column *c) {
        /* The row is skipped: NULL would give a primary key that is an integer a new number. */
        if (is_required(c))
                (void) fputs(!c->field && strstr(c->type, "INTEGER PRIMARY KEY") ? c->name : "NULL", out);
        else if (c->field)
                columns_write_otherwise(out, c->field);
        else
                (void) fputs(c->otherwise, out);
}

void store_declare_column(FILE *out, const struct store_column *c) {
        (void) fprintf(out, "%s %s", c->name, type_of(c));
        if (!may_be_null(c))
                (void) fputs(" NOT NULL", out);
        if (!is_required(c) && !may_be_null(c)) {
                (void) fputs(" DEFAULT ", out);
                store_declare_otherwise(out, c);
        }
        if (has_check(c)) {
                (void) fputs(" CHECK(", out);
                write_check(out, c);
                (void) fputc(')', out);
        }
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
                if (types[i].first == type_of(c)[0])
                        (void) fprintf(out, "typeof(%s) IN (%s)", c->name, types[i].typeof_is);
        if (type_of(c)[0] == 'A')
                (void) fputs("true", out);
        if (has_check(c)) {
                (void) fputs(" AND (", out);
                write_check(out, c);
                (void) fputc(')', out);
        }
        (void) fputc(')', out);
}
