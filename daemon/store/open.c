/*
 * Role: opens state.db: its file system, version and migrations, its statements. Owns nothing once it is open.
 * Invariant: a database that is newer, damaged or foreign is refused without a change.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/db.h"
#include "common/file.h"
#include "common/hex.h"
#include "daemon/store/copies.h"
#include "daemon/store/internal.h"
#include "daemon/store/migrate.h"
#include "daemon/store/schema.h"

#define WAL_PAGES_MAX 4000 /* 16 MB */
#define WAL_PAGES_HEAVY 64 /* of one commit */
#define BUSY_MSEC 5000     /* only at the start: later nothing blocks on another program's lock (settle.c) */

static int refuse_network(const char *path, struct error *error) {
        /* NFS, SMB, CIFS, AFS, 9p, Lustre, Ceph, GPFS: their locks are not sufficient for WAL. */
        static const unsigned types[] = { 0x6969,     0x517b,     0xff534d42, 0xfe534d42, 0x5346414f,
                                          0x01021997, 0x0bd00bd0, 0x00c36400, 0x47504653 };
        struct statfs fs;
        const char *slash = strrchr(path, '/');
        cleanup_free char *folder = slash && slash != path ? strndup(path, (size_t) (slash - path)) : strdup("/");

        if (!folder || statfs(folder, &fs) < 0)
                return error_errno(error, folder ? errno : ENOMEM, "%s", path);
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if ((unsigned) fs.f_type == types[i])
                        return error_set(error, ENOTSUP, "%s: on a network file system; give a local --state-dir",
                                         path);
        return 0;
}

static int read_int(sqlite3 *db, const char *sql, int64_t *ret, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        int r = db_prepare(db, sql, &s, error);
        if (r < 0)
                return r;
        if (sqlite3_step(s) != SQLITE_ROW)
                return db_error(error, db, "SQLite");
        *ret = sqlite3_column_int64(s, 0);
        return 0;
}

static int refuse_empty(const char *path, struct error *error) {
        return error_set(error, ENOENT,
                         "%s: missing or empty, but jobs/ is not empty; running jobs are unaffected. Restore the file "
                         "(see \"IF STATE.DB IS DAMAGED\" in bertd(8)), or move jobs/ away to start without jobs",
                         path);
}

/* The cure; nothing was changed, and running jobs are not affected. */
static const char *advice(int r) {
        switch (r) {
        case -EBADMSG:
                return "; nothing was changed and running jobs continue; see \"IF STATE.DB IS DAMAGED\" in bertd(8)";
        case -EBUSY:
                return "; another program has it open (see fuser): stop that one, then start bertd again";
        case -EROFS:
        case -EACCES:
                return "; make the folder and the file writable for bertd, then start it again";
        case -ENOSPC:
                return "; free some space, then start bertd again";
        default:
                return "";
        }
}

static int advise(struct error *error, int r) {
        size_t n = error ? strlen(error->text) : 0;

        if (error)
                (void) snprintf(error->text + n, sizeof(error->text) - n, "%s", advice(r));
        return r;
}

/* An older bertd wrote it: a copy first, which that one can be started on again. */
static int upgrade(sqlite3 *db, const char *path, int64_t version, void (*log)(const char *text), struct error *error) {
        int r = store_copy(db, path, version, error);
        if (r < 0)
                return error_prefix(error,
                                    "%s: has schema %" PRIi64 " of an older bertd, and cannot be copied beside itself"
                                    "; nothing was changed",
                                    path, version);
        r = store_migrate(db, version, log, error);
        return r < 0 ? error_prefix(error, "%s: cannot be taken from schema %" PRIi64 " to %d; nothing was changed",
                                    path, version, store_version())
                     : 0;
}

static int refuse_newer(const char *path, int64_t version, struct error *error) {
        int64_t old;
        cleanup_free char *copy = store_find_copy(path, store_version(), &old);

        if (!copy)
                return error_set(error, ENOTSUP,
                                 "%s: has schema %" PRIi64 " of a newer bertd, bertd " BERTD_VERSION " knows up to %d; "
                                 "start the newer bertd again, or give another --state-dir",
                                 path, version, store_version());
        return error_set(error, ENOTSUP,
                         "%s: has schema %" PRIi64 " of a newer bertd, bertd " BERTD_VERSION " knows up to %d; "
                         "start the newer bertd again, or go back to the copy of schema %" PRIi64
                         ", %s (see \"GOING BACK TO AN OLDER BERTD\" in bertd(8))",
                         path, version, store_version(), old, copy);
}

static int prepare_schema(sqlite3 *db, const char *path, bool may_create, void (*log)(const char *text),
                          struct error *error) {
        int64_t version = 0;

        int r = read_int(db, "PRAGMA user_version", &version, error);
        if (r < 0)
                return r;
        if (version > store_version())
                return refuse_newer(path, version, error);
        if (version < 0)
                return error_set(error, EBADMSG, "%s: not a bertd database (schema %" PRIi64 ")", path, version);
        if (version == 0)
                return may_create ? store_create(db, error) : refuse_empty(path, error);
        r = store_is_current(db, version, error);
        return r != 0 ? MIN(r, 0) : upgrade(db, path, version, log, error);
}

static int open_database(const char *path, bool may_create, void (*log)(const char *text), sqlite3 **ret,
                         struct error *error) {
        cleanup_db sqlite3 *db = NULL;

        int r = refuse_network(path, error);
        if (r < 0)
                return r;
        if (!may_create && access(path, F_OK) < 0 && errno == ENOENT)
                return refuse_empty(path, error);
        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL) !=
            SQLITE_OK)
                return db_error(error, db, path);
        if (sqlite3_db_readonly(db, "main") > 0)
                return error_set(error, EROFS, "%s: read-only", path);
        (void) sqlite3_busy_timeout(db, BUSY_MSEC);
        (void) sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        /* A submit logs about six pages, so the WAL is copied back every 650 submits: the others cost one fsync. */
        r = db_exec(db,
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-512;"
                    "PRAGMA wal_autocheckpoint=0;",
                    error);
        if (r >= 0)
                r = prepare_schema(db, path, may_create, log, error);
        if (r < 0)
                return r;
        *ret = steal_pointer(&db);
        return 0;
}

/* Called after each commit. A commit of many pages is copied back at once: sixteen of them together would block the
 * loop for a fifth of a second. */
static int on_wal(void *userdata, sqlite3 *db, const char *name, int pages) {
        struct store *store = userdata;
        int before = store->wal_pages <= pages ? store->wal_pages : 0; /* fewer: the log was restarted */

        store->wal_pages = pages;
        if (pages >= WAL_PAGES_MAX || pages - before >= WAL_PAGES_HEAVY)
                (void) sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        return SQLITE_OK;
}

/* 1; 0: it has none yet. */
static int read_instance(struct store *store, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        int r = db_prepare(store->db, "SELECT value FROM meta WHERE key='instance'", &s, error);
        if (r < 0)
                return r;
        int code = sqlite3_step(s);
        if (code != SQLITE_ROW)
                return code == SQLITE_DONE ? 0 : db_error(error, store->db, "instance");
        (void) snprintf(store->instance, sizeof(store->instance), "%s", (const char *) sqlite3_column_text(s, 0));
        return 1;
}

/* Created once, so that opening later does not write. */
static int load_instance(struct store *store, struct error *error) {
        int r = read_instance(store, error);
        char digits[HEX_64_SIZE];
        uint64_t id;

        if (r != 0)
                return MIN(r, 0);
        if (getrandom(&id, sizeof(id), 0) != sizeof(id))
                return error_errno(error, errno, "random numbers");
        hex_64(id, digits);
        cleanup_free char *sql = format_string("INSERT INTO meta VALUES('instance','%s')", digits);
        if (!sql)
                return error_errno(error, ENOMEM, "instance");
        r = db_exec(store->db, sql, error);
        return r < 0 ? r : MIN(read_instance(store, error), 0);
}

int store_open(const char *path, bool may_create, void (*log)(const char *text), struct store **ret,
               struct error *error) {
        struct store *store = calloc(1, sizeof(*store));
        if (!store)
                return error_errno(error, ENOMEM, "%s", path);

        store->log = log;
        /* Allocates pages one by one: in bulk, each commit would map, fill and unmap 88 KiB for a few pages. */
        (void) sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0);
        int r = open_database(path, may_create, log, &store->db, error);
        /* Opens it again, because creating or migrating a schema fragments memory. */
        if (r >= 0 && sqlite3_close(steal_pointer(&store->db)) == SQLITE_OK)
                r = open_database(path, true, log, &store->db, error);
        if (r >= 0)
                (void) sqlite3_wal_hook(store->db, on_wal, store);
        for (size_t i = 0; r >= 0 && i < STATEMENT_MAX; i++) { /* not only once a commit needs it */
                cleanup_statement sqlite3_stmt *s = NULL;
                r = db_prepare(store->db, store_statements[i], &s, error);
        }
        if (r >= 0)
                r = load_instance(store, error);
        if (r >= 0)
                r = store_read_open(store, error);
        if (r >= 0)
                r = store_read_counts(store, error);
        if (r >= 0)
                r = store_read_owed(store, error);
        if (r < 0) {
                store_free(store);
                if (error && strncmp(error->text, path, strlen(path)) != 0)
                        (void) error_prefix(error, "%s", path);
                return advise(error, r);
        }
        for (size_t i = 0; i < STATEMENT_MAX; i++)
                (void) sqlite3_finalize(steal_pointer(&store->statements[i]));
        (void) sqlite3_db_release_memory(store->db); /* pages that were read */
        (void) sqlite3_busy_timeout(store->db, 0);
        *ret = store;
        return 0;
}
