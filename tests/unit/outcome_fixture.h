/* The combinations that test_outcome.c walks, and an ending as each describes it. */
#ifndef TESTS_UNIT_OUTCOME_FIXTURE_H
#define TESTS_UNIT_OUTCOME_FIXTURE_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/rules/outcome.h"

#define NOW (UINT64_C(1000000) * USEC_PER_SEC)
#define LATE (90 * USEC_PER_SEC)
#define OWN 10  /* the step of the checkpoint that a resumed attempt began from */
#define OLDER 5 /* of an older one */
#define SAVED 20
#define VALUES_MAX 32

enum {
        RECORD_FINISHED = 0,
        RECORD_FAILED = 15,
        RECORD_SIGNAL = 16,
        RECORD_HOST_LOST = 27
}; /* of those that a test names */

static const struct record {
        const char *name;
        enum exit_class exit_class;
        int exit_code, signal;
        const char *text;
        uint64_t age_usec;
} records[] = {
        [RECORD_FINISHED] = { "finished", EXIT_CLASS_FINISHED, 0, 0, NULL, LATE },
        { "stopped", EXIT_CLASS_STOPPED, 75, 0, NULL, LATE },
        { "unbegun", EXIT_CLASS_STOPPED, -1, 0, "stopped before it started", 0 },
        { "usage", EXIT_CLASS_USER_ERROR, 2, 0, "unknown option", 0 },
        { "no-file", EXIT_CLASS_USER_ERROR, 2, 0, "python3: No such file or directory", 0 },
        { "no-file-late", EXIT_CLASS_USER_ERROR, 2, 0, "python3: No such file or directory", LATE },
        { "data", EXIT_CLASS_USER_ERROR, 65, 0, "corpus: bad", LATE },
        { "input", EXIT_CLASS_USER_ERROR, 66, 0, "corpus: No such file or directory", LATE },
        { "config", EXIT_CLASS_USER_ERROR, 78, 0, "spec: bad", LATE },
        { "no-program", EXIT_CLASS_USER_ERROR, 127, 0, "train.py: not found", LATE },
        { "not-executable", EXIT_CLASS_LAUNCH, 126, 0, "train.py: permission denied", LATE },
        { "shell-127", EXIT_CLASS_FAILED, 127, 0, "sh: train: not found", 0 },
        { "late-127", EXIT_CLASS_FAILED, 127, 0, "sh: train: not found", LATE },
        { "bad-checkpoint", EXIT_CLASS_BAD_CHECKPOINT, 76, 0, "step 10: checksum", LATE },
        { "nan", EXIT_CLASS_NAN, 77, 0, "the loss is nan", LATE },
        [RECORD_FAILED] = { "failed", EXIT_CLASS_FAILED, 1, 0, NULL, LATE },
        [RECORD_SIGNAL] = { "signal", EXIT_CLASS_SIGNAL, -1, 11, NULL, LATE },
        { "killed", EXIT_CLASS_KILLED, -1, 9, NULL, LATE },
        { "oom", EXIT_CLASS_OOM, -1, 9, "rank 1 on h1: out of memory", LATE },
        { "mpi", EXIT_CLASS_MPI, 1, 0, "NCCL error", LATE },
        { "disk-full", EXIT_CLASS_DISK_FULL, 1, 0, "no space left on device", LATE },
        { "host-full", EXIT_CLASS_DISK_FULL, -1, 0, "attempt.json: no space left on device", 0 },
        { "hang", EXIT_CLASS_HANG, -1, 9, "no step for 300 s", LATE },
        { "reboot", EXIT_CLASS_REBOOT, -1, 0, "the host was rebooted", LATE },
        { "lost", EXIT_CLASS_LOST, -1, 0, "bertd-shim died without an exit record", LATE },
        { "launch", EXIT_CLASS_LAUNCH, -1, 0, "cannot be started: fork", 0 },
        { "missing", EXIT_CLASS_MISSING, -1, 0, "its user may have written that", LATE },
        [RECORD_HOST_LOST] = { "host-lost", EXIT_CLASS_HOST_LOST, -1, 0, "h3: silent for 20.1 s", LATE },
        { "wait", EXIT_CLASS_WAIT, -1, 0, "h3: all 4 slots are in use", 0 },
};
static_assert(ELEMENTSOF(records) <= VALUES_MAX, "a mask has no bit for it");

enum key { RECORD, STOP, ASKED, KIND, RETRIES, PAST, LIFE, GOOD, RAN, NAN_RULE, STEPPED, MISSING, KEY_MAX };
#define WALKED STEPPED /* those before it are walked, the others follow from them */
enum { TRAINER, COMMAND };
enum { RETRIES_NONE, RETRIES_LEFT, RETRIES_OUT };
enum { PAST_FIRST, PAST_SAME, PAST_OTHER, PAST_LOADING, PAST_OLDER };
enum { FRESH_NONE, FRESH_STEP, FRESH_SAVED, RESUMED_NONE, RESUMED_STEP, RESUMED_SAVED };
enum { GOOD_NONE, GOOD_OWN, GOOD_BOTH, GOOD_OLDER };

static const struct {
        const char *name, *values[8]; /* of RECORD: the names of records */
} keys[] = {
        [RECORD] = { "record", {} },
        [STOP] = { "stop", { "none", "shutdown", "pause", "cancel", "cancel-now" } }, /* as enum stop_reason */
        [ASKED] = { "asked", { "no", "yes" } },
        [KIND] = { "kind", { "trainer", "command" } },
        [RETRIES] = { "retries", { "none", "left", "out" } },
        [PAST] = { "past", { "first", "same", "other", "loading", "older" } },
        [LIFE] = { "life",
                   { "fresh-none", "fresh-step", "fresh-saved", "resumed-none", "resumed-step", "resumed-saved" } },
        [GOOD] = { "good", { "none", "own", "both", "older" } },
        [RAN] = { "ran", { "no", "yes" } },
        [NAN_RULE] = { "nan", { "stop", "rollback" } },
        [STEPPED] = { "stepped", { "no", "yes" } },
        [MISSING] = { "missing", { "no", "yes" } },
};
static_assert(ELEMENTSOF(keys) == KEY_MAX, "a key without values");

static const char *value_name(enum key key, size_t i) {
        if (key == RECORD)
                return i < ELEMENTSOF(records) ? records[i].name : NULL;
        return i < ELEMENTSOF(keys[key].values) ? keys[key].values[i] : NULL;
}

/* Which value each key has. */
struct combination {
        unsigned char of[KEY_MAX];
        uint32_t names; /* that the table has for it: bits */
};

static bool next_combination(struct combination *c) {
        for (size_t key = WALKED; key-- > 0;) {
                if (value_name((enum key) key, ++c->of[key]))
                        return true;
                c->of[key] = 0;
        }
        return false;
}

static const char *described(const struct combination *c) {
        static char text[512];
        size_t n = 0;

        for (size_t key = 0; key < KEY_MAX; key++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, " %s=%s", keys[key].name,
                                       value_name((enum key) key, c->of[key]));
        return text;
}

/* ---- an ending as a combination describes it ---- */

struct fixture {
        struct attempt attempt;
        struct policy_death history[2];
        uint64_t good[3];
        struct ending ending;
};

static bool is_resumed(const struct combination *c) { return c->of[LIFE] >= RESUMED_NONE; }
static bool has_own(const struct combination *c) { return c->of[GOOD] == GOOD_OWN || c->of[GOOD] == GOOD_BOTH; }
static bool has_older(const struct combination *c) { return c->of[GOOD] == GOOD_BOTH || c->of[GOOD] == GOOD_OLDER; }

static void make_attempt(const struct combination *c, struct fixture *f) {
        const struct record *r = &records[c->of[RECORD]];
        uint64_t first = is_resumed(c) ? OWN : 0;

        f->attempt = (struct attempt) { .number = 9,
                                        .started = NOW - r->age_usec,
                                        .ended = NOW,
                                        .resumed = is_resumed(c),
                                        .first_step = first,
                                        .step = first + (c->of[LIFE] % 3 > 0 ? SAVED - OWN + 2 : 0),
                                        .exit_code = r->exit_code,
                                        .signal = r->signal,
                                        .exit_class = (int) r->exit_class,
                                        .rank = -1,
                                        .reason = (char *) r->text };
}

static size_t make_ledger(const struct combination *c, struct fixture *f) {
        size_t n = 0;

        if (c->of[LIFE] % 3 == 2)
                f->good[n++] = SAVED;
        if (has_own(c) && is_resumed(c))
                f->good[n++] = OWN;
        if (has_older(c))
                f->good[n++] = OLDER;
        f->attempt.checkpoint_step = n > 0 ? f->good[0] : 0;
        return n;
}

static size_t make_history(const struct combination *c, struct fixture *f) {
        const struct attempt *a = &f->attempt;
        const struct policy_death like = { .exit_class = (enum exit_class) a->exit_class,
                                           .resumed = a->resumed,
                                           .first_step = a->first_step,
                                           .step = a->step,
                                           .checkpoint_step = !a->resumed  ? 0
                                                              : has_own(c) ? OWN
                                                                           : (has_older(c) ? OLDER : 0) };
        struct policy_death other = like, loading = like, older;

        other.step = a->first_step + 3;
        loading.exit_class = EXIT_CLASS_FAILED;
        loading.resumed = true;
        loading.first_step = loading.step = OWN;
        older = loading;
        older.first_step = older.step = OLDER;
        switch (c->of[PAST]) {
        case PAST_SAME:
                f->history[0] = like;
                return 1;
        case PAST_OTHER:
                f->history[0] = other;
                return 1;
        case PAST_LOADING:
                f->history[0] = loading;
                return 1;
        case PAST_OLDER:
                f->history[0] = older;
                f->history[1] = loading;
                return 2;
        default:
                return 0;
        }
}

static void make_ending(struct combination *c, struct fixture *f) {
        make_attempt(c, f);
        size_t n_good = make_ledger(c, f), n_history = make_history(c, f);
        uint32_t costing = c->of[RETRIES] == RETRIES_OUT    ? 3
                           : c->of[RETRIES] == RETRIES_LEFT ? c->of[PAST] != PAST_FIRST
                                                            : 0;
        bool stepped_before = c->of[PAST] == PAST_OTHER || (c->of[PAST] == PAST_SAME && c->of[LIFE] % 3 > 0);

        c->of[STEPPED] = f->attempt.step > 0 || stepped_before || n_good > 0;
        f->ending = (struct ending) { .attempt = &f->attempt,
                                      .stop_reason = (enum stop_reason) c->of[STOP],
                                      .asked = c->of[ASKED],
                                      .command = c->of[KIND] == COMMAND,
                                      .stepped = c->of[STEPPED],
                                      .ran = c->of[RAN],
                                      .config = { .max_without_progress = c->of[RETRIES] == RETRIES_NONE ? 0 : 3,
                                                  .backoff_min_sec = 5,
                                                  .backoff_max_sec = 600,
                                                  .nan_rollback = c->of[NAN_RULE],
                                                  .reports = c->of[KIND] == TRAINER },
                                      .history = f->history,
                                      .n_history = n_history,
                                      .counters = { .costing = costing, .free = c->of[PAST] != PAST_FIRST },
                                      .good = f->good,
                                      .n_good = n_good,
                                      .now_usec = NOW };
}

#endif
