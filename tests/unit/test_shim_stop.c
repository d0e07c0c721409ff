/* How a shim stops its job: which signal, to whom, and when it loses patience, by a clock that only moves from timer to
 * timer. The job is a table of processes; the linker puts the functions below in the place of those that would look,
 * signal, kill or wait. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/shim/shim.h"
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
} sent[16];
static unsigned n_sent;
static uint64_t named_usec; /* who lives when the grace time is over */
static bool blind;          /* /proc cannot be read */

/* The job's processes; a parent of 0 is the shim. */
static struct living {
        pid_t pid, parent;
        const char *exe, *in, *out; /* NULL: not a pipe */
        char state;
        bool catches, dead;
} job[16];

uint64_t __wrap_clock_boottime_usec(void);
int __wrap_kill(pid_t pid, int signal);
int __wrap_tree_read_job(pid_t main, struct procs *procs);
bool __wrap_tree_lives(pid_t main);
int __wrap_proc_signal(const struct proc *proc, int signal);
bool __wrap_proc_catches(pid_t pid, int signal);
void __wrap_proc_read_link(pid_t pid, const char *name, char *buffer, size_t size);
uint64_t __wrap_proc_pipe(pid_t pid, const char *name);
unsigned __wrap_tree_kill(pid_t main, uint64_t limit_usec, int *main_status);
void __wrap_shim_left_killed(struct shim *shim);
int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t handler, void *userdata);
int __wrap_sd_event_source_set_time(sd_event_source *source, uint64_t usec);
int __wrap_sd_event_source_set_enabled(sd_event_source *source, int enabled);

uint64_t __wrap_clock_boottime_usec(void) { return now_usec; }

static void note_sent(pid_t pid, int signal) {
        assert_true(n_sent < ELEMENTSOF(sent));
        sent[n_sent++] = (struct sent) { pid, signal };
}

int __wrap_kill(pid_t pid, int signal) {
        note_sent(pid, signal);
        return 0;
}

static struct living *find(pid_t pid) {
        for (size_t i = 0; i < ELEMENTSOF(job); i++)
                if (job[i].pid == pid && pid != 0)
                        return &job[i];
        return NULL;
}

/* What lives below a dead one is the shim's. */
int __wrap_tree_read_job(pid_t main, struct procs *procs) {
        procs->list = calloc(ELEMENTSOF(job), sizeof(*procs->list));
        assert_non_null(procs->list);
        for (size_t i = 0; !blind && i < ELEMENTSOF(job); i++) {
                const struct living *p = &job[i], *parent = find(p->parent);
                if (p->pid != 0 && !p->dead)
                        procs->list[procs->n++] =
                                (struct proc) { .pid = p->pid,
                                                .parent = parent && !parent->dead ? p->parent : getpid(),
                                                .start = 1,
                                                .state = p->state };
        }
        return blind ? -EMFILE : 0;
}

bool __wrap_tree_lives(pid_t main) {
        for (size_t i = 0; i < ELEMENTSOF(job); i++)
                if (job[i].pid != 0 && !job[i].dead)
                        return true;
        return false;
}

int __wrap_proc_signal(const struct proc *proc, int signal) {
        note_sent(proc->pid, signal);
        return 0;
}

bool __wrap_proc_catches(pid_t pid, int signal) { return find(pid)->catches; }

void __wrap_proc_read_link(pid_t pid, const char *name, char *buffer, size_t size) {
        const struct living *p = find(pid);
        const char *text = strcmp(name, "exe") == 0 ? p->exe : strcmp(name, "fd/0") == 0 ? p->in : p->out;

        (void) snprintf(buffer, size, "%s", text ? text : "");
}

uint64_t __wrap_proc_pipe(pid_t pid, const char *name) {
        char link[64];

        __wrap_proc_read_link(pid, name, link, sizeof(link));
        return strncmp(link, "pipe:[", 6) == 0 ? strtoull(link + 6, NULL, 10) : 0;
}

unsigned __wrap_tree_kill(pid_t main, uint64_t limit_usec, int *main_status) {
        assert_true(main == PID || main == 0);
        killed_usec = now_usec;
        return 0;
}

void __wrap_shim_left_killed(struct shim *shim) { named_usec = now_usec; }

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

        term_free(&f->shim.term);
        remove_folder(f->folder);
        free(f->environment[0]);
        free(f->file);
        free(f);
        return 0;
}

static void begin(struct fixture *f, bool by_term, bool ready) {
        term_free(&f->shim.term);
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
        blind = false;
        memset(job, 0, sizeof(job));
        job[0] = (struct living) { .pid = PID, .exe = "/usr/bin/python3.11", .state = 'S' };
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
                int signal;
        } cases[] = {
                { true, false, SIGTERM },
                { true, true, SIGTERM },
                { false, true, SIGUSR1 }, /* a trainer takes a checkpoint */
                { false, false, SIGTERM },
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < 2 * ELEMENTSOF(cases); i++) {
                begin(f, cases[i / 2].by_term, cases[i / 2].ready);
                job[1] = (struct living) { .pid = 5000, .parent = PID, .state = i % 2 ? 'T' : 'S' };
                job[0].state = job[1].state;
                shim_stop(&f->shim, 5 * USEC_PER_SEC);
                assert_int_equal(n_sent, i % 2 ? 3 : 1);
                assert_true(sent[0].pid == PID && sent[0].signal == cases[i / 2].signal);
                for (unsigned k = 1; k < n_sent; k++) /* who is stopped would not hear it */
                        assert_true(sent[k].pid == job[k - 1].pid && sent[k].signal == SIGCONT);
        }
        begin(f, true, false);
        blind = true;
        shim_stop(&f->shim, 5 * USEC_PER_SEC);
        assert_true(n_sent == 1 && sent[0].pid == PID && sent[0].signal == SIGTERM);
}

/* The timer's next looks; until none comes before a whole second. */
static void look_on(struct fixture *f) {
        for (int i = 0; i < 3; i++) {
                now_usec = timer_usec;
                assert_int_equal(timer_handler(NULL, timer_usec, &f->shim), 0);
        }
}

/* Whether these, in this order, and nobody else have been sent SIGTERM. */
static bool asked(const pid_t *pids, size_t n) {
        bool right = n == n_sent;

        for (size_t i = 0; right && i < n; i++)
                right = sent[i].pid == pids[i] && sent[i].signal == SIGTERM;
        return right;
}
#define ASKED(...) asked((const pid_t[]) { __VA_ARGS__ }, ELEMENTSOF(((const pid_t[]) { __VA_ARGS__ })))

static void kill_those(size_t from, size_t to) {
        for (size_t i = from; i < to; i++)
                job[i].dead = true;
}

static void test_rounds(void **state) {
        struct fixture *f = *state;

        /* A shell, a wrapper that is a shell, and a program in it that has workers; a daemon of an earlier command. */
        begin(f, true, false);
        job[0].exe = "/bin/bash";
        job[1] = (struct living) { 4500, 0, "/usr/bin/tensorboard", NULL, NULL, 'S', true, false };
        job[2] = (struct living) { 5000, PID, "/usr/bin/dash (deleted)", NULL, NULL, 'S', false, false };
        job[3] = (struct living) { 5001, 5000, "/opt/venv/bin/python3", NULL, NULL, 'S', true, false };
        job[4] = (struct living) { 5002, 5001, "/opt/venv/bin/python3", NULL, NULL, 'S', false, false };
        job[5] = (struct living) { 5003, 5001, "/bin/ksh93", NULL, NULL, 'S', false, false };
        job[6] = (struct living) { 5004, 5003, "/bin/sleep", NULL, NULL, 'S', false, false };
        shim_stop(&f->shim, 60 * USEC_PER_SEC);
        assert_true(ASKED(PID, 5000, 5001)); /* the workers are their program's */
        look_on(f);
        assert_int_equal(n_sent, 3);
        f->shim.child.reaped = true;
        kill_those(0, 1);
        kill_those(2, 3);
        look_on(f); /* the program still saves */
        assert_int_equal(n_sent, 3);
        kill_those(3, 4);
        look_on(f); /* nobody who was asked lives: what they left, through the shell */
        assert_true(ASKED(PID, 5000, 5001, 4500, 5002, 5003, 5004));
        look_on(f);
        assert_int_equal(n_sent, 7);
        assert_int_equal(killed_usec, 0);
}

/* mpirun would give its ranks a second: they are asked in its place, unless some of them are elsewhere. */
static void test_mpirun(void **state) {
        struct fixture *f = *state;

        for (int i = 0; i < 3; i++) {
                begin(f, true, false);
                job[0].exe = "/usr/bin/orterun";
                if (i > 0)
                        job[1] = (struct living) { 5000, PID, "/usr/bin/python3", NULL, NULL, 'S', true, false };
                if (i > 1)
                        job[2] = (struct living) { 5001, PID, "/usr/bin/ssh", NULL, NULL, 'S', true, false };
                shim_stop(&f->shim, 60 * USEC_PER_SEC);
                assert_true(i == 1 ? ASKED(5000) : ASKED(PID));
                job[1].dead = true;
                look_on(f);
                assert_int_equal(n_sent, 1);
        }
}

/* What only reads what another writes ends with it. */
static void test_pipes(void **state) {
        struct fixture *f = *state;

        for (int i = 0; i < 4; i++) {
                begin(f, true, false);
                bool catches = i == 1, loop = i == 2, other = i == 3;
                job[0].exe = "/bin/sh";
                job[1] = (struct living) { 5000, PID, "/usr/bin/python3", NULL, "pipe:[77]", 'S', true, false };
                job[2] = (struct living) { 5001, PID, "/usr/bin/tee", "pipe:[77]", NULL, 'S', catches, false };
                job[2].in = other ? "pipe:[7]" : "pipe:[77]";
                if (loop) {
                        job[1].catches = false;
                        job[1].in = job[2].out = "pipe:[78]";
                }
                shim_stop(&f->shim, 60 * USEC_PER_SEC);
                assert_true(catches || other ? ASKED(PID, 5000, 5001) : loop ? ASKED(PID) : ASKED(PID, 5000));
                f->shim.child.reaped = job[0].dead = true;
                job[1].dead = !loop;
                look_on(f);
                assert_true(ASKED(PID, 5000, 5001));
        }
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
                assert_int_equal(named_usec, killed_usec);
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

/* A program that has declared a stop signal, in a process below its launcher. */
static void begin_declared(struct fixture *f) {
        begin(f, true, false);
        job[1] = (struct living) { .pid = 5000, .parent = PID, .state = 'S' };
        f->shim.dir_fd = -1;
        f->shim.declared =
                (struct shim_declared) { .main = { .pid = 5000, .start = 1 }, .stop = SIGUSR1, .checkpoint = SIGUSR2 };
}

/* Its grace time follows a checkpoint anywhere in its folder; the log of its attempt, in the same folder, is none. */
static void test_declared_writing(void **state) {
        struct fixture *f = *state;
        char *file = f->file;

        f->file = format_string("%s/checkpoint-5/model.bin.part", f->folder);
        cleanup_free char *checkpoint = format_string("%s/checkpoint-5", f->folder);
        assert_int_equal(mkdir(checkpoint, 0700), 0);
        begin_declared(f);
        assert_int_equal(stop_deaf(f, 30000 * MS, 40000 * MS), 50000 * MS);
        begin_declared(f);
        f->shim.dir_fd = open(checkpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(stop_deaf(f, 30000 * MS, 40000 * MS), 30000 * MS);
        (void) close(f->shim.dir_fd);
        begin(f, true, false); /* declared nothing */
        assert_int_equal(stop_deaf(f, 30000 * MS, 40000 * MS), 30000 * MS);
        free(f->file);
        f->file = file;
}

/* It alone gets its signal, once; its launcher gets SIGTERM only if it has not followed within 10 s. */
static void test_declared_stop(void **state) {
        struct fixture *f = *state;

        begin_declared(f);
        (void) stop_deaf(f, 30000 * MS, 0);
        assert_int_equal(n_sent, 1);
        assert_true(sent[0].pid == 5000 && sent[0].signal == SIGUSR1);
        begin_declared(f);
        shim_stop(&f->shim, 30000 * MS);
        job[1].dead = true;
        for (int i = 0; killed_usec == 0; i++) {
                assert_true(i < LOOKS_MAX);
                now_usec = timer_usec;
                assert_int_equal(n_sent, 1 + (now_usec - BEGIN > 10000 * MS));
                assert_int_equal(timer_handler(NULL, timer_usec, &f->shim), 0);
        }
        assert_true(sent[1].pid == PID && sent[1].signal == SIGTERM);
        begin_declared(f); /* left behind by its launcher */
        f->shim.child.reaped = job[0].dead = true;
        shim_end_all(&f->shim, 30000 * MS);
        assert_true(n_sent == 1 && sent[0].pid == 5000 && sent[0].signal == SIGTERM);
        begin_declared(f);
        shim_checkpoint(&f->shim);
        assert_true(n_sent == 1 && sent[0].pid == 5000 && sent[0].signal == SIGUSR2);
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
                cmocka_unit_test_setup_teardown(test_rounds, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pipes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_mpirun, setup, teardown),
                cmocka_unit_test_setup_teardown(test_grace, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_grace, setup, teardown),
                cmocka_unit_test_setup_teardown(test_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_writing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_declared_writing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_declared_stop, setup, teardown),
                cmocka_unit_test_setup_teardown(test_closed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_checkpoint, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
