/* See store.h. Role: settings of this bertd, rows of `meta`. Owns nothing. */
#include <errno.h>
#include <string.h>

#include "common/db.h"
#include "daemon/store/internal.h"

int store_set_setting(struct store *store, const char *key, const char *value, struct error *error) {
        int r = store_begin(store, error);
        if (r < 0)
                return r;
        sqlite3_stmt *s = store_statement(store, STATEMENT_SETTING);
        (void) sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
        (void) sqlite3_bind_text(s, 2, value ? value : "", -1, SQLITE_STATIC);
        r = db_run(s, error);
        store->dirty = true;
        if (r < 0)
                store->failure = *error;
        return r;
}

int store_load_setting(struct store *store, const char *key, char **ret, struct error *error) {
        sqlite3_stmt *s = store_statement(store, STATEMENT_LOAD_SETTING);
        int r = 0;

        *ret = NULL;
        (void) sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
        int code = sqlite3_step(s);
        if (code == SQLITE_ROW && sqlite3_column_bytes(s, 0) > 0) {
                *ret = strdup((const char *) sqlite3_column_text(s, 0));
                r = *ret ? 0 : error_errno(error, ENOMEM, "%s", key);
        } else if (code != SQLITE_ROW && code != SQLITE_DONE) {
                r = db_error(error, store->db, key);
        }
        (void) sqlite3_reset(s);
        return r;
}
