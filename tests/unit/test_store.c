/* state.db: what is committed comes back, what cannot be committed stays in memory, what is newer is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/db.h"
#include "common/file.h"
#include "daemon/states.h"
#include "daemon/store.h"

static char folder[64];
static char *db_path;
static unsigned complaints;

static void complain(const char *text) { complaints++; }

static int setup(void **state) {
        (void) snprintf(folder, sizeof(folder), "/tmp/bertd-test-store-XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        db_path = format_string("%s/state.db", folder);
        complaints = 0;
        return db_path ? 0 : -1;
}

static int teardown(void **state) {
        static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                cleanup_free char *path = format_string("%s%s", db_path, suffixes[i]);
                (void) unlink(path);
        }
        (void) rmdir(folder);
        free(db_path);
        return 0;
}

static struct store *open_store(void) {
        struct store *store = NULL;
        struct error error = {};

        if (store_open(db_path, complain, &store, &error) < 0)
                fail_msg("%s", error.text);
        return store;
}

static struct job *insert(struct store *store, const char *name) {
        char *command[] = { (char *) "echo", (char *) "a b", (char *) "", NULL },
             *environment[] = { (char *) "A=1", (char *) "B=", NULL };
        struct submission s = {};
        struct job *job = NULL;
        struct error error = {};

        submission_defaults(&s);
        s.name = (char *) name;
        s.kind = (char *) "command";
        s.cwd = (char *) "/tmp";
        s.spec = (char *) "kind: command\n";
        s.command = command;
        s.environment = environment;
        s.rlimits[0] = (struct submit_rlimit) { .resource = 7, .soft = 1024, .hard = UINT64_MAX };
        s.n_rlimits = 1;
        s.priority = -3;
        if (store_insert(store, &s, 1000, 1001, "alice", LAUNCHER_FORK, &job, &error) < 0)
                fail_msg("%s", error.text);
        return job;
}

static void test_round_trip(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "one");
        uint64_t id = job->id;
        char instance[17];

        (void) snprintf(instance, sizeof(instance), "%s", store_instance(store));
        assert_int_equal(strlen(instance), 16);
        job->state = JOB_BACKOFF;
        job_set_text(&job->reason, "rank 1 died");
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
                                          .reason = strdup("SIGSEGV") };
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
        assert_string_equal(job->user, "alice");
        assert_int_equal(job->priority, -3);
        assert_true(job->loss == 2.5 && isnan(job->rate));
        assert_int_equal(job->attempt.signal, 11);
        assert_int_equal(job->n_history, 1);
        assert_int_equal(job->history[0].step, 17);
        assert_int_equal(job->n_ledger, 1);
        assert_string_equal(job->ledger[0].path, "/x/step-10.ckpt");
        cleanup_free char **words = unpack_strings(job->command, job->command_size);
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
        struct error error = {};
        uint64_t ids[5];

        for (size_t i = 0; i < 5; i++)
                ids[i] = insert(store, "many")->id;
        assert_int_equal(store_count(store), 5);
        assert_int_equal(store_remove(store, store_find(store, ids[2]), &error), 0);
        assert_null(store_find(store, ids[2]));
        assert_int_equal(store_count(store), 4);
        assert_int_equal(store_lower_bound(store, ids[2]), 2);
        assert_int_equal(store_lower_bound(store, UINT64_MAX), 4);
        /* An id is never given twice. */
        assert_int_equal(store_remove(store, store_find(store, ids[4]), &error), 0);
        assert_true(insert(store, "next")->id > ids[4]);
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
        assert_int_equal(store_at(store, 0)->state, JOB_CANCELLED);
        store_free(store);
}

static void execute(const char *sql) {
        cleanup_db sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void test_newer_schema_is_refused(void **state) {
        struct store *store = open_store();
        struct error error = {};

        store_free(store);
        execute("PRAGMA user_version=99");
        assert_true(store_open(db_path, complain, &store, &error) < 0);
        assert_non_null(strstr(error.text, "newer bertd (schema 99"));
        assert_null(strchr(error.text, '\n'));
}

static void test_bad_rows_do_not_block(void **state) {
        struct store *store = open_store();
        uint64_t good = insert(store, "good")->id;

        (void) insert(store, "bad");
        store_free(store);
        execute("UPDATE job SET state='nonsense' WHERE name='bad'; INSERT INTO checkpoint VALUES(1, 5, 1, 1, 77, 1, 0, "
                "'/x')");
        store = open_store();
        assert_int_equal(store_count(store), 1);
        assert_int_equal(store_at(store, 0)->id, good);
        assert_int_equal(store_at(store, 0)->n_ledger, 0);
        assert_int_equal(complaints, 2);
        store_free(store);
}

static void test_not_a_database(void **state) {
        struct store *store;
        struct error error = {};

        assert_int_equal(file_write_atomic(db_path,
                                           "this is no database, and long enough to be looked at: it has no header", 70,
                                           0600, NULL),
                         0);
        assert_true(store_open(db_path, complain, &store, &error) < 0);
        assert_non_null(strstr(error.text, db_path));
}

static void test_ledger_is_bounded(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "one");

        for (uint64_t step = 2 * LEDGER_MAX; step > 0; step--) {
                struct checkpoint c = { .step = step,
                                        .state = step % 2 ? CHECKPOINT_DELETED : CHECKPOINT_GOOD,
                                        .path = (char *) "/x" };
                assert_int_equal(job_checkpoint_add(job, &c), 0);
        }
        assert_int_equal(job->n_ledger, LEDGER_MAX);
        for (size_t i = 1; i < job->n_ledger; i++)
                assert_true(job->ledger[i - 1].step < job->ledger[i].step);
        store_free(store);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test_setup_teardown(test_events_are_paged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_jobs_and_remove, setup, teardown),
                cmocka_unit_test_setup_teardown(test_failed_commit_is_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_rows_do_not_block, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_a_database, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger_is_bounded, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
