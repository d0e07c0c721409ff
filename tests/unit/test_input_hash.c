/* What a host's copy of an input is known by: of a corpus its index and its tokens, of a large file pieces from its
 * begin to its end. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/input_hash.h"
#include "tests/unit/folder.h"

#define LARGE ((off_t) 200 << 20)

static struct input_hash look(const char *folder, const char *name) {
        struct input_hash ret;
        char path[512];

        (void) snprintf(path, sizeof(path), "%s/%s", folder, name);
        input_look(path, &ret);
        return ret;
}

static void put(const char *folder, const char *name, off_t at) {
        char path[512];

        (void) snprintf(path, sizeof(path), "%s/%s", folder, name);
        cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0 && pwrite(fd, "X", 1, at) == 1);
}

static void test_corpus(void **state) {
        char *folder = make_folder();

        write_text(folder, "c.idx", "index");
        assert_int_equal(look(folder, "c").state, INPUT_MISSING);
        write_text(folder, "c.bin", "the same tokens");
        struct input_hash one = look(folder, "c"), two;
        assert_true(one.state == INPUT_OK && one.corpus && one.bytes == strlen("index") + strlen("the same tokens"));
        put(folder, "c.bin", 5);
        two = look(folder, "c");
        assert_string_not_equal(one.hash, two.hash);
        put(folder, "c.idx", 1);
        assert_string_not_equal(look(folder, "c").hash, two.hash);
        remove_folder(folder);
}

static void test_large_file(void **state) {
        char *folder = make_folder(), path[512];

        write_text(folder, "c.idx", "index");
        write_text(folder, "c.bin", "");
        (void) snprintf(path, sizeof(path), "%s/c.bin", folder);
        assert_int_equal(truncate(path, LARGE), 0);
        struct input_hash last = look(folder, "c");
        assert_int_equal(last.bytes, LARGE + strlen("index"));
        const off_t touched[] = { 0, 100000, LARGE - 1, LARGE / 31 * 15 };
        for (size_t i = 0; i < ELEMENTSOF(touched); i++) {
                put(folder, "c.bin", touched[i]);
                struct input_hash now = look(folder, "c");
                assert_string_not_equal(now.hash, last.hash);
                last = now;
        }
        remove_folder(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_corpus), cmocka_unit_test(test_large_file) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
