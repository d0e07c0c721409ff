/* common/nccl_ras.h: any process of a host may listen where NCCL's service does; what it says costs neither memory nor
 * time beyond the bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/nccl_ras.h"

/* Writes `text`, a byte each `pause_usec`, again and again if `endless`. */
struct service {
        const char *text;
        uint64_t pause_usec;
        int endless;
};

static __attribute__((noreturn)) void serve(int listener, const struct service *s) {
        const struct timespec pause = { .tv_nsec = (long) s->pause_usec * 1000 };
        int fd = accept(listener, NULL, NULL);

        do
                for (const char *p = s->text; *p && send(fd, p, 1, MSG_NOSIGNAL) == 1; p++)
                        (void) nanosleep(&pause, NULL);
        while (s->endless);
        (void) shutdown(fd, SHUT_WR);
        for (char byte; read(fd, &byte, 1) > 0;)
                ;
        _exit(0);
}

static ssize_t ask(const struct service *s, char *buffer, size_t size, uint64_t limit_usec) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof(a);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(listener, (struct sockaddr *) &a, sizeof(a)) | listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &a, &length), 0);
        pid_t pid = fork();
        if (pid == 0)
                serve(listener, s);
        (void) close(listener);
        ssize_t n = nccl_ras_status(buffer, size, ntohs(a.sin_port), limit_usec);
        (void) kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        return n;
}

static void test_status(void **state) {
        const struct service s = { "SERVER PROTOCOL 2\nOK\n{\"missing\":[3]}", 0, 0 };
        char text[64] = "";

        assert_int_equal(ask(&s, text, sizeof(text), 5 * USEC_PER_SEC), 15);
        assert_string_equal(text, "{\"missing\":[3]}");
}

static void test_slow_service(void **state) {
        const struct service s = { "x", 100000, 1 };
        uint64_t begin = clock_boottime_usec();
        char text[64];

        assert_true(ask(&s, text, sizeof(text), USEC_PER_SEC / 2) < 0);
        assert_true(clock_boottime_usec() - begin < 8 * USEC_PER_SEC);
}

static void test_endless_answer(void **state) {
        const struct service s = { "\n", 0, 1 };
        char text[64];

        assert_int_equal(ask(&s, text, sizeof(text), 5 * USEC_PER_SEC), sizeof(text));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_status),
                cmocka_unit_test(test_slow_service),
                cmocka_unit_test(test_endless_answer),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
