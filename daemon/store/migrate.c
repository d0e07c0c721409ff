/*
 * See migrate.h. Role: migrates every earlier schema to the current one. It looks at the shape of the database, not at
 * the number: missing columns are added, and tables with older constraints are rebuilt, because SQLite cannot make a
 * table STRICT. Owns nothing. Invariants: one transaction, so that after a crash the schema is the old or the new one;
 * no row is lost without a log line.
 */
#include "daemon/store/migrate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/db.h"
#include "common/file.h"
#include "daemon/store/schema.h"

#define COLUMNS_MAX 128
#define TOLD_MAX 50 /* lines of the log about rows that were refused */

/* A table of the database: those of its columns that exist. */
struct shape {
        const struct store_table *table;
        const struct store_column *columns[COLUMNS_MAX];
        size_t n;
};

static int read_shape(sqlite3 *db, const struct store_table *t, struct shape *ret, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        *ret = (struct shape) { .table = t };
        int r = db_prepare(db, "SELECT 1 FROM pragma_table_info(?) WHERE name=?", &s, error);
        for (size_t i = 0; r >= 0 && i < t->n_columns; i++) {
                (void) sqlite3_bind_text(s, 1, t->name, -1, SQLITE_STATIC);
                (void) sqlite3_bind_text(s, 2, t->columns[i].name, -1, SQLITE_STATIC);
                int code = sqlite3_step(s);
                if (code == SQLITE_ROW)
                        ret->columns[ret->n++] = &t->columns[i];
                else if (code != SQLITE_DONE)
                        r = db_error(error, db, "SQLite");
                (void) sqlite3_reset(s);
        }
        return r;
}

/* ---- SQL generated from the tables ---- */

typedef void (*write_t)(FILE *out, const struct shape *old);

static int run_made(sqlite3 *db, write_t write, const struct shape *old, struct error *error) {
        char *sql = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&sql, &size);
        if (!out)
                return error_errno(error, ENOMEM, "state.db");

        write(out, old);
        int r = fclose(out) == 0 && sql ? db_exec(db, sql, error) : error_errno(error, ENOMEM, "state.db");
        free(sql);
        return r;
}

static void write_table(FILE *out, const struct shape *old) { store_declare_table(out, old->table); }

static void write_added(FILE *out, const struct shape *old) {
        const struct store_table *t = old->table;

        for (size_t i = 0, have = 0; i < t->n_columns; i++) {
                if (have < old->n && old->columns[have] == &t->columns[i]) {
                        have++;
                        continue;
                }
                (void) fprintf(out, "ALTER TABLE %s ADD COLUMN ", t->name);
                store_declare_column(out, &t->columns[i]);
                (void) fputc(';', out);
        }
}

/* ---- rebuilding a table ---- */

static void write_rename(FILE *out, const struct shape *old) {
        (void) fprintf(out, "ALTER TABLE %s RENAME TO old_%s", old->table->name, old->table->name);
}

static void write_names(FILE *out, const struct shape *old) {
        for (size_t i = 0; i < old->n; i++)
                (void) fprintf(out, "%s%s", i > 0 ? ", " : "", old->columns[i]->name);
}

/* A bad value becomes `otherwise`; a row without a required value is skipped, and so are the rows of its job. */
static void write_copy(FILE *out, const struct shape *old) {
        const struct store_table *t = old->table;

        (void) fprintf(out, "INSERT OR IGNORE INTO %s(", t->name);
        write_names(out, old);
        (void) fputs(") SELECT ", out);
        for (size_t i = 0; i < old->n; i++) {
                const struct store_column *c = old->columns[i];
                (void) fprintf(out, "%sCASE WHEN ", i > 0 ? ", " : "");
                store_declare_good(out, c);
                (void) fprintf(out, " THEN %s ELSE ", c->name);
                store_declare_otherwise(out, c);
                (void) fputs(" END", out);
        }
        (void) fprintf(out, " FROM old_%s o", t->name);
        for (size_t i = 0; i < old->n; i++)
                if (old->columns[i]->type && strstr(old->columns[i]->type, "REFERENCES job"))
                        (void) fputs(" WHERE EXISTS(SELECT 1 FROM job n WHERE n.id=o.job)", out);
}

/* An expression: the names of the columns with invalid values. */
static void write_bad(FILE *out, const struct shape *old) {
        (void) fputs("trim(''", out);
        for (size_t i = 0; i < old->n; i++) {
                (void) fputs(" || iif(", out);
                store_declare_good(out, old->columns[i]);
                (void) fprintf(out, ", '', '%s ')", old->columns[i]->name);
        }
        (void) fputs(")", out);
}

/* An expression: the statement that would write the original row. */
static void write_row(FILE *out, const struct shape *old) {
        (void) fprintf(out, "'INSERT INTO %s(", old->table->name);
        write_names(out, old);
        (void) fputs(") VALUES(' ", out);
        for (size_t i = 0; i < old->n; i++)
                (void) fprintf(out, "|| %squote(%s) ", i > 0 ? "', ' || " : "", old->columns[i]->name);
        (void) fputs("|| ')'", out);
}

static void write_refused(FILE *out, const struct shape *old) {
        const struct store_table *t = old->table;

        (void) fprintf(out,
                       "INSERT INTO refused(job, origin, kept, columns, sql) SELECT %s, '%s',"
                       " EXISTS(SELECT 1 FROM %s n WHERE %s) AS is_kept, ",
                       t->job ? t->job : "NULL", t->name, t->name, t->key);
        write_bad(out, old);
        (void) fputs(" AS bad, ", out);
        write_row(out, old);
        (void) fprintf(out, " FROM old_%s o WHERE bad<>'' OR NOT is_kept", t->name);
}

/* No row number is used again. */
static void write_end(FILE *out, const struct shape *old) {
        const char *name = old->table->name;

        (void) fprintf(out,
                       "DELETE FROM sqlite_sequence WHERE name='%s'"
                       " AND EXISTS(SELECT 1 FROM sqlite_sequence WHERE name='old_%s');"
                       "UPDATE sqlite_sequence SET name='%s' WHERE name='old_%s';"
                       "DROP TABLE old_%s;",
                       name, name, name, name, name);
}

static int rebuild(sqlite3 *db, const struct shape *old, struct error *error) {
        const write_t steps[] = { write_rename, write_table, write_copy, write_refused, write_end };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(steps); i++)
                r = run_made(db, steps[i], old, error);
        return r;
}

/* ---- the migration ---- */

static int run_legacy(sqlite3 *db, const struct legacy_step *step, struct error *error) {
        const struct store_column column = { .name = step->column };
        const struct store_table table = { .name = step->table, .columns = &column, .n_columns = step->column ? 1 : 0 };
        struct shape shape;

        int r = read_shape(db, &table, &shape, error);
        return r < 0 || shape.n > 0 ? r : db_exec(db, step->sql, error);
}

static int migrate_table(sqlite3 *db, const struct store_table *t, int64_t version, struct error *error) {
        struct shape shape;

        int r = read_shape(db, t, &shape, error);
        if (r < 0)
                return r;
        if (shape.n == 0)
                return run_made(db, write_table, &shape, error);
        if (version < t->since)
                return rebuild(db, &shape, error);
        return shape.n < t->n_columns ? run_made(db, write_added, &shape, error) : 0;
}

/* They are created again for the new tables. */
static int drop_indices(sqlite3 *db, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        int r = db_prepare(
                db, "SELECT group_concat('DROP INDEX ' || name, ';') FROM sqlite_schema WHERE type='index' AND sql<>''",
                &s, error);
        if (r < 0)
                return r;
        if (sqlite3_step(s) != SQLITE_ROW)
                return db_error(error, db, "SQLite");
        cleanup_free char *sql = strdup(sqlite3_column_text(s, 0) ? (const char *) sqlite3_column_text(s, 0) : "");
        (void) sqlite3_reset(s);
        return sql ? db_exec(db, sql, error) : error_errno(error, ENOMEM, "state.db");
}

static int finish(sqlite3 *db, struct error *error) {
        cleanup_free char *end = format_string("PRAGMA user_version=%d; COMMIT", store_version());
        int r = 0;

        for (size_t i = 0; r >= 0 && store_indices[i]; i++)
                r = db_exec(db, store_indices[i], error);
        if (r >= 0)
                r = end ? db_exec(db, end, error) : error_errno(error, ENOMEM, "state.db");
        return r;
}

int store_create(sqlite3 *db, struct error *error) {
        int r = db_exec(db, "BEGIN IMMEDIATE", error);

        for (size_t i = 0; r >= 0 && i < store_n_tables; i++)
                r = run_made(db, write_table, &(struct shape) { .table = &store_tables[i] }, error);
        return r < 0 ? r : finish(db, error);
}

int store_is_current(sqlite3 *db, int64_t version, struct error *error) {
        int r = version == store_version();

        for (size_t i = 0; r > 0 && i < store_n_tables; i++) {
                struct shape shape;
                r = read_shape(db, &store_tables[i], &shape, error);
                if (r >= 0)
                        r = shape.n == store_tables[i].n_columns;
        }
        return r;
}

/* Logs the rows of table `refused` after row `since`. */
static void tell_refused(sqlite3 *db, int64_t since, void (*log)(const char *text)) {
        cleanup_statement sqlite3_stmt *s = NULL;

        if (!log || db_prepare(db,
                               "SELECT job, origin, kept, columns, count(*) FROM refused WHERE id>?"
                               " GROUP BY job, origin, kept, columns ORDER BY min(id)",
                               &s, NULL) < 0)
                return;
        (void) sqlite3_bind_int64(s, 1, since);
        for (int lines = 0; sqlite3_step(s) == SQLITE_ROW && lines <= TOLD_MAX; lines++) {
                const char *job = (const char *) sqlite3_column_text(s, 0),
                           *bad = (const char *) sqlite3_column_text(s, 3);
                bool is_kept = sqlite3_column_int(s, 2) != 0;
                cleanup_free char *text =
                        format_string("state.db: job %s: %" PRIi64
                                      " row(s) of table %s %s (%s); the original is in table refused, see bertd(8)",
                                      job ? job : "none", (int64_t) sqlite3_column_int64(s, 4),
                                      (const char *) sqlite3_column_text(s, 1), is_kept ? "corrected" : "set aside",
                                      bad && bad[0] ? bad : "the job was set aside");
                if (text)
                        log(lines < TOLD_MAX ? text : "state.db: more such rows are in table refused");
        }
}

static int newest_refused(sqlite3 *db, int64_t *ret, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        int r = db_prepare(db, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name='refused'), 0)", &s, error);
        if (r >= 0 && sqlite3_step(s) != SQLITE_ROW)
                r = db_error(error, db, "SQLite");
        *ret = r < 0 ? 0 : sqlite3_column_int64(s, 0);
        return r;
}

int store_migrate(sqlite3 *db, int64_t version, void (*log)(const char *text), struct error *error) {
        int64_t refused = 0;

        /* Writes half as much as with a WAL. The WAL stays if another program has the database open. */
        (void) sqlite3_exec(db, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
        /* The database is opened again afterwards, without these. */
        int r = db_exec(db,
                        "PRAGMA foreign_keys=OFF; PRAGMA legacy_alter_table=ON; PRAGMA secure_delete=OFF;"
                        "PRAGMA cache_size=-16384; BEGIN IMMEDIATE",
                        error);
        if (r >= 0)
                r = newest_refused(db, &refused, error);
        for (const struct legacy_step *step = store_legacy_steps; r >= 0 && step->sql; step++)
                if (version <= step->until)
                        r = run_legacy(db, step, error);
        if (r >= 0)
                r = drop_indices(db, error);
        for (size_t i = 0; r >= 0 && i < store_n_tables; i++)
                r = migrate_table(db, &store_tables[i], version, error);
        if (r >= 0)
                r = finish(db, error);
        if (r >= 0)
                tell_refused(db, refused, log);
        else {
                (void) sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
                /* After a full disk the next reader restores the file. */
                (void) sqlite3_exec(db, "SELECT count(*) FROM job", NULL, NULL, NULL);
        }
        return r;
}
