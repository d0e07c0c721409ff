/*
 * Reads one checkpoint file; see reader.h. The file may come from anyone, so: opened read-only and immutable (no
 * journal beside it is looked at), defensive, without views and triggers; every size is bounded before memory is asked
 * for; meta and tensor rows are held against the digest, tensors against their checksums.
 */
#include "trainer/checkpoint/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/db.h"
#include "common/file.h"
#include "common/hex.h"

#define TENSORS_MAX 65536u
#define BLOB_BYTES_MAX ((int) ASSET_BYTES_MAX + 1024) /* a row's: of an asset; chunks are far smaller */

struct checkpoint {
        sqlite3 *db;
        char *path;
        off_t file_size;
        struct checkpoint_meta meta;
        struct checkpoint_tensor *tensors;
        uint32_t n;
};

#define bad(c, error, ...) error_input(error, BERTD_EXIT_BAD_CHECKPOINT, __VA_ARGS__)

static int sqlite_bad(const struct checkpoint *c, struct error *error) {
        return bad(c, error, "%s: not a readable checkpoint: %s", c->path, sqlite3_errmsg(c->db));
}

/* file: URI, in which only these characters may stand for themselves. */
static char *make_uri(const char *path) {
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./";
        static const char tail[] = "?mode=ro&immutable=1";
        cleanup_free char *absolute = realpath(path, NULL);
        char *uri = NULL;
        size_t size;
        FILE *stream = absolute ? open_memstream(&uri, &size) : NULL;

        if (!stream)
                return NULL;
        (void) fputs("file:", stream);
        for (const char *p = absolute; *p; p++)
                (void) fprintf(stream, strchr(plain, *p) ? "%c" : "%%%02X", (unsigned char) *p);
        (void) fputs(tail, stream);
        if (fclose(stream) == 0)
                return uri;
        free(uri);
        return NULL;
}

static int check_file(struct checkpoint *c, struct error *error) {
        cleanup_close int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0 && errno == ENOENT && lstat(c->path, &st) == 0)
                return error_input(error, BERTD_EXIT_INPUT,
                                   "%s: a link to a missing checkpoint; copy the file itself (cp -L)", c->path);
        if (fd < 0 && errno == ENOENT)
                return error_input(error, BERTD_EXIT_INPUT, "%s: no such checkpoint", c->path);
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_errno(error, errno, "%s", c->path);
        if (S_ISDIR(st.st_mode))
                return bad(c, error,
                           "%s: a folder, expected a checkpoint; bert-trainer import makes one of a model's folder",
                           c->path);
        if (!S_ISREG(st.st_mode))
                return bad(c, error, "%s: not a regular file", c->path);
        char first[64];
        struct error why = {};
        ssize_t n = pread(fd, first, sizeof(first), 0);
        if (n > 0 && file_refuse_pointer(c->path, first, (size_t) n, &why) < 0)
                return bad(c, error, "%s", why.text);
        c->file_size = st.st_size;
        return 0;
}

static int open_database(struct checkpoint *c, struct error *error) {
        cleanup_free char *uri = make_uri(c->path);
        if (!uri)
                return error_errno(error, errno, "%s", c->path);

        if (sqlite3_open_v2(uri, &c->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK)
                return sqlite_bad(c, error);
        (void) sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        (void) sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        (void) sqlite3_db_config(c->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
        (void) sqlite3_db_config(c->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
        (void) sqlite3_limit(c->db, SQLITE_LIMIT_LENGTH, BLOB_BYTES_MAX);
        if (sqlite3_exec(c->db, "PRAGMA cell_size_check = 1; PRAGMA mmap_size = 0;", NULL, NULL, NULL) != SQLITE_OK)
                return sqlite_bad(c, error);
        return 0;
}

static int pragma(struct checkpoint *c, const char *sql, int64_t *ret, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;

        if (sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
                return sqlite_bad(c, error);
        *ret = sqlite3_column_int64(s, 0);
        return 0;
}

static int check_header(struct checkpoint *c, struct error *error) {
        int64_t id = 0, version = 0, pages = 0, page_size = 0;

        int r = pragma(c, "PRAGMA application_id", &id, error);
        if (r >= 0)
                r = pragma(c, "PRAGMA user_version", &version, error);
        if (r >= 0)
                r = pragma(c, "PRAGMA page_count", &pages, error);
        if (r >= 0)
                r = pragma(c, "PRAGMA page_size", &page_size, error);
        if (r < 0)
                return r;
        if (id != CHECKPOINT_APPLICATION_ID)
                return bad(c, error, "%s: not a checkpoint of bert-trainer (application id %lld)", c->path,
                           (long long) id);
        if (version != CHECKPOINT_FORMAT)
                return bad(c, error, "%s: checkpoint format %lld, this program reads %d", c->path, (long long) version,
                           CHECKPOINT_FORMAT);
        if (pages * page_size != (int64_t) c->file_size)
                return bad(c, error, "%s: %lld bytes, but %lld by its header: truncated or overwritten", c->path,
                           (long long) c->file_size, (long long) (pages * page_size));
        return 0;
}

/* A text column that has no zero inside; NULL: another one. */
static const char *plain_text(sqlite3_stmt *s, int column) {
        if (sqlite3_column_type(s, column) != SQLITE_TEXT)
                return NULL;
        const char *text = (const char *) sqlite3_column_text(s, column);
        return text && strlen(text) == (size_t) sqlite3_column_bytes(s, column) ? text : NULL;
}

/* Copies one that fits. */
static bool copy_text(sqlite3_stmt *s, int column, char *to, size_t room) {
        const char *text = plain_text(s, column);

        if (!text || strlen(text) >= room)
                return false;
        memcpy(to, text, strlen(text) + 1);
        return true;
}

static int read_meta(struct checkpoint *c, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        int step;

        if (sqlite3_prepare_v2(c->db, "SELECT key, value FROM meta ORDER BY rowid", -1, &s, NULL) != SQLITE_OK)
                return sqlite_bad(c, error);
        while ((step = sqlite3_step(s)) == SQLITE_ROW) {
                const char *key = plain_text(s, 0), *value = plain_text(s, 1);
                if (!key || !value || checkpoint_meta_get(&c->meta, key))
                        return bad(c, error, "%s: table meta holds an impossible row", c->path);
                checkpoint_meta_set(&c->meta, key, "%s", value);
                if (c->meta.failed.code == E2BIG)
                        return bad(c, error, "%s: %s", c->path, c->meta.failed.text);
                if (c->meta.failed.code > 0)
                        return error_errno(error, c->meta.failed.code, "%s", c->path);
        }
        return step == SQLITE_DONE ? 0 : sqlite_bad(c, error);
}

static size_t dtype_size(const char *dtype) {
        return strcmp(dtype, "float32") == 0 ? 4 : strcmp(dtype, "float64") == 0 ? 8 : 0;
}

static bool parse_shape(const char *text, struct checkpoint_tensor *t) {
        char again[64];
        size_t elements = 1;

        for (const char *p = text; *p; p++) {
                if (*p != '[' && *p != ' ')
                        continue;
                char *end;
                unsigned long v = strtoul(p + 1, &end, 10);
                if (end == p + 1 || v > UINT32_MAX)
                        continue;
                if (t->n_dims == CHECKPOINT_DIMS_MAX || __builtin_mul_overflow(elements, v, &elements))
                        return false;
                t->shape[t->n_dims++] = (uint32_t) v;
        }
        checkpoint_format_shape(t, again, sizeof(again));
        return t->n_dims > 0 && strcmp(again, text) == 0 &&
               !__builtin_mul_overflow(elements, dtype_size(t->dtype), &t->size) && t->size > 0;
}

static bool read_tensor_row(struct checkpoint *c, sqlite3_stmt *s, struct checkpoint_tensor *t) {
        char shape[64];

        t->id = sqlite3_column_int64(s, 0);
        if (t->id < 1 || t->id > TENSORS_MAX)
                return false;
        return copy_text(s, 1, t->name, sizeof(t->name)) && copy_text(s, 2, t->kind, sizeof(t->kind)) &&
               copy_text(s, 3, t->dtype, sizeof(t->dtype)) && copy_text(s, 4, shape, sizeof(shape)) &&
               copy_text(s, 5, t->checksum, sizeof(t->checksum)) && parse_shape(shape, t) &&
               t->size <= (size_t) c->file_size;
}

static int read_tensors(struct checkpoint *c, struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        int64_t count = 0;
        int step;

        int r = pragma(c, "SELECT count(*) FROM tensor", &count, error);
        if (r < 0)
                return r;
        if (count < 1 || count > TENSORS_MAX)
                return bad(c, error, "%s: %lld tensors, expected 1 to %u", c->path, (long long) count, TENSORS_MAX);
        c->tensors = calloc((size_t) count, sizeof(*c->tensors));
        if (!c->tensors)
                return error_errno(error, ENOMEM, "%s", c->path);
        if (sqlite3_prepare_v2(c->db, "SELECT id, name, kind, dtype, shape, checksum FROM tensor ORDER BY id", -1, &s,
                               NULL) != SQLITE_OK)
                return sqlite_bad(c, error);
        while ((step = sqlite3_step(s)) == SQLITE_ROW) {
                if (c->n == count || !read_tensor_row(c, s, &c->tensors[c->n]))
                        return bad(c, error, "%s: row %u of table tensor is impossible", c->path, c->n + 1);
                c->n++;
        }
        return step == SQLITE_DONE ? 0 : sqlite_bad(c, error);
}

static int check_digest(struct checkpoint *c, struct error *error) {
        const char *said = checkpoint_meta_get(&c->meta, "digest");
        char digest[HEX_128_SIZE];

        checkpoint_digest(&c->meta, c->tensors, c->n, digest);
        if (!said || strcmp(said, digest) != 0)
                return bad(c, error, "%s: meta and tensor tables do not match their digest", c->path);
        return 0;
}

int checkpoint_open(const char *path, struct checkpoint **ret, struct error *error) {
        cleanup_checkpoint struct checkpoint *c = calloc(1, sizeof(*c));
        if (!c || !(c->path = strdup(path)))
                return error_errno(error, ENOMEM, "%s", path);

        int r = check_file(c, error);
        if (r >= 0)
                r = open_database(c, error);
        if (r >= 0)
                r = check_header(c, error);
        if (r >= 0)
                r = read_meta(c, error);
        if (r >= 0)
                r = read_tensors(c, error);
        if (r >= 0)
                r = check_digest(c, error);
        if (r >= 0)
                *ret = steal_pointer(&c);
        return r;
}

void checkpoint_close(struct checkpoint *c) {
        if (!c)
                return;
        (void) sqlite3_close(c->db);
        checkpoint_meta_free(&c->meta);
        free(c->tensors);
        free(c->path);
        free(c);
}

const char *checkpoint_path(const struct checkpoint *c) { return c->path; }
const struct checkpoint_meta *checkpoint_meta(const struct checkpoint *c) { return &c->meta; }
uint32_t checkpoint_n_tensors(const struct checkpoint *c) { return c->n; }
const struct checkpoint_tensor *checkpoint_tensor(const struct checkpoint *c, uint32_t index) {
        return &c->tensors[index];
}

int64_t checkpoint_find(const struct checkpoint *c, const char *name, const char *kind) {
        for (uint32_t i = 0; i < c->n; i++)
                if (strcmp(c->tensors[i].name, name) == 0 && strcmp(c->tensors[i].kind, kind) == 0)
                        return i;
        return -1;
}

static int read_chunks(struct checkpoint *c, const struct checkpoint_tensor *t, void *data, size_t *ret_got,
                       struct error *error) {
        cleanup_statement sqlite3_stmt *s = NULL;
        size_t got = 0;
        int step;

        if (sqlite3_prepare_v2(c->db, "SELECT data FROM chunk WHERE rowid >= ? AND rowid < ? ORDER BY rowid", -1, &s,
                               NULL) != SQLITE_OK)
                return sqlite_bad(c, error);
        (void) sqlite3_bind_int64(s, 1, checkpoint_chunk_rowid(t->id, 0));
        (void) sqlite3_bind_int64(s, 2, checkpoint_chunk_rowid(t->id + 1, 0));
        while ((step = sqlite3_step(s)) == SQLITE_ROW) {
                const void *blob = sqlite3_column_blob(s, 0);
                size_t n = (size_t) sqlite3_column_bytes(s, 0);
                if (!blob || n == 0 || n > t->size - got)
                        return bad(c, error, "%s: tensor %s (%s) has a chunk of the wrong size", c->path, t->name,
                                   t->kind);
                memcpy((char *) data + got, blob, n);
                got += n;
        }
        if (step != SQLITE_DONE) {
                (void) sqlite_bad(c, error);
                return error ? error_prefix(error, "tensor %s (%s)", t->name, t->kind) : -EINVAL;
        }
        *ret_got = got;
        return 0;
}

int checkpoint_read_tensor(struct checkpoint *c, uint32_t index, void *data, struct error *error) {
        const struct checkpoint_tensor *t = &c->tensors[index];
        char checksum[HEX_128_SIZE];
        size_t got = 0;

        int r = read_chunks(c, t, data, &got, error);
        if (r < 0)
                return r;
        if (got != t->size)
                return bad(c, error, "%s: tensor %s (%s) has %zu bytes, expected %zu", c->path, t->name, t->kind, got,
                           t->size);
        XXH128_hash_t h = XXH3_128bits(data, got);
        hex_128(h.high64, h.low64, checksum);
        if (strcmp(checksum, t->checksum) != 0)
                return bad(c, error, "%s: tensor %s (%s) does not match its checksum", c->path, t->name, t->kind);
        return 0;
}

static int read_asset(struct checkpoint *c, sqlite3_stmt *s, struct assets *assets, struct error *error) {
        char name[ASSET_NAME_MAX], checksum[HEX_128_SIZE];
        const void *data = sqlite3_column_blob(s, 1);
        size_t size = (size_t) sqlite3_column_bytes(s, 1);

        if (!copy_text(s, 0, name, sizeof(name)) || !copy_text(s, 2, checksum, sizeof(checksum)) ||
            !asset_name_valid(name) || assets_find(assets, name) || assets->n == ASSETS_MAX || size > ASSET_BYTES_MAX)
                return bad(c, error, "%s: row %u of table asset is impossible", c->path, assets->n + 1);
        int r = assets_add(assets, name, data ? data : "", size, error);
        if (r < 0)
                return error_prefix(error, "%s", c->path);
        if (strcmp(assets->item[assets->n - 1].checksum, checksum) != 0)
                return bad(c, error, "%s: asset %s does not match its checksum", c->path, name);
        return 0;
}

int checkpoint_read_assets(struct checkpoint *c, struct assets *assets, struct error *error) {
        const char *said = checkpoint_meta_get(&c->meta, CHECKPOINT_ASSETS_KEY);
        cleanup_statement sqlite3_stmt *s = NULL;
        char digest[HEX_128_SIZE];
        int step = SQLITE_DONE, r = 0;

        if (!said)
                return 0;
        if (sqlite3_prepare_v2(c->db, "SELECT name, data, checksum FROM asset ORDER BY rowid", -1, &s, NULL) !=
            SQLITE_OK)
                return sqlite_bad(c, error);
        while (r >= 0 && (step = sqlite3_step(s)) == SQLITE_ROW)
                r = read_asset(c, s, assets, error);
        if (r < 0)
                return r;
        checkpoint_assets_digest(assets, digest);
        if (step != SQLITE_DONE)
                return sqlite_bad(c, error);
        return strcmp(digest, said) == 0 ? 0 : bad(c, error, "%s: table asset does not match its digest", c->path);
}

static int verify_assets(struct checkpoint *c, struct error *error) {
        cleanup_assets struct assets assets = {};

        return checkpoint_read_assets(c, &assets, error);
}

int checkpoint_check_file(struct checkpoint *c, struct error *error) {
        cleanup_close int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        char hex[HEX_128_SIZE], said[HEX_128_SIZE] = "";
        off_t at;

        int r = fd < 0 ? -errno : checkpoint_file_checksum(fd, hex, said, &at);
        if (r < 0 && r != -EBADMSG)
                return error_errno(error, -r, "%s", c->path);
        if (r < 0 || strcmp(hex, said) != 0)
                return bad(c, error, "%s: a byte of the file changed: it does not match its checksum", c->path);
        return 0;
}

int checkpoint_verify(struct checkpoint *c, struct error *error) {
        size_t most = 0;

        for (uint32_t i = 0; i < c->n; i++)
                most = MAX(most, c->tensors[i].size);
        cleanup_free void *data = malloc(MAX(most, (size_t) 1));
        if (!data)
                return error_errno(error, ENOMEM, "%s", c->path);
        for (uint32_t i = 0; i < c->n; i++) {
                int r = checkpoint_read_tensor(c, i, data, error);
                if (r < 0)
                        return r;
        }
        int r = verify_assets(c, error);
        return r < 0 ? r : checkpoint_check_file(c, error);
}
