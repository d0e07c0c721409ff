/* A daemon of test_days', on a loop whose clock the test turns: its launcher, its shims, its GPUs' driver and its disk
 * are the test's. */
#ifndef TESTS_UNIT_DAYS_FIXTURE_H
#define TESTS_UNIT_DAYS_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/report.h"
#include "daemon/attempt/folder.h"
#include "daemon/base/probe.h"
#include "daemon/gpu/nvml.h"
#include "daemon/gpu/watch.h"
#include "daemon/launch/launcher.h"
#include "daemon/launch/user_task.h"
#include "daemon/manager.h"
#include "daemon/node/transition.h"
#include "daemon/plan/schedule.h"
#include "daemon/plan/settle.h"
#include "daemon/rules/policy.h"
#include "tests/loop_turned.h"
#include "tests/unit/folder.h"

#define SEC USEC_PER_SEC
#define HOUR (3600 * SEC)
#define DAY (24 * HOUR)
#define MSEC (SEC / 1000)
#define STARTS_MAX 512

struct fixture {
        char *folder, *state_dir, *socket;
        struct node_options options;
        struct node *node;
        struct shim_link link;
        pid_t shim;           /* 0: none lives */
        uint64_t stops, told; /* calls of stop; the grace of the last */
};

/* ---- the daemon ---- */

/* No power is lost here. */
int fsync(int fd) { return 0; }
static unsigned tries; /* to write while the disk fails */
static bool disk_fails;

int fdatasync(int fd) {
        tries += disk_fails;
        errno = EIO;
        return disk_fails ? -1 : 0;
}

static uint64_t starts[STARTS_MAX];
static size_t n_starts;

static int start(const struct launch_request *request, struct launch **ret, struct error *error) {
        assert_true(n_starts < STARTS_MAX);
        starts[n_starts++] = loop_boottime();
        *ret = NULL;
        return 0;
}

static void forget(struct launch *launch) {}

static const struct launcher launcher = { .name = "test", .start = start, .forget = forget };

static void on_stop(struct shim_link *link, uint64_t grace_usec) {
        struct fixture *f = (void *) ((char *) link - offsetof(struct fixture, link));

        f->stops++;
        f->told = grace_usec;
}

static int on_checkpoint(struct shim_link *link) { return 0; }

static void on_move(struct shim_link *link, const char *reason) {}
static void on_drop(struct shim_link *link) {}

static const struct shim_link_calls link_calls = {
        .stop = on_stop, .checkpoint = on_checkpoint, .move = on_move, .drop = on_drop
};

static void start_daemon(struct fixture *f) {
        struct error error = {};

        if (manager_new(&f->options, &f->node, &error) < 0 || manager_start(f->node, &error) < 0)
                fail_msg("%s", error.text);
        f->node->launchers[LAUNCHER_FORK] = &launcher;
}

static unsigned forks_failed;
static bool no_processes, children_hang;

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void) {
        forks_failed += no_processes;
        errno = EAGAIN;
        pid_t pid = no_processes ? -1 : __real_fork();
        if (pid == 0 && children_hang)
                (void) raise(SIGSTOP);
        return pid;
}

/* ---- the GPUs' driver ---- */

static struct nvml_answer driver;
static unsigned asked;
static bool driver_hangs;

static void ask_driver(const void *question, void *answer) {
        while (driver_hangs)
                (void) pause();
        memcpy(answer, &driver, sizeof(driver));
}

int __wrap_nvml_probe_start(pid_t *ret_pid, int *ret_fd);
int __wrap_nvml_probe_start(pid_t *ret_pid, int *ret_fd) {
        asked++;
        return probe_start(ask_driver, NULL, sizeof(driver), ret_pid, ret_fd);
}

/* Somebody's process, or memory that is nobody's any more. */
static void use_gpu(unsigned i, int64_t pid, uint64_t used) {
        struct nvml_gpu *gpu = &driver.gpus[i];

        *gpu = (struct nvml_gpu) { .index = i, .n_processes = pid > 0, .total = UINT64_C(80) << 30, .used = used };
        gpu->processes[0] = (struct nvml_process) { .pid = pid, .used = used, .user = "bob" };
}

/* ---- the fixture ---- */

static int setup_gpus(void **state, uint32_t n_gpus) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->folder = make_folder();
        f->state_dir = format_string("%s/state", f->folder);
        f->socket = format_string("%s/socket", f->folder);
        f->options = (struct node_options) {
                .state_dir = f->state_dir, .socket = f->socket, .slots = 4, .launcher = LAUNCHER_FORK
        };
        f->link.calls = &link_calls;
        driver = (struct nvml_answer) { .status = NVML_OK, .n = n_gpus };
        for (unsigned i = 0; i < n_gpus; i++) {
                use_gpu(i, 0, 0);
                (void) snprintf(f->options.gpus.names[f->options.gpus.n++], GPU_NAME_MAX, "%u", i);
        }
        n_starts = asked = 0;
        no_processes = disk_fails = driver_hangs = false; /* where the test before has failed */
        start_daemon(f);
        *state = f;
        return 0;
}

static int setup(void **state) { return setup_gpus(state, 0); }

static int setup_two_gpus(void **state) { return setup_gpus(state, 2); }

static int teardown(void **state) {
        struct fixture *f = *state;

        manager_free(f->node);
        if (f->shim > 0 && kill(f->shim, SIGKILL) == 0)
                (void) waitpid(f->shim, NULL, 0);
        remove_folder(f->folder);
        free(f->state_dir);
        free(f->socket);
        free(f);
        return 0;
}

/* ---- a job ---- */

static struct job *submit(struct fixture *f, uint32_t retries, uint32_t backoff_min, uint32_t backoff_max) {
        char *command[] = { (char *) "/bin/true", NULL };
        struct submission s = {};
        struct job *job = NULL;
        struct error error = {};

        submission_defaults(&s);
        s.name = (char *) "a";
        s.kind = JOB_COMMAND;
        s.cwd = f->folder;
        s.command = command;
        s.max_without_progress = retries;
        s.backoff_min_sec = backoff_min;
        s.backoff_max_sec = backoff_max;
        if (store_insert(f->node->store, &s, geteuid(), getegid(), "me", LAUNCHER_FORK, &job, &error) < 0)
                fail_msg("%s", error.text);
        node_commit_soon(f->node);
        schedule_add(f->node, job);
        return job;
}

/* Until its next attempt waits for its shim. */
static void await_start(struct fixture *f, const struct job *job) {
        for (uint64_t end = loop_boottime() + DAY; !job->run || job->run->phase != PHASE_LAUNCHING;) {
                assert_true(loop_boottime() < end);
                (void) loop_turn(f->node->loop, end - loop_boottime());
        }
}

static void say_hello(struct fixture *f, const struct job *job) {
        uint32_t answer;

        f->shim = fork();
        if (f->shim == 0)
                for (;;)
                        (void) pause();
        assert_int_equal(attempt_hello(f->node, &f->link, geteuid(), f->shim, job->id, job->attempt.number,
                                       job->attempt.nonce, "0.1.0 2", &answer),
                         0);
        assert_int_equal(job->state, JOB_RUNNING);
        turned_go(f->node->loop, 0);
}

static void report(struct fixture *f, const struct job *job, const struct attempt_report *what) {
        struct attempt_report r = *what;

        r.job = job->id;
        r.attempt = job->attempt.number;
        r.nonce = job->attempt.nonce;
        assert_int_equal(attempt_report(f->node, geteuid(), &r), 0);
}

static void lose_shim(struct fixture *f) {
        assert_true(f->shim > 0 && kill(f->shim, SIGKILL) == 0 && waitpid(f->shim, NULL, 0) == f->shim);
        f->shim = 0;
}

/* Its processes are gone; no time passes. */
static void await_end(struct fixture *f, const struct job *job) {
        uint64_t now = loop_boottime();

        while (job->run)
                (void) loop_turn(f->node->loop, 1);
        assert_true(loop_boottime() - now < SEC);
}

/* The shim reports the attempt's end and goes. */
static void end(struct fixture *f, const struct job *job, const char *class, int code) {
        cleanup_free char *record =
                format_string("{\"version\":1,\"job\":%lu,\"attempt\":%u,\"nonce\":\"%s\",\"exit_code\":"
                              "%d,\"signal\":0,\"reason\":\"r\",\"class\":\"%s\"}",
                              (unsigned long) job->id, job->attempt.number, job->attempt.nonce, code, class);

        report(f, job, &(struct attempt_report) { .exited = true, .record = record });
        lose_shim(f);
        await_end(f, job);
}

static void run_once(struct fixture *f, const struct job *job, const char *class, int code) {
        say_hello(f, job);
        end(f, job, class, code);
}

static void assert_about(uint64_t usec, uint64_t least, uint64_t most) {
        if (usec < least || usec > most)
                fail_msg("%.3f s, expected %.3f to %.3f", (double) usec / 1e6, (double) least / 1e6,
                         (double) most / 1e6);
}

static int64_t count(const struct fixture *f, const char *sql) {
        cleanup_free char *path = format_string("%s/state.db", f->state_dir);
        sqlite3_stmt *s = NULL;
        sqlite3 *db = NULL;

        assert_true(sqlite3_open(path, &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK);
        assert_int_equal(sqlite3_step(s), SQLITE_ROW);
        int64_t n = sqlite3_column_int64(s, 0);
        (void) sqlite3_finalize(s);
        (void) sqlite3_close(db);
        return n;
}

#endif
