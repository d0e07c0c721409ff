/* How a shim stops its job: which signal, to whom, and when it loses patience, by a clock that only moves from timer to timer. The job
 * is a number; the linker puts the functions below in the place of those that would signal, kill or wait. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/shim.h"
#include "tests/unit/folder.h"

#define PID 4242
#define BEGIN (1000 * USEC_PER_SEC)
#define MS UINT64_C(1000)
#define LOOKS_MAX 1000

static uint64_t now_usec, timer_usec, killed_usec;
static sd_event_time_handler_t timer_handler;
static struct sent {
        pid_t pid;
        int signal;
} sent[4];
static unsigned n_sent;
static bool has_no_group; /* the job has not come to its setsid yet */

uint64_t __wrap_clock_boottime_usec(void);
int __wrap_kill(pid_t pid, int signal);
unsigned __wrap_tree_kill(pid_t main, uint64_t limit_usec, int *main_status);
int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t handler, void *userdata);
int __wrap_sd_event_source_set_time(sd_event_source *source, uint64_t usec);
int __wrap_sd_event_source_set_enabled(sd_event_source *source, int enabled);

uint64_t __wrap_clock_boottime_usec(void) { return now_usec; }

int __wrap_kill(pid_t pid, int signal) {
        assert_true(n_sent < ELEMENTSOF(sent));
        sent[n_sent++] = (struct sent) { pid, signal };
        return has_no_group && pid < 0 ? -1 : 0;
}

unsigned __wrap_tree_kill(pid_t main, uint64_t limit_usec, int *main_status) {
        assert_int_equal(main, PID);
        killed_usec = now_usec;
        return 0;
}

int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t handler, void *userdata) {
        timer_usec = usec;
        timer_handler = handler;
        return 0;
}

int __wrap_sd_event_source_set_time(sd_event_source *source, uint64_t usec) {
        timer_usec = usec;
        return 0;
}

int __wrap_sd_event_source_set_enabled(sd_event_source *source, int enabled) { return 0; }

struct fixture {
        char *folder, *file; /* a checkpoint being written */
        char *environment[2];
        struct shim shim;
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error error = {};

        assert_non_null(f);
        f->folder = make_folder();
        f->environment[0] = format_string(BERTD_ENV_RUN_DIR "=%s", f->folder);
        f->file = format_string("%s/checkpoints/.step-5.tmp", f->folder);
        cleanup_free char *checkpoints = format_string("%s/checkpoints", f->folder);
        assert_true(mkdir_parents(checkpoints, 0700, &error) >= 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        remove_folder(f->folder);
        free(f->environment[0]);
        free(f->file);
        free(f);
        return 0;
}

static void begin(struct fixture *f, bool by_term, bool ready) {
        f->shim = (struct shim) { .state = SHIM_RUNNING,
                                  .child.pid = PID,
                                  .attempt = { .kind = by_term ? JOB_COMMAND : JOB_PRETRAIN,
                                               .stop_by_term = by_term,
                                               .environment = f->environment },
                                  .progress.ready = ready };
        now_usec = BEGIN;
        killed_usec = timer_usec = 0;
        timer_handler = NULL;
        n_sent = 0;
        has_no_group = false;
}

static void grow(const char *path) {
        FILE *file = fopen(path, "ae");

        assert_true(file && fputc('x', file) != EOF && fclose(file) == 0);
}

/* Stops a job that is deaf, and writes until a moment. Returns when it is killed, from the stop on. */
static uint64_t stop_deaf(struct fixture *f, uint64_t grace_usec, uint64_t writes_until_usec) {
        shim_stop(&f->shim, grace_usec);
        for (int i = 0; killed_usec == 0; i++) {
                assert_true(i < LOOKS_MAX && timer_handler && timer_usec > now_usec);
                now_usec = timer_usec;
                if (now_usec - BEGIN <= writes_until_usec)
                        grow(f->file);
                assert_int_equal(timer_handler(NULL, timer_usec, &f->shim), 0);
        }
        assert_true(f->shim.stop_asked);
        return killed_usec - BEGIN;
}

static void test_signals(void **state) {
        static const struct {
                bool by_term, ready;
                pid_t pid;
                int signal;
        } cases[] = {
                { true, false, -PID, SIGTERM }, /* a command, and all that its shell started */
                { true, true, -PID, SIGTERM },
                { false, true, PID, SIGUSR1 }, /* a trainer takes a checkpoint */
                { false, false, -PID, SIGTERM },
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                begin(f, cases[i].by_term, cases[i].ready);
                shim_stop(&f->shim, 5 * USEC_PER_SEC);
                assert_int_equal(n_sent, 1);
                assert_true(sent[0].pid == cases[i].pid && sent[0].signal == cases[i].signal);
        }
        begin(f, true, false);
        has_no_group = true;
        shim_stop(&f->shim, 5 * USEC_PER_SEC);
        assert_int_equal(n_sent, 2);
        assert_true(sent[1].pid == PID && sent[1].signal == SIGTERM);
}

static void test_grace(void **state) {
        static const struct {
                bool by_term, ready;
                uint64_t grace_usec, killed_usec;
        } cases[] = {
                { true, false, 300 * MS, 300 * MS },     { true, false, 1500 * MS, 1500 * MS },
                { true, false, 60000 * MS, 60000 * MS }, { false, true, 60000 * MS, 60000 * MS },
                { false, false, 60000 * MS, 2000 * MS }, /* never ready: nothing to save */
                { false, false, 1000 * MS, 1000 * MS },
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                begin(f, cases[i].by_term, cases[i].ready);
                assert_int_equal(stop_deaf(f, cases[i].grace_usec, 0), cases[i].killed_usec);
        }
        begin(f, true, false);
        shim_stop(&f->shim, UINT64_MAX);
        assert_int_equal(f->shim.stop_until_usec - BEGIN, 7 * 24 * 3600 * USEC_PER_SEC);
}

static void test_no_grace(void **state) {
        struct fixture *f = *state;

        for (int ready = 0; ready < 2; ready++) {
                begin(f, false, ready);
                shim_stop(&f->shim, 0);
                assert_int_equal(killed_usec, BEGIN);
                assert_int_equal(n_sent, 0);
                assert_true(f->shim.stop_asked);
        }
}

/* Who asks again shortens the grace time or leaves it, and may not restart it. */
static void test_again(void **state) {
        static const struct {
                uint64_t first_usec, after_usec, second_usec, killed_usec;
        } cases[] = {
                { 30000 * MS, 10000 * MS, 30000 * MS, 30000 * MS },
                { 30000 * MS, 10000 * MS, 5000 * MS, 15000 * MS },
                { 5000 * MS, 1000 * MS, 60000 * MS, 5000 * MS },
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                begin(f, true, false);
                shim_stop(&f->shim, cases[i].first_usec);
                now_usec = BEGIN + cases[i].after_usec;
                assert_int_equal(stop_deaf(f, cases[i].second_usec, 0), cases[i].killed_usec);
        }
        begin(f, false, true); /* nor what a growing checkpoint earns at most */
        shim_stop(&f->shim, 3000 * MS);
        now_usec = BEGIN + 2000 * MS;
        assert_int_equal(stop_deaf(f, 3000 * MS, UINT64_MAX), 12000 * MS);
}

/* A checkpoint that grows earns more time: until it has stood still for 10 s, at most four times the grace time. */
static void test_writing(void **state) {
        struct fixture *f = *state;

        begin(f, false, true);
        assert_int_equal(stop_deaf(f, 30000 * MS, 40000 * MS), 50000 * MS);
        begin(f, false, true); /* what was written then lies there now, and does not change */
        assert_int_equal(stop_deaf(f, 2500 * MS, 0), 2500 * MS);
        begin(f, false, true);
        assert_int_equal(stop_deaf(f, 3000 * MS, UINT64_MAX), 12000 * MS);
        begin(f, false, true); /* done before the grace time ends: the rest of it is for the job to end */
        assert_int_equal(stop_deaf(f, 30000 * MS, 5000 * MS), 30000 * MS);
}

static void test_closed(void **state) {
        struct fixture *f = *state;

        begin(f, true, false);
        shim_closed(&f->shim);
        assert_int_equal(killed_usec, BEGIN);
        assert_true(f->shim.stop_asked && f->shim.closed);
}

static void test_checkpoint(void **state) {
        struct fixture *f = *state;

        for (int i = 0; i < 4; i++) {
                bool command = i & 1, ready = i & 2;
                begin(f, command, ready);
                shim_checkpoint(&f->shim);
                assert_int_equal(n_sent, !command && ready);
                if (n_sent > 0)
                        assert_true(sent[0].pid == PID && sent[0].signal == SIGUSR2);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
                cmocka_unit_test_setup_teardown(test_grace, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_grace, setup, teardown),
                cmocka_unit_test_setup_teardown(test_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_writing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_closed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_checkpoint, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
