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
#include <signal.h>
#include <sys/resource.h>
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
        static const char *const suffixes[] = { "", "-wal", "-shm", "-journal", ".v1", ".v2", ".new" };

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
        if (store_insert(store, &s, 1000, 1001, "alice", LAUNCHER_FORK, &job, &error) < 0 ||
            store_flush(store, &error) < 0)
                fail_msg("%s", error.text);
        return job;
}

static void remove_durably(struct store *store, const struct job *job) {
        struct error error = {};

        assert_int_equal(store_remove(store, job), 0);
        assert_true(store_is_removed(store, job->id));
        assert_int_equal(store_flush(store, &error), 0);
        store_drop_removed(store);
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
        job->deaths = (struct policy_counters) { .costing = 900, .free = 70 };
        job_lose(job, EXIT_CLASS_USER_ERROR, 12);
        job_lose(job, EXIT_CLASS_OOM, UINT64_C(1) << 40);
        job_lose(job, EXIT_CLASS_OOM, 5);
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
        assert_true(job->deaths.costing == 900 && job->deaths.free == 70);
        assert_true(job->lost_usec[EXIT_CLASS_USER_ERROR] == 12 && job->lost_usec[EXIT_CLASS_KILLED] == 0);
        assert_true(job->lost_usec[EXIT_CLASS_OOM] == (UINT64_C(1) << 40) + 5);
        assert_true(job->lost_steps == 7 && job->run_steps == 17 && job->run_usec == 1700);
        assert_true(job->active_usec == 4000 && job->since_usec == 99);
        assert_true(isnan(job->checkpoint_stall) && job->checkpoint_write == 0.25);
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

/* SQLite rolls back by itself where a statement finds the disk full: what is inserted after it belongs to the same transaction, and
 * comes to nothing with it, even where there is room for it. */
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
        s.kind = (char *) "command";
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
                    job->attempt.gpu_mask == 3 && !job->attempt.gpus);
        assert_string_equal(job->attempt.nonce, "n2");
        assert_true(job->attempt.rank == -1 && !job->attempt.host);
        assert_true(job->n_history == 1 && job->history[0].step == 12 && job->n_ledger == 1);
        assert_true(job->memory == 0 && job->hang_sec == -1 && job->start_sec == -1 && job->on_nan == ON_NAN_STOP);
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
        s.kind = (char *) "command";
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
        assert_non_null(strstr(error.text, "names and paths of jobs that have not ended have reached a bound (8 MiB"));
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
        assert_non_null(
                strstr(error.text, "you have 10000 jobs that have not ended, the most that a user may have; wait"));
        store_drop(store, store_at(store, 7));
        assert_int_equal(fill(store, 1, 10, &error), 1);
        assert_true(fill(store, 2, 10, &error) == 10000 && fill(store, 3, 10, &error) == 10000);
        assert_int_equal(fill(store, 4, 10, &error), 0);
        assert_non_null(strstr(error.text, "this host has 30000 jobs"));
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

/* ---- what is not kept ---- */

static int64_t number(const char *sql) {
        cleanup_db sqlite3 *db = NULL;
        cleanup_statement sqlite3_stmt *statement = NULL;

        assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        return sqlite3_column_int64(statement, 0);
}

struct events {
        size_t n, note; /* note: at which place "dropped" stands, 0 = nowhere */
        uint64_t newest;
        char whats[1200][24], reason[128];
};

static int take_event(void *userdata, const struct event_row *event) {
        struct events *all = userdata;

        assert_true(event->id > all->newest && all->n < ELEMENTSOF(all->whats));
        all->newest = event->id;
        (void) snprintf(all->whats[all->n++], sizeof(all->whats[0]), "%s", event->what);
        if (strcmp(event->what, "dropped") == 0) {
                all->note = all->n;
                (void) snprintf(all->reason, sizeof(all->reason), "%s", event->reason);
        }
        return 0;
}

static void read_events(struct store *store, uint64_t job, struct events *ret) {
        struct error error = {};

        *ret = (struct events) {};
        assert_int_equal(store_events(store, job, 0, 5000, take_event, ret, &error), 0);
}

/* `n` events more, which are numbered from `first` on. */
static void note_events(struct store *store, struct job *job, size_t first, size_t n) {
        struct error error = {};
        char what[24];

        for (size_t i = first; i < first + n; i++) {
                (void) snprintf(what, sizeof(what), "e%zu", i);
                store_note(store, job, job->state, what, "");
                if (i % 7 == 0)
                        assert_int_equal(store_flush(store, &error), 0);
        }
        assert_int_equal(store_flush(store, &error), 0);
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

struct folders {
        size_t n;
        struct trash_row rows[8];
};

static int take_trash(void *userdata, const struct trash_row *row) {
        struct folders *all = userdata;

        assert_true(all->n < ELEMENTSOF(all->rows));
        assert_string_equal(row->user, "alice");
        all->rows[all->n++] = *row;
        return 0;
}

static int take_some_trash(void *userdata, const struct trash_row *row) {
        struct folders *all = userdata;

        if (all->n == ELEMENTSOF(all->rows))
                return -ENOBUFS;
        return take_trash(userdata, row);
}

static struct folders trash_of(struct store *store, const uid_t *busy, size_t n_busy) {
        struct folders all = {};
        struct error error = {};

        assert_int_equal(store_trash(store, busy, n_busy, take_trash, &all, &error), 0);
        return all;
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
                " grace_sec, keep, keep_every, umask, name, user, cwd, command, submitted, end_order, "
                "holds_checkpoints) "
                "SELECT i,"
                " 1000, 1001, 'command', 'failed', 0, 0, 1, 1, 0, 5, 5, 600, 120, 3, 0, 18, 'x', 'alice', '/', "
                "x'6c7300', 1, 100 + i,"
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

/* A database as bertd 2 wrote it: a job with a long history that runs, one with more, ended; one whose folder holds a checkpoint. */
static void make_version_2(void) {
        static const char rows[] = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 4) INSERT "
                                   "INTO job(id, uid, gid, kind,"
                                   " state, launcher, priority, ranks, threads, gpus, max_without_progress, "
                                   "backoff_min_sec, backoff_max_sec,"
                                   " grace_sec, keep, keep_every, umask, name, user, cwd, command, submitted, ended, "
                                   "since_usec) SELECT i, 1000, 1001,"
                                   " 'command', CASE i WHEN 1 THEN 'backoff' WHEN 4 THEN 'queued' ELSE 'failed' END, "
                                   "0, 0, 1, 1, 0, 100, 5, 600, 120,"
                                   " 3, 0, 18, 'x', 'alice', '/', x'6c7300', 1, i, 5 FROM n;"
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
        assert_true(job->deaths.costing == 39 && job->deaths.free == 1); /* the 30th was killed */
        assert_true(store_at(store, 1)->deaths.costing == 0 && !job->lost_usec);
        read_events(store, 1, &all);
        assert_true(all.n == 250 && all.note == 0);
        read_events(store, 2, &all);
        assert_true(all.n == 1001 && all.note == 101);
        assert_string_equal(all.reason, "3750 older events and 160 older attempts dropped");
        assert_string_equal(all.whats[99], "e350");
        assert_string_equal(all.whats[101], "e4101");
        assert_int_equal(number("SELECT count(*) FROM attempt WHERE job=2"), 100);
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
        assert_int_equal(number("PRAGMA user_version"), 3);
        /* The copy is the database as it was. */
        free(db_path);
        db_path = steal_pointer(&copy);
        assert_int_equal(number("PRAGMA user_version"), 2);
        assert_int_equal(number("SELECT count(*) FROM event"), 5000);
        struct stat st;
        assert_true(stat(db_path, &st) == 0);
        assert_int_equal(unlink(db_path), 0);
        db_path[strlen(db_path) - 3] = '\0';
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
                cmocka_unit_test_setup_teardown(test_nothing_is_inserted_outside_a_transaction, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_rows_do_not_block, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ended_jobs_live_on_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pages_mix_memory_and_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_event_tells_how_an_attempt_ended, setup, teardown),
                cmocka_unit_test_setup_teardown(test_version_1_is_migrated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_texts_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_jobs_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_texts_of_attempts_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_names_are_found, setup, teardown),
                cmocka_unit_test_setup_teardown(test_oldest_and_newest_events_are_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_oldest_and_newest_attempts_are_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_is_dropped_by_a_failed_commit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_starts_within_an_hour, setup, teardown),
                cmocka_unit_test_setup_teardown(test_removed_jobs_are_not_surplus, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ended_jobs_beyond_a_number_go, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nobody_makes_room_for_another, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_ended_jobs_go_in_parts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_version_2_is_migrated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_copy_no_migration, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_a_database, setup, teardown),
                cmocka_unit_test_setup_teardown(test_empty_is_refused_where_jobs_were, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger_is_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ledger_is_on_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_old_rows_are_pruned, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
