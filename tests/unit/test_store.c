/* state.db: what is committed comes back, what cannot be committed stays in memory, what is no state.db is refused. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/store_fixture.h"

static void remove_durably(struct store *store, const struct job *job) {
        struct error error = {};

        assert_int_equal(store_remove(store, job), 0);
        assert_true(store_is_removed(store, job->id));
        assert_int_equal(store_flush(store, &error), 0);
        store_drop_removed(store);
}

/* test_job_fields has the rest of a job. */
static void test_round_trip(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "one");
        uint64_t id = job->id;
        char instance[17];

        (void) snprintf(instance, sizeof(instance), "%s", store_instance(store));
        assert_int_equal(strlen(instance), 16);
        job->state = JOB_BACKOFF;
        job_set_reason(job, "rank 1 died", "rank 1 died: its words");
        job->loss = 2.5;
        job->attempt = (struct attempt) { .number = 2,
                                          .nonce = "n",
                                          .boot_id = "b",
                                          .exit_class = EXIT_CLASS_SIGNAL,
                                          .exit_code = -1,
                                          .signal = 11,
                                          .resumed = true,
                                          .first_step = 10,
                                          .step = 17,
                                          .checkpoint_step = 10,
                                          .samples_first = 32,
                                          .samples_last = 63,
                                          .rank = 1,
                                          .host = strdup("node"),
                                          .evidence = strdup("/e"),
                                          .reason = strdup("SIGSEGV"),
                                          .private = strdup("SIGSEGV: its words") };
        job_lose(job, EXIT_CLASS_USER_ERROR, 12);
        job_lose(job, EXIT_CLASS_OOM, UINT64_C(1) << 40);
        job_lose(job, EXIT_CLASS_OOM, 5);
        struct checkpoint c = { .step = 10,
                                .size = 99,
                                .created = 5,
                                .attempt = 1,
                                .restored = 1,
                                .path = (char *) "/x/step-10.ckpt",
                                .dirty = true };
        assert_int_equal(job_checkpoint_add(job, &c), 0);
        store_note(store, job, JOB_RUNNING, "died", "rank 1 died");
        assert_true(store_pending(store));
        assert_int_equal(store_flush(store, &error), 0);
        assert_false(store_pending(store));
        store_free(store);

        store = open_store();
        assert_string_equal(store_instance(store), instance);
        job = store_find(store, id);
        assert_non_null(job);
        assert_int_equal(job->state, JOB_BACKOFF);
        assert_string_equal(job->reason, "rank 1 died");
        assert_string_equal(job->private, "rank 1 died: its words");
        assert_string_equal(job->attempt.private, "SIGSEGV: its words");
        assert_string_equal(job->user, "alice");
        assert_true(job->loss == 2.5 && isnan(job->rate));
        assert_int_equal(job->attempt.signal, 11);
        assert_int_equal(job->attempt.samples_first, 32);
        assert_int_equal(job->attempt.samples_last, 63);
        assert_int_equal(job->attempt.rank, 1);
        assert_string_equal(job->attempt.host, "node");
        assert_string_equal(job->attempt.evidence, "/e");
        assert_true(job->lost_usec[EXIT_CLASS_USER_ERROR] == 12 && job->lost_usec[EXIT_CLASS_KILLED] == 0);
        assert_true(job->lost_usec[EXIT_CLASS_OOM] == (UINT64_C(1) << 40) + 5);
        assert_int_equal(job->n_history, 1);
        assert_int_equal(job->history[0].step, 17);
        assert_int_equal(job->n_ledger, 1);
        assert_string_equal(job->ledger[0].path, "/x/step-10.ckpt");
        cleanup_free char *command = NULL;
        size_t size;
        assert_int_equal(store_load_command(store, id, &command, &size, &error), 0);
        cleanup_free char **words = unpack_strings(command, size);
        assert_string_equal(words[1], "a b");
        assert_string_equal(words[2], "");
        assert_null(words[3]);
        struct job_inputs inputs;
        assert_int_equal(store_load_inputs(store, id, &inputs, &error), 0);
        assert_int_equal(inputs.n_rlimits, 1);
        assert_true(inputs.rlimits[0].hard == UINT64_MAX);
        assert_memory_equal(inputs.environment, "A=1\0B=\0", 7);
        free(inputs.environment);
        store_free(store);
}

static int count_event(void *userdata, const struct event_row *event) {
        char *text = userdata;

        (void) snprintf(text + strlen(text), 256 - strlen(text), "%s>%s:%s ", event->from, event->to, event->what);
        return 0;
}

static void test_events_are_paged(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "one");
        char text[256] = "";

        job->state = JOB_STARTING;
        store_note(store, job, JOB_QUEUED, "start", NULL);
        job->state = JOB_RUNNING;
        store_note(store, job, JOB_STARTING, "running", "");
        assert_int_equal(store_flush(store, &error), 0);
        assert_int_equal(store_events(store, job->id, 0, 2, count_event, text, &error), 0);
        assert_string_equal(text, "queued>queued:submit queued>starting:start ");
        text[0] = '\0';
        assert_int_equal(store_events(store, job->id, 2, 10, count_event, text, &error), 0);
        assert_string_equal(text, "starting>running:running ");
        store_free(store);
}

static void test_many_jobs_and_remove(void **state) {
        struct store *store = open_store();
        uint64_t ids[5];

        for (size_t i = 0; i < 5; i++)
                ids[i] = insert(store, "many")->id;
        assert_int_equal(store_count(store), 5);
        remove_durably(store, store_find(store, ids[2]));
        assert_null(store_find(store, ids[2]));
        assert_int_equal(store_count(store), 4);
        assert_int_equal(store_at(store, 2)->id, ids[3]);
        /* An id is never given twice. */
        remove_durably(store, store_find(store, ids[4]));
        assert_true(insert(store, "next")->id > ids[4]);
        store_free(store);
}

/* An attempt that was not started, or was stopped before that, says nothing of whether the job's program ever ran. */
static void test_has_run(void **state) {
        static const struct {
                enum exit_class exit_class;
                int exit_code, signal;
                bool ran, of_shell; /* of_shell: asked by an attempt with an exit code 127 of its own */
        } rows[] = {
                { EXIT_CLASS_LAUNCH, -1, 0, false, false },      { EXIT_CLASS_USER_ERROR, 127, 0, false, false },
                { EXIT_CLASS_USER_ERROR, 126, 0, false, false }, { EXIT_CLASS_STOPPED, -1, 0, false, false },
                { EXIT_CLASS_MISSING, 66, 0, false, false },     { EXIT_CLASS_FAILED, 127, 0, true, false },
                { EXIT_CLASS_USER_ERROR, 65, 0, true, true },    { EXIT_CLASS_STOPPED, 75, 0, true, true },
                { EXIT_CLASS_KILLED, -1, 9, true, true },        { EXIT_CLASS_REBOOT, -1, 0, true, true },
        };
        struct store *store = open_store();
        struct error error = {};

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct job *job = insert(store, "job");
                bool ran = true, of_shell = true;
                job->attempt = (struct attempt) { .number = 1,
                                                  .exit_class = (int) rows[i].exit_class,
                                                  .exit_code = rows[i].exit_code,
                                                  .signal = rows[i].signal };
                store_mark(store, job);
                assert_int_equal(store_flush(store, &error), 0);
                assert_int_equal(store_has_run(store, job, &ran, &error), 0);
                assert_false(ran); /* the newest itself does not count */
                job->attempt = (struct attempt) { .number = 2, .exit_class = -1, .exit_code = -1 };
                assert_int_equal(store_has_run(store, job, &ran, &error), 0);
                job->attempt = (struct attempt) { .number = 2, .exit_class = EXIT_CLASS_FAILED, .exit_code = 127 };
                assert_int_equal(store_has_run(store, job, &of_shell, &error), 0);
                if (ran != rows[i].ran || of_shell != rows[i].of_shell)
                        fail_msg("row %zu: %d %d", i, (int) ran, (int) of_shell);
        }
        store_free(store);
}

/* A writer that holds the database stands for a full disk: nothing is lost, and the next flush writes it all. */
static void test_failed_commit_is_kept(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "one");
        cleanup_db sqlite3 *other = NULL;

        assert_int_equal(sqlite3_open(db_path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        job->state = JOB_CANCELLED;
        store_note(store, job, JOB_QUEUED, "cancel", "");
        assert_true(store_flush(store, &error) < 0);
        assert_true(error.code > 0);
        assert_true(store_pending(store));
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        error = (struct error) {};
        assert_int_equal(store_flush(store, &error), 0);
        store_free(store);
        store = open_store();
        assert_int_equal(store_count(store), 0);
        assert_int_equal(store_load(store, 1, &job, &error), 0);
        assert_int_equal(job->state, JOB_CANCELLED);
        job_free(job);
        store_free(store);
}

/* SQLite rolls back by itself where a statement finds the disk full: what is inserted after it belongs to the same
 * transaction, and comes to nothing with it, even where there is room for it. */
static void test_nothing_is_inserted_outside_a_transaction(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "before");
        struct rlimit unlimited, small = { .rlim_cur = 300u << 10 };
        char *command[] = { (char *) "true", NULL };
        struct submission s = {};
        cleanup_free char *spec = calloc(1, (900u << 10) + 1);

        assert_non_null(spec);
        memset(spec, '#', 900u << 10);
        submission_defaults(&s);
        s.name = (char *) "large";
        s.kind = JOB_COMMAND;
        s.cwd = (char *) "/tmp";
        s.spec = spec;
        s.command = command;
        (void) signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
        small.rlim_max = unlimited.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_true(store_insert(store, &s, 1000, 1001, "alice", LAUNCHER_FORK, &job, &error) < 0);
        s.name = (char *) "small";
        s.spec = (char *) "";
        error = (struct error) {};
        int r = store_insert(store, &s, 1000, 1001, "alice", LAUNCHER_FORK, &job, &error);
        if (r >= 0) {
                assert_true(store_flush(store, &error) < 0);
                store_drop(store, job);
        } else
                assert_true(store_flush(store, &(struct error) {}) < 0);
        store_undone(store);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
        assert_string_not_equal(error.text, "");
        assert_int_equal(store_count(store), 1);
        store_free(store);
        store = open_store();
        assert_int_equal(store_count(store), 1);
        assert_string_equal(store_at(store, 0)->name, "before");
        store_free(store);
}

static void test_bad_rows_do_not_block(void **state) {
        struct store *store = open_store();
        uint64_t good = insert(store, "good")->id;

        (void) insert(store, "bad");
        store_free(store);
        execute("PRAGMA ignore_check_constraints=ON; UPDATE job SET state='nonsense' WHERE name='bad';"
                "INSERT INTO checkpoint VALUES(1, 5, 1, 1, 77, 1, 0, '/x')");
        store = open_store();
        assert_int_equal(store_count(store), 1);
        assert_int_equal(store_at(store, 0)->id, good);
        assert_int_equal(store_load_ledger(store, store_at(store, 0), NULL), 0);
        assert_int_equal(store_at(store, 0)->n_ledger, 0);
        assert_int_equal(complaints, 2);
        store_free(store);
}

/* However large a number is that a program reports, it does not keep others' jobs from being committed. */
static void test_no_number_fails_a_commit(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "job");
        struct error error = {};

        job->step = job->steps = job->lost_steps = job->run_usec = job->attempt.step = UINT64_MAX;
        job->attempt.number = 1;
        job->attempt.gpu_mask = UINT64_MAX;
        store_note(store, job, job->state, "step", "");
        if (store_flush(store, &error) < 0)
                fail_msg("%s", error.text);
        store_free(store);
        store = open_store();
        assert_int_equal(store_at(store, 0)->step, INT64_MAX);
        assert_int_equal(store_at(store, 0)->attempt.gpu_mask, UINT64_MAX);
        store_free(store);
}

/* Ends, leaves memory once durable, is read back, comes back for a resume, goes for good. */
static void test_ended_jobs_live_on_disk(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "one"), *loaded = NULL;
        uint64_t id = job->id, counts[JOB_STATE_MAX], other = insert(store, "two")->id;
        struct checkpoint c = { .step = 10, .path = (char *) "/x/step-10.ckpt", .dirty = true };

        assert_int_equal(job_checkpoint_add(job, &c), 0);
        job->attempt.number = 3;
        job->attempt.exit_class = EXIT_CLASS_FAILED;
        job->attempt.step = 17;
        job->attempt.checkpoint_step = 10;
        job->state = JOB_FAILED;
        store_note(store, job, JOB_RUNNING, "gave-up", "tired");
        store_release(store); /* not durable yet: stays */
        assert_ptr_equal(store_find(store, id), job);
        assert_int_equal(store_flush(store, &error), 0);
        store_release(store);
        assert_null(store_find(store, id));
        assert_non_null(store_find(store, other));
        store_counts(store, counts);
        assert_true(counts[JOB_FAILED] == 1 && counts[JOB_QUEUED] == 1);
        assert_int_equal(store_load(store, 99, &loaded, &error), -ENOENT);
        assert_int_equal(store_load(store, id, &loaded, &error), 0);
        assert_true(loaded->attempt.number == 3 && loaded->n_ledger == 1 && loaded->n_history == 0);
        assert_int_equal(store_adopt(store, loaded), 0);
        assert_ptr_equal(store_at(store, 0), loaded);
        loaded->state = JOB_QUEUED;
        store_note(store, loaded, JOB_FAILED, "resume", "");
        assert_int_equal(store_flush(store, &error), 0);
        store_release(store);
        assert_ptr_equal(store_find(store, id), loaded);
        store_counts(store, counts);
        assert_true(counts[JOB_FAILED] == 0 && counts[JOB_QUEUED] == 2);
        loaded->state = JOB_CANCELLED;
        store_note(store, loaded, JOB_QUEUED, "cancel", "");
        assert_int_equal(store_flush(store, &error), 0);
        store_free(store);

        store = open_store();
        assert_int_equal(store_count(store), 1);
        store_counts(store, counts);
        assert_int_equal(counts[JOB_CANCELLED], 1);
        assert_int_equal(store_load(store, id, &loaded, &error), 0);
        remove_durably(store, loaded);
        job_free(loaded);
        store_counts(store, counts);
        assert_int_equal(counts[JOB_CANCELLED], 0);
        assert_int_equal(store_load(store, id, &loaded, &error), -ENOENT);
        store_free(store);
}

static int note_page(void *userdata, const struct job *job) {
        char *text = userdata;

        (void) snprintf(text + strlen(text), 256 - strlen(text), "%d:%s:%zu ", (int) job->id,
                        job_state_name(job->state), job->n_ledger);
        return 0;
}

static void test_pages_mix_memory_and_disk(void **state) {
        struct store *store = open_store();
        struct error error = {};
        char text[256] = "";

        for (size_t i = 0; i < 5; i++) {
                struct job *job = insert(store, "page");
                struct checkpoint c = { .step = 1, .path = (char *) "/x", .dirty = true };
                if (i % 2 == 0)
                        continue;
                assert_int_equal(job_checkpoint_add(job, &c), 0);
                job->state = JOB_DONE;
                store_note(store, job, JOB_RUNNING, "finished", "");
        }
        assert_int_equal(store_flush(store, &error), 0);
        store_release(store);
        assert_int_equal(store_count(store), 3);
        assert_int_equal(store_page(store, 0, 3, false, note_page, text, &error), 0);
        assert_string_equal(text, "5:queued:0 4:done:1 3:queued:0 ");
        text[0] = '\0';
        assert_int_equal(store_page(store, 3, 500, false, note_page, text, &error), 0);
        assert_string_equal(text, "2:done:1 1:queued:0 ");
        text[0] = '\0';
        assert_int_equal(store_page(store, 5, 500, true, note_page, text, &error), 0);
        assert_string_equal(text, "3:queued:0 1:queued:0 ");
        store_free(store);
}

static void test_event_tells_how_an_attempt_ended(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "one");
        char text[256] = "";

        job->state = JOB_RUNNING;
        store_note(store, job, JOB_STARTING, "hello", "");
        job->attempt.number = 1;
        job->attempt.exit_class = EXIT_CLASS_OOM;
        job->step = job->attempt.step = 17;
        job->attempt.checkpoint_step = 10;
        job->state = JOB_BACKOFF;
        store_note(store, job, JOB_RUNNING, "retry", "");
        assert_int_equal(store_flush(store, &error), 0);
        assert_int_equal(store_events(store, job->id, 0, 9, note_end, text, &error), 0);
        assert_string_equal(text, "submit//0/0 hello//0/0 retry/oom/17/7 ");
        job->state = JOB_RUNNING;
        store_note(store, job, JOB_STARTING, "hello", "");
        job->step = job->attempt.step = 9; /* it went back and came no further */
        job->state = JOB_BACKOFF;
        store_note(store, job, JOB_RUNNING, "retry", "");
        job->state = JOB_RUNNING;
        store_note(store, job, JOB_STARTING, "hello", "");
        job->attempt.exit_class = EXIT_CLASS_FINISHED; /* its last steps need no checkpoint */
        job->step = job->attempt.step = 17;
        job->state = JOB_DONE;
        store_note(store, job, JOB_RUNNING, "finished", "");
        assert_int_equal(store_flush(store, &error), 0);
        text[0] = '\0';
        assert_int_equal(store_events(store, job->id, 3, 9, note_end, text, &error), 0);
        assert_string_equal(text, "hello//17/0 retry/oom/9/0 hello//9/0 finished/finished/17/0 ");
        store_free(store);
}

static void test_names_are_found(void **state) {
        struct store *store = open_store();
        struct error error = {};
        uint64_t id, first = insert(store, "one")->id, second = insert(store, "one")->id;

        (void) insert(store, "two");
        assert_true(first < second);
        assert_true(store_find_name(store, "one", 1000, &id, &error) == 0 && id == second);
        assert_true(store_find_name(store, "one", 77, &id, &error) == 0 && id == second);
        assert_true(store_find_name(store, "on", 1000, &id, &error) == 0 && id == 0);
        assert_int_equal(store_flush(store, &error), 0);
        execute("UPDATE job SET uid=77 WHERE id=1");
        assert_true(store_find_name(store, "one", 77, &id, &error) == 0 && id == first); /* his own before others' */
        store_free(store);
}

static void test_not_a_database(void **state) {
        struct store *store;
        struct error error = {};

        assert_int_equal(file_write_atomic(db_path,
                                           "this is no database, and long enough to be looked at: it has no header", 70,
                                           0600, NULL),
                         0);
        assert_true(store_open(db_path, true, complain, &store, &error) < 0);
        assert_non_null(strstr(error.text, db_path));
        assert_non_null(strstr(error.text, "IF STATE.DB IS DAMAGED"));
}

/* Jobs were in it: a new one would know none of them, and give their numbers away again. */
static void test_empty_is_refused_where_jobs_were(void **state) {
        struct store *store;
        struct error error = {};

        assert_int_equal(store_open(db_path, false, complain, &store, &error), -ENOENT);
        assert_non_null(strstr(error.text, "jobs/ is not empty"));
        assert_int_equal(access(db_path, F_OK), -1);
        assert_int_equal(file_write_atomic(db_path, "", 0, 0600, NULL), 0);
        error = (struct error) {};
        assert_int_equal(store_open(db_path, false, complain, &store, &error), -ENOENT);
        assert_int_equal(store_open(db_path, true, complain, &store, &error), 0);
        store_free(store);
}

/* In memory is the newest good row; the rest is read where it is asked for, and what memory has in addition counts. */
static void test_ledger_is_on_disk(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "one");
        uint64_t id = job->id;

        for (uint64_t step = 1; step <= 600; step++) {
                struct checkpoint c = { .step = step,
                                        .attempt = (uint32_t) step,
                                        .restored = 2,
                                        .state = step > 590 ? CHECKPOINT_DEMOTED : CHECKPOINT_GOOD,
                                        .path = (char *) "/x",
                                        .dirty = true };
                assert_int_equal(job_checkpoint_add(job, &c), 0);
        }
        store_mark(store, job);
        assert_int_equal(store_flush(store, NULL), 0);
        assert_true(job->n_ledger == 1 && job->ledger[0].step == 590 && !job->ledger_whole);
        store_free(store);

        store = open_store();
        job = store_find(store, id);
        assert_true(job->n_ledger == 1 && job->ledger[0].step == 590);
        job->ledger[0].state = CHECKPOINT_DELETED;
        job->ledger[0].dirty = true;
        struct checkpoint more = { .step = 601, .path = (char *) "/x", .dirty = true };
        assert_int_equal(job_checkpoint_add(job, &more), 0);
        assert_int_equal(store_load_ledger(store, job, NULL), 0);
        assert_int_equal(job->n_ledger, 601);
        for (size_t i = 0; i < 600; i++)
                assert_true(job->ledger[i].step == i + 1 && job->ledger[i].attempt == i + 1 &&
                            job->ledger[i].restored == 2);
        assert_int_equal(job->ledger[589].state, CHECKPOINT_DELETED);
        assert_int_equal(job_newest_good(job)->step, 601);
        job_ledger_trim(job);
        assert_true(job->n_ledger == 2 && job->ledger[0].step == 590 &&
                    job->ledger[1].step == 601); /* not durable yet */
        store_free(store);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test_setup_teardown(test_events_are_paged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_jobs_and_remove, setup, teardown),
                cmocka_unit_test_setup_teardown(test_failed_commit_is_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_has_run, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_is_inserted_outside_a_transaction, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_rows_do_not_block, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_number_fails_a_commit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ended_jobs_live_on_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pages_mix_memory_and_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_event_tells_how_an_attempt_ended, setup, teardown),
                cmocka_unit_test_setup_teardown(test_names_are_found, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_a_database, setup, teardown),
                cmocka_unit_test_setup_teardown(test_empty_is_refused_where_jobs_were, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger_is_on_disk, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
