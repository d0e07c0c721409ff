/*
 * SQLite with struct error. Everything except opening, binding shorthands and error text is sqlite3's own interface.
 *
 *   cleanup_db sqlite3 *db = NULL;
 *   cleanup_statement sqlite3_stmt *s = NULL;
 */
#ifndef COMMON_DB_H
#define COMMON_DB_H

#include <sqlite3.h>

#include "common/cleanup.h"
#include "common/error.h"

static inline void cleanup_db_p(sqlite3 **db) { (void) sqlite3_close(*db); }
static inline void cleanup_statement_p(sqlite3_stmt **s) { (void) sqlite3_finalize(*s); }
#define cleanup_db cleanup(cleanup_db_p)
#define cleanup_statement cleanup(cleanup_statement_p)

/* errno value (> 0) for a primary or extended SQLite result code: SQLITE_FULL is ENOSPC, and so on. */
int db_errno(int sqlite_code);

/* Fills the error from the connection's last failure ("what: text of SQLite") and returns −errno. */
int db_error(struct error *error, sqlite3 *db, const char *what);

/* Runs one or more statements without results. */
int db_exec(sqlite3 *db, const char *sql, struct error *error);

/* Prepares one statement; the caller finalizes. */
int db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret, struct error *error);

/* Resets a statement and clears its bindings. NULL: it could not be prepared. */
void db_clear(sqlite3_stmt *statement);

/* Steps a statement that returns no row, then clears it. NULL: an error. */
int db_run(sqlite3_stmt *statement, struct error *error);

#endif
