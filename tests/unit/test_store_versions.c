/* A state.db that another bertd wrote: an older one's is migrated, with a copy left as it was; a newer one's is refused. */
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store/sql.h"
#include "tests/unit/store_fixture.h"

static void test_newer_schema_is_refused(void **state) {
        struct store *store = open_store();
        struct error error = {};

        store_free(store);
        execute("PRAGMA user_version=99");
        assert_true(store_open(db_path, true, complain, &store, &error) < 0);
        assert_non_null(strstr(error.text, "newer bertd (schema 99"));
        assert_null(strchr(error.text, '\n'));
}

/* A database as bertd 1 wrote it: a running job with a checkpoint and events, a queued and an ended one. */
static void test_version_1_is_migrated(void **state) {
        static const char rows[] =
                "INSERT INTO meta VALUES('instance', '0123456789abcdef');"
                "INSERT INTO job(id, uid, gid, kind, state, launcher, priority, ranks, threads, gpus,"
                " max_without_progress, backoff_min_sec, backoff_max_sec, grace_sec, keep, keep_every, umask, name, "
                "user,"
                " cwd, command, submitted) VALUES"
                "(1, 1000, 1000, 'command', 'done', 0, 0, 1, 1, 0, 5, 5, 600, 120, 3, 0, 18, 'old', 'a', '/', "
                "x'6c7300', 1),"
                "(2, 1000, 1000, 'command', 'running', 0, 0, 2, 1, 0, 5, 5, 600, 120, 3, 0, 18, 'now', 'a', '/', "
                "x'6c7300', 2),"
                "(3, 1000, 1000, 'command', 'queued', 0, 9, 1, 1, 0, 5, 5, 600, 120, 3, 0, 18, 'next', 'a', '/', "
                "x'6c7300', 3);"
                "INSERT INTO input VALUES(1, 's', x'', x''), (2, 'spec', x'413d3100', x''), (3, 's', x'', x'');"
                "INSERT INTO attempt VALUES(2, 1, 0, 'n1', 'b', 7, 8, 0, 1, 2, 0, 0, 12, 10, -1, 9, 6, 'killed'),"
                " (2, 2, 1, 'n2', 'b', 77, 88, 3, 3, 0, 1, 10, 15, 10, -1, 0, -1, '');"
                "INSERT INTO checkpoint VALUES(2, 10, 99, 5, 0, 1, 1, '/x/step-10.ckpt');"
                "INSERT INTO event(job, time, from_state, to_state, what, reason)"
                " VALUES(2, 1, 'queued', 'queued', 'submit', ''), (2, 2, 'running', 'backoff', 'retry', 'killed');";
        struct error error = {};
        uint64_t counts[JOB_STATE_MAX];
        char text[256] = "", *spec = NULL;
        cleanup_db sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, store_schema, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, rows, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(steal_pointer(&db)), SQLITE_OK);
        struct store *store = open_store();
        assert_string_equal(store_instance(store), "0123456789abcdef");
        assert_int_equal(store_count(store), 2);
        struct job *job = store_find(store, 2);
        assert_int_equal(job->state, JOB_RUNNING);
        assert_true(job->attempt.number == 2 && job->attempt.open && job->attempt.pid == 77 &&
                    job->attempt.gpu_mask == 3 && !job->attempt.gpus);
        assert_string_equal(job->attempt.nonce, "n2");
        assert_true(job->attempt.rank == -1 && !job->attempt.host);
        assert_true(job->n_history == 1 && job->history[0].step == 12 && job->n_ledger == 1);
        assert_true(job->memory == 0 && job->hang_sec == -1 && job->start_sec == -1 && job->on_nan == ON_NAN_STOP);
        assert_int_equal(job->ends_with, ENDS_WITH_FIRST);
        assert_true(isnan(job->checkpoint_stall));
        assert_int_equal(store_find(store, 3)->priority, 9);
        assert_int_equal(store_load_spec(store, 2, &spec, &error), 0);
        assert_string_equal(spec, "spec");
        free(spec);
        cleanup_free char *command = NULL;
        size_t size;
        assert_int_equal(store_load_command(store, 2, &command, &size, &error), 0);
        assert_true(size == 3 && strcmp(command, "ls") == 0);
        assert_int_equal(store_events(store, 2, 0, 9, note_end, text, &error), 0);
        assert_string_equal(text, "submit//0/0 retry//0/0 ");
        store_counts(store, counts);
        assert_true(counts[JOB_DONE] == 1 && counts[JOB_RUNNING] == 1 && counts[JOB_QUEUED] == 1);
        (void) insert(store, "after");
        store_free(store);
        store_free(open_store()); /* and not migrated twice */
}

/* A database as bertd 2 wrote it: a job with a long history that runs, one with more, ended; one whose folder holds a checkpoint. */
static void make_version_2(void) {
        static const char rows[] = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 4) INSERT "
                                   "INTO job(id, uid, gid, kind,"
                                   " state, launcher, priority, ranks, threads, gpus, max_without_progress, "
                                   "backoff_min_sec, backoff_max_sec,"
                                   " grace_sec, keep, keep_every, umask, name, user, cwd, command, submitted, ended, "
                                   "since_usec, reason) SELECT i, 1000, 1001,"
                                   " 'command', CASE i WHEN 1 THEN 'backoff' WHEN 4 THEN 'queued' ELSE 'failed' END, "
                                   "0, 0, 1, 1, 0, 100, 5, 600, 120,"
                                   " 3, 0, 18, 'x', 'alice', '/', x'6c7300', 1, i, 5, 'its words' FROM n;"
                                   "INSERT INTO input SELECT id, 's', x'413d3100', x'' FROM job;"
                                   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 5000) "
                                   "INSERT INTO event(job, time,"
                                   " from_state, to_state, what, reason, class, step, lost) SELECT 1 + (i > 250), i, "
                                   "'running', 'backoff', 'e' || i,"
                                   " 'r', 'failed', 0, 0 FROM n;"
                                   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300) INSERT "
                                   "INTO attempt(job, number, open,"
                                   " nonce, boot_id, pid, pid_start, gpu_mask, started, ended, resumed, first_step, "
                                   "step, checkpoint_step, exit_code,"
                                   " signal, exit_class, reason) SELECT 1 + (i > 40), i - 40 * (i > 40), 0, 'n', 'b', "
                                   "0, 0, 0, i, i, 0, 0, 0, 0, 1, 0,"
                                   " CASE WHEN i = 30 THEN 7 ELSE 5 END, 'r' FROM n;"
                                   "INSERT INTO checkpoint VALUES(3, 10, 99, 5, 0, 1, 1, "
                                   "'/old/state/jobs/3/checkpoints/step-000000010.ckpt'),"
                                   " (2, 10, 99, 5, 0, 1, 1, '/home/alice/run/checkpoints/step-000000010.ckpt');";
        cleanup_db sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, store_schema, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, store_migrations[0], NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, rows, NULL, NULL, NULL), SQLITE_OK);
}

static void test_version_2_is_migrated(void **state) {
        static struct events all;
        cleanup_free char *copy = format_string("%s.v2", db_path);
        struct error error = {};
        struct job *job;

        make_version_2();
        assert_int_equal(file_write_atomic(copy, "of an earlier try", 17, 0600, NULL), 0);
        struct store *store = open_store();
        assert_int_equal(store_count(store), 2);
        job = store_at(store, 0);
        assert_true(job->deaths == 39 && job->free_deaths == 1); /* the 30th was killed */
        assert_true(store_at(store, 1)->deaths == 0 && !job->lost_usec);
        read_events(store, 1, &all);
        assert_true(all.n == 250 && all.note == 0);
        read_events(store, 2, &all);
        assert_true(all.n == 1001 && all.note == 101);
        assert_string_equal(all.reason, "3750 older events and 160 older attempts dropped");
        assert_string_equal(all.whats[99], "e350");
        assert_string_equal(all.whats[101], "e4101");
        assert_int_equal(number("SELECT count(*) FROM attempt WHERE job=2"), 100);
        /* What an older bertd kept is for the owner alone. */
        assert_int_equal(number("SELECT count(*) FROM event WHERE what<>'dropped' AND (reason<>'' OR private<>'r')"),
                         0);
        assert_int_equal(number("SELECT count(*) FROM attempt WHERE reason<>'' OR private<>'r'"), 0);
        assert_null(job->reason);
        assert_string_equal(job->private, "its words");
        struct folders folders = trash_of(store, NULL, 0);
        assert_true(folders.n == 1 && folders.rows[0].job == 2 && folders.rows[0].first == 11 &&
                    folders.rows[0].last == 170);
        assert_int_equal(store_held(store), 1);
        assert_int_equal(store_trash_done(store, folders.rows[0].id, 100), 0); /* the first part of them */
        assert_int_equal(store_flush(store, &error), 0);
        folders = trash_of(store, NULL, 0);
        assert_true(folders.n == 1 && folders.rows[0].first == 100);
        note_events(store, job, 251, 1);
        store_free(store);
        assert_int_equal(number("PRAGMA user_version"), STORE_VERSION);
        /* The copy is the database as it was. */
        free(db_path);
        db_path = steal_pointer(&copy);
        assert_int_equal(number("PRAGMA user_version"), 2);
        assert_int_equal(number("SELECT count(*) FROM event"), 5000);
}

/* Where it cannot be copied first it is not changed. */
static void test_no_copy_no_migration(void **state) {
        cleanup_free char *in_the_way = format_string("%s.v2", db_path), *left = format_string("%s.new", db_path);
        struct error error = {};
        struct store *store;

        make_version_2();
        assert_int_equal(mkdir(in_the_way, 0700), 0);
        assert_true(store_open(db_path, true, complain, &store, &error) < 0);
        assert_non_null(strstr(error.text, "no copy of it can be made"));
        assert_non_null(strstr(error.text, "nothing was changed"));
        assert_int_equal(number("PRAGMA user_version"), 2);
        assert_int_equal(number("SELECT count(*) FROM event"), 5000);
        assert_int_equal(access(left, F_OK), -1);
        assert_int_equal(rmdir(in_the_way), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_version_1_is_migrated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_version_2_is_migrated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_copy_no_migration, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
