/* The manager's methods over a connection whose user the test chooses: who may call which, as bus.h states it (not the
 * table of methods.c), what others see of a job, and what is refused in which state. */
#include <errno.h>

#include "common/db.h"
#include "tests/unit/methods_fixture.h"
#include "daemon/bus/waits.h"
#include "daemon/node/transition.h"

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
                assert_int_equal(loop_is_over(f->node->loop), may);
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

/* Until the next call. */
static const char *reason_of(struct fixture *f, uid_t uid, const struct job *job) {
        const char *reason = NULL;

        assert_string_equal(call_job(f, uid, "GetJob", "t", job->id), DONE);
        assert_true(has_entry(f, false, "state"));
        assert_true(sd_bus_message_rewind(f->reply, 1) >= 0);
        assert_true(sd_bus_message_enter_container(f->reply, 'a', "{sv}") > 0);
        for (const char *key; sd_bus_message_enter_container(f->reply, 'e', "sv") > 0;) {
                assert_true(sd_bus_message_read(f->reply, "s", &key) > 0);
                assert_true((strcmp(key, "reason") == 0 ? sd_bus_message_read(f->reply, "v", "s", &reason)
                                                        : sd_bus_message_skip(f->reply, "v")) > 0);
                assert_true(sd_bus_message_exit_container(f->reply) > 0);
        }
        return reason;
}

static void test_what_others_see(void **state) {
        struct fixture *f = *state;
        struct job *job = new_job(f, "command", JOB_PAUSED);
        const char *reason;
        int r;

        job_set_reason(job, "for-everybody", "secret-reason");
        store_note_move(f->node->store, job, JOB_QUEUED, "pause");
        assert_true(settle_now(f->node->settle));
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

                assert_string_equal(reason_of(f, uid, job), own ? "secret-reason" : "for-everybody");

                assert_string_equal(call_job(f, uid, "GetEvents", "ttu", job->id), DONE);
                assert_true(sd_bus_message_enter_container(f->reply, 'a', "(ttssssstt)") > 0);
                bool secret = false, public = false;
                while ((r = sd_bus_message_enter_container(f->reply, 'r', "ttssssstt")) > 0) {
                        assert_true(sd_bus_message_skip(f->reply, "ttsss") > 0);
                        assert_true(sd_bus_message_read(f->reply, "s", &reason) > 0);
                        assert_true(sd_bus_message_skip(f->reply, "stt") > 0 &&
                                    sd_bus_message_exit_container(f->reply) > 0);
                        secret = secret || strcmp(reason, "secret-reason") == 0;
                        public = public || strcmp(reason, "for-everybody") == 0;
                }
                assert_true(secret == own && public == !own);
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

        store_mark(f->node->store, job);
        assert_true(settle_now(f->node->settle));
        store_release(f->node->store);
        assert_null(store_find(f->node->store, id));
        assert_string_equal(call_job(f, stranger_uid(), "Resume", "ta{sv}", id), DENIED);
        assert_string_equal(call_job(f, stranger_uid(), "Remove", "t", id), DENIED);
        assert_string_equal(call_job(f, stranger_uid(), "GetJob", "t", id), DONE);
        assert_null(store_find(f->node->store, id));
        assert_string_equal(call_job(f, owner_uid(), "Resume", "ta{sv}", id), DONE);
        assert_non_null(store_find(f->node->store, id));
        assert_int_equal(store_find(f->node->store, id)->state, JOB_QUEUED);
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
                /* Of each at least its folder and its reason: none is too large, and none is smaller than it need be.
                 */
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
        uint64_t before = f->node->serial, serial;

        store_mark(f->node->store, new_job(f, "command", JOB_PAUSED));
        assert_true(settle_now(f->node->settle));
        assert_true(f->node->serial > before);
        assert_string_equal(wait_change(f, before), DONE);
        assert_true(sd_bus_message_read(f->reply, "t", &serial) > 0 && serial == f->node->serial);
        assert_true(settle_now(f->node->settle)); /* nothing to write, nothing to tell */
        assert_true(f->node->serial == serial);

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
        assert_int_equal(store_count(f->node->store), 1);
        assert_string_equal(submit(f, "pretrain", "/x"), BERTD_ERROR_INVALID_SPEC);
        assert_string_equal(submit(f, "finetune", "/x"), BERTD_ERROR_INVALID_SPEC);
        assert_string_equal(submit(f, "command", "/x"), DONE);
        assert_string_equal(submit(f, "pretrain", "/y"), DONE);
        store_at(f->node->store, 0)->state = JOB_DONE;
        assert_string_equal(submit(f, "pretrain", "/x"), DONE);
        /* Nobody keeps another out of a folder by naming it. */
        store_at(f->node->store, 2)->uid++;
        assert_string_equal(submit(f, "pretrain", "/y"), DONE);
        assert_string_equal(submit(f, "pretrain", "/y"), BERTD_ERROR_INVALID_SPEC);
}

/* A refusal that quotes a key and cuts it within a character is still an answer. */
static void test_refusal_that_is_cut(void **state) {
        struct fixture *f = *state;
        char key[128] = "x";
        sd_bus_message *m = new_call(f, "Submit");

        for (size_t i = 0; i < 50; i++)
                memcpy(key + 1 + 2 * i, "\xc3\xa9", 2);
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
        store_note(f->node->store, job, JOB_QUEUED, "failed", "caf\xc3");
        assert_int_equal(store_flush(f->node->store, &error), 0);
        assert_string_equal(call_job(f, owner_uid(), "GetEvents", "ttu", job->id), DONE);
        free(job->reason);
        job->reason = strdup("caf\xc3"); /* as an older daemon kept it */
        assert_string_equal(call_job(f, owner_uid(), "GetJob", "t", job->id), DONE);
}

/* What the user database answered of a user: an account that is gone is gone, one that was known stays while the
 * database fails. */
static void test_accounts(void **state) {
        struct fixture *f = *state;
        struct accounts *accounts = f->node->accounts;
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
        for (uid_t i = 0; i < 2 * ACCOUNTS_MAX; i++, loop_sleep(1)) /* the oldest makes room */
                assert_int_equal(accounts_note(accounts, 10000 + i, &alice), 0);
        assert_int_equal(accounts_find(accounts, 10000 + 2 * ACCOUNTS_MAX - 1, &account), 0);
        assert_int_equal(accounts_find(accounts, 10000, &account), -EINPROGRESS); /* asked again */
}

/* Calls that wait until their user is known are bounded in bytes, a user's and all, and are kept no longer than that.
 */
static void test_parked_calls(void **state) {
        struct fixture *f = *state;
        struct peer peers[5];
        sd_bus_message *m = new_call(f, "Submit");

        for (uid_t i = 0; i < ELEMENTSOF(peers); i++)
                peers[i] = (struct peer) { .node = f->node, .uid = 1000 + i, .doomed = true };
        assert_int_equal(peer_park(&peers[0], m, BERTD_REQUESTS_OF_UID_MAX - 1), 0);
        assert_int_equal(peer_park(&peers[0], m, 2), -ENOBUFS);
        for (size_t i = 1; i < 4; i++)
                assert_int_equal(peer_park(&peers[i], m, BERTD_REQUESTS_OF_UID_MAX), 0);
        assert_int_equal(peer_park(&peers[4], m, 2), -ENOBUFS);
        bus_server_resume(f->node->server, 1001);
        assert_int_equal(peer_park(&peers[4], m, BERTD_REQUESTS_OF_UID_MAX), 0);
        assert_int_equal(peer_park(&peers[1], m, 2), -ENOBUFS);
        for (uid_t i = 0; i < ELEMENTSOF(peers); i++)
                bus_server_resume(f->node->server, 1000 + i);
        assert_int_equal(peer_park(&peers[0], m, BERTD_REQUESTS_OF_UID_MAX), 0);
        bus_server_resume(f->node->server, 1000);
        (void) sd_bus_message_unref(m);
}

static int count_row(void *userdata, const struct event_row *event) {
        (*(unsigned *) userdata)++;
        return 0;
}

static unsigned events_of(struct fixture *f, uint64_t id) {
        struct error error = {};
        unsigned n = 0;

        assert_int_equal(store_events(f->node->store, id, 0, 100, count_row, &n, &error), 0);
        return n;
}

/* No commit succeeds, or they do again. */
static void break_store(struct fixture *f, bool broken) {
        cleanup_free char *wal = format_string("%s/state.db-wal", f->state_dir),
                          *away = format_string("%s/away", f->state_dir);

        assert_int_equal(broken ? rename(wal, away) : rename(away, wal), 0);
        f->full = broken;
}

/* What cannot be made durable is refused and has not happened: not in memory, not in the database, not later. A log
 * that is gone stands for a full disk. */
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

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct job *job = new_job(f, "pretrain", cases[i].from);
                ids[i] = job->id;
                job->ranks = 1;
                job_set_text(&job->reason, "as it was");
                store_mark(f->node->store, job);
                assert_true(settle_now(f->node->settle));
                events[i] = events_of(f, ids[i]);
                if (cases[i].loaded)
                        store_release(f->node->store);
        }
        size_t n = store_count(f->node->store);
        break_store(f, true);
        assert_string_equal(submit(f, "command", "/z"), BERTD_ERROR_STORAGE);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                print_message("%s, %s%s\n", cases[i].method, job_state_name(cases[i].from),
                              cases[i].loaded ? ", not in memory" : "");
                assert_string_equal(call_job(f, owner_uid(), cases[i].method, cases[i].in, ids[i]),
                                    BERTD_ERROR_STORAGE);
                assert_false(store_pending(f->node->store));
        }
        break_store(f, false);
        store_release(f->node->store);
        assert_true(settle_now(f->node->settle));
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct job *loaded = NULL, *job = store_find(f->node->store, ids[i]);
                struct error error = {};
                if (!job)
                        assert_int_equal(store_load(f->node->store, ids[i], &loaded, &error), 0);
                job = job ? job : loaded;
                assert_int_equal(job->state, cases[i].from);
                assert_string_equal(job->reason, "as it was");
                assert_int_equal(events_of(f, ids[i]), events[i]);
                job_free(loaded);
        }
        assert_true(store_count(f->node->store) <= n);
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
        struct store *store = f->node->store;
        struct job *job = new_job(f, "pretrain", JOB_PAUSED), *ended = new_job(f, "pretrain", JOB_FAILED);
        struct error error = {};
        uint64_t id = ended->id;

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                struct checkpoint row = { .step = steps[i], .size = 1, .path = (char *) "/x/a.ckpt", .dirty = true };
                assert_int_equal(job_checkpoint_add(job, &row), 0);
        }
        store_mark(store, job);
        store_mark(store, ended);
        assert_true(settle_now(f->node->settle));
        store_release(store);
        assert_null(store_find(store, id));
        assert_int_equal(job->n_ledger, 1);
        break_store(f, true);

        sd_bus_message *cancel = new_call(f, "Cancel"), *resume = new_call(f, "Resume"), *again = new_call(f, "Resume");
        assert_true(sd_bus_message_append(cancel, "tb", job->id, 0) >= 0);
        assert_true(sd_bus_message_append(resume, "ta{sv}", job->id, 1, "from", "t", UINT64_C(10)) >= 0);
        assert_true(sd_bus_message_append(again, "ta{sv}", id, 0) >= 0);
        queue_call(f, cancel);
        queue_call(f, resume);
        queue_call(f, again);
        assert_false(settle_now(f->node->settle));
        break_store(f, false);
        assert_int_equal(job->state, JOB_PAUSED);
        assert_int_equal(job->n_ledger, 1);
        assert_true(job->ledger[0].step == 20 && job->ledger[0].state == CHECKPOINT_GOOD && !job->resume_abandon);
        store_release(store);
        assert_null(store_find(store, id));
        assert_true(store_has_room(store, job, BERTD_TEXTS_OF_UID_MAX - job_texts(job)));
        assert_int_equal(store_load_ledger(store, job, &error), 0);
        assert_int_equal(job->n_ledger, 2);
        job_ledger_trim(job);
        assert_true(settle_now(f->node->settle));
}

/* A state.db that another program has locked holds up what writes, for a time, and nothing else; then it is refused,
 * and has not happened. */
static void test_locked(void **state) {
        struct fixture *f = *state;
        struct settle *settle = f->node->settle;
        struct job *paused = new_job(f, "pretrain", JOB_PAUSED), *queued = new_job(f, "pretrain", JOB_QUEUED);
        cleanup_free char *path = format_string("%s/state.db", f->state_dir);
        cleanup_db sqlite3 *other = NULL;
        sd_bus_message *cancel = new_call(f, "Cancel"), *pause = new_call(f, "Pause");

        f->full = true;
        assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
        assert_true(sd_bus_message_append(cancel, "tb", paused->id, 0) >= 0);
        queue_call(f, cancel);
        uint64_t begin = clock_boottime_usec();
        assert_false(settle_now(settle));
        assert_true(clock_boottime_usec() - begin < USEC_PER_SEC / 5); /* the loop is others' */
        assert_true(paused->state == JOB_PAUSED && !store_pending(f->node->store));
        /* What waits is bounded. */
        assert_true(settle_has_room(settle, stranger_uid(), BERTD_REQUESTS_OF_UID_MAX));
        assert_false(settle_has_room(settle, stranger_uid(), BERTD_REQUESTS_OF_UID_MAX + 1));
        assert_false(settle_has_room(settle, owner_uid(), BERTD_REQUESTS_OF_UID_MAX));
        /* What bertd has seen itself waits, too, and is not forgotten. */
        assert_int_equal(node_move(f->node, queued, EVENT_CANCEL, NULL), STATE_MOVE);
        assert_false(settle_now(settle));
        assert_true(store_pending(f->node->store));
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        f->reply = sd_bus_message_unref(f->reply);
        assert_true(settle_now(settle));
        assert_true(sd_bus_process(f->client, NULL) >= 0 && f->reply);
        assert_string_equal(f->error, DONE);
        assert_int_equal(paused->state, JOB_CANCELLED);
        assert_false(store_pending(f->node->store));
        assert_true(settle_has_room(settle, 1, SIZE_MAX));

        struct job *next = new_job(f, "pretrain", JOB_QUEUED);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        assert_true(sd_bus_message_append(pause, "t", next->id) >= 0);
        f->reply = sd_bus_message_unref(f->reply);
        queue_call(f, pause);
        for (begin = loop_boottime(); !f->reply && loop_boottime() - begin < 2 * SETTLE_BUSY_USEC; loop_sleep(50000)) {
                assert_false(settle_now(settle));
                assert_true(sd_bus_process(f->client, NULL) >= 0);
        }
        assert_string_equal(f->error, BERTD_ERROR_STORAGE);
        assert_true(loop_boottime() - begin >= SETTLE_BUSY_USEC);
        assert_int_equal(next->state, JOB_QUEUED);
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        assert_true(settle_now(settle));
        assert_int_equal(next->state, JOB_QUEUED);
        f->full = false;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_authority, setup, teardown),
                cmocka_unit_test_setup_teardown(test_shutdown, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_others_see, setup, teardown),
                cmocka_unit_test_setup_teardown(test_states, setup, teardown),
                cmocka_unit_test_setup_teardown(test_resume_options, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ended_jobs, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
                cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_names, setup, teardown),
                cmocka_unit_test_setup_teardown(test_one_trainer_a_folder, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_change_that_cannot_be_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_changes_undone_together, setup, teardown),
                cmocka_unit_test_setup_teardown(test_locked, setup, teardown),
                cmocka_unit_test_setup_teardown(test_accounts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_parked_calls, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refusal_that_is_cut, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reason_that_is_cut, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
