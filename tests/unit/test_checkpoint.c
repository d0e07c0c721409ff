/* Checkpoint files: what is written is read, anything cut or flipped is refused with exit 76; run folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "tests/unit/trainer-corpus.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/run/rundir.h"

enum { BIG = 3000000, SMALL = 10 };

struct fixture {
        char *folder, *path;
        float *big;
        double small[SMALL];
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};

        f->folder = make_folder();
        f->path = format_string("%s/a #1?.ckpt", f->folder); /* characters that mean something in a URI */
        f->big = malloc(BIG * sizeof(float));
        for (int i = 0; i < BIG; i++)
                f->big[i] = (float) ((int64_t) i * 7919 % 1000003);
        for (int i = 0; i < SMALL; i++)
                f->small[i] = i / 3.0;
        struct checkpoint_tensor tensors[] = {
                { .name = "big",
                  .kind = "param",
                  .dtype = "float32",
                  .n_dims = 2,
                  .shape = { 3000, 1000 },
                  .size = BIG * 4,
                  .data = f->big },
                { .name = "big",
                  .kind = "moment1",
                  .dtype = "float32",
                  .n_dims = 2,
                  .shape = { 3000, 1000 },
                  .size = BIG * 4,
                  .data = f->big },
                { .name = "small",
                  .kind = "param",
                  .dtype = "float64",
                  .n_dims = 1,
                  .shape = { SMALL },
                  .size = SMALL * 8,
                  .data = f->small },
        };
        checkpoint_meta_set(&meta, "step", "%d", 12);
        checkpoint_meta_set(&meta, "seed", "%d", 42);
        *state = f;
        return checkpoint_write(f->path, &meta, tensors, ELEMENTSOF(tensors), NULL, NULL);
}

static int teardown(void **state) {
        struct fixture *f = *state;
        free(f->big);
        free(f->path);
        remove_folder(f->folder);
        free(f);
        return 0;
}

/* 0 or the exit code of the first refusal, over opening and reading all. */
static int use(const char *path) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        struct error error = {};

        if (checkpoint_open(path, &c, &error) < 0 || checkpoint_verify(c, &error) < 0) {
                assert_non_null(strstr(error.text, path));
                return error.exit;
        }
        return 0;
}

static void test_round_trip(void **state) {
        struct fixture *f = *state;
        cleanup_checkpoint struct checkpoint *c = NULL;
        cleanup_free float *big = malloc(BIG * sizeof(float));
        double small[SMALL];

        assert_int_equal(checkpoint_open(f->path, &c, NULL), 0);
        assert_string_equal(checkpoint_meta_get(checkpoint_meta(c), "step"), "12");
        assert_int_equal(checkpoint_n_tensors(c), 3);
        assert_int_equal(checkpoint_find(c, "big", "moment2"), -1);
        assert_int_equal(checkpoint_read_tensor(c, (uint32_t) checkpoint_find(c, "big", "moment1"), big, NULL), 0);
        assert_memory_equal(big, f->big, BIG * sizeof(float));
        assert_int_equal(checkpoint_read_tensor(c, (uint32_t) checkpoint_find(c, "small", "param"), small, NULL), 0);
        assert_memory_equal(small, f->small, sizeof(small));
        assert_int_equal(use(f->path), 0);
}

static void test_meta(void **state) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct error error = {};
        uint64_t value = 0;

        checkpoint_meta_set(&meta, "step", "%d", 12);
        checkpoint_meta_set(&meta, "other", "%s", "-3");
        checkpoint_meta_set(&meta, "step", "%d", 13); /* in its place */
        assert_int_equal(meta.n, 2);
        assert_int_equal(checkpoint_meta_u64(&meta, "/x", "step", &value, &error), 0);
        assert_int_equal(value, 13);
        assert_true(checkpoint_meta_u64(&meta, "/x", "other", &value, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_BAD_CHECKPOINT);
        assert_string_equal(error.text, "/x: meta key other is -3, expected a number");
        error = (struct error) {};
        assert_true(checkpoint_meta_u64(&meta, "/x", "absent", &value, &error) < 0);
        assert_string_equal(error.text, "/x: meta key absent is missing, expected a number");
}

/* Whatever is changed in meta or in a tensor's row, the digest is another. */
static void test_digest(void **state) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {}, other = {}, more = {};
        struct checkpoint_tensor t = {
                .name = "t", .kind = "param", .dtype = "float32", .checksum = "0123", .n_dims = 2, .shape = { 2, 3 }
        };
        char digests[9][33];

        checkpoint_meta_set(&meta, "step", "%d", 12);
        checkpoint_digest(&meta, &t, 1, digests[0]);
        checkpoint_meta_copy(&other, &meta);
        checkpoint_meta_set(&other, "step", "%d", 13);
        checkpoint_digest(&other, &t, 1, digests[1]);
        checkpoint_meta_copy(&more, &meta);
        checkpoint_meta_set(&more, "more", "%d", 12);
        checkpoint_digest(&more, &t, 1, digests[2]);
        checkpoint_digest(&meta, &t, 0, digests[3]);
        struct checkpoint_tensor changed[] = { t, t, t, t, t };
        (void) snprintf(changed[0].name, sizeof(t.name), "u");
        (void) snprintf(changed[1].kind, sizeof(t.kind), "moment1");
        (void) snprintf(changed[2].dtype, sizeof(t.dtype), "float64");
        (void) snprintf(changed[3].checksum, sizeof(t.checksum), "0124");
        changed[4].shape[0] = 3, changed[4].shape[1] = 2;
        for (size_t i = 0; i < ELEMENTSOF(changed); i++)
                checkpoint_digest(&meta, &changed[i], 1, digests[4 + i]);
        for (size_t i = 0; i < ELEMENTSOF(digests); i++)
                for (size_t j = 0; j < i; j++)
                        assert_string_not_equal(digests[i], digests[j]);
}

static void test_cut_at_every_page(void **state) {
        struct fixture *f = *state;
        struct stat st;

        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_size % 65536, 0);
        for (off_t size = st.st_size - 1; size >= 0; size = (size - 1) / 65536 * 65536) {
                assert_int_equal(truncate(f->path, size), 0);
                assert_int_equal(use(f->path), BERTD_EXIT_BAD_CHECKPOINT);
                if (size == 0)
                        break;
        }
}

static void flip(const char *path, off_t at) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        uint8_t byte;

        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(close(fd), 0);
}

/* All of the header, then a byte a stride that visits data, free space and pointers. */
static void test_flipped_bytes(void **state) {
        struct fixture *f = *state;
        struct stat st;

        assert_int_equal(stat(f->path, &st), 0);
        for (off_t at = 0; at < st.st_size; at += at < 100 ? 3 : 199999) {
                flip(f->path, at);
                assert_int_equal(use(f->path), BERTD_EXIT_BAD_CHECKPOINT);
                flip(f->path, at);
        }
        assert_int_equal(use(f->path), 0);
}

static void test_tensor_is_named(void **state) {
        struct fixture *f = *state;
        struct stat st;
        cleanup_checkpoint struct checkpoint *c = NULL;
        struct error error = {};

        assert_int_equal(stat(f->path, &st), 0);
        flip(f->path, st.st_size / 4); /* inside the first tensor's 12 MB of 24 */
        assert_int_equal(checkpoint_open(f->path, &c, &error), 0);
        assert_true(checkpoint_verify(c, &error) < 0);
        assert_non_null(strstr(error.text, "tensor big (param)"));
}

static void test_foreign_files(void **state) {
        struct fixture *f = *state;
        char *other = format_string("%s/other", f->folder), *journal = format_string("%s-journal", f->path);
        sqlite3 *db = NULL;

        assert_int_equal(use(f->folder), BERTD_EXIT_BAD_CHECKPOINT);
        assert_int_equal(use(other), BERTD_EXIT_INPUT);
        assert_int_equal(sqlite3_open(other, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "CREATE TABLE meta (key, value); CREATE TABLE tensor (id)", NULL, NULL, NULL),
                         SQLITE_OK);
        (void) sqlite3_close(db);
        assert_int_equal(use(other), BERTD_EXIT_BAD_CHECKPOINT);
        /* A journal beside a checkpoint is neither followed nor deleted. */
        assert_int_equal(file_write_atomic(journal, "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 hostile", 16, 0600, NULL), 0);
        assert_int_equal(use(f->path), 0);
        assert_int_equal(access(journal, F_OK), 0);
        free(journal);
        free(other);
}

static void test_views_are_refused(void **state) {
        struct fixture *f = *state;
        sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(
                sqlite3_exec(db, "ALTER TABLE meta RENAME TO m; CREATE VIEW meta AS SELECT * FROM m", NULL, NULL, NULL),
                SQLITE_OK);
        (void) sqlite3_close(db);
        assert_int_equal(use(f->path), BERTD_EXIT_BAD_CHECKPOINT);
}

/* A checkpoint of one number. */
static int write_with(const char *path, const struct checkpoint_meta *meta, struct error *error) {
        struct checkpoint_tensor t = { .name = "t",
                                       .kind = "param",
                                       .dtype = "float32",
                                       .n_dims = 1,
                                       .shape = { 1 },
                                       .size = 4,
                                       .data = &(float) { 1 } };
        *error = (struct error) {};
        return checkpoint_write(path, meta, &t, 1, NULL, error);
}

static int write_one(const char *path, struct error *error) {
        return write_with(path, &(const struct checkpoint_meta) {}, error);
}

static void test_meta_is_kept_whole(void **state) {
        struct fixture *f = *state;
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        cleanup_checkpoint struct checkpoint *c = NULL;
        cleanup_free char *value = calloc(1, CHECKPOINT_META_VALUE_MAX + 1),
                          *path = format_string("%s/meta", f->folder);
        struct error error;
        char key[200] = "";

        memset(value, 'v', CHECKPOINT_META_VALUE_MAX);
        memset(key, 'k', sizeof(key) - 6);
        for (int i = 0; i < 1000; i++) {
                (void) snprintf(key + sizeof(key) - 6, 6, "%d", i);
                checkpoint_meta_set(&meta, key, "%.*s", 1200, value);
        }
        checkpoint_meta_set(&meta, key, "%s", value);
        assert_int_equal(write_with(path, &meta, &error), 0);
        assert_int_equal(checkpoint_open(path, &c, &error), 0);
        assert_int_equal(checkpoint_meta(c)->n, 1000 + 1);
        for (uint32_t i = 0; i < meta.n; i++)
                assert_string_equal(checkpoint_meta_get(checkpoint_meta(c), meta.items[i].key), meta.items[i].value);
        assert_int_equal(checkpoint_verify(c, &error), 0);
}

/* Nothing of a meta that is not whole is written. */
static void test_meta_that_is_too_long(void **state) {
        struct fixture *f = *state;
        cleanup_checkpoint_meta struct checkpoint_meta meta = {}, many = {}, heavy = {};
        cleanup_free char *value = calloc(1, CHECKPOINT_META_VALUE_MAX + 2),
                          *path = format_string("%s/meta", f->folder);
        struct error error;
        char key[16];

        memset(value, 'v', CHECKPOINT_META_VALUE_MAX + 1);
        checkpoint_meta_set(&meta, "vocab_path", "%s", value);
        for (int i = 0; i < (int) CHECKPOINT_META_KEYS_MAX + 1; i++) {
                (void) snprintf(key, sizeof(key), "%d", i);
                checkpoint_meta_set(&many, key, "x");
                if (i <= (int) (CHECKPOINT_META_BYTES_MAX / CHECKPOINT_META_VALUE_MAX))
                        checkpoint_meta_set(&heavy, key, "%s", value + 1);
        }
        const struct checkpoint_meta *metas[] = { &meta, &many, &heavy };
        for (size_t i = 0; i < ELEMENTSOF(metas); i++) {
                assert_int_equal(checkpoint_meta_check(metas[i], NULL), -E2BIG);
                assert_int_equal(write_with(path, metas[i], &error), -E2BIG);
                assert_non_null(strstr(error.text, "meta key "));
                assert_int_equal(access(path, F_OK), -1);
        }
}

/* ---- assets ---- */

static void write_with_assets(const char *path, const struct assets *assets) {
        struct checkpoint_meta meta = {};
        struct checkpoint_tensor t = { .name = "t",
                                       .kind = "param",
                                       .dtype = "float32",
                                       .n_dims = 1,
                                       .shape = { 1 },
                                       .size = 4,
                                       .data = &(float) { 1 } };
        assert_int_equal(checkpoint_write(path, &meta, &t, 1, assets, NULL), 0);
}

/* 0 or the exit code; all assets are read, and nothing else is looked at that a test may have changed beside them. */
static int read_assets(const char *path, struct assets *ret, struct error *error) {
        cleanup_checkpoint struct checkpoint *c = NULL;

        *error = (struct error) {};
        assets_free(ret);
        assert_int_equal(checkpoint_open(path, &c, error), 0);
        return checkpoint_read_assets(c, ret, error) < 0 ? error->exit : 0;
}

static void test_assets(void **state) {
        struct fixture *f = *state;
        cleanup_free char *path = format_string("%s/assets", f->folder);
        cleanup_assets struct assets assets = {}, found = {};
        struct error error;

        assert_int_equal(assets_add(&assets, "vocab.txt", "[PAD]\r\n\0x", 9, NULL), 0);
        assert_int_equal(assets_add(&assets, "empty.json", "", 0, NULL), 0);
        assert_int_equal(assets_add(&assets, "big", f->big, BIG * sizeof(float), NULL), 0); /* of many pages */
        write_with_assets(path, &assets);
        assert_int_equal(use(path), 0);
        assert_int_equal(read_assets(path, &found, &error), 0);
        assert_int_equal(found.n, 3);
        for (uint32_t i = 0; i < found.n; i++) {
                const struct asset *asset = assets_find(&assets, found.item[i].name);
                assert_non_null(asset);
                assert_int_equal(asset->size, found.item[i].size);
                assert_memory_equal(asset->data, found.item[i].data, asset->size);
        }
        assert_int_equal(assets_add(&found, "vocab.txt", "other", 5, NULL), 0); /* in its place */
        assert_int_equal(found.n, 3);
        assert_string_equal(assets_find(&found, "vocab.txt")->data, "other");
        assert_null(assets_find(&found, "spiece.model"));
        write_with_assets(path, &(struct assets) {}); /* none: as an older program writes it */
        assert_int_equal(read_assets(path, &found, &error), 0);
        assert_int_equal(found.n, 0);
}

static void test_asset_names(void **state) {
        static const char *const bad[] = { "", ".", "../x", "a/b", "a b", "\xc3\xa4", "a\n" };
        char longest[ASSET_NAME_MAX + 1];

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(asset_name_valid(bad[i]));
        assert_true(asset_name_valid("added_tokens.json"));
        memset(longest, 'x', sizeof(longest));
        longest[ASSET_NAME_MAX] = '\0';
        assert_false(asset_name_valid(longest));
        assert_true(asset_name_valid(longest + 1));

        cleanup_assets struct assets assets = {};
        struct error error = {};
        char name[16];
        for (unsigned i = 0; i < ASSETS_MAX; i++) {
                (void) snprintf(name, sizeof(name), "file%u", i);
                assert_int_equal(assets_add(&assets, name, "x", 1, NULL), 0);
        }
        assert_true(assets_add(&assets, "more", "x", 1, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        assert_int_equal(assets_add(&assets, "file0", "y", 1, NULL), 0);
}

/* What others did to the table: each is refused, in one line that says of what. */
static void test_assets_changed(void **state) {
        struct fixture *f = *state;
        cleanup_free char *path = format_string("%s/changed", f->folder);
        cleanup_assets struct assets assets = {}, found = {};
        struct error error;
        static const struct {
                const char *sql, *expected;
        } cases[] = {
                { "UPDATE asset SET data = x'00' WHERE name = 'vocab.txt'",
                  "asset vocab.txt does not match its checksum" },
                { "UPDATE asset SET checksum = 'x' WHERE name = 'b'", "asset b does not match its checksum" },
                { "DELETE FROM asset WHERE name = 'b'", "table asset does not match its digest" },
                { "UPDATE asset SET name = 'c' WHERE name = 'b'", "table asset does not match its digest" },
                { "UPDATE asset SET name = '../b' WHERE name = 'b'", "row 2 of table asset is impossible" },
                { "UPDATE asset SET data = zeroblob(16777217) WHERE name = 'b'", "row 2 of table asset is impossible" },
                { "DROP TABLE asset", "no such table: asset" },
                { "DROP TABLE asset; CREATE VIEW asset AS SELECT 'b' AS name, 'b' AS data, 'x' AS checksum",
                  "not a readable checkpoint" },
        };

        assert_int_equal(assets_add(&assets, "vocab.txt", "a", 1, NULL), 0);
        assert_int_equal(assets_add(&assets, "b", "b", 1, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                sqlite3 *db = NULL;
                write_with_assets(path, &assets);
                assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
                assert_int_equal(sqlite3_exec(db, cases[i].sql, NULL, NULL, NULL), SQLITE_OK);
                (void) sqlite3_close(db);
                assert_int_equal(read_assets(path, &found, &error), BERTD_EXIT_BAD_CHECKPOINT);
                assert_non_null(strstr(error.text, cases[i].expected));
                assert_non_null(strstr(error.text, path));
                assert_int_equal(use(path), BERTD_EXIT_BAD_CHECKPOINT);
        }
}

static void write_small(const struct rundir *rundir, uint64_t step) {
        char *path = rundir_checkpoint_path(rundir, step);
        struct error error;

        assert_int_equal(write_one(path, &error), 0);
        free(path);
}

/* What a full or broken disk does to the last steps of writing: the Nth fsync fails, the checksum is written in part.
 * The linker puts these in the place of the real ones; with offsets of 64 bits, pwrite is pwrite64. */
int __wrap_fsync(int fd);
int __real_fsync(int fd);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t at);
ssize_t __real_pwrite64(int fd, const void *data, size_t size, off_t at);

static int fsyncs_left = -1; /* −1: all succeed */
static bool short_writes;

int __wrap_fsync(int fd) {
        if (fsyncs_left < 0 || fsyncs_left-- > 0)
                return __real_fsync(fd);
        errno = EDQUOT;
        return -1;
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t at) {
        return __real_pwrite64(fd, data, short_writes ? size / 2 : size, at);
}

static void test_failed_writes(void **state) {
        struct fixture *f = *state;
        cleanup_free char *path = format_string("%s/new.ckpt", f->folder);
        cleanup_free char *temporary = format_string("%s.tmp", path);
        struct error error;

        short_writes = true;
        assert_true(write_one(path, &error) < 0);
        assert_int_equal(error.code, EIO);
        short_writes = false;
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_not_equal(access(temporary, F_OK), 0);
        fsyncs_left = 0; /* the file's */
        assert_true(write_one(path, &error) < 0);
        assert_int_equal(error.code, EDQUOT);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_not_equal(access(temporary, F_OK), 0);
        fsyncs_left = 1; /* the folder's: nobody may count on the name */
        assert_true(write_one(path, &error) < 0);
        fsyncs_left = -1;
        assert_int_equal(write_one(path, &error), 0);
        assert_int_equal(use(path), 0);
}

/* The file's own checksum: a marker that is absent, and one at the very end of the file. */
static void test_marker(void **state) {
        struct fixture *f = *state;
        cleanup_free char *path = format_string("%s/marker", f->folder);
        char text[64], hex[33], said[33];
        static const struct { int digits, expected; } cases[] = { { 0, -EBADMSG }, { 31, -EBADMSG }, { 32, 0 } };
        off_t at = 0;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                int n = snprintf(text, sizeof(text), CHECKPOINT_FILE_MARKER "%.*s", cases[i].digits,
                                 "0123456789abcdef0123456789abcdef");
                assert_int_equal(file_write_atomic(path, text, (size_t) n, 0600, NULL), 0);
                cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
                assert_int_equal(checkpoint_file_checksum(fd, hex, said, &at), cases[i].expected);
        }
        assert_string_equal(said, "0123456789abcdef0123456789abcdef");
        assert_int_equal(at, strlen(CHECKPOINT_FILE_MARKER));
        assert_int_equal(file_write_atomic(path, "no marker", 9, 0600, NULL), 0);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(checkpoint_file_checksum(fd, hex, said, &at), -EBADMSG);
}

static void test_run_folder(void **state) {
        struct fixture *f = *state;
        char *leftover = format_string("%s/checkpoints/step-000000009.ckpt.tmp", f->folder);
        struct rundir *rundir = NULL;
        uint64_t *steps = NULL;
        size_t n;

        assert_int_equal(rundir_open(f->folder, &rundir, NULL), 0);
        for (uint64_t s = 10; s <= 60; s += 10)
                write_small(rundir, s);
        assert_int_equal(rundir_retain(rundir, 2, 30, 0, NULL), 0);
        assert_int_equal(rundir_list(rundir, &steps, &n, NULL), 0);
        assert_int_equal(n, 3);
        assert_true(steps[0] == 30 && steps[1] == 50 && steps[2] == 60);
        free(steps);
        assert_int_equal(rundir_abandon_newer(rundir, 30, NULL), 0);
        assert_int_equal(rundir_retain(rundir, 0, 0, 0, NULL), 0); /* never the last one */
        assert_int_equal(rundir_list(rundir, &steps, &n, NULL), 0);
        assert_true(n == 1 && steps[0] == 30);
        free(steps);
        rundir_close(rundir);

        assert_int_equal(file_write_atomic(leftover, "x", 1, 0600, NULL), 0);
        assert_int_equal(rundir_open(f->folder, &rundir, NULL), 0);
        assert_int_not_equal(access(leftover, F_OK), 0);
        rundir_close(rundir);
        free(leftover);
}

static void test_lock(void **state) {
        struct fixture *f = *state;
        struct rundir *rundir = NULL;
        int status;

        assert_int_equal(rundir_open(f->folder, &rundir, NULL), 0);
        pid_t pid = fork();
        if (pid == 0) {
                struct rundir *second = NULL;
                struct error error = {};
                _exit(rundir_open(f->folder, &second, &error) < 0 && error.code == EBUSY ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        rundir_close(rundir);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test(test_meta),
                cmocka_unit_test(test_digest),
                cmocka_unit_test_setup_teardown(test_meta_is_kept_whole, setup, teardown),
                cmocka_unit_test_setup_teardown(test_meta_that_is_too_long, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cut_at_every_page, setup, teardown),
                cmocka_unit_test_setup_teardown(test_flipped_bytes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_tensor_is_named, setup, teardown),
                cmocka_unit_test_setup_teardown(test_assets, setup, teardown),
                cmocka_unit_test(test_asset_names),
                cmocka_unit_test_setup_teardown(test_assets_changed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_foreign_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_views_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_failed_writes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_marker, setup, teardown),
                cmocka_unit_test_setup_teardown(test_run_folder, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
