/* The manager's methods over a connection whose user the test chooses: who may call which, as bus.h states it (not the table of
 * methods.c), what others see of a job, and what is refused in which state. Nothing is started. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/db.h"
#include "common/file.h"
#include "daemon/accounts.h"
#include "daemon/attempt.h"
#include "daemon/attempt_end.h"
#include "daemon/bus_server.h"
#include "daemon/settle.h"
#include "tests/unit/folder.h"

#define TURNS_MAX 1000 /* of both ends, for an answer */
#define SLOTS 4
#define DENIED BERTD_ERROR_ACCESS_DENIED
#define WRONG BERTD_ERROR_WRONG_STATE
#define DONE "" /* no error */

struct fixture {
        char *folder, *state_dir, *socket;
        struct manager *manager;
        struct peer peer;
        sd_bus *client;
        sd_bus_message *reply;
        char error[64]; /* of the last call; empty: it was answered */
        bool full;      /* state.db cannot be written */
};

/* Neither root nor the daemon's user. */
static uid_t owner_uid(void) { return geteuid() + 1; }
static uid_t stranger_uid(void) { return geteuid() + 2; }

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error error = {};
        sd_id128_t id;
        int fds[2];

        assert_non_null(f);
        f->folder = make_folder();
        f->state_dir = format_string("%s/state", f->folder);
        f->socket = format_string("%s/socket", f->folder);
        struct manager_options options = {
                .state_dir = f->state_dir, .socket = f->socket, .slots = SLOTS, .launcher = LAUNCHER_FORK
        };
        if (manager_new(&options, &f->manager, &error) < 0 || manager_start(f->manager, &error) < 0)
                fail_msg("%s", error.text);
        /* What the user database would answer later. */
        assert_int_equal(accounts_note(f->manager->accounts, geteuid(), &(struct nss_user) { .name = "me" }), 0);
        f->peer.manager = f->manager;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        assert_true(sd_id128_randomize(&id) >= 0);
        assert_true(sd_bus_new(&f->peer.bus) >= 0 && sd_bus_set_fd(f->peer.bus, fds[0], fds[0]) >= 0);
        assert_true(sd_bus_set_server(f->peer.bus, 1, id) >= 0 && sd_bus_set_anonymous(f->peer.bus, 1) >= 0);
        assert_true(sd_bus_set_trusted(f->peer.bus, 1) >= 0 && methods_add(&f->peer) >= 0);
        assert_true(sd_bus_new(&f->client) >= 0 && sd_bus_set_fd(f->client, fds[1], fds[1]) >= 0);
        assert_true(sd_bus_start(f->peer.bus) >= 0 && sd_bus_start(f->client) >= 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        (void) sd_bus_message_unref(f->reply);
        (void) sd_bus_close_unref(f->client);
        (void) sd_bus_close_unref(f->peer.bus);
        manager_free(f->manager);
        remove_folder(f->folder);
        free(f->state_dir);
        free(f->socket);
        free(f);
        return 0;
}

static struct job *new_job(struct fixture *f, const char *kind, enum job_state in_state) {
        char *command[] = { (char *) "secret-command", NULL };
        struct submission s = {};
        struct job *job = NULL;
        struct error error = {};

        submission_defaults(&s);
        s.name = (char *) "a";
        s.kind = (char *) kind;
        s.cwd = (char *) "/tmp";
        s.spec = (char *) "secret-spec";
        s.command = command;
        if (store_insert(f->manager->store, &s, owner_uid(), 1, "alice", LAUNCHER_FORK, &job, &error) < 0)
                fail_msg("%s", error.text);
        if (store_flush(f->manager->store, &error) < 0)
                fail_msg("%s", error.text);
        job->state = in_state;
        return job;
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct fixture *f = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);

        f->reply = sd_bus_message_ref(m);
        (void) snprintf(f->error, sizeof(f->error), "%s", error ? error->name : DONE);
        return 1;
}

/* Sends the call, which it takes, as that user; f->error and f->reply are the answer. */
static void call(struct fixture *f, uid_t uid, sd_bus_message *m) {
        f->peer.uid = uid;
        f->reply = sd_bus_message_unref(f->reply);
        assert_true(sd_bus_call_async(f->client, NULL, m, on_answer, f, 0) >= 0);
        (void) sd_bus_message_unref(m);
        for (int i = 0; i < TURNS_MAX && !f->reply; i++)
                assert_true(sd_bus_process(f->client, NULL) >= 0 && sd_bus_process(f->peer.bus, NULL) >= 0 &&
                            (settle_now(f->manager->settle) || f->full));
        assert_non_null(f->reply);
}

static sd_bus_message *new_call(struct fixture *f, const char *member) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(f->client, &m, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE, member) >=
                    0);
        return m;
}

/* A method whose first argument is a job; `in` is its signature in bus.h. */
static const char *call_job(struct fixture *f, uid_t uid, const char *member, const char *in, uint64_t id) {
        sd_bus_message *m = new_call(f, member);
        int r = sd_bus_message_append(m, "t", id);

        if (strcmp(in, "tb") == 0)
                r = sd_bus_message_append(m, "b", 0);
        else if (strcmp(in, "ta{sv}") == 0)
                r = sd_bus_message_append(m, "a{sv}", 0);
        else if (strcmp(in, "tt") == 0)
                r = sd_bus_message_append(m, "t", UINT64_C(0));
        else if (strcmp(in, "ttu") == 0)
                r = sd_bus_message_append(m, "tu", UINT64_C(0), 10u);
        assert_true(r >= 0);
        call(f, uid, m);
        return f->error;
}

static const struct job_method {
        const char *name, *in, *stranger, *owner; /* their answers for a paused command */
} job_methods[] = {
        { "GetJob", "t", DONE, DONE },           { "GetEvents", "ttu", DONE, DONE },
        { "GetCheckpoints", "t", DONE, DONE },   { "Wait", "t", DONE, DONE },
        { "GetSpec", "t", DENIED, DONE },        { "Pause", "t", DENIED, WRONG },
        { "Checkpoint", "t", DENIED, WRONG },    { "Remove", "t", DENIED, WRONG },
        { "Resume", "ta{sv}", DENIED, DONE },    { "Cancel", "tb", DENIED, DONE },
        { "ListCheckpoints", "tt", DONE, DONE },
};

static void test_authority(void **state) {
        struct fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(job_methods); i++) {
                const struct job_method *method = &job_methods[i];
                struct job *job = new_job(f, "command", JOB_PAUSED);

                print_message("%s\n", method->name);
                assert_string_equal(call_job(f, stranger_uid(), method->name, method->in, job->id), method->stranger);
                assert_int_equal(job->state, JOB_PAUSED);
                assert_string_equal(call_job(f, owner_uid(), method->name, method->in, job->id), method->owner);
                job->state = JOB_PAUSED;
                assert_string_equal(call_job(f, 0, method->name, method->in, job->id), method->owner);
                job->state = JOB_PAUSED;
                assert_string_equal(call_job(f, geteuid(), method->name, method->in, job->id), method->owner);
                assert_string_equal(call_job(f, 0, method->name, method->in, job->id + 1), BERTD_ERROR_NO_SUCH_JOB);
        }
}

static void test_shutdown(void **state) {
        struct fixture *f = *state;
        uid_t users[] = { stranger_uid(), owner_uid(), geteuid() };

        (void) new_job(f, "command", JOB_PAUSED);
        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                sd_bus_message *m = new_call(f, "Shutdown");
                bool may = users[i] == geteuid();
                assert_true(sd_bus_message_append(m, "b", 0) >= 0);
                call(f, users[i], m);
                assert_string_equal(f->error, may ? DONE : DENIED);
                assert_int_equal(sd_event_get_exit_code(f->manager->loop, &(int) { 0 }) >= 0, may);
        }
}

/* Whether the reply, whose body is a{sv} or aa{sv}, has an entry of that key. */
static bool has_entry(struct fixture *f, bool list, const char *wanted) {
        sd_bus_message *m = f->reply;
        const char *key;
        bool found = false;

        assert_true(!list || sd_bus_message_enter_container(m, 'a', "a{sv}") > 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(m, "s", &key) > 0 && sd_bus_message_skip(m, "v") > 0);
                assert_true(sd_bus_message_exit_container(m) > 0);
                found = found || strcmp(key, wanted) == 0;
        }
        return found;
}

static void test_what_others_see(void **state) {
        struct fixture *f = *state;
        struct job *job = new_job(f, "command", JOB_PAUSED);
        const char *reason;
        int r;

        store_note(f->manager->store, job, JOB_QUEUED, "pause", "secret-reason");
        assert_true(settle_now(f->manager->settle));
        for (int own = 0; own < 2; own++) {
                uid_t uid = own ? owner_uid() : stranger_uid();
                assert_string_equal(call_job(f, uid, "GetJob", "t", job->id), DONE);
                assert_int_equal(has_entry(f, false, "command"), own);
                assert_true(sd_bus_message_rewind(f->reply, 1) >= 0 && has_entry(f, false, "state"));

                sd_bus_message *m = new_call(f, "ListJobs");
                assert_true(sd_bus_message_append(m, "tub", UINT64_C(0), 10u, 1) >= 0);
                call(f, uid, m);
                assert_string_equal(f->error, DONE);
                assert_false(has_entry(f, true, "command")); /* of each job, 64 KiB: GetJob alone has it */
                assert_true(sd_bus_message_rewind(f->reply, 1) >= 0);
                assert_int_equal(has_entry(f, true, "evidence"), own);

                assert_string_equal(call_job(f, uid, "GetEvents", "ttu", job->id), DONE);
                assert_true(sd_bus_message_enter_container(f->reply, 'a', "(ttssssstt)") > 0);
                bool secret = false;
                while ((r = sd_bus_message_enter_container(f->reply, 'r', "ttssssstt")) > 0) {
                        assert_true(sd_bus_message_skip(f->reply, "ttsss") > 0);
                        assert_true(sd_bus_message_read(f->reply, "s", &reason) > 0);
                        assert_true(sd_bus_message_skip(f->reply, "stt") > 0 &&
                                    sd_bus_message_exit_container(f->reply) > 0);
                        secret = secret || strcmp(reason, "secret-reason") == 0;
                }
                assert_int_equal(secret, own);
        }
}

static void test_states(void **state) {
        static const struct {
                const char *method, *in;
                enum job_state from, to;
                const char *answer;
        } cases[] = {
                { "Pause", "t", JOB_QUEUED, JOB_PAUSED, DONE },
                { "Pause", "t", JOB_BACKOFF, JOB_PAUSED, DONE },
                { "Pause", "t", JOB_DONE, JOB_DONE, WRONG },
                { "Cancel", "tb", JOB_QUEUED, JOB_CANCELLED, DONE },
                { "Cancel", "tb", JOB_FAILED, JOB_FAILED, WRONG },
                { "Resume", "ta{sv}", JOB_FAILED, JOB_QUEUED, DONE },
                { "Resume", "ta{sv}", JOB_CANCELLED, JOB_QUEUED, DONE },
                { "Resume", "ta{sv}", JOB_QUEUED, JOB_QUEUED, WRONG },
                { "Resume", "ta{sv}", JOB_DONE, JOB_DONE, WRONG },
                { "Remove", "t", JOB_QUEUED, JOB_QUEUED, WRONG },
                { "Remove", "t", JOB_RUNNING, JOB_RUNNING, WRONG },
                { "Checkpoint", "t", JOB_QUEUED, JOB_QUEUED, WRONG },
                { "Checkpoint", "t", JOB_RUNNING, JOB_RUNNING, WRONG }, /* its shim is not connected */
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct job *job = new_job(f, "pretrain", cases[i].from);
                job->exit_code = 1;
                print_message("%s, %s\n", cases[i].method, job_state_name(cases[i].from));
                assert_string_equal(call_job(f, owner_uid(), cases[i].method, cases[i].in, job->id), cases[i].answer);
                assert_int_equal(job->state, cases[i].to);
                if (cases[i].to == JOB_QUEUED && cases[i].from != JOB_QUEUED)
                        assert_int_equal(job->exit_code, -1);
        }
}

static const char *resume(struct fixture *f, uint64_t id, const char *key, const char *type, uint64_t value) {
        sd_bus_message *m = new_call(f, "Resume");
        int r = sd_bus_message_append(m, "t", id);

        if (strcmp(type, "u") == 0)
                r = r < 0 ? r : sd_bus_message_append(m, "a{sv}", 1, key, "u", (uint32_t) value);
        else
                r = r < 0 ? r : sd_bus_message_append(m, "a{sv}", 1, key, "t", value);
        assert_true(r >= 0);
        call(f, owner_uid(), m);
        return f->error;
}

static void test_resume_options(void **state) {
        struct fixture *f = *state;
        struct job *job = new_job(f, "pretrain", JOB_PAUSED);

        assert_string_equal(resume(f, job->id, "ranks", "u", 0), BERTD_ERROR_INVALID_SPEC);
        assert_string_equal(resume(f, job->id, "ranks", "u", SLOTS + 1), BERTD_ERROR_TOO_LARGE);
        assert_string_equal(resume(f, job->id, "from", "t", 7), BERTD_ERROR_NO_SUCH_CHECKPOINT);
        assert_string_equal(resume(f, job->id, "form", "t", 7), BERTD_ERROR_INVALID_SPEC);
        assert_int_equal(job->state, JOB_PAUSED);
        assert_int_equal(job->ranks, 1);
        job->n_history = 1;
        job->attempt.number = 3;
        job->exit_class = EXIT_CLASS_OOM;
        job->wait.wait = WAIT_SLOTS;
        assert_string_equal(resume(f, job->id, "ranks", "u", SLOTS), DONE);
        assert_int_equal(job->state, JOB_QUEUED);
        assert_int_equal(job->ranks, SLOTS);
        /* It begins anew: what it died of before counts no more, nor what it once waited for. */
        assert_true(job->n_history == 0 && job->history_from == 3 && job->exit_class == -1);
        assert_int_equal(job->wait.wait, WAIT_NONE);
}

/* An ended job is not in memory: resume brings it back, rm takes it out of the database. */
static void test_ended_jobs(void **state) {
        struct fixture *f = *state;
        struct job *job = new_job(f, "command", JOB_FAILED);
        uint64_t id = job->id;

        store_mark(f->manager->store, job);
        assert_true(settle_now(f->manager->settle));
        store_release(f->manager->store);
        assert_null(store_find(f->manager->store, id));
        assert_string_equal(call_job(f, stranger_uid(), "Resume", "ta{sv}", id), DENIED);
        assert_string_equal(call_job(f, stranger_uid(), "Remove", "t", id), DENIED);
        assert_string_equal(call_job(f, stranger_uid(), "GetJob", "t", id), DONE);
        assert_null(store_find(f->manager->store, id));
        assert_string_equal(call_job(f, owner_uid(), "Resume", "ta{sv}", id), DONE);
        assert_non_null(store_find(f->manager->store, id));
        assert_int_equal(store_find(f->manager->store, id)->state, JOB_QUEUED);
}

/* An attempt whose shim has yet to say hello; nothing of it runs. */
static struct job *new_attempt(struct fixture *f) {
        struct job *job = new_job(f, "pretrain", JOB_STARTING);

        f->manager->launchers[LAUNCHER_FORK] = NULL;
        job->attempt =
                (struct attempt) { .number = 1, .open = true, .nonce = "its-nonce", .exit_class = -1, .rank = -1 };
        job->run = calloc(1, sizeof(*job->run));
        job->run_dir = strdup("/x");
        assert_true(job->run && job->run_dir);
        *job->run = (struct attempt_run) { .manager = f->manager, .job = job, .phase = PHASE_LAUNCHING };
        f->peer.pid = getpid();
        return job;
}

static const char *hello_of(struct fixture *f, uid_t uid, const struct job *job, const char *nonce,
                            const char *version) {
        sd_bus_message *m = new_call(f, "AttemptHello");

        assert_true(sd_bus_message_append(m, "tuss", job->id, 1u, nonce, version) >= 0);
        call(f, uid, m);
        return f->error;
}

static const char *hello(struct fixture *f, uid_t uid, const struct job *job, const char *nonce) {
        return hello_of(f, uid, job, nonce, "0");
}

static uint32_t hello_answer(struct fixture *f) {
        uint32_t answer;

        assert_true(sd_bus_message_read(f->reply, "u", &answer) > 0);
        return answer;
}

static const char *report(struct fixture *f, uid_t uid, const struct job *job, const char *nonce) {
        sd_bus_message *m = new_call(f, "AttemptReport");

        assert_true(sd_bus_message_append(m, "a{sv}", 16, "job", "t", job->id, "attempt", "u", 1u, "nonce", "s", nonce,
                                          "of-a-newer-shim", "as", 1, "x", "status", "s", "warm", "steps", "t",
                                          UINT64_C(40), "step", "t", UINT64_C(12), "loss", "d", 2.5, "rate", "s",
                                          "of another type", "samples_first", "t", UINT64_C(32), "samples_last", "t",
                                          UINT64_C(63), "checkpoint_step", "t", UINT64_C(10), "checkpoint_path", "s",
                                          "/x/step-10.ckpt", "checkpoint_size", "t", UINT64_C(99), "checkpoint_stall",
                                          "d", 0.5, "exited", "b", 1) >= 0);
        call(f, uid, m);
        return f->error;
}

/* One that has little to say. */
static const char *report_write(struct fixture *f, const struct job *job, double seconds) {
        sd_bus_message *m = new_call(f, "AttemptReport");

        assert_true(sd_bus_message_append(m, "a{sv}", 4, "job", "t", job->id, "attempt", "u", 1u, "nonce", "s",
                                          "its-nonce", "checkpoint_write", "d", seconds) >= 0);
        call(f, owner_uid(), m);
        return f->error;
}

static void test_shim(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        assert_string_equal(hello(f, stranger_uid(), job, "its-nonce"), DENIED);
        assert_string_equal(hello(f, owner_uid(), job, "another"), DONE);
        assert_int_equal(hello_answer(f), BERTD_ATTEMPT_STOP);
        assert_int_equal(job->state, JOB_STARTING);
        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        assert_int_equal(hello_answer(f), BERTD_ATTEMPT_GO);
        assert_int_equal(job->state, JOB_RUNNING);

        assert_string_equal(report(f, stranger_uid(), job, "its-nonce"), DENIED);
        assert_string_equal(report(f, owner_uid(), job, "another"), WRONG);
        assert_int_equal(job->step, 0);
        assert_string_equal(report_write(f, job, 0.125), DONE);
        assert_true(job->step == 0 && job->attempt.samples_last == 0 && !job->run->timer);
        assert_string_equal(report(f, owner_uid(), job, "its-nonce"), DONE);
        assert_string_equal(job->status, "warm");
        assert_true(job->step == 12 && job->steps == 40 && job->loss == 2.5 && isnan(job->rate));
        assert_true(job->attempt.samples_first == 32 && job->attempt.samples_last == 63);
        assert_true(job->checkpoint_stall == 0.5 && job->checkpoint_write == 0.125);
        assert_int_equal(job->n_ledger, 1);
        assert_true(job->ledger[0].step == 10 && job->ledger[0].size == 99);
        assert_string_equal(job->ledger[0].path, "/x/step-10.ckpt");
        /* What a report leaves out stays. */
        assert_string_equal(report_write(f, job, 0.25), DONE);
        assert_true(job->checkpoint_stall == 0.5 && job->checkpoint_write == 0.25);
        assert_true(job->step == 12 && job->steps == 40 && job->loss == 2.5);
        assert_true(job->attempt.samples_first == 32 && job->attempt.samples_last == 63);
        assert_non_null(job->run->timer); /* for the end of what says that it has ended */
}

static const char *report_end(struct fixture *f, const struct job *job, const char *record) {
        sd_bus_message *m = new_call(f, "AttemptReport");

        assert_true(sd_bus_message_append(m, "a{sv}", 5, "job", "t", job->id, "attempt", "u", 1u, "nonce", "s",
                                          "its-nonce", "exited", "b", 1, "record", "s", record) >= 0);
        call(f, owner_uid(), m);
        return f->error;
}

static sd_bus_message *new_report(struct fixture *f, const struct job *job) {
        sd_bus_message *m = new_call(f, "AttemptReport");

        assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}", "job", "t", job->id, "attempt", "u", 1u, "nonce", "s",
                                          "its-nonce") >= 0);
        return m;
}

static const char *send_report(struct fixture *f, sd_bus_message *m) {
        assert_true(sd_bus_message_close_container(m) >= 0);
        call(f, owner_uid(), m);
        return f->error;
}

/* Whom bertd serves, and whom it leaves alone. */
static void test_shim_versions(void **state) {
        static const struct {
                const char *version;
                bool newer;
        } cases[] = { { "0.1.0", false }, { "0.1.0 1", false }, { "0.1.0 2", false },
                      { "", false },      { "9.9.9 3", true },  { "9.9.9 4294967295", true } };
        static const char *const bad[] = { "9.9.9 x",  "9.9.9 0", "9.9.9 4294967296",
                                           "9.9.9 3 ", "\n 3",    "0123456789012345678901234567890123456789 3" };
        struct fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct job *job = new_attempt(f);
                job->run->adopted = true;
                assert_string_equal(hello_of(f, owner_uid(), job, "its-nonce", cases[i].version),
                                    cases[i].newer ? BERTD_ERROR_VERSION : DONE);
                /* One that was begun before its pid was kept is watched, too, and not given up in a minute. */
                assert_int_equal(job->state, JOB_RUNNING);
                assert_true(job->attempt.pid == getpid() && job->run->phase == PHASE_LIVE && !job->run->timer);
                assert_int_equal(job->run->newer != NULL, cases[i].newer);
                assert_int_equal(attempt_checkpoint(job) == -ENOTCONN, cases[i].newer);
                assert_ptr_equal(job->run->peer, &f->peer); /* one connection a shim, which takes no user's share */
                assert_string_equal(hello_of(f, owner_uid(), job, "its-nonce", "0.1.0 2"), DONE);
                assert_null(job->run->newer);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct job *job = new_attempt(f);
                job->run->adopted = true;
                assert_string_equal(hello_of(f, owner_uid(), job, "its-nonce", bad[i]), SD_BUS_ERROR_INVALID_ARGS);
                assert_int_equal(job->state, JOB_STARTING);
        }
}

/* There is no exit.json: what the shim saw is durable before the answer lets it go. */
static void test_end_reported(void **state) {
        static const char form[] = "{\"version\":1,\"job\":%" PRIu64 ",\"attempt\":1,\"nonce\":\"%s\",\"exit_code\":7,"
                                   "\"signal\":0,\"reason\":\"%s\",\"class\":\"failed\"}";
        struct fixture *f = *state;
        struct job *job = new_attempt(f), *kept = NULL;
        struct error error = {};

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        cleanup_free char *other = format_string(form, job->id, "another", "r"),
                          *bad = format_string(form, job->id, "its-nonce", "a\\nb"),
                          *good = format_string(form, job->id, "its-nonce", "r");
        const char *const none[] = { "", "{", "[]", "{\"version\":1}", other };
        for (size_t i = 0; i < ELEMENTSOF(none); i++) {
                assert_string_equal(report_end(f, job, none[i]), DONE);
                assert_true(job->attempt.exit_class == -1 && job->attempt.exit_code == 0 && !job->attempt.reason);
        }
        assert_string_equal(report_end(f, job, bad), DONE);
        assert_null(job->attempt.reason); /* a reply with it would reach nobody */
        assert_string_equal(report_end(f, job, good), DONE);
        assert_string_equal(job->attempt.reason, "r");
        assert_int_equal(job->state, JOB_RUNNING);
        if (store_load(f->manager->store, job->id, &kept, &error) < 0)
                fail_msg("%s", error.text);
        assert_true(kept->attempt.exit_class == EXIT_CLASS_FAILED && kept->attempt.exit_code == 7);
        job_free(kept);
}

/* found: n files from step `first` on, a step apart of 1. */
static const char *report_piece(struct fixture *f, const struct job *job, uint64_t first, uint64_t n) {
        sd_bus_message *m = new_report(f, job);
        cleanup_free uint64_t *found = calloc(3 * n, sizeof(*found));

        assert_non_null(found);
        for (uint64_t i = 0; i < n; i++)
                memcpy(found + 3 * i, (uint64_t[]) { first + i, 99, 5 }, 3 * sizeof(*found));
        assert_true(sd_bus_message_open_container(m, 'e', "sv") >= 0 && sd_bus_message_append(m, "s", "found") >= 0);
        assert_true(sd_bus_message_open_container(m, 'v', "at") >= 0);
        assert_true(sd_bus_message_append_array(m, 't', found, 3 * n * sizeof(*found)) >= 0);
        assert_true(sd_bus_message_close_container(m) >= 0 && sd_bus_message_close_container(m) >= 0);
        return send_report(f, m);
}

/* As a shim does: in reports of a bounded size. */
static const char *report_found(struct fixture *f, const struct job *job, uint64_t first, uint64_t n) {
        const uint64_t piece = BERTD_NEWS_MAX / 3;

        for (; n > piece; first += piece, n -= piece)
                assert_string_equal(report_piece(f, job, first, piece), DONE);
        return report_piece(f, job, first, n);
}

static const char *report_beginning(struct fixture *f, const struct job *job, uint64_t gone, uint64_t step) {
        sd_bus_message *m = new_report(f, job);

        assert_true(sd_bus_message_append(m, "{sv}{sv}", "gone", "at", 1, gone, "resumed_step", "t", step) >= 0);
        return send_report(f, m);
}

static const char *report_path(struct fixture *f, const struct job *job, uint64_t step, const char *path) {
        sd_bus_message *m = new_report(f, job);

        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}", "loss", "d", 0.25, "checkpoint_step", "t", step,
                                          "checkpoint_path", "s", path) >= 0);
        return send_report(f, m);
}

/* Whoever runs a job can say anything on the socket; what bertd takes is of that job's own folder. */
static void test_reported_paths(void **state) {
        static const char *const elsewhere[] = {
                "/etc/shadow", "/x/../root/secret", "/xx/step-10.ckpt", "x/a", "", "/x", "/x/a\n"
        };
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        for (size_t i = 0; i < ELEMENTSOF(elsewhere); i++) {
                job->loss = 0;
                assert_string_equal(report_path(f, job, 10, elsewhere[i]), DONE);
                assert_true(job->n_ledger == 0 && job->loss == 0.25); /* the rest of the report is taken */
        }
        assert_string_equal(report_path(f, job, UINT64_C(1) << 63, "/x/a"), DONE);
        assert_int_equal(job->n_ledger, 0);
        assert_string_equal(report_path(f, job, 10, "/x/a"), DONE);
        assert_int_equal(job->n_ledger, 1);
}

static void test_beginning(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);
        struct error error = {};

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        assert_string_equal(report_found(f, job, 10, 3), DONE);
        assert_int_equal(job_newest_good(job)->step, 12);
        job->attempt.resumed = true;
        job->attempt.first_step = job->attempt.step = job->step = 12;
        job->ledger[job->n_ledger - 1].restored = 1;
        assert_string_equal(report_beginning(f, job, 12, 9), DONE); /* no such checkpoint */
        assert_int_equal(job->attempt.first_step, 12);
        assert_string_equal(report_beginning(f, job, 12, 11), DONE);
        assert_true(job->attempt.resumed && job->attempt.first_step == 11 && job->step == 11);
        assert_string_equal(report_beginning(f, job, 0, 10), DONE); /* once */
        assert_int_equal(job->attempt.first_step, 11);
        assert_int_equal(store_load_ledger(f->manager->store, job, &error), 0);
        assert_int_equal(job->n_ledger, 3);
        assert_true(job->ledger[1].restored == 1 && job->ledger[2].restored == 0);
        assert_true(job->ledger[1].state == CHECKPOINT_GOOD && job->ledger[2].state == CHECKPOINT_DELETED);
        /* A bertd that was started meanwhile hears it again, or after steps were done. */
        job->run->began = false;
        job->attempt.step = 15;
        assert_string_equal(report_beginning(f, job, 0, 10), DONE);
        assert_int_equal(job->attempt.first_step, 11);
        job->attempt.step = 11;
        assert_string_equal(report_beginning(f, job, 0, 0), DONE);
        assert_true(!job->attempt.resumed && job->attempt.first_step == 0);
}

static size_t count_checkpoints(struct fixture *f, uint64_t id) {
        size_t n = 0;

        assert_string_equal(call_job(f, stranger_uid(), "GetCheckpoints", "t", id), DONE);
        assert_true(sd_bus_message_enter_container(f->reply, 'a', "a{sv}") > 0);
        while (sd_bus_message_at_end(f->reply, 0) == 0) {
                assert_true(sd_bus_message_skip(f->reply, "a{sv}") > 0);
                n++;
        }
        return n;
}

/* All are listed and can be begun from, and asking for them writes nothing; in memory is one. */
static void test_many_checkpoints(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);
        uint64_t id = job->id;

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        assert_string_not_equal(report_piece(f, job, 1, BERTD_NEWS_MAX / 3 + 1), DONE); /* one commit would take long */
        assert_int_equal(job->n_ledger, 0);
        assert_string_equal(report_found(f, job, 1, 600), DONE);
        assert_int_equal(job->n_ledger, 1);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(count_checkpoints(f, id), 600);
                assert_true(job->n_ledger == 1 && !store_pending(f->manager->store));
                assert_string_equal(report_found(f, job, 401, 200), DONE);
        }
        job->attempt.open = false;
        free(job->run);
        job->run = NULL;
        for (uint64_t step = 600; step > 0; step -= 25) {
                job->state = JOB_FAILED;
                assert_string_equal(resume(f, id, "from", "t", step), DONE);
                job = store_find(f->manager->store, id);
                assert_int_equal(job->resume_from, step);
                assert_true(job->n_ledger == 1 && job->ledger[0].step == step);
        }
        assert_int_equal(count_checkpoints(f, id), 600);
}

static void test_eta(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        job->step = 20;
        job->steps = 40;
        assert_int_equal(attempt_eta_sec(job), 0); /* no step was timed */
        step_clock_note(&job->run->clock, 10, clock_boottime_usec() - 1000 * USEC_PER_SEC);
        assert_in_range(attempt_eta_sec(job), 2000, 2100); /* ten steps took 1000 s, 20 are left */
        job->steps = UINT64_C(1000000000000000);
        assert_int_equal(attempt_eta_sec(job), 0); /* nothing takes so long */
        job->steps = UINT64_MAX;
        assert_int_equal(attempt_eta_sec(job), 0); /* no number of seconds */
        job->steps = 20;
        assert_int_equal(attempt_eta_sec(job), 0);
}

/* Numbers of a shim are its user's word. */
static void test_reported_numbers(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);
        static char path[BERTD_PATH_MAX + 2];

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        memset(path, 'x', sizeof(path) - 1);
        sd_bus_message *m = new_call(f, "AttemptReport");
        assert_true(sd_bus_message_append(m, "a{sv}", 10, "job", "t", job->id, "attempt", "u", 1u, "nonce", "s",
                                          "its-nonce", "steps", "t", UINT64_MAX, "step", "t", UINT64_MAX - 1, "rate",
                                          "d", -1.0, "checkpoint_stall", "d", HUGE_VAL, "checkpoint_write", "d", 2.0,
                                          "checkpoint_step", "t", UINT64_C(3), "checkpoint_path", "s", path) >= 0);
        call(f, owner_uid(), m);
        assert_string_equal(f->error, DONE);
        assert_true(job->steps == BERTD_STEPS_MAX && job->step == BERTD_STEPS_MAX);
        assert_true(isnan(job->rate) && isnan(job->checkpoint_stall) && job->checkpoint_write == 2);
        assert_int_equal(job->n_ledger, 0);
}

/* How many jobs a page has that begins below `first`; *last is its oldest. */
static size_t page(struct fixture *f, uint64_t first, uint64_t *last) {
        sd_bus_message *m = new_call(f, "ListJobs");
        size_t n = 0;

        assert_true(sd_bus_message_append(m, "tub", first, 100u, 0) >= 0);
        call(f, owner_uid(), m);
        assert_true(sd_bus_message_enter_container(f->reply, 'a', "a{sv}") > 0);
        for (; sd_bus_message_enter_container(f->reply, 'a', "{sv}") > 0; n++) {
                assert_true(sd_bus_message_enter_container(f->reply, 'e', "sv") > 0);
                assert_true(sd_bus_message_skip(f->reply, "s") > 0 &&
                            sd_bus_message_read(f->reply, "v", "t", last) > 0);
                assert_true(sd_bus_message_exit_container(f->reply) > 0);
                while (sd_bus_message_enter_container(f->reply, 'e', "sv") > 0)
                        assert_true(sd_bus_message_skip(f->reply, "sv") > 0 &&
                                    sd_bus_message_exit_container(f->reply) > 0);
                assert_true(sd_bus_message_exit_container(f->reply) > 0);
        }
        return n;
}

/* A page ends where it is full; the next one begins there. */
static void test_pages(void **state) {
        struct fixture *f = *state;
        static char path[4000];
        uint64_t last = 0;
        size_t n, seen = 0;

        memset(path, 'x', sizeof(path) - 1);
        path[0] = '/';
        for (int i = 0; i < 150; i++) {
                struct job *job = new_job(f, "command", JOB_PAUSED);
                job_set_text(&job->reason, path);
                free(job->run_dir);
                job->run_dir = strdup(path);
                job->name[0] = (char) ('a' + i % 26);
        }
        for (n = page(f, 0, &last); n > 0; n = page(f, last, &last)) {
                /* Of each at least its folder and its reason: none is too large, and none is smaller than it need be. */
                assert_in_range(n * (4000 + 1024), 0, BERTD_PAGE_MAX);
                assert_true(n >= 30 || last == 1);
                seen += n;
        }
        assert_true(seen == 150 && last == 1);
}

static const char *wait_change(struct fixture *f, uint64_t serial) {
        sd_bus_message *m = new_call(f, "WaitChange");

        assert_true(sd_bus_message_append(m, "t", serial) >= 0);
        call(f, stranger_uid(), m);
        return f->error;
}

static void test_changes(void **state) {
        struct fixture *f = *state;
        uint64_t before = f->manager->serial, serial;

        store_mark(f->manager->store, new_job(f, "command", JOB_PAUSED));
        assert_true(settle_now(f->manager->settle));
        assert_true(f->manager->serial > before);
        assert_string_equal(wait_change(f, before), DONE);
        assert_true(sd_bus_message_read(f->reply, "t", &serial) > 0 && serial == f->manager->serial);
        assert_true(settle_now(f->manager->settle)); /* nothing to write, nothing to tell */
        assert_true(f->manager->serial == serial);

        sd_bus_message *m = new_call(f, "WaitChange");
        assert_true(sd_bus_message_append(m, "t", serial) >= 0);
        assert_true(sd_bus_send(f->client, m, NULL) >= 0);
        (void) sd_bus_message_unref(m);
        assert_string_equal(wait_change(f, serial), BERTD_ERROR_QUOTA); /* one a connection */
        f->peer.change = sd_bus_message_unref(f->peer.change);
}

static void test_names(void **state) {
        struct fixture *f = *state;
        uint64_t id;

        (void) new_job(f, "command", JOB_PAUSED);
        uint64_t newest = new_job(f, "command", JOB_PAUSED)->id;
        for (int known = 1; known >= 0; known--) {
                sd_bus_message *m = new_call(f, "FindJob");
                assert_true(sd_bus_message_append(m, "s", known ? "a" : "b") >= 0);
                call(f, stranger_uid(), m);
                assert_string_equal(f->error, known ? DONE : BERTD_ERROR_NO_SUCH_JOB);
                assert_true(!known || (sd_bus_message_read(f->reply, "t", &id) > 0 && id == newest));
        }
}

static const char *submit(struct fixture *f, const char *kind, const char *run_dir) {
        sd_bus_message *m = new_call(f, "Submit");
        bool command = strcmp(kind, "command") == 0;

        assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}", "name", "s", "a", "kind", "s", kind, "cwd", "s",
                                          "/", "run_dir", "s", run_dir, "spec", "s", command ? "" : "train: {}") >= 0);
        if (command)
                assert_true(sd_bus_message_append(m, "{sv}", "command", "as", 1, "true") >= 0);
        assert_true(sd_bus_message_close_container(m) >= 0);
        call(f, geteuid(), m);
        return f->error;
}

/* Two trainers in one folder would take each other's checkpoints for their own. */
static void test_one_trainer_a_folder(void **state) {
        struct fixture *f = *state;

        assert_string_equal(submit(f, "pretrain", "/x"), DONE);
        assert_int_equal(store_count(f->manager->store), 1);
        assert_string_equal(submit(f, "pretrain", "/x"), BERTD_ERROR_INVALID_SPEC);
        assert_string_equal(submit(f, "finetune", "/x"), BERTD_ERROR_INVALID_SPEC);
        assert_string_equal(submit(f, "command", "/x"), DONE);
        assert_string_equal(submit(f, "pretrain", "/y"), DONE);
        store_at(f->manager->store, 0)->state = JOB_DONE;
        assert_string_equal(submit(f, "pretrain", "/x"), DONE);
        /* Nobody keeps another out of a folder by naming it. */
        store_at(f->manager->store, 2)->uid++;
        assert_string_equal(submit(f, "pretrain", "/y"), DONE);
        assert_string_equal(submit(f, "pretrain", "/y"), BERTD_ERROR_INVALID_SPEC);
}

/* A refusal that quotes a key and cuts it within a character is still an answer. */
static void test_refusal_that_is_cut(void **state) {
        struct fixture *f = *state;
        char key[128] = "x";
        sd_bus_message *m = new_call(f, "Submit");

        for (int i = 0; i < 50; i++)
                strcat(key, "\xc3\xa9");
        assert_true(sd_bus_message_append(m, "a{sv}", 1, key, "s", "") >= 0);
        call(f, geteuid(), m);
        assert_string_equal(f->error, BERTD_ERROR_INVALID_SPEC);
        assert_non_null(strstr(sd_bus_message_get_error(f->reply)->message, "unknown key \"x\xc3\xa9"));
        assert_non_null(strstr(sd_bus_message_get_error(f->reply)->message, "\xc3\xa9?\""));
}

/* A death's reason, too, that quotes a path. */
static void test_reason_that_is_cut(void **state) {
        struct fixture *f = *state;
        struct job *job = new_job(f, "command", JOB_QUEUED);
        struct error error = {};

        job_set_text(&job->reason, "caf\xc3");
        assert_string_equal(job->reason, "caf?");
        job->state = JOB_FAILED;
        store_note(f->manager->store, job, JOB_QUEUED, "failed", "caf\xc3");
        assert_int_equal(store_flush(f->manager->store, &error), 0);
        assert_string_equal(call_job(f, owner_uid(), "GetEvents", "ttu", job->id), DONE);
        free(job->reason);
        job->reason = strdup("caf\xc3"); /* as an older daemon kept it */
        assert_string_equal(call_job(f, owner_uid(), "GetJob", "t", job->id), DONE);
}

/* What the user database answered of a user: an account that is gone is gone, one that was known stays while the database fails. */
static void test_accounts(void **state) {
        struct fixture *f = *state;
        struct accounts *accounts = f->manager->accounts;
        const struct account *account;
        const struct nss_user none = { .result = -ESRCH }, failed = { .result = -EIO };
        const struct nss_user alice = { .gid = 7, .name = "alice", .home = "/home/alice" };

        assert_int_equal(accounts_note(accounts, stranger_uid(), &none), -ESRCH);
        assert_int_equal(accounts_find(accounts, stranger_uid(), &account), -ESRCH);
        assert_int_equal(accounts_note(accounts, stranger_uid(), &failed), -EIO);
        assert_int_equal(accounts_find(accounts, stranger_uid(), &account), -EIO);
        assert_int_equal(accounts_note(accounts, stranger_uid(), &alice), 0);
        assert_int_equal(accounts_note(accounts, stranger_uid(), &failed), -EIO);
        assert_int_equal(accounts_find(accounts, stranger_uid(), &account), 0);
        assert_true(account->gid == 7 && strcmp(account->name, "alice") == 0 &&
                    strcmp(account->home, "/home/alice") == 0);
        assert_int_equal(accounts_note(accounts, stranger_uid(), &none), -ESRCH);
        assert_int_equal(accounts_find(accounts, stranger_uid(), &account), -ESRCH);
        assert_int_equal(accounts_note(accounts, geteuid(), &none), -ESRCH); /* but we run as ourselves */
        assert_int_equal(accounts_find(accounts, geteuid(), &account), 0);
        for (uid_t i = 0; i < 2 * ACCOUNTS_MAX; i++)
                assert_int_equal(accounts_note(accounts, 10000 + i, &alice), 0);
        assert_int_equal(accounts_find(accounts, 10000 + 2 * ACCOUNTS_MAX - 1, &account), 0);
        assert_int_equal(accounts_find(accounts, 10000, &account), -EINPROGRESS); /* asked again */
}

/* Calls that wait until their user is known are bounded in bytes, a user's and all, and are kept no longer than that. */
static void test_parked_calls(void **state) {
        struct fixture *f = *state;
        struct peer peers[5];
        sd_bus_message *m = new_call(f, "Submit");

        for (uid_t i = 0; i < ELEMENTSOF(peers); i++)
                peers[i] = (struct peer) { .manager = f->manager, .uid = 1000 + i, .doomed = true };
        assert_int_equal(peer_park(&peers[0], m, BERTD_REQUESTS_OF_UID_MAX - 1), 0);
        assert_int_equal(peer_park(&peers[0], m, 2), -ENOBUFS);
        for (size_t i = 1; i < 4; i++)
                assert_int_equal(peer_park(&peers[i], m, BERTD_REQUESTS_OF_UID_MAX), 0);
        assert_int_equal(peer_park(&peers[4], m, 2), -ENOBUFS);
        bus_server_resume(f->manager->server, 1001);
        assert_int_equal(peer_park(&peers[4], m, BERTD_REQUESTS_OF_UID_MAX), 0);
        assert_int_equal(peer_park(&peers[1], m, 2), -ENOBUFS);
        for (uid_t i = 0; i < ELEMENTSOF(peers); i++)
                bus_server_resume(f->manager->server, 1000 + i);
        assert_int_equal(peer_park(&peers[0], m, BERTD_REQUESTS_OF_UID_MAX), 0);
        bus_server_resume(f->manager->server, 1000);
        (void) sd_bus_message_unref(m);
}

/* What the shim is asked for: the last call that came to it. */
struct asked {
        char member[32];
        uint64_t grace_usec;
};

static int on_asked(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct asked *asked = userdata;

        if (!sd_bus_message_get_member(m))
                return 0;
        (void) snprintf(asked->member, sizeof(asked->member), "%s", sd_bus_message_get_member(m));
        if (strcmp(asked->member, "Stop") == 0)
                (void) sd_bus_message_read(m, "t", &asked->grace_usec);
        return 1;
}

static void test_asking_the_shim(void **state) {
        static const struct {
                const char *method, *in, *asks;
                int now;
                enum job_state to;
        } cases[] = {
                { "Checkpoint", "t", "Checkpoint", 0, JOB_RUNNING },
                { "Pause", "t", "Stop", 0, JOB_STOPPING },
                { "Cancel", "tb", "Stop", 0, JOB_STOPPING },
                { "Cancel", "tb", "Stop", 1, JOB_STOPPING },
        };
        struct fixture *f = *state;
        struct asked asked;

        assert_true(sd_bus_add_filter(f->client, NULL, on_asked, &asked) >= 0);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct job *job = new_attempt(f);
                job->grace_sec = 7;
                assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
                asked = (struct asked) { .grace_usec = UINT64_MAX };
                sd_bus_message *m = new_call(f, cases[i].method);
                assert_true(sd_bus_message_append(m, "t", job->id) >= 0);
                if (strcmp(cases[i].in, "tb") == 0)
                        assert_true(sd_bus_message_append(m, "b", cases[i].now) >= 0);
                call(f, owner_uid(), m);
                assert_string_equal(f->error, DONE);
                assert_int_equal(job->state, cases[i].to);
                assert_string_equal(asked.member, cases[i].asks);
                if (cases[i].to == JOB_STOPPING)
                        assert_int_equal(asked.grace_usec, cases[i].now ? 0 : 7000000);
        }
}

static int count_row(void *userdata, const struct event_row *event) {
        (*(unsigned *) userdata)++;
        return 0;
}

static unsigned events_of(struct fixture *f, uint64_t id) {
        struct error error = {};
        unsigned n = 0;

        assert_int_equal(store_events(f->manager->store, id, 0, 100, count_row, &n, &error), 0);
        return n;
}

/* What cannot be made durable is refused and has not happened: not in memory, not in the database, not later. A writer that holds the
 * database stands for a full disk. */
static void test_a_change_that_cannot_be_kept(void **state) {
        static const struct {
                const char *method, *in;
                enum job_state from;
                bool loaded; /* the job is in the database only */
        } cases[] = {
                { "Pause", "t", JOB_QUEUED, false },       { "Cancel", "tb", JOB_QUEUED, false },
                { "Cancel", "tb", JOB_PAUSED, false },     { "Cancel", "tb", JOB_BACKOFF, false },
                { "Resume", "ta{sv}", JOB_PAUSED, false }, { "Resume", "ta{sv}", JOB_FAILED, true },
                { "Remove", "t", JOB_CANCELLED, false },   { "Remove", "t", JOB_CANCELLED, true },
        };
        struct fixture *f = *state;
        uint64_t ids[ELEMENTSOF(cases)];
        unsigned events[ELEMENTSOF(cases)];
        cleanup_free char *path = format_string("%s/state.db", f->state_dir);
        cleanup_db sqlite3 *other = NULL;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct job *job = new_job(f, "pretrain", cases[i].from);
                ids[i] = job->id;
                job->ranks = 1;
                job_set_text(&job->reason, "as it was");
                store_mark(f->manager->store, job);
                assert_true(settle_now(f->manager->settle));
                events[i] = events_of(f, ids[i]);
                if (cases[i].loaded)
                        store_release(f->manager->store);
        }
        size_t n = store_count(f->manager->store);
        assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        f->full = true;
        assert_string_equal(submit(f, "command", "/z"), BERTD_ERROR_STORAGE);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                print_message("%s, %s%s\n", cases[i].method, job_state_name(cases[i].from),
                              cases[i].loaded ? ", not in memory" : "");
                assert_string_equal(call_job(f, owner_uid(), cases[i].method, cases[i].in, ids[i]),
                                    BERTD_ERROR_STORAGE);
                assert_false(store_pending(f->manager->store));
        }
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        f->full = false;
        store_release(f->manager->store);
        assert_true(settle_now(f->manager->settle));
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct job *loaded = NULL, *job = store_find(f->manager->store, ids[i]);
                struct error error = {};
                if (!job)
                        assert_int_equal(store_load(f->manager->store, ids[i], &loaded, &error), 0);
                job = job ? job : loaded;
                assert_int_equal(job->state, cases[i].from);
                assert_string_equal(job->reason, "as it was");
                assert_int_equal(events_of(f, ids[i]), events[i]);
                job_free(loaded);
        }
        assert_true(store_count(f->manager->store) <= n);
        assert_string_equal(call_job(f, owner_uid(), "Cancel", "tb", ids[0]), DONE);
}

/* Sends a call that is a change; it waits for the commit beside others. */
static void queue_call(struct fixture *f, sd_bus_message *m) {
        f->peer.uid = owner_uid();
        assert_true(sd_bus_call_async(f->client, NULL, m, on_answer, f, 0) >= 0);
        (void) sd_bus_message_unref(m);
        for (int i = 0; i < 10; i++)
                assert_true(sd_bus_process(f->client, NULL) >= 0 && sd_bus_process(f->peer.bus, NULL) >= 0);
}

/* Several changes of one job in one commit that fails: it is as before the first, ledger and accounts, too. */
static void test_changes_undone_together(void **state) {
        static const uint64_t steps[] = { 10, 20 };
        struct fixture *f = *state;
        struct store *store = f->manager->store;
        struct job *job = new_job(f, "pretrain", JOB_PAUSED), *ended = new_job(f, "pretrain", JOB_FAILED);
        cleanup_free char *path = format_string("%s/state.db", f->state_dir);
        cleanup_db sqlite3 *other = NULL;
        struct error error = {};
        uint64_t id = ended->id;

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                struct checkpoint row = { .step = steps[i], .size = 1, .path = (char *) "/x/a.ckpt", .dirty = true };
                assert_int_equal(job_checkpoint_add(job, &row), 0);
        }
        store_mark(store, job);
        store_mark(store, ended);
        assert_true(settle_now(f->manager->settle));
        store_release(store);
        assert_null(store_find(store, id));
        assert_int_equal(job->n_ledger, 1);
        assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);

        sd_bus_message *cancel = new_call(f, "Cancel"), *resume = new_call(f, "Resume"), *again = new_call(f, "Resume");
        assert_true(sd_bus_message_append(cancel, "tb", job->id, 0) >= 0);
        assert_true(sd_bus_message_append(resume, "ta{sv}", job->id, 1, "from", "t", UINT64_C(10)) >= 0);
        assert_true(sd_bus_message_append(again, "ta{sv}", id, 0) >= 0);
        queue_call(f, cancel);
        queue_call(f, resume);
        queue_call(f, again);
        assert_false(settle_now(f->manager->settle));
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(job->state, JOB_PAUSED);
        assert_int_equal(job->n_ledger, 1);
        assert_true(job->ledger[0].step == 20 && job->ledger[0].state == CHECKPOINT_GOOD && !job->resume_abandon);
        store_release(store);
        assert_null(store_find(store, id));
        assert_true(store_has_room(store, job, BERTD_TEXTS_OF_UID_MAX - job_texts(job)));
        assert_int_equal(store_load_ledger(store, job, &error), 0);
        assert_int_equal(job->n_ledger, 2);
        job_ledger_trim(job);
        assert_true(settle_now(f->manager->settle));
}

/* With its attempt a shim's connection ends, of which no user's share was taken, whoever holds it. */
static void test_connection_of_a_closed_attempt(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        assert_true(job->run->peer == &f->peer && !f->peer.doomed);
        attempt_over(job->run, EXIT_CLASS_LOST, "gone"); /* of another boot: nothing is swept */
        assert_null(job->run);
        assert_true(f->peer.doomed);
}

/* What shims say while state.db cannot be written stays in memory: within their user's share. */
static void test_checkpoints_that_cannot_be_kept(void **state) {
        struct fixture *f = *state;
        struct job *jobs[] = { new_attempt(f), new_attempt(f), new_attempt(f) };
        char path[4000];
        size_t texts = 0;

        for (size_t i = 0; i < ELEMENTSOF(jobs); i++)
                assert_string_equal(hello(f, owner_uid(), jobs[i], "its-nonce"), DONE);
        memset(path, 'a', sizeof(path));
        memcpy(path, "/x/", 3);
        path[sizeof(path) - 1] = '\0';
        for (uint64_t step = 1; step <= 2000; step++)
                for (size_t i = 0; i < ELEMENTSOF(jobs); i++) {
                        struct attempt_report report = { .job = jobs[i]->id,
                                                         .attempt = 1,
                                                         .nonce = "its-nonce",
                                                         .has_checkpoint = true,
                                                         .checkpoint_step = step,
                                                         .checkpoint_path = path,
                                                         .checkpoint_size = 1 };
                        assert_int_equal(attempt_report(f->manager, owner_uid(), &report), 0);
                }
        for (size_t i = 0; i < ELEMENTSOF(jobs); i++)
                texts += job_texts(jobs[i]);
        /* Of each job the newest is counted when the next one comes. */
        assert_in_range(texts, BERTD_TEXTS_OF_UID_MAX / 2, BERTD_TEXTS_OF_UID_MAX + ELEMENTSOF(jobs) * sizeof(path));
        assert_true(settle_now(f->manager->settle));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_authority, setup, teardown),
                cmocka_unit_test_setup_teardown(test_shutdown, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_others_see, setup, teardown),
                cmocka_unit_test_setup_teardown(test_states, setup, teardown),
                cmocka_unit_test_setup_teardown(test_resume_options, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ended_jobs, setup, teardown),
                cmocka_unit_test_setup_teardown(test_shim, setup, teardown),
                cmocka_unit_test_setup_teardown(test_asking_the_shim, setup, teardown),
                cmocka_unit_test_setup_teardown(test_shim_versions, setup, teardown),
                cmocka_unit_test_setup_teardown(test_end_reported, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reported_paths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_beginning, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_checkpoints, setup, teardown),
                cmocka_unit_test_setup_teardown(test_eta, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reported_numbers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
                cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_names, setup, teardown),
                cmocka_unit_test_setup_teardown(test_one_trainer_a_folder, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_change_that_cannot_be_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_changes_undone_together, setup, teardown),
                cmocka_unit_test_setup_teardown(test_connection_of_a_closed_attempt, setup, teardown),
                cmocka_unit_test_setup_teardown(test_checkpoints_that_cannot_be_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_accounts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_parked_calls, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refusal_that_is_cut, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reason_that_is_cut, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
