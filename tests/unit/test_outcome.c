/* Every combination of how an attempt ended, the stop that was under way, and the deaths and checkpoints before it,
 * against the table `outcomes`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/outcome_table.h"

static const struct line *the_line(enum line_kind kind, const struct combination *c) {
        const struct line *line = NULL;
        size_t n = find_lines(kind, c, &line);

        if (n != 1)
                fail_msg("%zu lines `%s` match:%s", n, line_kinds[kind], described(c));
        return line;
}

#define check(ok, line, c, o)                                                                                       \
        do {                                                                                                        \
                if (!(ok))                                                                                          \
                        fail_msg("outcomes, line %u: not so, but class %d, %s (%s), change %d:%s", (line)->number,  \
                                 (int) (o)->exit_class, job_event_name((o)->event), (o)->reason, (int) (o)->change, \
                                 described(c));                                                                     \
        } while (0)

static bool counted_so(const char *how, const struct ending *e, const struct outcome *o) {
        struct policy_counters was = e->counters, is = o->counters;

        if (strcmp(how, "kept") == 0)
                return !o->counted && is.costing == was.costing && is.free == was.free;
        if (strcmp(how, "costs") == 0)
                return o->counted && is.costing == was.costing + 1 && is.free == was.free;
        if (strcmp(how, "free") == 0)
                return o->counted && is.costing == was.costing && is.free == was.free + 1;
        return strcmp(how, "reset") == 0 && o->counted && is.costing == 0 && is.free == 0;
}

static const char *const causes[] = {
        [CAUSE_NONE] = "-",
        [CAUSE_UNUSABLE] = "unusable",
        [CAUSE_UNUSABLE_LAST] = "unusable-last",
        [CAUSE_SAME_STEP] = "same-step",
        [CAUSE_BEFORE_FIRST] = "before-first",
        [CAUSE_BUDGET] = "budget",
        [CAUSE_NAN] = "nan",
        [CAUSE_ROLLBACK] = "rollback",
        [CAUSE_MISSING] = "missing",
};
static_assert(ELEMENTSOF(causes) == CAUSE_MAX, "a cause without a name");

static const struct {
        const char *name, *says;
} stops[] = {
        { "cancelled", "cancelled" },
        { "paused", "paused" },
        { "paused-lost", "paused; h3: silent for 20.1 s" },
        { "shutdown", "stopped with the daemon" },
};

static const char *after(const char *text, const char *start) {
        size_t n = strlen(start);

        return text && strncmp(text, start, n) == 0 ? text + n : NULL;
}

/* Its own reason, then what the policy adds (whose words test_policy knows): of what is tried again at least when. */
static bool death_said(const struct ending *e, const struct outcome *o) {
        const char *death = e->attempt->reason ? e->attempt->reason : o->death;
        bool more = o->cause != CAUSE_NONE || o->event == EVENT_RETRY;
        const char *text = after(o->reason, death);

        if (more && death[0])
                text = after(text, "; ");
        return text && (text[0] != '\0') == more;
}

static bool said_so(const char *because, const struct ending *e, const struct outcome *o) {
        if (o->event == EVENT_RETRY || o->event == EVENT_GAVE_UP)
                return strcmp(because, causes[o->cause]) == 0 && death_said(e, o);
        for (size_t i = 0; i < ELEMENTSOF(stops); i++)
                if (strcmp(stops[i].name, because) == 0)
                        return strcmp(o->reason, stops[i].says) == 0;
        return strcmp(because, "-") == 0 && o->reason[0] == '\0';
}

static bool changed_so(const char *change, const struct ending *e, const struct outcome *o) {
        if (strcmp(change, "kept") == 0)
                return o->change == LEDGER_KEPT;
        if (strcmp(change, "demoted") == 0)
                return o->change == LEDGER_DEMOTED && o->changed_step == OWN && o->from_step == OLDER;
        /* The newest may have the fault in it: to the one before. */
        return strcmp(change, "back") == 0 && o->change == LEDGER_GONE_BACK && o->from_step == o->changed_step &&
               o->from_step == (e->n_good > 1   ? e->good[1]
                                : e->n_good > 0 ? e->good[0]
                                                : 0);
}

static bool event_so(const char *event, const struct outcome *o) {
        static const char *const names[] = {
                [EVENT_FINISHED] = "finished", [EVENT_RETRY] = "retry",         [EVENT_REQUEUE] = "requeue",
                [EVENT_GAVE_UP] = "gave-up",   [EVENT_CANCELLED] = "cancelled", [EVENT_PAUSED] = "paused",
        };

        return o->event < ELEMENTSOF(names) && names[o->event] && strcmp(names[o->event], event) == 0;
}

static void check_class(struct combination *c, const struct outcome *o) {
        bool recorded = o->exit_class == records[c->of[RECORD]].exit_class;
        const struct line *line = the_line(LINE_CLASS, c);

        c->of[MISSING] = strcmp(line->results[0], "missing") == 0;
        check(c->of[MISSING] ? o->exit_class == EXIT_CLASS_MISSING : recorded, line, c, o);
}

static void check_against_table(struct combination *c, const struct ending *e, const struct outcome *o) {
        check_class(c, o);
        const struct line *line = the_line(LINE_COUNT, c);
        check(counted_so(line->results[0], e, o), line, c, o);
        line = the_line(LINE_EVENT, c);
        check(event_so(line->results[0], o), line, c, o);
        check(said_so(line->results[1], e, o), line, c, o);
        check(changed_so(line->results[2], e, o), line, c, o);
}

/* Whatever comes: a stop that was asked for is one, the last good checkpoint stays, nothing starts sooner than the
 * floor or never. */
static void check_harmless(const struct combination *c, const struct ending *e, const struct outcome *o) {
        bool after_change = o->change == LEDGER_KEPT || o->event == EVENT_RETRY;
        bool stays = o->change != LEDGER_DEMOTED || e->n_good > (e->good[0] == o->changed_step);
        bool waits = o->event != EVENT_RETRY ? o->delay_usec == 0
                                             : o->delay_usec >= USEC_PER_SEC && o->delay_usec <= 3600 * USEC_PER_SEC;

        if (!after_change || !stays || !waits || (e->stop_reason >= STOP_CANCEL && o->event != EVENT_CANCELLED) ||
            (e->stop_reason != STOP_NONE && (o->event == EVENT_RETRY || o->event == EVENT_GAVE_UP)) ||
            strlen(o->reason) >= sizeof(o->reason) || strlen(o->private) >= sizeof(o->private))
                fail_msg("%s (%s), change %d, delay %ju:%s", job_event_name(o->event), o->reason, (int) o->change,
                         (uintmax_t) o->delay_usec, described(c));
}

static void test_every_combination(void **state) {
        static struct combination c;
        unsigned long n = 0, possible = 0;

        do {
                const struct line *line;
                struct fixture f;
                struct outcome o;
                make_ending(&c, &f);
                c.names = names_of(&c);
                outcome(&f.ending, &o);
                check_harmless(&c, &f.ending, &o);
                n++;
                if (find_lines(LINE_NEVER, &c, &line) > 0)
                        continue;
                possible++;
                check_against_table(&c, &f.ending, &o);
        } while (next_combination(&c));
        print_message("%lu combinations, of which %lu can occur\n", n, possible);
        for (size_t i = 0; i < table.n_lines; i++)
                if (table.lines[i].matched == 0)
                        fail_msg("outcomes, line %u matches no combination", table.lines[i].number);
}

/* ---- what the table leaves open ---- */

static struct outcome end_of(struct fixture *f, const struct combination *c) {
        struct combination copy = *c;
        struct outcome o;

        make_ending(&copy, f);
        outcome(&f->ending, &o);
        return o;
}

static const struct combination failed = {
        .of = { [RECORD] = RECORD_FAILED, [RETRIES] = RETRIES_LEFT, [KIND] = COMMAND }
};

static void test_reason_of_none(void **state) {
        struct combination c = failed;
        struct fixture f;

        struct outcome o = end_of(&f, &c);
        assert_string_equal(o.death, "exit code 1");
        assert_string_equal(o.private, "");
        c.of[RECORD] = RECORD_SIGNAL;
        o = end_of(&f, &c);
        assert_string_equal(o.death, "killed by signal 11 (Segmentation fault)");
}

/* What quotes the job is for its owner; both get what the policy says. */
static void test_private_reason(void **state) {
        static const char private[] = "exit code 1: KeyError: 'secret'";
        struct combination c = failed;
        struct fixture f;
        struct outcome o;

        make_ending(&c, &f);
        f.attempt.private = (char *) private;
        outcome(&f.ending, &o);
        const char *policy = after(o.reason, "exit code 1");
        assert_non_null(policy);
        assert_true(policy[0] == ';');
        assert_string_equal(after(o.private, private), policy);
}

/* Whom it left behind is said however the job went on, unless its death says so already. */
static void test_more(void **state) {
        struct combination c = failed;
        struct fixture f;
        struct outcome o;

        c.of[RECORD] = RECORD_FINISHED;
        make_ending(&c, &f);
        f.attempt.more = (char *) "left 2 processes";
        f.attempt.more_private = (char *) "left python3 train.py";
        outcome(&f.ending, &o);
        assert_string_equal(o.reason, "left 2 processes");
        assert_string_equal(o.private, "left python3 train.py");
        f.ending.stop_reason = STOP_CANCEL;
        outcome(&f.ending, &o);
        assert_string_equal(o.reason, "cancelled; left 2 processes");
        assert_string_equal(o.private, "cancelled; left python3 train.py");
        f.attempt.exit_class = EXIT_CLASS_FAILED;
        f.ending.stop_reason = STOP_NONE;
        outcome(&f.ending, &o);
        assert_null(strstr(o.reason, "left"));
}

static void test_samples(void **state) {
        struct combination c = failed;
        struct fixture f;
        struct outcome o;

        c.of[PAST] = PAST_SAME;
        c.of[LIFE] = FRESH_STEP;
        make_ending(&c, &f);
        f.attempt.samples_first = 100;
        f.attempt.samples_last = 163;
        outcome(&f.ending, &o);
        assert_int_equal(o.cause, CAUSE_SAME_STEP);
        assert_non_null(strstr(o.reason, "(samples 100 to 163)"));
}

/* Without a spare the job waits until the host has cooled down. */
static void test_cooling_host(void **state) {
        struct combination c = failed;
        struct fixture f;
        struct outcome o;

        c.of[RECORD] = RECORD_HOST_LOST;
        make_ending(&c, &f);
        f.ending.waits_for = "h3";
        outcome(&f.ending, &o);
        assert_string_equal(o.reason, "h3: silent for 20.1 s; retrying in 1.0 s");
        f.ending.hosts_wait_usec = 40 * USEC_PER_SEC;
        outcome(&f.ending, &o);
        assert_true(o.event == EVENT_RETRY && o.delay_usec == 40 * USEC_PER_SEC);
        assert_string_equal(o.reason, "h3: silent for 20.1 s; no spare host: waiting 40 s for h3");
        f.ending.stop_reason = STOP_CANCEL;
        outcome(&f.ending, &o);
        assert_true(o.event == EVENT_CANCELLED);
}

static void test_hourly_limit(void **state) {
        struct combination c = failed;
        struct fixture f;
        struct outcome o;

        make_ending(&c, &f);
        f.ending.starts_wait_usec = 1800 * USEC_PER_SEC;
        outcome(&f.ending, &o);
        assert_int_equal(o.event, EVENT_RETRY);
        assert_int_equal(o.delay_usec, 1800 * USEC_PER_SEC);
        assert_non_null(strstr(o.reason, "in the last hour; next start "));
}

/* The history that is judged has the newest deaths, this one included. */
static void test_long_history(void **state) {
        struct policy_death deaths[POLICY_HISTORY_MAX];
        struct combination c = failed;
        struct fixture f;
        struct outcome o;

        c.of[PAST] = PAST_SAME;
        c.of[LIFE] = FRESH_STEP;
        make_ending(&c, &f);
        for (size_t i = 0; i < POLICY_HISTORY_MAX; i++) {
                deaths[i] = f.history[0];
                deaths[i].exit_class = i == 0 ? EXIT_CLASS_FAILED : EXIT_CLASS_REBOOT;
        }
        f.ending.history = deaths;
        f.ending.n_history = POLICY_HISTORY_MAX;
        outcome(&f.ending, &o);
        assert_int_equal(o.event, EVENT_RETRY);
        deaths[POLICY_HISTORY_MAX - 1].exit_class = EXIT_CLASS_FAILED;
        outcome(&f.ending, &o);
        assert_int_equal(o.event, EVENT_GAVE_UP);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_combination), cmocka_unit_test(test_reason_of_none),
                cmocka_unit_test(test_private_reason),    cmocka_unit_test(test_more),
                cmocka_unit_test(test_samples),           cmocka_unit_test(test_cooling_host),
                cmocka_unit_test(test_hourly_limit),      cmocka_unit_test(test_long_history),
        };
        return cmocka_run_group_tests(tests, read_table, NULL);
}
