/* See copies.h. Role: makes and finds the copies. Owns nothing. Invariant: a copy is made under another name and
 * renamed once it is complete. */
#include "daemon/store/copies.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/db.h"
#include "common/file.h"

#define COPIES_MAX 100    /* of one schema */
#define HEADER_SIZE 100   /* of an SQLite database */
#define HEADER_VERSION 60 /* offset of user_version: four bytes, big endian */

static char *name_of(const char *path, int64_t version, int i) {
        return i == 1 ? format_string("%s.schema-%" PRIi64, path, version)
                      : format_string("%s.schema-%" PRIi64 ".%d", path, version, i);
}

/* Removes what an interrupted or failed attempt left. */
static int remove_copy(const char *new) {
        cleanup_free char *journal = format_string("%s-journal", new);

        if (!journal || (unlink(journal) < 0 && errno != ENOENT) || (unlink(new) < 0 && errno != ENOENT))
                return journal ? -errno : -ENOMEM;
        return 0;
}

/* SQLite writes into an existing empty file and keeps its owner and mode. */
static int write_copy(sqlite3 *db, const char *to, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        int r = remove_copy(to);
        if (r < 0)
                return error_errno(error, -r, "%s", to);
        cleanup_close int fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_errno(error, errno, "%s", to);
        r = db_prepare(db, "VACUUM INTO ?", &s, error);
        if (r < 0)
                return r;
        (void) sqlite3_bind_text(s, 1, to, -1, SQLITE_STATIC);
        r = db_run(s, error);
        return r < 0 || fsync(fd) == 0 ? r : error_errno(error, errno, "%s", to);
}

static bool are_same(const char *a, const char *b) {
        cleanup_fclose FILE *one = fopen(a, "re"), *other = fopen(b, "re");
        char left[16384], right[16384];
        size_t n = 1;

        while (one && other && n > 0) {
                n = fread(left, 1, sizeof(left), one);
                if (fread(right, 1, sizeof(right), other) != n || memcmp(left, right, n) != 0)
                        return false;
        }
        return one && other && !ferror(one) && !ferror(other);
}

/* Gives the copy in `new` its name, or removes it if an identical copy exists. */
static int name_copy(const char *path, int64_t version, const char *new, struct error *error) {
        for (int i = 1; i <= COPIES_MAX; i++) {
                cleanup_free char *name = name_of(path, version, i);
                if (!name)
                        return error_errno(error, ENOMEM, "%s", path);
                if (are_same(new, name))
                        return unlink(new) < 0 ? error_errno(error, errno, "%s", new) : 0;
                if (file_is_there(name))
                        continue;
                return rename(new, name) < 0 || fsync_parent(name) < 0 ? error_errno(error, errno, "%s", name) : 0;
        }
        return error_set(error, EEXIST, "%s.schema-%" PRIi64 " and %d others exist; remove some", path, version,
                         COPIES_MAX - 1);
}

int store_copy(sqlite3 *db, const char *path, int64_t version, struct error *error) {
        cleanup_free char *new = format_string("%s.new", path);
        if (!new)
                return error_errno(error, ENOMEM, "%s", path);

        int r = write_copy(db, new, error);
        if (r >= 0)
                r = name_copy(path, version, new, error);
        if (r < 0)
                (void) remove_copy(new);
        return r;
}

/* −1: not a database. */
static int64_t version_of(const char *path) {
        unsigned char header[HEADER_SIZE];
        cleanup_close int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || pread(fd, header, HEADER_SIZE, 0) != HEADER_SIZE ||
            memcmp(header, "SQLite format 3", 16) != 0)
                return -1;
        const unsigned char *v = header + HEADER_VERSION;
        return (int64_t) v[0] << 24 | v[1] << 16 | v[2] << 8 | v[3];
}

char *store_find_copy(const char *path, int64_t version, int64_t *ret_version) {
        for (*ret_version = version; *ret_version > 0; --*ret_version)
                for (int i = COPIES_MAX; i > 0; i--) {
                        cleanup_free char *name = name_of(path, *ret_version, i);
                        if (name && version_of(name) == *ret_version)
                                return steal_pointer(&name);
                }
        return NULL;
}
