/*
 * See states.h. Role: contract C3 as one table. Owns nothing.
 * Invariants: every cell is explicit (a missing one would be STATE_IMPOSSIBLE; the unit test compares the table with a
 * second, independent one); ended states are left only by resume and rm.
 */
#include "daemon/rules/states.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "common/cleanup.h"

#define TO(state) \
        { STATE_MOVE, state }
#define STAY \
        { STATE_STAY, JOB_STATE_MAX }
#define NO \
        { STATE_REFUSE, JOB_STATE_MAX }
#define BUG \
        { STATE_IMPOSSIBLE, JOB_STATE_MAX }

/* Columns as in enum job_event:
 * start, hello, cancel, pause, shutdown, resume, remove, wake, finished, retry, requeue, gave up, cancelled, paused */
static const struct transition table[][EVENT_MAX] = {
        [JOB_QUEUED] = { TO(JOB_STARTING), BUG, TO(JOB_CANCELLED), TO(JOB_PAUSED), STAY, NO, NO, BUG, BUG, BUG, BUG,
                         BUG, BUG, BUG },
        [JOB_STARTING] = { BUG, TO(JOB_RUNNING), TO(JOB_STOPPING), TO(JOB_STOPPING), TO(JOB_STOPPING), NO, NO, BUG,
                           TO(JOB_DONE), TO(JOB_BACKOFF), TO(JOB_QUEUED), TO(JOB_FAILED), BUG, BUG },
        [JOB_RUNNING] = { BUG, STAY, TO(JOB_STOPPING), TO(JOB_STOPPING), TO(JOB_STOPPING), NO, NO, BUG, TO(JOB_DONE),
                          TO(JOB_BACKOFF), TO(JOB_QUEUED), TO(JOB_FAILED), BUG, BUG },
        [JOB_STOPPING] = { BUG, STAY, STAY, STAY, STAY, NO, NO, BUG, TO(JOB_DONE), BUG, TO(JOB_QUEUED), BUG,
                           TO(JOB_CANCELLED), TO(JOB_PAUSED) },
        [JOB_BACKOFF] = { BUG, BUG, TO(JOB_CANCELLED), TO(JOB_PAUSED), STAY, TO(JOB_QUEUED), NO, TO(JOB_QUEUED), BUG,
                          BUG, BUG, BUG, BUG, BUG },
        [JOB_DONE] = { BUG, BUG, NO, NO, STAY, NO, STAY, BUG, BUG, BUG, BUG, BUG, BUG, BUG },
        [JOB_FAILED] = { BUG, BUG, NO, NO, STAY, TO(JOB_QUEUED), STAY, BUG, BUG, BUG, BUG, BUG, BUG, BUG },
        [JOB_CANCELLED] = { BUG, BUG, NO, NO, STAY, TO(JOB_QUEUED), STAY, BUG, BUG, BUG, BUG, BUG, BUG, BUG },
        [JOB_PAUSED] = { BUG, BUG, TO(JOB_CANCELLED), NO, STAY, TO(JOB_QUEUED), NO, BUG, BUG, BUG, BUG, BUG, BUG, BUG },
};
static_assert(ELEMENTSOF(table) == JOB_STATE_MAX, "a state without a row");
static_assert(EVENT_MAX == 14, "a column was added: decide every cell");

struct transition state_after(enum job_state state, enum job_event event) {
        assert(state < JOB_STATE_MAX && event < EVENT_MAX);
        return table[state][event];
}

bool state_has_ended(enum job_state state) {
        return state == JOB_DONE || state == JOB_FAILED || state == JOB_CANCELLED;
}

bool state_holds_resources(enum job_state state) {
        return state == JOB_STARTING || state == JOB_RUNNING || state == JOB_STOPPING;
}

static const char *const state_names[] = JOB_STATE_NAMES;
static const char *const kind_names[] = JOB_KIND_NAMES;
static const char *const on_nan_names[] = ON_NAN_NAMES;
static const char *const ends_with_names[] = ENDS_WITH_NAMES;
static const char *const class_names[] = EXIT_CLASS_NAMES;
static const char *const event_names[] = {
        [EVENT_START] = "start",         [EVENT_HELLO] = "running",     [EVENT_CANCEL] = "cancel",
        [EVENT_PAUSE] = "pause",         [EVENT_SHUTDOWN] = "shutdown", [EVENT_RESUME] = "resume",
        [EVENT_REMOVE] = "remove",       [EVENT_WAKE] = "backoff-over", [EVENT_FINISHED] = "finished",
        [EVENT_RETRY] = "died",          [EVENT_REQUEUE] = "stopped",   [EVENT_GAVE_UP] = "failed",
        [EVENT_CANCELLED] = "cancelled", [EVENT_PAUSED] = "paused",
};
static_assert(ELEMENTSOF(state_names) == JOB_STATE_MAX, "state names");
static_assert(ELEMENTSOF(kind_names) == JOB_KIND_MAX, "kind names");
static_assert(ELEMENTSOF(class_names) == EXIT_CLASS_MAX, "class names");
static_assert(ELEMENTSOF(event_names) == EVENT_MAX, "event names");

static int find_name(const char *const *names, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(names[i], name) == 0)
                        return (int) i;
        return -EINVAL;
}

const char *job_state_name(enum job_state state) { return state_names[state]; }
int job_state_from_name(const char *name) { return find_name(state_names, JOB_STATE_MAX, name); }
const char *job_kind_name(enum job_kind kind) { return kind_names[kind]; }
int job_kind_from_name(const char *name) { return find_name(kind_names, JOB_KIND_MAX, name); }
int on_nan_from_name(const char *name) { return find_name(on_nan_names, ON_NAN_MAX, name); }
const char *on_nan_name(enum on_nan on_nan) { return on_nan_names[on_nan]; }
int ends_with_from_name(const char *name) { return find_name(ends_with_names, ENDS_WITH_MAX, name); }
const char *ends_with_name(enum ends_with ends_with) { return ends_with_names[ends_with]; }
const char *exit_class_name(int exit_class) {
        return exit_class >= 0 && exit_class < EXIT_CLASS_MAX ? class_names[exit_class] : "";
}
int exit_class_from_name(const char *name) { return find_name(class_names, EXIT_CLASS_MAX, name); }
const char *job_event_name(enum job_event event) { return event_names[event]; }
