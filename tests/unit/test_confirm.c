/* What a confirmer finds of a reported checkpoint: sizes within its bounds, and what it refuses. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/shim/confirm.h"
#include "tests/unit/folder.h"

static char *folder;

static char *at(const char *name) { return format_string("%s/%s", folder, name); }

static struct confirm_result confirm(const char *name) {
        cleanup_free char *path = at(name);
        struct confirm c = { .fd = -1, .pidfd = -1 };
        struct confirm_result result = { .refusal = CONFIRM_REFUSAL_MAX };

        assert_int_equal(confirm_start(&c, path, folder, NULL), 0);
        assert_false(confirm_result(&c, &result) && result.refusal == CONFIRM_REFUSAL_MAX);
        while (confirm_read(&c) == 0) {
                struct pollfd p = { .fd = c.fd, .events = POLLIN };
                assert_int_equal(poll(&p, 1, 60000), 1);
        }
        assert_true(confirm_result(&c, &result));
        confirm_close(&c);
        confirm_close(&c);
        assert_true(wait(NULL) > 0);
        return result;
}

static void put(const char *name, size_t size) {
        cleanup_free char *path = at(name);
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0 && ftruncate(fd, (off_t) size) == 0);
}

static void make(const char *name) {
        cleanup_free char *path = at(name);

        assert_int_equal(mkdir(path, 0700), 0);
}

static void test_sizes(void **state) {
        put("file", 5);
        make("f");
        make("f/inner");
        put("f/a", 100);
        put("f/inner/b", 20);
        cleanup_free char *link = at("f/link"), *up = at("f/up");
        assert_true(symlink("../file", link) == 0 && symlink("..", up) == 0);
        struct confirm_result r = confirm("file");
        assert_true(r.refusal == CONFIRM_GOOD && r.size == 5 && r.durable);
        r = confirm("f");
        assert_true(r.refusal == CONFIRM_GOOD && r.size == 120 && r.durable); /* no link is followed */
}

/* Deeper than is looked at, with a file in each folder. */
static void make_deep(const char *name, size_t size) {
        char deep[256];

        (void) snprintf(deep, sizeof(deep), "%s", name);
        for (unsigned i = 0; i < CONFIRM_DEPTH_MAX + 3; i++) {
                make(deep);
                cleanup_free char *file = format_string("%s/a", deep);
                put(file, size);
                size_t n = strlen(deep);
                assert_true(snprintf(deep + n, sizeof(deep) - n, "/d") < (int) (sizeof(deep) - n));
        }
}

/* Of a folder without end as much is summed as the bounds allow. */
static void test_bounds(void **state) {
        make_deep("deep", 1);
        assert_int_equal(confirm("deep").size, 1 + CONFIRM_DEPTH_MAX);
        make_deep("deep0", 0);
        assert_int_equal(confirm("deep0").refusal, CONFIRM_GOOD); /* who knows what is below */
        make("wide");
        put("wide/first", 1);
        cleanup_free char *first = at("wide/first");
        for (unsigned i = 0; i < CONFIRM_ENTRIES_MAX + 10; i++) {
                cleanup_free char *path = format_string("%s/wide/%u", folder, i);
                assert_int_equal(link(first, path), 0);
                if (i % 20000 == 19999) { /* a file has a bounded number of names */
                        assert_int_equal(unlink(first), 0);
                        put("wide/first", 1);
                }
        }
        struct confirm_result r = confirm("wide");
        assert_true(r.refusal == CONFIRM_GOOD && r.size == CONFIRM_ENTRIES_MAX);
}

static void test_refusals(void **state) {
        static const struct {
                const char *name;
                enum confirm_refusal refusal;
        } rows[] = {
                { "absent", CONFIRM_GONE },           { "loop", CONFIRM_GONE },   { "pipe", CONFIRM_NOT_A_CHECKPOINT },
                { "link", CONFIRM_NOT_A_CHECKPOINT }, { "empty", CONFIRM_EMPTY }, { "nothing", CONFIRM_EMPTY },
                { "out/passwd", CONFIRM_OUTSIDE },    { "..", CONFIRM_OUTSIDE },  { ".", CONFIRM_OUTSIDE },
        };
        cleanup_free char *pipe = at("pipe"), *link = at("link"), *loop = at("loop"), *out = at("out");

        put("file", 5);
        put("empty", 0);
        make("nothing");
        assert_int_equal(mkfifo(pipe, 0600), 0);
        assert_true(symlink("file", link) == 0 && symlink("loop", loop) == 0 && symlink("/etc", out) == 0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct confirm_result r = confirm(rows[i].name);
                if (r.refusal != rows[i].refusal || r.durable)
                        fail_msg("%s: %s", rows[i].name, confirm_refusal_text(r.refusal));
        }
}

/* A checkpoint whose parts go while it is summed, as by a trainer's own retention. */
static void test_it_vanishes(void **state) {
        for (int round = 0; round < 20; round++) {
                make("v");
                for (int i = 0; i < 200; i++) {
                        cleanup_free char *name = format_string("v/%d", i);
                        put(name, 3);
                }
                pid_t pid = fork();
                if (pid == 0) {
                        for (int i = 0; i < 200; i++) {
                                cleanup_free char *path = format_string("%s/v/%d", folder, i);
                                (void) unlink(path);
                        }
                        cleanup_free char *v = at("v");
                        _exit(rmdir(v) < 0);
                }
                cleanup_free char *path = at("v");
                struct confirm c = { .fd = -1, .pidfd = -1 };
                struct confirm_result r;
                assert_int_equal(confirm_start(&c, path, folder, NULL), 0);
                while (confirm_read(&c) == 0) {
                        struct pollfd p = { .fd = c.fd, .events = POLLIN };
                        assert_int_equal(poll(&p, 1, 60000), 1);
                }
                assert_true(confirm_result(&c, &r) && r.size <= 600);
                assert_true(r.refusal == CONFIRM_GOOD || r.refusal == CONFIRM_GONE || r.refusal == CONFIRM_EMPTY);
                confirm_close(&c);
                assert_true(wait(NULL) > 0 && wait(NULL) > 0);
        }
}

/* Killed, as when it takes too long: nothing is known, and nothing is waited for. */
static void test_it_dies(void **state) {
        struct confirm c = { .fd = -1, .pidfd = -1 };
        struct confirm_result r = {};
        int fds[2];

        assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
        c.fd = fds[0];
        assert_int_equal(confirm_read(&c), 0);
        const struct confirm_result first = { .refusal = CONFIRM_GOOD, .size = 7 };
        assert_int_equal(write(fds[1], &first, sizeof(first)), sizeof(first));
        assert_int_equal(confirm_read(&c), 0);
        assert_true(confirm_result(&c, &r) && r.size == 7 && !r.durable); /* found, not yet durable */
        assert_int_equal(write(fds[1], &first, 3), 3);
        (void) close(fds[1]);
        assert_int_equal(confirm_read(&c), 1);
        assert_true(confirm_result(&c, &r) && r.size == 7 && !r.durable);
        confirm_close(&c);
        c.fd = c.pidfd = -1;
        assert_false(confirm_result(&c, &r));
}

static int setup(void **state) {
        folder = make_folder();
        return folder ? 0 : -1;
}

static int teardown(void **state) {
        remove_folder(folder);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
                cmocka_unit_test_setup_teardown(test_it_vanishes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_it_dies, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
