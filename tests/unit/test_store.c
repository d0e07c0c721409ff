/* state.db: what is committed comes back, what cannot be committed stays in memory, what is newer is refused. */
#include <errno.h>
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
#include "daemon/store_sql.h"

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

        if (store_open(db_path, true, complain, &store, &error) < 0)
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
        s.memory = UINT64_C(16) << 30;
        s.cpus = 2.5;
        s.hang_sec = 0;
        s.start_sec = 60;
        s.on_nan = (char *) "rollback";
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
                                          .samples_first = 32,
                                          .samples_last = 63,
                                          .rank = 1,
                                          .host = strdup("node"),
                                          .evidence = strdup("/e"),
                                          .reason = strdup("SIGSEGV") };
        job->lost_steps = 7;
        job->run_steps = 17;
        job->run_usec = 1700;
        job->active_usec = 4000;
        job->since_usec = 99;
        job->checkpoint_write = 0.25;
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
        assert_int_equal(job->attempt.samples_first, 32);
        assert_int_equal(job->attempt.samples_last, 63);
        assert_int_equal(job->attempt.rank, 1);
        assert_string_equal(job->attempt.host, "node");
        assert_string_equal(job->attempt.evidence, "/e");
        assert_true(job->memory == UINT64_C(16) << 30 && job->cpus == 2.5);
        assert_true(job->hang_sec == 0 && job->start_sec == 60 && job->on_nan == ON_NAN_ROLLBACK);
        assert_true(job->lost_steps == 7 && job->run_steps == 17 && job->run_usec == 1700);
        assert_true(job->active_usec == 4000 && job->since_usec == 99);
        assert_true(isnan(job->checkpoint_stall) && job->checkpoint_write == 0.25);
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
        assert_int_equal(store_at(store, 2)->id, ids[3]);
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
        assert_int_equal(store_count(store), 0);
        assert_int_equal(store_load(store, 1, &job, &error), 0);
        assert_int_equal(job->state, JOB_CANCELLED);
        job_free(job);
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
        assert_true(store_open(db_path, true, complain, &store, &error) < 0);
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
        assert_int_equal(store_load_ledger(store, store_at(store, 0), NULL), 0);
        assert_int_equal(store_at(store, 0)->n_ledger, 0);
        assert_int_equal(complaints, 2);
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
        assert_int_equal(store_remove(store, loaded, &error), 0);
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

static int note_end(void *userdata, const struct event_row *event) {
        char *text = userdata;

        (void) snprintf(text + strlen(text), 256 - strlen(text), "%s/%s/%d/%d ", event->what, event->exit_class,
                        (int) event->step, (int) event->lost);
        return 0;
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
                    job->attempt.gpu_mask == 3);
        assert_string_equal(job->attempt.nonce, "n2");
        assert_true(job->attempt.rank == -1 && !job->attempt.host);
        assert_true(job->n_history == 1 && job->history[0].step == 12 && job->n_ledger == 1);
        assert_true(job->memory == 0 && job->hang_sec == -1 && job->start_sec == -1 && job->on_nan == ON_NAN_STOP);
        assert_true(isnan(job->checkpoint_stall));
        assert_int_equal(store_find(store, 3)->priority, 9);
        assert_int_equal(store_load_spec(store, 2, &spec, &error), 0);
        assert_string_equal(spec, "spec");
        free(spec);
        assert_int_equal(store_events(store, 2, 0, 9, note_end, text, &error), 0);
        assert_string_equal(text, "submit//0/0 retry//0/0 ");
        store_counts(store, counts);
        assert_true(counts[JOB_DONE] == 1 && counts[JOB_RUNNING] == 1 && counts[JOB_QUEUED] == 1);
        (void) insert(store, "after");
        store_free(store);
        store_free(open_store()); /* and not migrated twice */
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
        assert_non_null(strstr(error.text, "jobs/ beside it holds jobs"));
        assert_int_equal(access(db_path, F_OK), -1);
        assert_int_equal(file_write_atomic(db_path, "", 0, 0600, NULL), 0);
        error = (struct error) {};
        assert_int_equal(store_open(db_path, false, complain, &store, &error), -ENOENT);
        assert_int_equal(store_open(db_path, true, complain, &store, &error), 0);
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
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test_setup_teardown(test_events_are_paged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_jobs_and_remove, setup, teardown),
                cmocka_unit_test_setup_teardown(test_failed_commit_is_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_rows_do_not_block, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ended_jobs_live_on_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pages_mix_memory_and_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_event_tells_how_an_attempt_ended, setup, teardown),
                cmocka_unit_test_setup_teardown(test_version_1_is_migrated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_a_database, setup, teardown),
                cmocka_unit_test_setup_teardown(test_empty_is_refused_where_jobs_were, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger_is_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger_is_on_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_old_rows_are_pruned, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
