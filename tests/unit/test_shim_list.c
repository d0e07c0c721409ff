/* What the shim's lister says of a folder: which names are checkpoints, what came and went beside what was known, where
 * to begin. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/shim/list.h"
#include "tests/unit/folder.h"

struct fixture {
        char *folder;
        struct known known;
        struct list_news news;
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->folder = make_folder();
        f->known.until = UINT64_MAX;
        cleanup_free char *checkpoints = format_string("%s/checkpoints", f->folder);
        assert_true(mkdir_parents(checkpoints, 0700, NULL) >= 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        known_free(&f->known);
        list_news_clear(&f->news);
        remove_folder(f->folder);
        free(f);
        return 0;
}

static char *path_of(const struct fixture *f, const char *name) {
        return format_string("%s/checkpoints/%s", f->folder, name);
}

static void put(const struct fixture *f, const char *name, const char *text) {
        cleanup_free char *path = path_of(f, name);

        assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, NULL), 0);
}

static void take_away(const struct fixture *f, const char *name) {
        cleanup_free char *path = path_of(f, name);

        assert_int_equal(unlink(path), 0);
}

/* Looks once more, for a command with a `cwd`. */
static int look_for(struct fixture *f, const char *cwd) {
        struct list list = { .fd = -1, .pidfd = -1 };
        int r = list_start(&list, f->folder, cwd, &f->known);

        assert_int_equal(r, 0);
        while ((r = list_read(&list)) == 0) {
                struct pollfd p = { .fd = list.fd, .events = POLLIN };
                assert_int_equal(poll(&p, 1, 60000), 1);
        }
        assert_int_equal(r, 1);
        r = list_judge(&list, &f->known, &f->news);
        list_close(&list);
        assert_true(wait(NULL) > 0);
        return r;
}

static int look(struct fixture *f) { return look_for(f, NULL); }

static uint64_t newest(const struct fixture *f) {
        const struct known_checkpoint *c = known_newest(&f->known);

        return c ? c->step : 0;
}

static void test_names(void **state) {
        static const char *const others[] = { "step-10.ckpt",
                                              "step-000000011.ckpt.tmp",
                                              "step-0000000012.ckpt",
                                              "step-00000001x.ckpt",
                                              "step-000000000.ckpt",
                                              "stop-000000013.ckpt",
                                              "step-000000014.ckpx",
                                              "step-99999999999999999999999.ckpt",
                                              "step--00000015.ckpt",
                                              "step-9223372036854775808.ckpt",
                                              ".ckpt",
                                              "step-.ckpt",
                                              ".step-000000016.ckpt",
                                              "step-000000017.ckpt ",
                                              "step-000000018.ckpt.ckpt" };
        static const uint64_t expected[] = { INT64_MAX, 1234567890, 7 };
        struct fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                put(f, others[i], "x");
        put(f, "step-000000020.ckpt", ""); /* not written yet */
        cleanup_free char *link = path_of(f, "step-000000021.ckpt"), *folder = path_of(f, "step-000000022.ckpt");
        assert_int_equal(symlink("step-000000007.ckpt", link), 0);
        assert_true(mkdir_parents(folder, 0700, NULL) >= 0);
        assert_int_equal(look(f), 0);
        assert_true(f->news.n_found == 0 && f->news.n_gone == 0);
        put(f, "step-000000007.ckpt", "seven");
        put(f, "step-1234567890.ckpt", "x");
        put(f, "step-9223372036854775807.ckpt", "x");
        assert_int_equal(look(f), 0);
        assert_int_equal(f->news.n_found, 3 * ELEMENTSOF(expected));
        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                assert_int_equal(f->news.found[3 * i], expected[i]);
        assert_int_equal(f->news.found[7], 5);
        uint64_t now = clock_realtime_usec();
        assert_in_range(f->news.found[8], now - 600 * USEC_PER_SEC, now);
        assert_int_equal(newest(f), INT64_MAX);
        f->known.until = INT64_MAX - 1;
        assert_int_equal(newest(f), 1234567890);
        list_news_clear(&f->news);
        assert_int_equal(look(f), 0);
        assert_true(f->news.n_found == 0 && f->news.n_gone == 0); /* known now */
}

static void test_came_and_went(void **state) {
        struct fixture *f = *state;
        uint64_t aside[] = { 30 };

        put(f, "step-000000010.ckpt", "x");
        put(f, "step-000000030.ckpt", "x");
        put(f, "own-name", "x");
        cleanup_free char *own = path_of(f, "own-name"), *other = path_of(f, "other-name");
        known_add(&f->known, 10, NULL, false);
        known_add(&f->known, 20, NULL, false);
        known_add(&f->known, 15, own, false);
        known_add(&f->known, 25, other, false);
        f->known.aside = malloc(sizeof(aside));
        assert_non_null(f->known.aside);
        memcpy(f->known.aside, aside, sizeof(aside));
        f->known.n_aside = 1;
        assert_int_equal(newest(f), 25);
        assert_int_equal(look(f), 0);
        assert_int_equal(f->news.n_found, 0);
        assert_true(f->news.n_gone == 2 && f->news.gone[0] == 20 && f->news.gone[1] == 25);
        assert_int_equal(newest(f), 15);
        /* What came and went before bertd was told has not come. */
        put(f, "step-000000040.ckpt", "x");
        put(f, "step-000000050.ckpt", "x");
        assert_int_equal(look(f), 0);
        assert_true(f->news.n_found == 6 && newest(f) == 50);
        take_away(f, "step-000000050.ckpt");
        assert_int_equal(look(f), 0);
        assert_true(f->news.n_found == 3 && f->news.found[0] == 40 && f->news.n_gone == 3 && f->news.gone[2] == 50);
        assert_int_equal(newest(f), 40);
}

static void test_no_folder(void **state) {
        struct fixture *f = *state;
        cleanup_free char *checkpoints = path_of(f, "");

        assert_int_equal(rmdir(checkpoints), 0);
        assert_int_equal(look(f), 0);
        known_add(&f->known, 10, NULL, false);
        assert_int_equal(look(f), 0);
        assert_true(f->news.n_gone == 1 && newest(f) == 0);
        /* A folder that cannot be listed says nothing of what is in it. */
        known_add(&f->known, 10, NULL, false);
        list_news_clear(&f->news);
        checkpoints[strlen(checkpoints) - 1] = '\0';
        assert_int_equal(symlink("checkpoints", checkpoints), 0);
        assert_int_equal(look(f), -ELOOP);
        assert_true(f->news.n_gone == 0 && newest(f) == 10);
}

/* What a command has where a file system is mounted late. */
static void test_away(void **state) {
        struct fixture *f = *state;
        cleanup_free char *cwd = format_string("%s/here", f->folder), *own = format_string("%s/own", cwd);
        cleanup_free char *away = format_string("%s.away", f->folder);

        assert_int_equal(look_for(f, cwd), 0); /* nothing is known that could be there */
        put(f, "step-000000010.ckpt", "x");
        known_add(&f->known, 10, NULL, false);
        known_add(&f->known, 15, own, false);
        assert_int_equal(look_for(f, cwd), -ENOENT);
        assert_true(mkdir_parents(cwd, 0700, NULL) >= 0);
        assert_int_equal(file_write_atomic(own, "x", 1, 0600, NULL), 0);
        assert_int_equal(rename(f->folder, away), 0);
        assert_int_equal(look_for(f, "/"), -ENOENT);
        assert_int_equal(rename(away, f->folder), 0);
        assert_true(f->news.n_gone == 0 && newest(f) == 15);
        assert_int_equal(look_for(f, cwd), 0);
        assert_true(f->news.n_gone == 0 && f->news.n_found == 0 && newest(f) == 15);
        assert_int_equal(unlink(own), 0);
        assert_int_equal(look_for(f, cwd), 0);
        assert_true(f->news.n_gone == 1 && newest(f) == 10);
}

/* Good ones first, however old; a folder is a checkpoint of a command. */
static void test_unconfirmed(void **state) {
        struct fixture *f = *state;

        known_add(&f->known, 20, f->folder, true);
        assert_int_equal(newest(f), 20);
        known_add(&f->known, 30, "/nowhere", true);
        assert_int_equal(newest(f), 30);
        known_add(&f->known, 10, f->folder, false);
        assert_int_equal(newest(f), 10);
        f->known.until = 9;
        assert_int_equal(newest(f), 0);
        f->known.until = 25;
        known_remove(&f->known, 10);
        assert_int_equal(newest(f), 20);
        known_add(&f->known, 20, f->folder, false); /* confirmed meanwhile */
        known_add(&f->known, 21, f->folder, true);
        assert_int_equal(newest(f), 20);
        f->known.until = UINT64_MAX;
        assert_int_equal(look_for(f, "/"), 0);
        assert_true(f->news.n_gone == 1 && f->news.gone[0] == 30 && newest(f) == 20);
}

static void test_bounds(void **state) {
        struct fixture *f = *state;

        for (uint64_t step = 1; step <= LIST_FILES_MAX + 10; step++) {
                cleanup_free char *path = format_string("%s/checkpoints/step-%09d.ckpt", f->folder, (int) step);
                cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                assert_true(fd >= 0 && write(fd, "x", 1) == 1);
        }
        assert_int_equal(look(f), 0);
        assert_true(f->news.n_found == 3 * LIST_FILES_MAX && f->known.n == LIST_FILES_MAX);
        assert_true(f->known.rows[0].step == 11 && newest(f) == LIST_FILES_MAX + 10);
        /* One that was known before, and that the list has no room for. */
        known_add(&f->known, LIST_FILES_MAX + 11, "/nowhere", false);
        known_remove(&f->known, LIST_FILES_MAX + 11);
        known_add(&f->known, 1, NULL, false);
        list_news_clear(&f->news);
        assert_int_equal(look(f), 0);
        assert_int_equal(f->news.n_gone, 0);
}

static void test_it_dies(void **state) {
        struct fixture *f = *state;
        struct list list = { .fd = -1, .pidfd = -1 };
        int fds[2];

        assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
        list.fd = fds[0];
        list.words = calloc(16, sizeof(*list.words));
        assert_int_equal(list_read(&list), 0);
        const uint64_t half[] = { 0, 2, 0, 5, 5, 5 };
        assert_int_equal(write(fds[1], half, sizeof(half)), sizeof(half));
        assert_int_equal(list_read(&list), 0);
        (void) close(fds[1]);
        assert_int_equal(list_read(&list), -EIO);
        list_close(&list);
        list_close(&list);
        assert_int_equal(f->news.n_found, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_names, setup, teardown),
                cmocka_unit_test_setup_teardown(test_came_and_went, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_folder, setup, teardown),
                cmocka_unit_test_setup_teardown(test_away, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unconfirmed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
                cmocka_unit_test_setup_teardown(test_it_dies, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
