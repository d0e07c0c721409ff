/* A store of a test's own, and what stands in it. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/db.h"
#include "common/file.h"
#include "daemon/rules/states.h"
#include "daemon/store/store.h"
#include "tests/unit/folder.h"

static char *folder, *db_path;
static unsigned complaints;

static inline void complain(const char *text) { complaints++; }

static inline int setup(void **state) {
        folder = make_folder();
        db_path = format_string("%s/state.db", folder);
        complaints = 0;
        return db_path ? 0 : -1;
}

static inline int teardown(void **state) {
        remove_folder(folder);
        free(db_path);
        return 0;
}

static inline struct store *open_store(void) {
        struct store *store = NULL;
        struct error error = {};

        if (store_open(db_path, true, complain, &store, &error) < 0)
                fail_msg("%s", error.text);
        return store;
}

static inline struct job *insert(struct store *store, const char *name) {
        char *command[] = { (char *) "echo", (char *) "a b", (char *) "", NULL },
             *environment[] = { (char *) "A=1", (char *) "B=", NULL };
        struct submission s = {};
        struct job *job = NULL;
        struct error error = {};

        submission_defaults(&s);
        s.name = (char *) name;
        s.kind = JOB_COMMAND;
        s.cwd = (char *) "/tmp";
        s.spec = (char *) "kind: command\n";
        s.command = command;
        s.environment = environment;
        s.rlimits[0] = (struct job_rlimit) { .resource = 7, .soft = 1024, .hard = UINT64_MAX };
        s.n_rlimits = 1;
        s.priority = -3;
        s.memory = UINT64_C(16) << 30;
        s.cpus = 2.5;
        s.hang_sec = 0;
        s.start_sec = 60;
        s.on_nan = ON_NAN_ROLLBACK;
        s.log_max_size = 1 << 20;
        s.log_keep = 5;
        s.ends_with = ENDS_WITH_LAST;
        if (store_insert(store, &s, 1000, 1001, "alice", LAUNCHER_FORK, &job, &error) < 0 ||
            store_flush(store, &error) < 0)
                fail_msg("%s", error.text);
        return job;
}

static inline void execute(const char *sql) {
        cleanup_db sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static inline int64_t number(const char *sql) {
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

static inline int take_event(void *userdata, const struct event_row *event) {
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

static inline void read_events(struct store *store, uint64_t job, struct events *ret) {
        struct error error = {};

        *ret = (struct events) {};
        assert_int_equal(store_events(store, job, 0, 5000, take_event, ret, &error), 0);
}

/* `n` events more, which are numbered from `first` on. */
static inline void note_events(struct store *store, struct job *job, size_t first, size_t n) {
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

struct folders {
        size_t n;
        struct trash_row rows[8];
};

static inline int take_trash(void *userdata, const struct trash_row *row) {
        struct folders *all = userdata;

        assert_true(all->n < ELEMENTSOF(all->rows));
        assert_string_equal(row->user, "alice");
        all->rows[all->n++] = *row;
        return 0;
}

static inline struct folders trash_of(struct store *store, const uid_t *busy, size_t n_busy) {
        struct folders all = {};
        struct error error = {};

        assert_int_equal(store_trash(store, busy, n_busy, take_trash, &all, &error), 0);
        return all;
}

static inline int note_end(void *userdata, const struct event_row *event) {
        char *text = userdata;

        (void) snprintf(text + strlen(text), 256 - strlen(text), "%s/%s/%d/%d ", event->what, event->exit_class,
                        (int) event->step, (int) event->lost);
        return 0;
}

#endif
