/* Every combination of how an attempt ended, the stop that was under way, and the deaths and checkpoints before it, against the table `outcomes`. */
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

static const struct {
        const char *name, *says;
} said[] = {
        { "-", "" },
        { "death", "" },
        { "delay", "again in " },
        { "missing", "the job has run before: it waits until that is there again; again in " },
        { "unusable", "it cannot be used: the checkpoint of step 10 is set aside for an older one; again in " },
        { "unusable-last", "the checkpoint of step 10 cannot be used and there is no older one" },
        { "before-first",
          "two deaths before the first step: the checkpoint of step 10 is set aside for an older one; again in " },
        { "same-step", "the second such death at step " },
        { "nan", "on_nan is stop" },
        { "rollback", "on_nan is rollback: again from step " },
        { "cancelled", "cancelled" },
        { "paused", "paused" },
        { "shutdown", "stopped with the daemon" },
};

static const char *after(const char *text, const char *start) {
        size_t n = strlen(start);

        return strncmp(text, start, n) == 0 ? text + n : NULL;
}

/* Of a death: its own reason first, then what the table says of it. */
static bool said_so(const char *because, const struct ending *e, const struct outcome *o) {
        const char *death = e->attempt->reason ? e->attempt->reason : o->death, *text = o->reason;
        const char *budget = e->config.max_without_progress == 0 ? "not tried again (" : "died 4 times";

        if (o->event == EVENT_RETRY || o->event == EVENT_GAVE_UP) {
                text = after(text, death);
                if (text && death[0] && text[0])
                        text = after(text, "; ");
        }
        if (!text || strcmp(because, "budget") == 0)
                return text && after(text, budget);
        for (size_t i = 0; i < ELEMENTSOF(said); i++)
                if (strcmp(said[i].name, because) == 0)
                        return said[i].says[0] ? after(text, said[i].says) != NULL : text[0] == '\0';
        return false;
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

/* Whatever comes: a stop that was asked for is one, the last good checkpoint stays, nothing starts sooner than the floor or never. */
static void check_harmless(const struct combination *c, const struct ending *e, const struct outcome *o) {
        bool after_change = o->change == LEDGER_KEPT || o->event == EVENT_RETRY;
        bool stays = o->change != LEDGER_DEMOTED || e->n_good > (e->good[0] == o->changed_step);
        bool waits = o->event != EVENT_RETRY ? o->delay_usec == 0
                                             : o->delay_usec >= USEC_PER_SEC && o->delay_usec <= 3600 * USEC_PER_SEC;

        if (!after_change || !stays || !waits || (e->wish >= WISH_CANCEL && o->event != EVENT_CANCELLED) ||
            (e->wish != WISH_NONE && (o->event == EVENT_RETRY || o->event == EVENT_GAVE_UP)) ||
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
        assert_string_equal(o.reason, "exit code 1; again in 5.0 s");
        assert_string_equal(o.private, "");
        c.of[RECORD] = RECORD_SIGNAL;
        o = end_of(&f, &c);
        assert_string_equal(o.death, "killed by signal 11 (Segmentation fault)");
}

/* What quotes the job is for its owner; both get what the policy says. */
static void test_private_reason(void **state) {
        struct combination c = failed;
        struct fixture f;
        struct outcome o;

        c.of[RETRIES] = RETRIES_NONE;
        make_ending(&c, &f);
        f.attempt.private = (char *) "exit code 1: KeyError: 'secret'";
        outcome(&f.ending, &o);
        assert_string_equal(o.reason, "exit code 1; not tried again (--retries 0)");
        assert_string_equal(o.private, "exit code 1: KeyError: 'secret'; not tried again (--retries 0)");
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
        f.ending.wish = WISH_CANCEL;
        outcome(&f.ending, &o);
        assert_string_equal(o.reason, "cancelled; left 2 processes");
        assert_string_equal(o.private, "cancelled; left python3 train.py");
        f.attempt.exit_class = EXIT_CLASS_FAILED;
        f.ending.wish = WISH_NONE;
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
        assert_string_equal(o.reason, "exit code 1; the second such death at step 12: data or code, not hardware "
                                      "(samples 100 to 163)");
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
        assert_non_null(strstr(o.reason, "restarted 60 times in the last hour; next start "));
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
                cmocka_unit_test(test_samples),           cmocka_unit_test(test_hourly_limit),
                cmocka_unit_test(test_long_history),
        };
        return cmocka_run_group_tests(tests, read_table, NULL);
}
