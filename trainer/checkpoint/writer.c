/*
 * Writes one checkpoint file; see writer.h. Invariants: no journal and no sync by SQLite, since the file has no
 * name that anyone reads before it was fsynced whole; chunks stay below SQLite's page cache, which is its fast path.
 * The disk is set to work while there is still more to hash and write: the fsync at the end then finds little left.
 */
#include "trainer/checkpoint/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "common/db.h"
#include "common/file.h"
#include "common/hex.h"

#define CHUNK_BYTES ((size_t) 1044480) /* just under 1 MiB, a multiple of every element size */
#define WRITEBACK_BYTES ((off_t) 16 << 20)

static const char SCHEMA[] = "PRAGMA page_size = 65536; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA "
                             "locking_mode = EXCLUSIVE;"
                             "PRAGMA application_id = 1111839316; PRAGMA user_version = 1; BEGIN;"
                             "CREATE TABLE file (checksum TEXT NOT NULL);"
                             "INSERT INTO file VALUES ('" CHECKPOINT_FILE_MARKER "00000000000000000000000000000000');"
                             "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);"
                             "CREATE TABLE tensor (id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, "
                             "dtype TEXT NOT NULL, shape TEXT NOT NULL,"
                             " checksum TEXT NOT NULL, UNIQUE (name, kind));"
                             "CREATE TABLE chunk (tensor INTEGER NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL);";
_Static_assert(CHECKPOINT_APPLICATION_ID == 1111839316 && CHECKPOINT_FORMAT == 1, "the pragmas above");

/* Starts to write out what lies past *at, which it moves on. A hint: fsync reports what fails here. */
static void start_writeback(int fd, off_t *at) {
        off_t end = lseek(fd, 0, SEEK_END);

        if (end - *at < WRITEBACK_BYTES)
                return;
        (void) sync_file_range(fd, *at, end - *at, SYNC_FILE_RANGE_WRITE);
        *at = end;
}

static int write_chunks(sqlite3 *db, int64_t id, const struct checkpoint_tensor *tensor, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        int r = db_prepare(db, "INSERT INTO chunk (rowid, tensor, seq, data) VALUES (?, ?, ?, ?)", &s, error);

        for (size_t at = 0, seq = 0; r >= 0 && at < tensor->size; at += CHUNK_BYTES, seq++) {
                size_t n = MIN(CHUNK_BYTES, tensor->size - at);
                (void) sqlite3_bind_int64(s, 1, checkpoint_chunk_rowid(id, seq));
                (void) sqlite3_bind_int64(s, 2, id);
                (void) sqlite3_bind_int64(s, 3, (sqlite3_int64) seq);
                (void) sqlite3_bind_blob(s, 4, (const char *) tensor->data + at, (int) n, SQLITE_STATIC);
                r = db_run(s, error);
        }
        return r;
}

static int write_tensor(sqlite3 *db, int64_t id, struct checkpoint_tensor *tensor, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        XXH128_hash_t h = XXH3_128bits(tensor->data, tensor->size);
        char shape[64];

        checkpoint_format_shape(tensor, shape, sizeof(shape));
        hex_128(h.high64, h.low64, tensor->checksum);
        int r = db_prepare(db, "INSERT INTO tensor VALUES (?, ?, ?, ?, ?, ?)", &s, error);
        if (r < 0)
                return r;
        const char *texts[] = { tensor->name, tensor->kind, tensor->dtype, shape, tensor->checksum };
        (void) sqlite3_bind_int64(s, 1, id);
        for (int i = 0; i < (int) ELEMENTSOF(texts); i++)
                (void) sqlite3_bind_text(s, 2 + i, texts[i], -1, SQLITE_STATIC);
        r = db_run(s, error);
        return r < 0 ? r : write_chunks(db, id, tensor, error);
}

/* Only if there are some: a checkpoint without is as older programs write it. */
static int write_assets(sqlite3 *db, const struct assets *assets, struct checkpoint_meta *meta, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        char digest[HEX_128_SIZE];

        if (!assets || assets->n == 0)
                return 0;
        int r = db_exec(db, "CREATE TABLE asset (name TEXT PRIMARY KEY, data BLOB NOT NULL, checksum TEXT NOT NULL)",
                        error);
        if (r >= 0)
                r = db_prepare(db, "INSERT INTO asset VALUES (?, ?, ?)", &s, error);
        for (uint32_t i = 0; r >= 0 && i < assets->n; i++) {
                const struct asset *asset = &assets->item[i];
                (void) sqlite3_bind_text(s, 1, asset->name, -1, SQLITE_STATIC);
                (void) sqlite3_bind_blob(s, 2, asset->data, (int) asset->size, SQLITE_STATIC);
                (void) sqlite3_bind_text(s, 3, asset->checksum, -1, SQLITE_STATIC);
                r = db_run(s, error);
        }
        checkpoint_assets_digest(assets, digest);
        checkpoint_meta_set(meta, CHECKPOINT_ASSETS_KEY, "%s", digest);
        return r;
}

static int write_meta(sqlite3 *db, const struct checkpoint_meta *meta, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        int r = db_prepare(db, "INSERT INTO meta VALUES (?, ?)", &s, error);

        for (uint32_t i = 0; r >= 0 && i < meta->n; i++) {
                (void) sqlite3_bind_text(s, 1, meta->items[i].key, -1, SQLITE_STATIC);
                (void) sqlite3_bind_text(s, 2, meta->items[i].value, -1, SQLITE_STATIC);
                r = db_run(s, error);
        }
        return r;
}

static int write_database(const char *path, int fd, const struct checkpoint_meta *meta,
                          const struct checkpoint_tensor *tensors, uint32_t n, const struct assets *assets,
                          struct error *error) {
        cleanup_db sqlite3 *db = NULL;
        cleanup_free struct checkpoint_tensor *rows = calloc(MAX(n, 1u), sizeof(*rows));
        cleanup_checkpoint_meta struct checkpoint_meta all = {};
        char digest[HEX_128_SIZE];
        off_t flushed = 0;

        if (!rows)
                return error_errno(error, ENOMEM, "checkpoint");
        if (sqlite3_open_v2(path, &db,
                            SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
                            NULL) != SQLITE_OK)
                return db_error(error, db, "SQLite");
        checkpoint_meta_copy(&all, meta);
        int r = db_exec(db, SCHEMA, error);
        if (r >= 0)
                r = write_assets(db, assets, &all, error);
        for (uint32_t i = 0; r >= 0 && i < n; i++) {
                rows[i] = tensors[i];
                r = write_tensor(db, (int64_t) i + 1, &rows[i], error);
                start_writeback(fd, &flushed);
        }
        if (r < 0)
                return r;
        checkpoint_digest(&all, rows, n, digest);
        checkpoint_meta_set(&all, "digest", "%s", digest);
        r = checkpoint_meta_check(&all, error);
        if (r >= 0)
                r = write_meta(db, &all, error);
        return r < 0 ? r : db_exec(db, "COMMIT", error);
}

static int finish_file(int fd, const char *temporary, const char *path, struct error *error) {
        char hex[HEX_128_SIZE], said[HEX_128_SIZE];
        off_t at = 0;

        int r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : checkpoint_file_checksum(fd, hex, said, &at);
        if (r < 0)
                return error_errno(error, -r, "%s", path);
        errno = EIO;
        if (pwrite(fd, hex, sizeof(hex) - 1, at) != (ssize_t) sizeof(hex) - 1 || fsync(fd) < 0 ||
            rename(temporary, path) < 0)
                return error_output(error, errno, path);
        r = fsync_parent(path);
        return r < 0 ? error_output(error, -r, path) : 0;
}

int checkpoint_write(const char *path, const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors,
                     uint32_t n, const struct assets *assets, struct error *error) {
        cleanup_free char *temporary = format_string("%s.tmp", path);
        if (!temporary)
                return error_errno(error, ENOMEM, "%s", path);

        (void) unlink(temporary);
        /* Open from before SQLite opens the file to after it closes it: a descriptor closed in between would drop its locks. */
        cleanup_close int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return error_output(error, errno, path);
        int r = write_database(temporary, fd, meta, tensors, n, assets, error);
        if (r < 0)
                (void) error_prefix(error, "%s", path);
        else
                r = finish_file(fd, temporary, path, error);
        if (r < 0)
                (void) unlink(temporary);
        return r;
}
