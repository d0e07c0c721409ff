/* What passes between the manager and the shims of its attempts: who may speak for one, what is believed of what it
 * says, what it is asked for. Nothing is started. */
#include <errno.h>
#include <math.h>

#include "common/clock.h"
#include "daemon/attempt/end.h"
#include "daemon/attempt/live.h"
#include "tests/unit/methods_fixture.h"

/* An attempt whose shim has yet to say hello; nothing of it runs. */
static struct job *new_attempt(struct fixture *f) {
        struct job *job = new_job(f, "pretrain", JOB_STARTING);

        f->node->launchers[LAUNCHER_FORK] = NULL;
        job->attempt =
                (struct attempt) { .number = 1, .open = true, .nonce = "its-nonce", .exit_class = -1, .rank = -1 };
        job->run = calloc(1, sizeof(*job->run));
        job->run_dir = strdup("/x");
        assert_true(job->run && job->run_dir);
        *job->run = (struct attempt_run) { .node = f->node, .job = job, .phase = PHASE_LAUNCHING };
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
        assert_true(job->step == 0 && job->attempt.samples_last == 0 && !timer_is_armed(&job->run->timer));
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
        assert_true(timer_is_armed(&job->run->timer)); /* for the end of what says that it has ended */
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
                assert_true(job->attempt.pid == getpid() && job->run->phase == PHASE_LIVE &&
                            !timer_is_armed(&job->run->timer));
                assert_int_equal(job->run->newer != NULL, cases[i].newer);
                assert_int_equal(attempt_checkpoint(job) == -ENOTCONN, cases[i].newer);
                assert_ptr_equal(job->run->link,
                                 &f->peer.link); /* one connection a shim, which takes no user's share */
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
                                   "\"signal\":0,\"reason\":\"%s\",%s\"class\":\"failed\"}";
        struct fixture *f = *state;
        struct job *job = new_attempt(f), *kept = NULL;
        struct error error = {};

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        cleanup_free char *other = format_string(form, job->id, "another", "r", ""),
                          *bad = format_string(form, job->id, "its-nonce", "a\\nb", ""),
                          *older = format_string(form, job->id, "its-nonce", "r", ""),
                          *good = format_string(
                                  form, job->id, "its-nonce", "r",
                                  "\"private\":\"r: its words\",\"more\":\"m\",\"more_private\":\"mine\",");
        const char *const none[] = { "", "{", "[]", "{\"version\":1}", other };
        for (size_t i = 0; i < ELEMENTSOF(none); i++) {
                assert_string_equal(report_end(f, job, none[i]), DONE);
                assert_true(job->attempt.exit_class == -1 && job->attempt.exit_code == 0 && !job->attempt.reason);
        }
        assert_string_equal(report_end(f, job, bad), DONE);
        assert_null(job->attempt.reason); /* a reply with it would reach nobody */
        assert_string_equal(report_end(f, job, older), DONE);
        assert_null(job->attempt.reason); /* it may quote the job */
        assert_string_equal(attempt_private(&job->attempt), "r");
        assert_string_equal(report_end(f, job, good), DONE);
        assert_string_equal(job->attempt.reason, "r");
        assert_string_equal(attempt_private(&job->attempt), "r: its words");
        assert_string_equal(job->attempt.more, "m");
        assert_string_equal(job->attempt.more_private, "mine");
        assert_int_equal(job->state, JOB_RUNNING);
        if (store_load(f->node->store, job->id, &kept, &error) < 0)
                fail_msg("%s", error.text);
        assert_true(kept->attempt.exit_class == EXIT_CLASS_FAILED && kept->attempt.exit_code == 7);
        assert_string_equal(attempt_private(&kept->attempt), "r: its words");
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
        assert_int_equal(store_load_ledger(f->node->store, job, &error), 0);
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

static void report_saved(struct fixture *f, const struct job *job, uint64_t step, const char *path, bool unconfirmed) {
        sd_bus_message *m = new_report(f, job);

        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}", "checkpoint_step", "t", step, "checkpoint_path", "s", path,
                                          "takes_checkpoints", "u", 1u) >= 0);
        if (unconfirmed)
                assert_true(sd_bus_message_append(m, "{sv}", "checkpoint_unconfirmed", "u", 1u) >= 0);
        assert_string_equal(send_report(f, m), DONE);
}

/* Saved when the program was `at` a step, confirmed now. */
static void report_saved_at(struct fixture *f, const struct job *job, uint64_t step, uint64_t at, const char *path) {
        sd_bus_message *m = new_report(f, job);

        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}", "checkpoint_step", "t", step, "checkpoint_path", "s", path,
                                          "checkpoint_at", "t", at) >= 0);
        assert_string_equal(send_report(f, m), DONE);
}

static void report_step(struct fixture *f, const struct job *job, uint64_t step) {
        sd_bus_message *m = new_report(f, job);

        assert_true(sd_bus_message_append(m, "{sv}", "step", "t", step) >= 0);
        assert_string_equal(send_report(f, m), DONE);
}

static enum checkpoint_state state_at(struct fixture *f, struct job *job, uint64_t step) {
        struct error error = {};

        assert_int_equal(store_load_ledger(f->node->store, job, &error), 0);
        assert_non_null(job_checkpoint(job, step));
        return job_checkpoint(job, step)->state;
}

/* A program's checkpoints: unconfirmed, confirmed later, under one name again and again. */
static void test_reported_checkpoints(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        job->kind = JOB_COMMAND;
        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        assert_false(attempt_takes_checkpoints(job));
        report_saved(f, job, 10, "/x/a", true);
        assert_true(attempt_takes_checkpoints(job));
        assert_int_equal(state_at(f, job, 10), CHECKPOINT_UNCONFIRMED);
        report_saved(f, job, 20, "/x/b", false);
        assert_int_equal(job_newest_good(job)->step, 20);
        report_saved(f, job, 30, "/x/c", true);
        assert_int_equal(state_at(f, job, 30), CHECKPOINT_UNCONFIRMED);
        assert_int_equal(job_newest_good(job)->step, 20);
        report_saved(f, job, 30, "/x/c", false);
        assert_int_equal(state_at(f, job, 30), CHECKPOINT_GOOD);
        report_saved(f, job, 40, "/x/b", false);
        assert_int_equal(state_at(f, job, 20), CHECKPOINT_DELETED);
        assert_int_equal(state_at(f, job, 40), CHECKPOINT_GOOD);
        report_step(f, job, 45);
        assert_false(attempt_takes_checkpoints(job)); /* as the newest report has it */
}

/* Where a program begins and goes back to is its own affair; the job's steps follow it. */
static void test_reported_steps(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        job->kind = JOB_COMMAND;
        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        report_saved(f, job, 20, "/x/b", false);
        job_checkpoint(job, 20)->restored = 1;
        job->attempt.resumed = true;
        job->attempt.first_step = job->attempt.step = job->step = 20;
        report_step(f, job, 21);
        assert_true(job->attempt.resumed && job->step == 21);
        report_step(f, job, 30);
        report_step(f, job, 25); /* back */
        assert_int_equal(job->step, 25);
        report_step(f, job, 20);
        report_step(f, job, 10); /* also behind where it began */
        assert_true(job->step == 10 && job->attempt.resumed && job_checkpoint(job, 20)->restored == 1);
        /* It has not taken BERTD_RESUME. */
        job->run->clock = (struct step_clock) {};
        job->attempt.step = job->step = 20;
        report_step(f, job, 3);
        assert_true(!job->attempt.resumed && job->attempt.first_step == 2 && job->step == 3);
        assert_int_equal(job_checkpoint(job, 20)->restored, 0);
}

/* Saved after a program has gone back, a checkpoint counts before those of the course that it has left. */
static void test_saved_after_going_back(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        job->kind = JOB_COMMAND;
        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        report_step(f, job, 20);
        report_saved(f, job, 20, "/x/b", false);
        report_step(f, job, 10);
        report_saved_at(f, job, 18, 20, "/x/e"); /* before it went back */
        assert_int_equal(state_at(f, job, 20), CHECKPOINT_GOOD);
        report_saved(f, job, 15, "/x/a", true); /* unconfirmed: not instead of a good one */
        assert_int_equal(state_at(f, job, 20), CHECKPOINT_GOOD);
        report_step(f, job, 16);
        report_saved(f, job, 16, "/x/c", false);
        assert_int_equal(state_at(f, job, 20), CHECKPOINT_ABANDONED);
        assert_int_equal(job_newest_good(job)->step, 16);
        report_step(f, job, 25);
        report_saved(f, job, 25, "/x/d", false);
        report_saved(f, job, 17, "/x/best", false); /* an older one, from a program that has not gone back */
        assert_int_equal(job_newest_good(job)->step, 25);
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
                assert_true(job->n_ledger == 1 && !store_pending(f->node->store));
                assert_string_equal(report_found(f, job, 401, 200), DONE);
        }
        job->attempt.open = false;
        free(job->run);
        job->run = NULL;
        for (uint64_t step = 600; step > 0; step -= 25) {
                job->state = JOB_FAILED;
                assert_string_equal(resume(f, id, "from", "t", step), DONE);
                job = store_find(f->node->store, id);
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

/* Asked or told again, an end that is near stays where it is; a nearer one replaces it. */
static void test_ends_that_cannot_be_put_off(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        job->state = JOB_STOPPING;
        job->grace_sec = 7;
        job->stop_reason = STOP_CANCEL;
        attempt_stop(job);
        uint64_t far = job->run->deadline_usec;
        attempt_exited(job->run);
        uint64_t near = job->run->deadline_usec;
        assert_true(near < far);
        (void) usleep(2000);
        attempt_exited(job->run);
        attempt_stop(job);
        assert_int_equal(job->run->deadline_usec, near);
}

/* With its attempt a shim's connection ends, of which no user's share was taken, whoever holds it. */
static void test_connection_of_a_closed_attempt(void **state) {
        struct fixture *f = *state;
        struct job *job = new_attempt(f);

        assert_string_equal(hello(f, owner_uid(), job, "its-nonce"), DONE);
        assert_true(job->run->link == &f->peer.link && !f->peer.doomed);
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
                        assert_int_equal(attempt_report(f->node, owner_uid(), &report), 0);
                }
        for (size_t i = 0; i < ELEMENTSOF(jobs); i++)
                texts += job_texts(jobs[i]);
        /* Of each job the newest is counted when the next one comes. */
        assert_in_range(texts, BERTD_TEXTS_OF_UID_MAX / 2, BERTD_TEXTS_OF_UID_MAX + ELEMENTSOF(jobs) * sizeof(path));
        assert_true(settle_now(f->node->settle));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_shim, setup, teardown),
                cmocka_unit_test_setup_teardown(test_asking_the_shim, setup, teardown),
                cmocka_unit_test_setup_teardown(test_shim_versions, setup, teardown),
                cmocka_unit_test_setup_teardown(test_end_reported, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reported_paths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_beginning, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reported_checkpoints, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reported_steps, setup, teardown),
                cmocka_unit_test_setup_teardown(test_saved_after_going_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_checkpoints, setup, teardown),
                cmocka_unit_test_setup_teardown(test_eta, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reported_numbers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ends_that_cannot_be_put_off, setup, teardown),
                cmocka_unit_test_setup_teardown(test_connection_of_a_closed_attempt, setup, teardown),
                cmocka_unit_test_setup_teardown(test_checkpoints_that_cannot_be_kept, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
