/* Two descriptors between processes of one user: they arrive, another user's process neither gets nor gives any. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/handover.h"

#define OTHER_UID 65534
#define SEC USEC_PER_SEC

/* As bertd-leash: writes what it reads from the first into the second. */
static __attribute__((noreturn)) void take_and_answer(const char *name, uid_t uid) {
        char text[16];
        int fds[2];

        if (uid != geteuid() && setuid(uid) < 0)
                _exit(9);
        int connection = handover_take(name, SEC, fds, NULL);
        if (connection < 0)
                _exit(1);
        ssize_t n = read(fds[0], text, sizeof(text));
        _exit(n > 0 && write(fds[1], text, (size_t) n) == n ? 0 : 2);
}

static int exit_of(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void test_they_arrive(void **state) {
        char name[HANDOVER_NAME_MAX + 1], text[16] = "";
        struct error error = {};
        int in[2], out[2];

        int listener = handover_listen(name, &error);
        assert_true(listener >= 0);
        assert_true(handover_name_is_valid(name));
        assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0)
                take_and_answer(name, geteuid());
        const int given[] = { in[0], out[1] };
        int connection = handover_give(listener, given, -1, clock_boottime_usec() + 5 * SEC, &error);
        assert_true(connection >= 0);
        assert_int_equal(write(in[1], "hello", 5), 5);
        assert_int_equal(read(out[0], text, sizeof(text)), 5);
        assert_string_equal(text, "hello");
        /* The other has exited. */
        struct pollfd p = { .fd = connection, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(read(connection, text, 1), 0);
        assert_int_equal(exit_of(pid), 0);
        const int all[] = { listener, connection, in[0], in[1], out[0], out[1] };
        for (size_t i = 0; i < ELEMENTSOF(all); i++)
                (void) close(all[i]);
}

static void test_another_user_gets_none(void **state) {
        char name[HANDOVER_NAME_MAX + 1];
        struct error error = {};

        if (geteuid() != 0)
                skip();
        cleanup_close int listener = handover_listen(name, &error);
        pid_t pid = fork();
        if (pid == 0)
                take_and_answer(name, OTHER_UID);
        cleanup_close int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        const int given[] = { null_fd, null_fd };
        assert_int_equal(handover_give(listener, given, -1, clock_boottime_usec() + SEC / 2, &error), -ETIMEDOUT);
        assert_int_equal(exit_of(pid), 1);
}

/* The names of such sockets are known to all users. */
static void test_another_user_without_end(void **state) {
        char name[HANDOVER_NAME_MAX + 1];
        struct error error = {};

        if (geteuid() != 0)
                skip();
        cleanup_close int listener = handover_listen(name, &error);
        pid_t pid = fork();
        if (pid == 0) {
                int fds[2];
                if (setuid(OTHER_UID) < 0)
                        _exit(1);
                for (;;)
                        (void) handover_take(name, SEC, fds, NULL);
        }
        const int given[] = { 0, 1 };
        uint64_t begin = clock_boottime_usec();
        assert_int_equal(handover_give(listener, given, -1, begin + SEC / 2, &error), -ETIMEDOUT);
        assert_true(clock_boottime_usec() - begin < 5 * SEC);
        assert_int_equal(kill(pid, SIGKILL), 0);
        (void) waitpid(pid, NULL, 0);
}

static void test_nothing_is_taken_from_another_user(void **state) {
        char name[HANDOVER_NAME_MAX + 1];
        struct error error = {};
        int ready[2], fds[2];

        if (geteuid() != 0)
                skip();
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0) {
                if (setuid(OTHER_UID) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || handover_listen(name, &error) < 0)
                        _exit(1);
                (void) !write(ready[1], name, sizeof(name));
                (void) pause();
        }
        assert_int_equal(read(ready[0], name, sizeof(name)), sizeof(name));
        assert_int_equal(handover_take(name, SEC, fds, &error), -EPERM);
        assert_int_equal(kill(pid, SIGKILL), 0);
        (void) waitpid(pid, NULL, 0);
        (void) close(ready[0]);
        (void) close(ready[1]);
}

static void test_nobody_is_there(void **state) {
        char name[HANDOVER_NAME_MAX + 1];
        struct error error = {};
        int fds[2];

        assert_true(handover_take("00000000000000000000000000000000", SEC, fds, &error) < 0);
        cleanup_close int listener = handover_listen(name, &error);
        uint64_t begin = clock_boottime_usec();
        assert_true(listener >= 0);
        assert_int_equal(handover_take(name, SEC / 5, fds, &error), -ETIMEDOUT);
        assert_true(clock_boottime_usec() - begin < 5 * SEC);
}

static int count_descriptors(void) {
        int n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

/* One that sends more or fewer than two gives none, and none is left open. */
static void test_another_number_of_them(void **state) {
        for (int n = 0; n <= 4; n++) {
                char name[HANDOVER_NAME_MAX + 1], byte = 0;
                struct error error = {};
                union {
                        struct cmsghdr header;
                        char bytes[CMSG_SPACE(4 * sizeof(int))];
                } control = {};
                struct iovec data = { .iov_base = &byte, .iov_len = 1 };
                struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
                int fds[2], given[4] = { 0, 0, 0, 0 };

                int listener = handover_listen(name, &error);
                pid_t pid = fork();
                if (pid == 0) {
                        int before = count_descriptors();
                        int r = handover_take(name, SEC, fds, &error);
                        _exit(n == 2 ? r < 0 : r >= 0 || count_descriptors() != before);
                }
                (void) poll(&(struct pollfd) { .fd = listener, .events = POLLIN }, 1, 5000);
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                assert_true(fd >= 0);
                control.header = (struct cmsghdr) { .cmsg_len = CMSG_LEN((size_t) n * sizeof(int)),
                                                    .cmsg_level = SOL_SOCKET,
                                                    .cmsg_type = SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.header), given, (size_t) n * sizeof(int));
                if (n > 0) {
                        message.msg_control = &control;
                        message.msg_controllen = CMSG_SPACE((size_t) n * sizeof(int));
                }
                assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), 1);
                assert_int_equal(exit_of(pid), 0);
                (void) close(fd);
                (void) close(listener);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_they_arrive),
                cmocka_unit_test(test_another_user_gets_none),
                cmocka_unit_test(test_another_user_without_end),
                cmocka_unit_test(test_nothing_is_taken_from_another_user),
                cmocka_unit_test(test_nobody_is_there),
                cmocka_unit_test(test_another_number_of_them),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
