#include "common/db.h"

#include <errno.h>
#include <stdbool.h>

#include "common/space.h"

int db_errno(int sqlite_code) {
        switch (sqlite_code & 0xff) {
        case SQLITE_FULL:
                return ENOSPC;
        case SQLITE_NOMEM:
                return ENOMEM;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return EBUSY;
        case SQLITE_READONLY:
                return EROFS;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return EACCES;
        case SQLITE_CANTOPEN:
                return ENOENT;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return EBADMSG;
        case SQLITE_CONSTRAINT:
                return EEXIST;
        case SQLITE_TOOBIG:
                return E2BIG;
        default:
                return EIO;
        }
}

/* A failed open without memory leaves NULL, which not every call of SQLite accepts. */
int db_error(struct error *error, sqlite3 *db, const char *what) {
        int code = sqlite3_extended_errcode(db), e = db_errno(code);
        const char *path = db ? sqlite3_db_filename(db, "main") : NULL;
        bool no_inodes = (e == EIO || e == ENOENT || e == ENOSPC) && path && space_no_inodes(path);

        /* SQLite reports a full disk as an I/O error if the failing call was not a write, and a file that cannot be
         * created as missing. */
        if (no_inodes || (e == EIO && (sqlite3_system_errno(db) == ENOSPC || sqlite3_system_errno(db) == EDQUOT)))
                e = ENOSPC;
        return error_set(error, e, "%s: %s%s%s", what, sqlite3_errmsg(db), no_inodes ? ": " : "",
                         no_inodes ? BERTD_NO_INODES : "");
}

int db_exec(sqlite3 *db, const char *sql, struct error *error) {
        return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(error, db, "SQLite");
}

int db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret, struct error *error) {
        return sqlite3_prepare_v2(db, sql, -1, ret, NULL) == SQLITE_OK ? 0 : db_error(error, db, "SQLite");
}

void db_clear(sqlite3_stmt *statement) {
        (void) sqlite3_reset(statement);
        if (statement)
                (void) sqlite3_clear_bindings(statement);
}

int db_run(sqlite3_stmt *statement, struct error *error) {
        int code = sqlite3_step(statement), r = 0;

        if (code != SQLITE_DONE && code != SQLITE_ROW)
                r = db_error(error, sqlite3_db_handle(statement), "SQLite");
        db_clear(statement);
        return r;
}
