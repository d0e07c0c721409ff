/* What a tree of processes is, and that a number alone kills nobody: common/proc, and the sweep of an attempt. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/proc.h"
#include "daemon/base/process.h"
#include "daemon/launch/cgroup.h"
#include "daemon/launch/sweep.h"

#define LIMIT_USEC (20 * USEC_PER_SEC)

static void test_spread(void **state) {
        static const struct {
                pid_t pid, parent;
                enum proc_mark mark, expected;
        } rows[] = {
                { 1, 0, PROC_UNKNOWN, PROC_OTHER },   { 2, 30, PROC_UNKNOWN, PROC_OURS }, /* its parent comes later */
                { 10, 1, PROC_ROOT, PROC_ROOT },      { 11, 10, PROC_UNKNOWN, PROC_OURS },
                { 12, 11, PROC_UNKNOWN, PROC_OURS },  { 13, 1, PROC_UNKNOWN, PROC_OTHER },
                { 20, 1, PROC_OURS, PROC_OURS },      { 30, 20, PROC_UNKNOWN, PROC_OURS },
                { 40, 99, PROC_UNKNOWN, PROC_OTHER }, { 50, 51, PROC_UNKNOWN, PROC_OTHER }, /* a circle */
                { 51, 50, PROC_UNKNOWN, PROC_OTHER }, { 60, 50, PROC_UNKNOWN, PROC_OTHER },
                { 70, 10, PROC_OTHER, PROC_OTHER },   { 71, 70, PROC_UNKNOWN, PROC_OTHER },
        };
        struct proc list[ELEMENTSOF(rows)];
        struct procs procs = { .list = list, .n = ELEMENTSOF(rows) };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                list[i] = (struct proc) { .pid = rows[i].pid, .parent = rows[i].parent, .mark = rows[i].mark };
        procs_spread(&procs);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (list[i].mark != rows[i].expected)
                        fail_msg("pid %d is %d", (int) rows[i].pid, (int) list[i].mark);
}

/* A child that waits, with this environment alone; its end is ours, but that of one that is to be an orphan. */
static pid_t start_orphan(const char *assignment, int death_signal) {
        const char *const argv[] = { "sleep", "1000", NULL }, *const environment[] = { assignment, NULL };
        pid_t pid = fork();

        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, death_signal);
                (void) execve("/bin/sleep", (char *const *) argv, (char *const *) environment);
                _exit(127);
        }
        assert_true(pid > 0);
        return pid;
}

static pid_t start_child(const char *assignment) { return start_orphan(assignment, SIGKILL); }

static bool has_ended(pid_t pid) { return waitpid(pid, NULL, WNOHANG) == pid; }

static void end_child(pid_t pid) {
        (void) kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void wait_for_exec(pid_t pid) {
        char path[64], name[16] = "";

        (void) snprintf(path, sizeof(path), "/proc/%d/comm", (int) pid);
        for (int i = 0; i < 1000 && strncmp(name, "sleep", 5) != 0; i++) {
                FILE *file = fopen(path, "re");
                assert_true(file && fgets(name, sizeof(name), file) && fclose(file) == 0);
                (void) usleep(10000);
        }
}

static void test_signal(void **state) {
        struct proc proc, other;
        pid_t pid = start_child(NULL);

        assert_int_equal(proc_stat(pid, &proc), 0);
        assert_int_equal(proc.parent, getpid());
        assert_false(proc_is_dead(&proc));
        other = proc;
        other.start++; /* of a process that had the number before, or has it later */
        assert_int_equal(proc_signal(&other, SIGKILL), -ESRCH);
        (void) usleep(50000);
        assert_false(has_ended(pid));
        assert_int_equal(proc_signal(&proc, SIGKILL), 0);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT), 0);
        assert_int_equal(proc_stat(pid, &proc), 0);
        assert_true(proc_is_dead(&proc)); /* a zombie */
        assert_int_equal(proc_signal(&proc, SIGKILL), -ESRCH);
        end_child(pid);
        assert_int_equal(proc_stat(pid, &proc), -ESRCH);
}

static void *sleep_on(void *unused) {
        (void) sleep(1000);
        return NULL;
}

/* Its state is a zombie's, as its first thread has ended; another one lives. */
static void test_first_thread_ended(void **state) {
        struct proc proc = {};
        pid_t pid = fork();

        if (pid == 0) {
                pthread_t thread;
                if (pthread_create(&thread, NULL, sleep_on, NULL) == 0)
                        (void) syscall(SYS_exit, 0);
                _exit(1);
        }
        for (int i = 0; i < 1000 && proc.state != 'Z'; i++) {
                assert_int_equal(proc_stat(pid, &proc), 0);
                (void) usleep(10000);
        }
        assert_int_equal(proc.state, 'Z');
        assert_false(proc_is_dead(&proc));
        assert_int_equal(proc_signal(&proc, SIGKILL), 0);
        end_child(pid);
}

/* The nonce decides, of processes of the user that began with the attempt or later. */
static void test_sweep_by_nonce(void **state) {
        struct proc self, first;
        pid_t before = start_child(BERTD_ENV_NONCE "=abc"), later;
        struct sweep sweep = { .uid = getuid(), .nonce = "abc", .limit_usec = LIMIT_USEC };

        assert_int_equal(proc_stat(before, &first), 0);
        for (int i = 0; i < 100; i++) { /* start times are of 10 ms */
                later = start_child(BERTD_ENV_NONCE "=abc");
                assert_int_equal(proc_stat(later, &self), 0);
                if (self.start > first.start)
                        break;
                end_child(later);
                (void) usleep(10000);
        }
        pid_t longer = start_child(BERTD_ENV_NONCE "=abcd"), none = start_child("X" BERTD_ENV_NONCE "=abc");
        const pid_t all[] = { before, later, longer, none };
        for (size_t i = 0; i < ELEMENTSOF(all); i++)
                wait_for_exec(all[i]);

        sweep.uid = getuid() + 1; /* another user's */
        assert_int_equal(sweep_run(&sweep), 0);
        for (size_t i = 0; i < ELEMENTSOF(all); i++)
                assert_false(has_ended(all[i]));
        sweep.uid = getuid();
        sweep.shim = (struct proc) { .start = self.start };
        assert_int_equal(sweep_run(&sweep), 0);
        assert_true(has_ended(later));
        assert_false(has_ended(before) || has_ended(longer) || has_ended(none));
        sweep.shim.start = 0;
        assert_int_equal(sweep_run(&sweep), 0);
        assert_true(has_ended(before));
        assert_false(has_ended(longer) || has_ended(none));
        end_child(longer);
        end_child(none);
}

/* A keeper's descendants are the attempt's, the keeper is not; one whose number is another's now has none. */
static void test_sweep_by_keeper(void **state) {
        int fds[2];
        struct sweep sweep = { .uid = getuid(), .nonce = "of nobody", .limit_usec = LIMIT_USEC };
        char byte;

        assert_int_equal(pipe(fds), 0);
        pid_t keeper = fork();
        if (keeper == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) prctl(PR_SET_CHILD_SUBREAPER, 1);
                pid_t middle = fork();
                if (middle == 0) {
                        (void) setsid();
                        (void) start_orphan(NULL, 0);
                        _exit(write(fds[1], "x", 1) != 1);
                }
                (void) close(fds[1]);
                while (wait(NULL) > 0)
                        ;
                _exit(0);
        }
        assert_true(keeper > 0);
        assert_int_equal(read(fds[0], &byte, 1), 1);
        assert_int_equal(proc_stat(keeper, &sweep.keeper), 0);
        sweep.keeper.start++;
        assert_int_equal(sweep_run(&sweep), 0);
        (void) usleep(50000);
        assert_false(has_ended(keeper));
        sweep.keeper.start--;
        assert_int_equal(sweep_run(&sweep), 0);
        int status;
        assert_int_equal(waitpid(keeper, &status, 0), keeper);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void) close(fds[0]);
        (void) close(fds[1]);
}

/* ---- cgroups, where we may make one ---- */

static char *make_cgroup(void) {
        static const char *const roots[] = { "/sys/fs/cgroup/unified", "/sys/fs/cgroup" };

        for (size_t i = 0; i < ELEMENTSOF(roots); i++) {
                cleanup_free char *events = format_string("%s/cgroup.procs", roots[i]);
                char *folder = format_string("%s/bertd-test-%d.service", roots[i], (int) getpid());
                if (access(events, W_OK) == 0 && mkdir(folder, 0755) == 0)
                        return folder;
                free(folder);
        }
        return NULL;
}

static void join(const char *folder, pid_t pid) {
        cleanup_free char *path = format_string("%s/cgroup.procs", folder);
        FILE *file = fopen(path, "we");

        assert_true(file && fprintf(file, "%d", (int) pid) > 0 && fclose(file) == 0);
}

static bool ends_within(pid_t pid, int ms) {
        for (; ms > 0; ms -= 10) {
                if (has_ended(pid))
                        return true;
                (void) usleep(10000);
        }
        return false;
}

static void test_cgroup(void **state) {
        cleanup_free char *folder = make_cgroup();

        if (!folder)
                skip();
        const char *unit = strrchr(folder, '/') + 1;
        for (int each = 0; each < 2; each++) {
                pid_t in[] = { start_child(NULL), start_child(NULL) }, out = start_child(NULL);
                join(folder, in[0]);
                join(folder, in[1]);
                cleanup_free char *path = cgroup_of(in[0], unit), *none = cgroup_of(out, unit);
                assert_non_null(path);
                assert_null(none);
                cleanup_close int cgroup = cgroup_open(path);
                assert_true(cgroup >= 0 && cgroup_is_populated(cgroup));
                (each ? cgroup_kill_each : cgroup_kill)(cgroup, path);
                assert_true(ends_within(in[0], 10000) && ends_within(in[1], 10000));
                assert_false(cgroup_is_populated(cgroup));
                assert_false(has_ended(out));
                end_child(out);
        }
        assert_int_equal(rmdir(folder), 0);
        assert_int_equal(cgroup_open(strrchr(folder, '/')), -ENOENT);
}

/* As the kernel writes it: attempts of an older bertd are compared with it. */
static void test_boot_id(void **state) {
        char id[37], expected[37] = "";
        FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

        assert_true(file && fgets(expected, sizeof(expected), file) && fclose(file) == 0);
        process_boot_id(id, sizeof(id));
        assert_string_equal(id, expected);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_boot_id),        cmocka_unit_test(test_spread),
                cmocka_unit_test(test_signal),         cmocka_unit_test(test_first_thread_ended),
                cmocka_unit_test(test_sweep_by_nonce), cmocka_unit_test(test_sweep_by_keeper),
                cmocka_unit_test(test_cgroup),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
