/* The sender of copies against a receiver in a thread, and against receivers that answer badly; what is stored is what
 * was sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/copies.h"
#include "common/file.h"
#include "tests/unit/folder.h"

#define BYTES ((size_t) 1 << 20)
#define ASKED_MAX 4096

static char *root;
static char source[64], rest[64], folder[64];

struct pipes {
        int in, out, its_in, its_out; /* the sender's, the receiver's */
        pthread_t thread;
        const char *says; /* instead of a receiver */
        size_t takes;     /* bytes after the request, before it says more */
        const char *then;
};

static void *receive(void *argument) {
        struct pipes *p = argument;

        (void) copies_receive(p->its_in, p->its_out, NULL);
        (void) close(p->its_in);
        (void) close(p->its_out);
        return NULL;
}

static void *speak(void *argument) {
        struct pipes *p = argument;
        char asked[ASKED_MAX];

        (void) !read(p->its_in, asked, sizeof(asked));
        (void) write_all(p->its_out, p->says, strlen(p->says));
        for (size_t n = 0; n < p->takes; n++)
                (void) !read(p->its_in, asked, 1);
        (void) close(p->its_in);
        if (p->then)
                (void) write_all(p->its_out, p->then, strlen(p->then));
        (void) close(p->its_out);
        return NULL;
}

static void begin(struct pipes *p) {
        int down[2], up[2];

        assert_return_code(pipe(down), 0);
        assert_return_code(pipe(up), 0);
        p->out = down[1];
        p->its_in = down[0];
        p->in = up[0];
        p->its_out = up[1];
        assert_int_equal(pthread_create(&p->thread, NULL, p->says ? speak : receive, p), 0);
}

static void end(struct pipes *p) {
        (void) close(p->out);
        (void) pthread_join(p->thread, NULL);
        (void) close(p->in);
}

static int send_file(struct pipes *p, const char *path, struct error *error) {
        struct copies_file file = { .path = path, .folder = folder, .of = "h1:/run", .keep = 2 };

        *error = (struct error) {};
        return copies_send(p->in, p->out, &file, error);
}

static int setup(void **state) {
        char *data = malloc(BYTES);

        (void) signal(SIGPIPE, SIG_IGN);
        root = make_folder();
        if (!data)
                return -1;
        for (size_t i = 0; i < BYTES; i++)
                data[i] = (char) (i * 31 >> 3);
        (void) snprintf(source, sizeof(source), "%s/step-000000010.ckpt", root);
        (void) snprintf(rest, sizeof(rest), "%s/bertd.json", root);
        (void) snprintf(folder, sizeof(folder), "%s/copies", root);
        int r = file_write_atomic(source, data, BYTES, 0600, NULL);
        free(data);
        return r;
}

static int teardown(void **state) {
        remove_folder(root);
        return 0;
}

static void test_stored_then_there(void **state) {
        struct pipes p = {};
        struct error error;
        struct stat own, its;
        char path[96];

        begin(&p);
        assert_int_equal(send_file(&p, source, &error), 1);
        assert_int_equal(send_file(&p, source, &error), 0);
        assert_int_equal(send_file(&p, rest, &error), 0); /* there is none */
        assert_int_equal(file_write_atomic(rest, "{}", 2, 0600, NULL), 0);
        assert_int_equal(send_file(&p, rest, &error), 1);
        end(&p);
        (void) snprintf(path, sizeof(path), "%s/checkpoints/step-000000010.ckpt", folder);
        assert_return_code(stat(source, &own), 0);
        assert_return_code(stat(path, &its), 0);
        assert_true(own.st_size == its.st_size && own.st_mtim.tv_sec == its.st_mtim.tv_sec);
        char *a = NULL, *b = NULL;
        size_t n = 0, m = 0;
        assert_int_equal(file_read(source, BYTES, &a, &n, NULL), 0);
        assert_int_equal(file_read(path, BYTES, &b, &m, NULL), 0);
        assert_true(n == m && memcmp(a, b, n) == 0);
        free(a);
        free(b);
}

/* What it says instead, bytes that it takes, what it says then: the reason. */
static void assert_fails(const char *says, size_t takes, const char *then, const char *reason) {
        struct pipes p = { .says = says, .takes = takes, .then = then };
        struct error error;

        begin(&p);
        assert_true(send_file(&p, source, &error) < 0);
        assert_string_equal(error.text, reason);
        end(&p);
}

static void test_bad_answers(void **state) {
        char flood[2 * 1100 + 1];

        assert_fails("", 0, NULL, "the receiver ended");
        assert_fails("Welcome\n", 0, NULL, "the receiver ended");
        assert_fails("{}\n", 0, NULL, "no answer that bertctl would give");
        assert_fails("{\"type\":\n", 0, NULL, "no answer that bertctl would give");
        assert_fails("{\"type\":\"refused\",\"reason\":\"full\\u001b[2J\\u007f\"}\n", 0, NULL, "full?[2J?");
        assert_fails("{\"type\":\"send\"}\n", 100, "{\"type\":\"refused\",\"reason\":\"disk full\"}\n", "disk full");
        assert_fails("{\"type\":\"send\"}\n", 100, NULL, "the receiver ended");
        for (size_t i = 0; i < sizeof(flood) - 1; i += 2)
                memcpy(flood + i, "x\n", 2);
        flood[sizeof(flood) - 1] = '\0';
        assert_fails(flood, 0, NULL, "no answer that bertctl would give");
}

static void test_not_a_file(void **state) {
        struct pipes p = {};
        struct error error;
        char path[96];

        begin(&p);
        (void) snprintf(path, sizeof(path), "%s/step-000000011.ckpt", root);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_true(send_file(&p, path, &error) < 0);
        (void) snprintf(path, sizeof(path), "%s/step-000000012.ckpt", root);
        assert_true(send_file(&p, path, &error) < 0);
        assert_int_equal(symlink(source, path), 0);
        assert_true(send_file(&p, path, &error) < 0);
        end(&p);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_stored_then_there),
                                            cmocka_unit_test(test_bad_answers), cmocka_unit_test(test_not_a_file) };

        return cmocka_run_group_tests(tests, setup, teardown);
}
