/* daemon/base/loop.h, of the daemon's loop and of the one whose clock a test turns: what both must do alike. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/base/loop.h"

#define MSEC UINT64_C(1000)
#define TURNS_MAX 100

struct fixture {
        struct loop *loop;
        char calls[64]; /* a letter each */
        struct timer timer;
        struct source *source, *other;
};

static struct fixture *of;

static void note(char letter) {
        size_t n = strlen(of->calls);

        assert_true(n + 1 < sizeof(of->calls));
        of->calls[n] = letter;
}

static void on_a(void *userdata) { note('a'); }
static void on_b(void *userdata) { note('b'); }
static void on_c(void *userdata) { note('c'); }
static void on_end(void *userdata) { note('e'); }

static void on_ready(void *userdata, int fd, uint32_t events) {
        char byte;

        assert_int_equal(read(fd, &byte, 1), 1);
        note(byte);
}

static void on_exited(void *userdata, const siginfo_t *si) {
        assert_true(si->si_code == CLD_EXITED);
        note((char) si->si_status);
        of->source = source_free(of->source);
}

static int setup(void **state) {
        of = calloc(1, sizeof(*of));
        assert_true(of && loop_new(&of->loop) == 0);
        *state = of;
        return 0;
}

static int teardown(void **state) {
        (void) source_free(of->source);
        (void) source_free(of->other);
        loop_free(of->loop);
        free(of);
        return 0;
}

/* Turns until so many handlers were called. */
static const char *turn(size_t n) {
        for (int i = 0; i < TURNS_MAX && strlen(of->calls) < n; i++)
                assert_true(loop_turn(of->loop, 100 * MSEC) >= 0);
        return of->calls;
}

static pid_t child(int code) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(code);
        return pid;
}

/* By time, not as they were armed; those of one time as they were. */
static void test_timers(void **state) {
        struct timer a = {}, b = {}, c = {};
        uint64_t now = loop_boottime();

        loop_at(of->loop, &c, now + 3 * MSEC, on_c, NULL);
        loop_at(of->loop, &a, now + MSEC, on_a, NULL);
        loop_at(of->loop, &b, now + MSEC, on_b, NULL);
        assert_string_equal(turn(3), "abc");
        assert_true(loop_boottime() >= now + 3 * MSEC);
        assert_false(timer_is_armed(&a) || timer_is_armed(&b) || timer_is_armed(&c));
}

static void on_again(void *userdata) {
        assert_false(timer_is_armed(userdata));
        note('t');
        if (strlen(of->calls) < 3)
                loop_after(of->loop, userdata, MSEC, on_again, userdata);
}

/* In its own handler, anew before it was due, and not at all. */
static void test_armed_again(void **state) {
        struct timer gone = {};
        uint64_t now = loop_boottime();

        loop_after(of->loop, &gone, MSEC, on_a, NULL);
        timer_disarm(&gone);
        timer_disarm(&gone);
        loop_after(of->loop, &of->timer, MSEC, on_again, &of->timer);
        loop_after(of->loop, &of->timer, 5 * MSEC, on_again, &of->timer);
        assert_string_equal(turn(3), "ttt");
        assert_true(loop_boottime() >= now + 7 * MSEC);
        assert_true(loop_turn(of->loop, 10 * MSEC) >= 0 && strlen(of->calls) == 3);
}

/* Once for each time that it is asked for, the earlier order first. */
static void test_orders(void **state) {
        assert_true(loop_defer(of->loop, on_a, NULL, &of->source) >= 0);
        assert_true(loop_defer(of->loop, on_b, NULL, &of->other) >= 0);
        source_set_order(of->source, LOOP_LAST);
        source_set_order(of->other, LOOP_LATER);
        assert_true(loop_turn(of->loop, 0) >= 0 && of->calls[0] == '\0');
        source_soon(of->source);
        source_soon(of->source);
        source_soon(of->other);
        assert_string_equal(turn(2), "ba");
        assert_true(loop_turn(of->loop, MSEC) >= 0 && strlen(of->calls) == 2);
        source_set_order(of->source, LOOP_NORMAL);
        source_soon(of->other);
        source_soon(of->source);
        assert_string_equal(turn(4), "baab");
        source_soon(NULL);
}

static void test_descriptor(void **state) {
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        assert_true(loop_watch(of->loop, fds[0], EPOLLIN, on_ready, NULL, &of->source) >= 0);
        assert_int_equal(source_fd(of->source), fds[0]);
        assert_int_equal(write(fds[1], "xyz", 3), 3);
        assert_string_equal(turn(1), "x");
        source_set_events(of->source, 0);
        assert_true(loop_turn(of->loop, MSEC) >= 0 && strlen(of->calls) == 1);
        source_set_events(of->source, EPOLLIN);
        assert_string_equal(turn(2), "xy");
        source_enable(of->source, false);
        (void) close(fds[1]);
        assert_true(loop_turn(of->loop, MSEC) >= 0 && strlen(of->calls) == 2);
        source_enable(of->source, true);
        assert_string_equal(turn(3), "xyz");
        of->source = source_free(of->source);
        assert_int_equal(fcntl(fds[0], F_GETFD), -1);
}

static void test_child(void **state) {
        pid_t pid = child('q');

        assert_true(loop_watch_child(of->loop, pid, on_exited, NULL, &of->source) >= 0);
        assert_string_equal(turn(1), "q");
        assert_null(of->source);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* reaped */
        pid = child('r');
        assert_true(loop_watch_child(of->loop, pid, on_exited, NULL, &of->source) >= 0);
        source_leave(of->source);
        of->source = NULL;
        for (int i = 0; i < 100 * TURNS_MAX && kill(pid, 0) == 0; i++) {
                assert_true(loop_turn(of->loop, MSEC) >= 0);
                (void) usleep(100);
        }
        assert_int_equal(kill(pid, 0), -1);
        assert_string_equal(of->calls, "q");
}

static void on_enough(void *userdata) { loop_end(of->loop, 7); }

static void test_end(void **state) {
        assert_true(loop_at_end(of->loop, on_end, NULL, &of->source) >= 0);
        loop_after(of->loop, &of->timer, MSEC, on_enough, NULL);
        assert_false(loop_is_over(of->loop));
        assert_int_equal(loop_run(of->loop), 7);
        assert_true(loop_is_over(of->loop));
        assert_string_equal(of->calls, "e");
}

int main(void) {
        sigset_t set;
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_armed_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_orders, setup, teardown),
                cmocka_unit_test_setup_teardown(test_descriptor, setup, teardown),
                cmocka_unit_test_setup_teardown(test_child, setup, teardown),
                cmocka_unit_test_setup_teardown(test_end, setup, teardown),
        };

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
