/* What state.db and memory hold is bounded: jobs and their texts, rows of the ledger, events, attempts, ended jobs. */
#include <errno.h>
#include <string.h>

#include "tests/unit/store_fixture.h"

/* A job of that user whose folder's path has so many bytes; −errno. */
static int insert_long(struct store *store, uid_t uid, size_t size, struct job **ret, struct error *error) {
        cleanup_free char *path = malloc(size + 1);
        char *command[] = { (char *) "true", NULL };
        struct submission s = {};

        memset(path, 'x', size);
        path[0] = '/';
        path[size] = '\0';
        submission_defaults(&s);
        s.name = (char *) "n";
        s.kind = JOB_COMMAND;
        s.cwd = path;
        s.command = command;
        return store_insert(store, &s, uid, uid, "alice", LAUNCHER_FORK, ret, error);
}

/* Inserts until it is refused; how many there were. */
static size_t fill(struct store *store, uid_t uid, size_t size, struct error *error) {
        struct job *job;
        size_t n = 0;

        *error = (struct error) {};
        while (insert_long(store, uid, size, &job, error) == 0)
                n++;
        assert_int_equal(error->code, EDQUOT);
        return n;
}

static void test_texts_are_bounded(void **state) {
        struct store *store = open_store();
        struct error error;
        struct job *job = NULL;

        size_t n = fill(store, 1, 4095, &error), of_uid = (8 << 20) / (4096 + sizeof("n"));
        assert_int_equal(n, of_uid);
        assert_non_null(strstr(error.text, "names and paths of open jobs have reached a limit (8 MiB"));
        error = (struct error) {};
        assert_int_equal(insert_long(store, 2, 100, &job, &error), 0);
        assert_int_equal(fill(store, 2, 4095, &error), of_uid - 1);
        assert_true(fill(store, 3, 4095, &error) == of_uid && fill(store, 4, 4095, &error) == of_uid);
        assert_int_equal(fill(store, 5, 4095, &error), 0); /* 32 MiB in all */

        /* Those that have ended give back what they had. */
        job = store_at(store, 0);
        job->state = JOB_DONE;
        store_note(store, job, JOB_QUEUED, "finished", "");
        error = (struct error) {};
        assert_int_equal(store_flush(store, &error), 0);
        store_release(store);
        assert_int_equal(fill(store, 1, 4095, &error), 1);
        store_free(store);
}

static void test_jobs_are_bounded(void **state) {
        struct store *store = open_store();
        struct error error;
        struct job *job;

        assert_int_equal(fill(store, 1, 10, &error), 10000);
        assert_non_null(strstr(error.text, "you have 10000 open jobs, the limit per user; wait"));
        store_drop(store, store_at(store, 7));
        assert_int_equal(fill(store, 1, 10, &error), 1);
        assert_true(fill(store, 2, 10, &error) == 10000 && fill(store, 3, 10, &error) == 10000);
        assert_int_equal(fill(store, 4, 10, &error), 0);
        assert_non_null(strstr(error.text, "this host has 30000 open jobs"));
        error = (struct error) {};
        assert_int_equal(store_check_share(store, store_at(store, 0), &error), -EDQUOT); /* as `resume` asks */
        job = store_at(store, 5);
        store_drop(store, job);
        assert_int_equal(fill(store, 4, 10, &error), 1);
        store_free(store);
}

/* What attempts have said is let go where their user has too much of it; what he was told at submit is not. */
static void test_texts_of_attempts_are_bounded(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *job = insert(store, "one");
        char reason[5000];

        memset(reason, 'r', sizeof(reason) - 1);
        reason[sizeof(reason) - 1] = '\0';
        job_set_text(&job->reason, reason);
        job_set_text(&job->attempt.reason, reason);
        store_mark(store, job);
        assert_int_equal(store_flush(store, &error), 0);
        assert_int_equal(strlen(job->reason), BERTD_REASON_MAX);
        job->uid = 1000;
        (void) fill(store, 1000, 4095, &error);
        store_mark(store, job);
        error = (struct error) {};
        assert_int_equal(store_flush(store, &error), 0);
        assert_int_equal(strlen(job->reason), BERTD_REASON_MAX); /* not yet over it */
        job_set_text(&store_at(store, 1)->reason, reason);
        for (size_t i = 2; i < 10; i++)
                job_set_text(&store_at(store, i)->reason, reason);
        for (size_t i = 0; i < 10; i++)
                store_mark(store, store_at(store, i));
        assert_int_equal(store_flush(store, &error), 0);
        assert_int_equal(strlen(store_at(store, 9)->reason), 128);
        assert_false(store_has_room(store, job, 4096));
        job_set_text(&job->reason, "\xe2\x82\xac");
        assert_string_equal(job->reason, "\xe2\x82\xac");
        memset(reason, 'r', 1023);
        memcpy(reason + 1023, "\xe2\x82\xac", 4);
        job_set_text(&job->reason, reason); /* no character is cut in two */
        assert_int_equal(strlen(job->reason), 1023);
        store_free(store);
}

static void test_oldest_and_newest_events_are_kept(void **state) {
        static struct events all;
        struct store *store = open_store();
        struct job *other = insert(store, "other"), *job = insert(store, "one");

        note_events(store, other, 2, 20);
        note_events(store, job, 2, 999); /* "submit" was the first */
        read_events(store, job->id, &all);
        assert_true(all.n == 1000 && all.note == 0);
        note_events(store, job, 1001, 1);
        read_events(store, job->id, &all);
        assert_true(all.n == 1001 && all.note == 101);
        assert_string_equal(all.reason, "1 older event dropped");
        assert_string_equal(all.whats[99], "e100");
        assert_string_equal(all.whats[101], "e102");
        note_events(store, job, 1002, 2000);
        read_events(store, job->id, &all);
        assert_true(all.n == 1001 && all.note == 101);
        assert_string_equal(all.reason, "2001 older events dropped");
        assert_string_equal(all.whats[0], "submit");
        assert_string_equal(all.whats[99], "e100");
        assert_string_equal(all.whats[101], "e2102");
        assert_string_equal(all.whats[1000], "e3001");
        read_events(store, other->id, &all);
        assert_int_equal(all.n, 21);
        store_free(store);
        store = open_store(); /* and over a restart */
        note_events(store, store_at(store, 1), 3002, 1);
        read_events(store, store_at(store, 1)->id, &all);
        assert_true(all.n == 1001 && all.note == 101);
        assert_string_equal(all.reason, "2002 older events dropped");
        store_free(store);
}

static int take_some_trash(void *userdata, const struct trash_row *row) {
        struct folders *all = userdata;

        if (all->n == ELEMENTSOF(all->rows))
                return -ENOBUFS;
        return take_trash(userdata, row);
}

static void start_attempts(struct store *store, struct job *job, uint32_t last) {
        struct error error = {};

        while (job->attempt.number < last) {
                uint32_t next = job->attempt.number + 1;
                job_push_attempt(job);
                job->attempt.number = next;
                job->attempt.started = next;
                store_note(store, job, job->state, "start", "");
                assert_int_equal(store_flush(store, &error), 0);
                store_note(store, job, job->state, "died", "");
                assert_int_equal(store_flush(store, &error), 0);
        }
}

/* Of a job that waited for its hosts, the deaths before count, also after a restart. */
static void test_waits_are_no_deaths(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "one");
        struct error error = {};
        uint64_t id = job->id;

        for (uint32_t n = 1; n <= POLICY_HISTORY_MAX + 90; n++) {
                job_push_attempt(job);
                job->attempt.number = n;
                job->attempt.exit_class = n == 1 ? EXIT_CLASS_FAILED : EXIT_CLASS_WAIT;
                store_note(store, job, job->state, "died", "");
                assert_int_equal(store_flush(store, &error), 0);
        }
        store_free(store);
        store = open_store();
        job = store_find(store, id);
        assert_int_equal(job->attempt.number, POLICY_HISTORY_MAX + 90);
        assert_int_equal(job->n_history, 1);
        assert_int_equal(job->history[0].exit_class, EXIT_CLASS_FAILED);
        store_free(store);
}

/* The log of the one that ran, whatever waits follow; it goes when another has run. */
static void test_the_newest_that_ran_is_kept(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "one");
        struct error error = {};

        for (uint32_t n = 1; n <= 240; n++) {
                job_push_attempt(job);
                job->attempt.number = n;
                job->attempt.exit_class = n == 20 || n == 140 ? EXIT_CLASS_FAILED : EXIT_CLASS_WAIT;
                store_note(store, job, job->state, "died", "");
                assert_int_equal(store_flush(store, &error), 0);
                assert_int_equal(number("SELECT count(*) FROM attempt WHERE number=20"), n >= 20 && n <= 140);
        }
        assert_int_equal(number("SELECT count(*) FROM attempt"), 10 + 90 + 1);
        assert_int_equal(number("SELECT count(*) FROM attempt WHERE number=140"), 1);
        assert_int_equal(number("SELECT count(*) FROM trash WHERE first<=20 AND last>=20"), 1);
        assert_int_equal(number("SELECT sum(last-first+1) FROM trash"), 240 - 101);
        store_free(store);
}

static void test_oldest_and_newest_attempts_are_kept(void **state) {
        static struct events all;
        struct store *store = open_store();
        struct job *job = insert(store, "one");
        struct error error = {};
        const uid_t busy[] = { 1000 };

        start_attempts(store, job, 100);
        assert_false(store_has_trash(store));
        start_attempts(store, job, 103);
        assert_true(store_has_trash(store));
        assert_int_equal(number("SELECT count(*) FROM attempt"), 100);
        assert_int_equal(number("SELECT min(number) FROM attempt WHERE number > 10"), 14);
        struct folders folders = trash_of(store, NULL, 0);
        assert_int_equal(folders.n, 3);
        assert_true(folders.rows[0].job == job->id && folders.rows[0].first == 11 && folders.rows[0].last == 11);
        assert_true(folders.rows[2].first == 13 && folders.rows[2].uid == 1000 && folders.rows[2].gid == 1001);
        assert_int_equal(trash_of(store, busy, 1).n, 0);
        read_events(store, job->id, &all);
        assert_true(all.n == 208 && all.note > 0);
        assert_string_equal(all.reason, "3 older attempts dropped");
        assert_int_equal(store_trash_done(store, folders.rows[0].id, 0), 0);
        assert_int_equal(store_trash_done(store, folders.rows[1].id, 0), 0);
        assert_true(store_pending(store));
        assert_int_equal(store_flush(store, &error), 0);
        assert_int_equal(trash_of(store, NULL, 0).n, 1);
        store_free(store); /* bertd dies before the last folder is gone */
        store = open_store();
        assert_true(store_has_trash(store));
        assert_int_equal(trash_of(store, NULL, 0).n, 1);
        start_attempts(store, store_at(store, 0), 600);
        read_events(store, store_at(store, 0)->id, &all);
        assert_true(all.n == 1001 && all.note == 101);
        assert_string_equal(all.reason, "201 older events and 500 older attempts dropped");
        store_free(store);
}

/* A commit that fails has dropped nothing. */
static void test_nothing_is_dropped_by_a_failed_commit(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "one");
        struct error error = {};
        cleanup_db sqlite3 *other = NULL;

        start_attempts(store, job, 100);
        assert_int_equal(sqlite3_open(db_path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        job_push_attempt(job);
        job->attempt.number = 101;
        store_note(store, job, job->state, "start", "");
        assert_true(store_flush(store, &error) < 0);
        assert_false(store_has_trash(store));
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(store_flush(store, &error), 0);
        assert_true(store_has_trash(store));
        store_free(store);
}

static void test_starts_within_an_hour(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "one");
        struct error error = {};
        uint64_t oldest = 0;
        uint32_t n = 0;

        start_attempts(store, job, 90); /* the n-th at n */
        assert_int_equal(store_starts(store, job, 50, 80, &n, &oldest, &error), 0);
        assert_true(n == 30 && oldest == 51);
        assert_int_equal(store_starts(store, job, 0, 100, &n, &oldest, &error), 0);
        assert_true(n == POLICY_STARTS_MAX && oldest == 31);
        assert_int_equal(store_starts(store, job, 0, 20, &n, &oldest, &error), 0); /* a clock that was set back */
        assert_int_equal(n, 0);
        job->history_from = 85; /* a resume */
        assert_int_equal(store_starts(store, job, 0, 100, &n, &oldest, &error), 0);
        assert_true(n == 5 && oldest == 86);
        store_free(store);
}

static void end(struct store *store, uint64_t id, uint64_t when, bool holds) {
        struct job *job = store_find(store, id);
        struct error error = {};

        job->state = JOB_DONE;
        job->ended = when;
        job->holds_checkpoints = holds;
        store_note(store, job, JOB_RUNNING, "finished", "");
        assert_int_equal(store_flush(store, &error), 0);
        store_release(store);
}

/* What is removed by the same commit makes room: no other goes for it. */
static void test_removed_jobs_are_not_surplus(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *loaded = NULL;

        for (size_t i = 0; i < 3; i++)
                (void) insert(store, "job");
        store_keep_ended(store, 2);
        end(store, 1, 100, false);
        end(store, 2, 200, false);
        assert_int_equal(store_load(store, 1, &loaded, &error), 0);
        assert_int_equal(store_remove(store, loaded), 0);
        end(store, 3, 300, false);
        store_drop_removed(store);
        job_free(loaded);
        assert_int_equal(number("SELECT count(*) FROM job"), 2);
        assert_int_equal(number("SELECT count(*) FROM job WHERE id=2"), 1);
        store_free(store);
}

static void test_ended_jobs_beyond_a_number_go(void **state) {
        struct store *store = open_store();
        uint64_t counts[JOB_STATE_MAX];
        struct error error = {};
        struct job *loaded = NULL;

        for (size_t i = 0; i < 6; i++)
                (void) insert(store, "job");
        store_keep_ended(store, 2);
        end(store, 3, 10, true); /* the oldest, and it stays */
        end(store, 2, 500, false);
        end(store, 1, 100, false); /* the clock was set back */
        assert_int_equal(number("SELECT count(*) FROM job"), 6);
        end(store, 4, 200, false);
        assert_int_equal(store_load(store, 2, &loaded, &error), -ENOENT);
        assert_int_equal(number("SELECT count(*) FROM event WHERE job=2"), 0);
        assert_int_equal(number("SELECT count(*) FROM input WHERE job=2"), 0);
        struct folders folders = trash_of(store, NULL, 0);
        assert_true(folders.n == 1 && folders.rows[0].job == 2 && folders.rows[0].first == 0);
        store_counts(store, counts);
        assert_true(counts[JOB_DONE] == 3 && counts[JOB_QUEUED] == 2);
        assert_int_equal(store_held(store), 1);
        /* One that goes on is not among them; when it ends again, it is. */
        assert_int_equal(store_load(store, 3, &loaded, &error), 0);
        assert_int_equal(store_adopt(store, loaded), 0);
        loaded->state = JOB_QUEUED;
        loaded->holds_checkpoints = false;
        store_note(store, loaded, JOB_DONE, "resume", "");
        assert_int_equal(store_flush(store, &error), 0);
        assert_int_equal(store_held(store), 0);
        end(store, 3, 300, false);
        assert_int_equal(store_load(store, 1, &loaded, &error), -ENOENT);
        assert_int_equal(number("SELECT count(*) FROM job"), 4);
        store_counts(store, counts);
        assert_int_equal(counts[JOB_DONE], 2);
        store_free(store);
}

/* A user who ends many jobs loses his own. */
static void test_nobody_makes_room_for_another(void **state) {
        struct store *store = open_store();
        struct error error = {};
        struct job *loaded = NULL;

        for (size_t i = 0; i < 4; i++)
                (void) insert(store, "job");
        store_keep_ended(store, 2);
        end(store, 1, 10, false);
        execute("UPDATE job SET uid=77 WHERE id=1");
        for (uint64_t id = 2; id <= 4; id++)
                end(store, id, id * 10, false);
        assert_int_equal(store_load(store, 1, &loaded, &error), 0); /* the oldest of all, and his only one */
        job_free(loaded);
        assert_int_equal(store_load(store, 4, &loaded, &error), 0);
        job_free(loaded);
        assert_int_equal(number("SELECT count(*) FROM job"), 2);
        store_free(store);
}

/* Of many that have ended before: a few with each commit, and none is lost count of. */
/* A job whose on_exit is owed is in memory, in that of the next bertd, too, and stays; once it is paid its turn to go
 * is that of its end. */
static void test_owed_jobs_stay(void **state) {
        struct store *store = open_store();
        uint64_t counts[JOB_STATE_MAX];
        struct error error = {};

        for (size_t i = 0; i < 4; i++)
                (void) insert(store, "job");
        struct job *owed = store_find(store, 1);
        owed->state = JOB_FAILED;
        owed->exit_owed = EXIT_OWED_START;
        store_note(store, owed, JOB_RUNNING, "died", "");
        assert_int_equal(store_flush(store, &error), 0);
        store_release(store);
        assert_non_null(store_find(store, 1));
        store_free(store);

        store = open_store();
        store_keep_ended(store, 2);
        owed = store_find(store, 1);
        assert_non_null(owed);
        assert_true(owed->state == JOB_FAILED && owed->exit_owed == EXIT_OWED_START);
        store_counts(store, counts);
        assert_true(counts[JOB_FAILED] == 1 && counts[JOB_QUEUED] == 3);
        end(store, 2, 10, false);
        end(store, 3, 20, false);
        assert_int_equal(number("SELECT count(*) FROM job WHERE id=1"), 1);
        owed->exit_owed = EXIT_OWED_NONE;
        store_mark(store, owed);
        assert_int_equal(store_flush(store, &error), 0);
        store_release(store);
        assert_null(store_find(store, 1));
        end(store, 4, 30, false);
        assert_int_equal(number("SELECT min(id) FROM job"), 3); /* 1 and 2 have gone, in this order */
        store_free(store);
}

static void test_many_ended_jobs_go_in_parts(void **state) {
        struct store *store = open_store();
        uint64_t counts[JOB_STATE_MAX], before = 0, most = 0;
        struct error error = {};
        struct folders folders = {};

        (void) insert(store, "job");
        end(store, 1, 1, false);
        store_free(store);
        execute("WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i+1 FROM n WHERE i < 500) INSERT INTO job(id, uid, "
                "gid, kind,"
                " state, launcher, priority, ranks, threads, gpus, max_without_progress, backoff_min_sec, "
                "backoff_max_sec,"
                " grace_sec, umask, name, user, cwd, submitted, end_order, "
                "holds_checkpoints) "
                "SELECT i,"
                " 1000, 1001, 'command', 'failed', 0, 0, 1, 1, 0, 5, 5, 600, 120, 18, 'x', 'alice', '/', "
                "1, 100 + i,"
                " i=7 FROM n");
        store = open_store();
        assert_false(store_pending(store));
        store_keep_ended(store, 10);
        for (size_t turns = 0; store_pending(store); turns++) {
                assert_true(turns < 200);
                assert_int_equal(store_flush(store, &error), 0);
                store_counts(store, counts);
                assert_true(before == 0 || before - counts[JOB_FAILED] <= 32);
                before = counts[JOB_FAILED];
                assert_int_equal(number("SELECT count(*) FROM job WHERE state='failed'"), before);
                most = MAX(most, (uint64_t) number("SELECT count(*) FROM trash"));
                folders.n = 0;
                int r = store_trash(store, NULL, 0, take_some_trash, &folders, &error);
                assert_true(r == 0 || r == -ENOBUFS);
                for (size_t i = 0; i < folders.n; i++) /* more jobs go than folders */
                        assert_int_equal(store_trash_done(store, folders.rows[i].id, 0), 0);
        }
        assert_in_range(most, 256, 256 + 32);
        assert_false(store_has_trash(store));
        assert_int_equal(number("SELECT count(*) FROM job"), 11);
        assert_int_equal(number("SELECT min(id) FROM job WHERE id > 7"), 491);
        assert_int_equal(store_held(store), 1);
        store_free(store);
}

static void test_ledger_is_bounded(void **state) {
        struct store *store = open_store();
        struct job *job = insert(store, "one");

        for (uint64_t step = 2 * LEDGER_MAX; step > 0; step--) {
                struct checkpoint c = { .step = step,
                                        .state = step % 2 ? CHECKPOINT_DELETED : CHECKPOINT_GOOD,
                                        .path = (char *) "/x" };
                assert_int_equal(job_checkpoint_add(job, &c), step > 1 ? 0 : -ENOSPC);
        }
        assert_int_equal(job->n_ledger, LEDGER_MAX);
        for (size_t i = 1; i < job->n_ledger; i++)
                assert_true(job->ledger[i - 1].step < job->ledger[i].step);
        store_free(store);
}

/* Of the deleted ones that no attempt began from the old go, of the others only beyond the ledger's bound. */
static void test_old_rows_are_pruned(void **state) {
        static const uint64_t most = LEDGER_MAX + 100;
        struct store *store = open_store();
        struct job *job = insert(store, "one");
        size_t deleted = 0;

        for (uint64_t step = 1; step <= most; step++) {
                struct checkpoint c = { .step = step,
                                        .restored = step % 4 == 0,
                                        .state = step % 2 ? CHECKPOINT_GOOD : CHECKPOINT_DELETED,
                                        .path = (char *) "/x",
                                        .dirty = true };
                assert_int_equal(job_checkpoint_add(job, &c), 0);
                if (step % 100 == 0 || step == most) {
                        store_mark(store, job);
                        assert_int_equal(store_flush(store, NULL), 0);
                }
        }
        assert_int_equal(store_load_ledger(store, job, NULL), 0);
        for (size_t i = 0; i < job->n_ledger; i++) {
                bool unused = job->ledger[i].state == CHECKPOINT_DELETED && job->ledger[i].restored == 0;
                deleted += unused;
                assert_true(!unused || job->ledger[i].step > most - LEDGER_DELETED_MAX);
        }
        assert_true(deleted == LEDGER_DELETED_MAX / 4 && job->n_ledger < LEDGER_MAX);
        assert_int_equal(job->ledger[0].step, 1);
        store_free(store);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_texts_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_jobs_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_texts_of_attempts_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_oldest_and_newest_events_are_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_oldest_and_newest_attempts_are_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_waits_are_no_deaths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_the_newest_that_ran_is_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_is_dropped_by_a_failed_commit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_starts_within_an_hour, setup, teardown),
                cmocka_unit_test_setup_teardown(test_removed_jobs_are_not_surplus, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ended_jobs_beyond_a_number_go, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nobody_makes_room_for_another, setup, teardown),
                cmocka_unit_test_setup_teardown(test_owed_jobs_stay, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_ended_jobs_go_in_parts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger_is_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_old_rows_are_pruned, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
