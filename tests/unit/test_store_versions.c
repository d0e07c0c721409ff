/* A state.db that another bertd wrote: an older one's is migrated, with a copy left as it was; a newer one's is
 * refused. */
#include <glob.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/store/schema.h"
#include "tests/unit/store_fixture.h"

/* ---- what is in a database ---- */

static char said[8192]; /* what the store logged */

static void keep_words(const char *text) {
        (void) snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s\n", text);
}

/* As schemas/make had an older bertd write it. */
static void load(const char *commit) {
        cleanup_free char *path = format_string("%s/tests/unit/schemas/%s.sql", getenv("SOURCE_DIR"), commit);
        cleanup_free char *sql = NULL;
        size_t size;

        assert_int_equal(file_read(path, 1 << 20, &sql, &size, NULL), 0);
        said[0] = '\0';
        execute(sql);
}

static char *text_of(const char *path, const char *sql) {
        cleanup_db sqlite3 *db = NULL;
        cleanup_statement sqlite3_stmt *s = NULL;

        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
                fail_msg("%s", sqlite3_errmsg(db));
        assert_int_equal(sqlite3_step(s), SQLITE_ROW);
        const char *text = (const char *) sqlite3_column_text(s, 0);
        return strdup(text ? text : "");
}

static void assert_text(const char *sql, const char *expected) {
        cleanup_free char *text = text_of(db_path, sql);

        assert_string_equal(text, expected);
}

static char *beside(const char *suffix) { return format_string("%s%s", db_path, suffix); }

static bool is_beside(const char *suffix) {
        cleanup_free char *path = beside(suffix);

        return access(path, F_OK) == 0;
}

static int64_t number_beside(const char *suffix, const char *sql) {
        cleanup_free char *path = beside(suffix), *text = text_of(path, sql);

        return strtoll(text, NULL, 10);
}

static struct store *open_upgraded(void) {
        struct store *store = NULL;
        struct error error = {};

        if (store_open(db_path, true, keep_words, &store, &error) < 0)
                fail_msg("%s", error.text);
        return store;
}

#define SHAPE \
        "SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_schema WHERE sql<>'' ORDER BY type, name)"

/* As of a database that is new. */
static char *new_shape(void) {
        cleanup_free char *old = db_path;

        db_path = format_string("%s.fresh", old);
        store_free(open_store());
        char *shape = text_of(db_path, SHAPE);
        (void) unlink(db_path);
        free(db_path);
        db_path = steal_pointer(&old);
        return shape;
}

static void assert_whole(void) {
        cleanup_free char *expected = new_shape();

        assert_text("PRAGMA integrity_check", "ok");
        assert_int_equal(number("SELECT count(*) FROM pragma_foreign_key_check"), 0);
        assert_int_equal(number("PRAGMA user_version"), store_version());
        assert_text(SHAPE, expected);
        assert_int_equal(number("SELECT count(*) FROM pragma_table_list WHERE type='table' AND name NOT LIKE 'sqlite_%'"
                                " AND NOT strict"),
                         0);
}

/* ---- a newer bertd's ---- */

static void assert_refused(const char *words) {
        struct store *store;
        struct error error = {};

        assert_true(store_open(db_path, true, complain, &store, &error) < 0);
        if (!strstr(error.text, words))
                fail_msg("%s: %s", words, error.text);
        assert_null(strchr(error.text, '\n'));
}

static void make_beside(const char *suffix, const char *sql) {
        cleanup_free char *old = db_path;

        db_path = beside(suffix);
        execute(sql);
        free(db_path);
        db_path = steal_pointer(&old);
}

/* ".schema-N" and what follows, for today's N. */
static char *todays(const char *rest) { return format_string(".schema-%d%s", store_version(), rest); }

static void test_newer_schema_is_refused(void **state) {
        cleanup_free char *first = todays(""), *second = todays(".2"), *third = todays(".3"), *cut = beside(third),
                          *copy = beside(second), *known = format_string("knows up to %d;", store_version()),
                          *empty = format_string("CREATE TABLE job(id); PRAGMA user_version=%d", store_version());

        store_free(open_store());
        execute("PRAGMA user_version=99");
        assert_refused("has schema 99 of a newer bertd, bertd " BERTD_VERSION " knows up to ");
        assert_refused(known);
        assert_refused("give another --state-dir");
        make_beside(".schema-98", "CREATE TABLE job(id); PRAGMA user_version=98");
        assert_refused("give another --state-dir");
        make_beside(".schema-4", "CREATE TABLE job(id); PRAGMA user_version=4");
        assert_refused("go back to the copy of schema 4, ");
        make_beside(first, empty);
        make_beside(second, empty);
        assert_int_equal(file_write_atomic(cut, "SQLite for", 10, 0600, NULL), 0);
        assert_refused(copy);
}

/* ---- an older one's ---- */

/* What schemas/make had each of them do. */
static const struct {
        uint64_t id;
        enum job_state state;
        const char *name, *command;
} made[] = {
        { 4, JOB_PAUSED, "paused", "sleep" }, { 5, JOB_BACKOFF, "backoff", "sh" },
        { 6, JOB_RUNNING, "runs", "sleep" },  { 7, JOB_RUNNING, "trains", NULL },
        { 8, JOB_PAUSED, "trains", NULL },    { 9, JOB_STOPPING, "stopping", "sh" },
        { 10, JOB_QUEUED, "next", "true" },   { 1, JOB_DONE, "done", "true" },
        { 2, JOB_FAILED, "failed", "sh" },    { 3, JOB_CANCELLED, "cancelled", "sleep" },
};

static void check_made(struct store *store, size_t i) {
        cleanup_free char *command = NULL, *spec = NULL;
        struct job *job = store_find(store, made[i].id), *loaded = NULL;
        struct job_inputs inputs = {};
        struct error error = {};
        size_t size;

        if (!job && store_load(store, made[i].id, &loaded, &error) < 0)
                fail_msg("job %d: %s", (int) made[i].id, error.text);
        job = job ? job : loaded;
        assert_int_equal(job->state, made[i].state);
        assert_int_equal(job->stop_reason, job->state == JOB_STOPPING ? STOP_CANCEL : STOP_NONE);
        assert_string_equal(job->name, made[i].name);
        assert_int_equal(job->attempt.open, state_holds_resources(job->state));
        assert_int_equal(job->attempt.number, job->state == JOB_QUEUED ? 0 : 1);
        assert_int_equal(store_load_command(store, job->id, &command, &size, &error), 0);
        assert_true(made[i].command ? command && strcmp(command, made[i].command) == 0 : size == 0);
        assert_int_equal(store_load_spec(store, job->id, &spec, &error), 0);
        assert_non_null(strstr(spec, job->name));
        assert_int_equal(store_load_inputs(store, job->id, &inputs, &error), 0);
        assert_true(inputs.environment_size > 0 && inputs.n_rlimits > 0);
        free(inputs.environment);
        job_free(loaded);
}

static void check_schema(const char *commit) {
        struct error error = {};

        load(commit);
        int64_t version = number("PRAGMA user_version"), events = number("SELECT count(*) FROM event"),
                ledger = number("SELECT count(*) FROM checkpoint WHERE job=7"),
                newest = number("SELECT max(step) FROM checkpoint WHERE job=7 AND state=0");
        struct store *store = open_upgraded();
        for (size_t i = 0; i < ELEMENTSOF(made); i++)
                check_made(store, i);
        assert_string_equal(said, "");
        assert_int_equal(store_count(store), 7);
        struct job *trains = store_find(store, 7);
        assert_int_equal(store_load_ledger(store, trains, &error), 0);
        assert_true(ledger > 0 && trains->n_ledger == (size_t) ledger && trains->attempt.nonce[31]);
        assert_int_equal(job_newest_good(trains)->step, newest);
        assert_int_equal(insert(store, "after")->id, 12);
        store_free(store);
        assert_whole();
        assert_int_equal(number("SELECT count(*) FROM event WHERE job<12"), events);
        assert_int_equal(number("SELECT sum(events) FROM job WHERE id<12"), events);
        assert_int_equal(number("SELECT count(*) FROM job WHERE id=2 AND private LIKE '%exit code 3%'"), 1);
        store_free(open_store()); /* and not once more */
        cleanup_free char *copy = format_string(".schema-%d", (int) version), *path = beside(copy);
        struct stat st;
        assert_int_equal(number_beside(copy, "PRAGMA user_version"), version);
        assert_int_equal(number_beside(copy, "SELECT count(*) FROM event"), events);
        assert_true(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
        cleanup_free char *new = todays("");
        assert_true(!is_beside(".new") && !is_beside(new));
}

static void test_every_schema_is_taken_up(void **state) {
        cleanup_free char *pattern = format_string("%s/tests/unit/schemas/*.sql", getenv("SOURCE_DIR"));
        glob_t files;

        assert_int_equal(glob(pattern, 0, NULL, &files), 0);
        assert_int_equal(files.gl_pathc, 18);
        for (size_t i = 0; i < files.gl_pathc; i++) {
                cleanup_free char *commit = strndup(strrchr(files.gl_pathv[i], '/') + 1, 7);
                print_message("  %s\n", commit);
                check_schema(commit);
                (void) teardown(NULL);
                (void) setup(NULL);
        }
        globfree(&files);
}

#define WIPE                                                                                                          \
        "DELETE FROM event; DELETE FROM checkpoint; DELETE FROM attempt; DELETE FROM input; DELETE FROM job; DELETE " \
        "FROM meta;"

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

        load("971f3e7");
        execute(WIPE);
        execute(rows);
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

/* A database as bertd 2 wrote it: a job with a long history that runs, one with more, ended; one whose folder holds a
 * checkpoint. */
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

        load("b8b0581");
        execute(WIPE);
        execute(rows);
}

static void test_version_2_is_migrated(void **state) {
        static struct events all;
        struct error error = {};
        struct job *job;

        make_version_2();
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
        assert_whole();
}

/* A copy that is there stays; the same one is not kept twice. */
static void test_copies_are_kept(void **state) {
        cleanup_free char *mine = beside(".schema-2"), *text = NULL;
        size_t size;

        make_version_2();
        assert_int_equal(file_write_atomic(mine, "mine", 4, 0600, NULL), 0);
        store_free(open_store());
        assert_int_equal(file_read(mine, 100, &text, &size, NULL), 0);
        assert_string_equal(text, "mine");
        assert_int_equal(number_beside(".schema-2.2", "SELECT count(*) FROM event"), 5000);
        assert_int_equal(unlink(db_path), 0);
        make_version_2();
        store_free(open_store());
        assert_false(is_beside(".schema-2.3"));
        assert_int_equal(unlink(db_path), 0);
        make_version_2();
        execute("DELETE FROM event WHERE id % 2");
        store_free(open_store());
        assert_int_equal(number_beside(".schema-2.3", "SELECT count(*) FROM event"), 2500);
}

/* Where it cannot be copied first it is not changed. */
static void test_no_copy_no_migration(void **state) {
        cleanup_free char *in_the_way = beside(".new"), *cut = beside(".new-journal");
        struct error error = {};
        struct store *store;

        make_version_2();
        assert_int_equal(mkdir(in_the_way, 0700), 0);
        assert_true(store_open(db_path, true, complain, &store, &error) < 0);
        assert_non_null(strstr(error.text, "cannot be copied beside itself"));
        assert_non_null(strstr(error.text, "nothing was changed"));
        assert_int_equal(number("PRAGMA user_version"), 2);
        assert_int_equal(number("SELECT count(*) FROM event"), 5000);
        assert_int_equal(rmdir(in_the_way), 0);
        /* What one that was cut off has left is in nobody's way. */
        assert_int_equal(file_write_atomic(in_the_way, "half", 4, 0600, NULL), 0);
        assert_int_equal(file_write_atomic(cut, "half", 4, 0600, NULL), 0);
        store_free(open_store());
        assert_true(!is_beside(".new") && !is_beside(".new-journal"));
        assert_int_equal(number_beside(".schema-2", "SELECT count(*) FROM event"), 5000);
}

/* The disk is full once the copy has been made: the database is as it was, and its file too. */
static void test_no_room_no_migration(void **state) {
        struct rlimit unlimited, limited;
        struct store *store;
        struct error error = {};
        struct stat before, after;

        make_version_2();
        assert_int_equal(stat(db_path, &before), 0);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
        limited = unlimited;
        limited.rlim_cur = (rlim_t) before.st_size + 8192;
        (void) signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
        int r = store_open(db_path, true, complain, &store, &error);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
        assert_true(r < 0);
        assert_non_null(strstr(error.text, "cannot be taken from schema 2 to "));
        assert_non_null(strstr(error.text, "; nothing was changed"));
        assert_int_equal(stat(db_path, &after), 0);
        assert_int_equal(after.st_size, before.st_size);
        assert_false(is_beside("-journal"));
        assert_int_equal(number("PRAGMA user_version"), 2);
        store_free(open_store());
        assert_whole();
        assert_false(is_beside(".schema-2.2"));
}

/* ---- rows that nobody wrote so ---- */

/* What has a value that stands for it is mended, what has none is set aside, with what belongs to it; each is told, and
 * nothing is lost. */
static void test_bad_rows_are_mended_or_set_aside(void **state) {
        load("f2f00a0");
        execute("UPDATE job SET exit_class=99, started=-7, umask='x' WHERE id=1;"
                "UPDATE job SET ranks=0 WHERE id=2; UPDATE job SET state='odd' WHERE id=5;"
                "UPDATE attempt SET exit_class=99 WHERE job=4; UPDATE checkpoint SET state=77 WHERE job=7 AND step=20;"
                "UPDATE input SET rlimits=x'00' WHERE job=10; UPDATE event SET to_state='odd' WHERE id=1;"
                "INSERT INTO event(job, time, from_state, to_state, what, reason) VALUES(77, 1, '', '', 'alone', '');"
                "UPDATE attempt SET nonce=x'00ff' WHERE job=8; INSERT INTO meta VALUES('odd', NULL)");
        int64_t events = number("SELECT count(*) FROM event WHERE job IN (2, 5, 77)");
        struct store *store = open_upgraded();
        assert_int_equal(store_count(store), 6);
        assert_null(store_find(store, 5));
        store_free(store);
        assert_whole();
        assert_text("SELECT exit_class || ' ' || started || ' ' || umask FROM job WHERE id=1", "-1 0 18");
        assert_text("SELECT group_concat(origin || ' ' || job || ' ' || kept || ' ' || columns) FROM refused WHERE "
                    "origin='job'",
                    "job 1 1 umask started exit_class,job 2 0 ranks,job 5 0 state");
        assert_int_equal(number("SELECT count(*) FROM refused WHERE origin='event' AND NOT kept"), events);
        assert_int_equal(number("SELECT count(*) FROM refused WHERE origin='input' AND NOT kept"), 3);
        assert_int_equal(number("SELECT count(*) FROM refused WHERE origin='checkpoint' AND columns='state'"), 1);
        assert_int_equal(number("SELECT count(*) FROM attempt WHERE job=4 AND exit_class=-1"), 1);
        assert_int_equal(number("SELECT count(*) FROM attempt WHERE job=8 AND nonce=''"), 1);
        assert_int_equal(number("SELECT count(*) FROM event WHERE id=1 AND to_state=''"), 1);
        const char *words[] = { "job 1: ", "job 2: ", "job 5: ", "job 7: ", "job 10: ", "job 77: " };
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                assert_non_null(strstr(said, words[i]));
        /* What was set aside comes back once somebody has mended it. */
        cleanup_free char *sql =
                text_of(db_path, "SELECT replace(sql, 'odd', 'paused') FROM refused WHERE job=5 AND origin='job'");
        execute(sql);
        store_free(store = open_store());
        assert_int_equal(number("SELECT count(*) FROM job WHERE id=5"), 1);
}

/* Also from schema 5, whose CHECKs a damaged page does not ask. */
static void test_bad_rows_of_schema_5_are_set_aside(void **state) {
        load("e819307");
        int64_t jobs = number("SELECT count(*) FROM job"),
                events = number("SELECT count(*) FROM event WHERE job IN (1, 4)");
        execute("PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; UPDATE job SET state='odd' WHERE id=1;"
                "UPDATE job SET id=-4 WHERE id=4; UPDATE attempt SET number=0 WHERE job=2 AND number=1");
        store_free(open_upgraded());
        assert_whole();
        assert_int_equal(number("SELECT count(*) FROM job WHERE id > 0"), jobs - 2);
        assert_int_equal(number("SELECT count(*) FROM job"), jobs - 2);
        assert_text("SELECT group_concat(job || ' ' || columns) FROM refused WHERE origin='job'", "-4 id,1 state");
        assert_int_equal(number("SELECT count(*) FROM refused WHERE origin='event' AND NOT kept"), events);
        assert_int_equal(number("SELECT count(*) FROM refused WHERE origin='attempt' AND columns='number'"), 1);
        assert_int_equal(number("SELECT count(*) FROM event WHERE job IN (1, 4)"), 0);
}

/* Whether the newest attempt is open follows from its job's state: a bad value does not cost a running job its attempt.
 */
static void test_bad_open_keeps_the_attempt(void **state) {
        load("f2f00a0");
        execute("UPDATE attempt SET open=7");
        int64_t attempts = number("SELECT count(*) FROM attempt");
        store_free(open_store());
        assert_true(attempts > 0 && number("SELECT count(*) FROM attempt WHERE open=0") == attempts);
}

/* Each value of the enumerations, and no other. */
static void check_values(const char *table, const char *column, int first, int end, const char *(*name)(int value)) {
        for (int i = first - 1; i <= end; i++) {
                const char *text = name && i >= 0 && i < end ? name(i) : "odd";
                cleanup_free char *sql = name ? format_string("UPDATE %s SET %s='%s'", table, column, text)
                                              : format_string("UPDATE %s SET %s=%d", table, column, i);
                cleanup_db sqlite3 *db = NULL;
                assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
                int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
                if ((code == SQLITE_OK) != (i >= first && i < end))
                        fail_msg("%s: %d", sql, code);
        }
}

static const char *state_name(int i) { return job_state_name((enum job_state) i); }
static const char *kind_name(int i) { return job_kind_name((enum job_kind) i); }

static void test_every_value_is_taken(void **state) {
        load("f2f00a0");
        store_free(open_store());
        check_values("job", "state", 0, JOB_STATE_MAX, state_name);
        check_values("job", "kind", 0, JOB_KIND_MAX, kind_name);
        check_values("job", "stop_reason", 0, STOP_REASON_MAX, NULL);
        check_values("job", "launcher", 0, LAUNCHER_MAX, NULL);
        check_values("job", "exit_class", -1, EXIT_CLASS_MAX, NULL);
        check_values("job", "on_nan", 0, ON_NAN_MAX, NULL);
        check_values("job", "ends_with", 0, ENDS_WITH_MAX, NULL);
        check_values("job", "exit_owed", 0, EXIT_OWED_MAX, NULL);
        check_values("attempt", "exit_class", -1, EXIT_CLASS_MAX, NULL);
        check_values("attempt", "open", 0, 2, NULL);
        check_values("checkpoint", "state", 0, CHECKPOINT_STATE_MAX, NULL);
        check_values("event", "from_state", 0, JOB_STATE_MAX, state_name);
        check_values("event", "class", 0, EXIT_CLASS_MAX, exit_class_name);
        assert_text("SELECT group_concat(DISTINCT typeof(exit_class)) FROM job", "integer");
}

/* A column of the tables that a database has not, whatever its number says, is added. */
static void test_missing_column_is_added(void **state) {
        struct store *store = open_store();

        (void) insert(store, "job");
        store_free(store);
        execute("ALTER TABLE job DROP COLUMN nice; ALTER TABLE event DROP COLUMN lost");
        store_free(open_store());
        assert_int_equal(number("SELECT nice FROM job"), 0);
        assert_int_equal(number("SELECT count(*) FROM pragma_table_info('event') WHERE name='lost' AND \"notnull\""),
                         1);
        cleanup_free char *first = todays(""), *second = todays(".2");
        assert_true(is_beside(first) && !is_beside(second));
}

/* ---- kill -9 ---- */

static int budget;

static int count_down(void *unused) {
        if (--budget == 0)
                (void) kill(getpid(), SIGKILL);
        return 0;
}

static int every_step(sqlite3 *db, char **error, const void *api) {
        sqlite3_progress_handler(db, 100, count_down, NULL);
        return SQLITE_OK;
}

/* Opens the store in a process that is killed after so many steps of SQLite's. False: it came to its end. */
static bool is_killed_after(int steps) {
        pid_t pid = fork();
        int status = 0;

        if (pid == 0) {
                budget = steps;
                (void) sqlite3_auto_extension((void (*)(void)) every_step);
                store_free(open_store());
                _exit(0);
        }
        assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
        return WIFSIGNALED(status);
}

static void test_killed_at_any_moment(void **state) {
        int killed = 0;

        make_version_2();
        for (int steps = 1; is_killed_after(steps); steps += steps / 3 + 1) {
                int64_t version = number("PRAGMA user_version");
                assert_int_equal(number("SELECT count(*) FROM event"), version == 2 ? 5000 : 1251);
                killed++;
        }
        assert_true(killed > 10);
        store_free(open_store());
        assert_whole();
        assert_int_equal(number_beside(".schema-2", "SELECT count(*) FROM event"), 5000);
        assert_true(!is_beside(".new") && !is_beside(".schema-2.2"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_every_schema_is_taken_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_version_1_is_migrated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_version_2_is_migrated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_copies_are_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_copy_no_migration, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_room_no_migration, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_rows_are_mended_or_set_aside, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_rows_of_schema_5_are_set_aside, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bad_open_keeps_the_attempt, setup, teardown),
                cmocka_unit_test_setup_teardown(test_every_value_is_taken, setup, teardown),
                cmocka_unit_test_setup_teardown(test_missing_column_is_added, setup, teardown),
                cmocka_unit_test_setup_teardown(test_killed_at_any_moment, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
