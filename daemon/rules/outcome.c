/*
 * See outcome.h. Owns nothing.
 * Invariants: a requested stop takes precedence over the policy, but finished work is finished unless it is cancelled;
 * a death is counted only if the policy judges it; at most one change of the ledger follows.
 */
#include "daemon/rules/outcome.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/rules/reasons.h"

#define EXIT_NOT_EXECUTABLE 126 /* of shells */
#define EXIT_NOT_FOUND 127
#define SOON_USEC (60 * USEC_PER_SEC)

/* What follows from a stop. */
static const struct stop_rule {
        enum job_event event;
        bool unless_finished;
        const char *reason;
} stops[] = {
        [STOP_SHUTDOWN] = { EVENT_REQUEUE, true, "stopped with the daemon" },
        [STOP_PAUSE] = { EVENT_PAUSED, true, "paused" },
        [STOP_CANCEL] = { EVENT_CANCELLED, false, "cancelled" },
        [STOP_CANCEL_NOW] = { EVENT_CANCELLED, false, "cancelled" },
};
static_assert(ELEMENTSOF(stops) == STOP_REASON_MAX, "a stop without a rule");

/* ---- the cause of death ---- */

static void explain_death(const struct attempt *a, struct outcome *ret) {
        if (a->reason)
                return;
        if (a->signal != 0)
                (void) snprintf(ret->death, sizeof(ret->death), "killed by signal %d (%s)", a->signal,
                                strsignal(a->signal));
        else if (a->exit_code > 0)
                (void) snprintf(ret->death, sizeof(ret->death), "exit code %d", a->exit_code);
}

/* The attempt's reason, for everybody; NULL = none. */
static const char *death_reason(const struct attempt *a, const struct outcome *o) {
        return a->reason ? a->reason : o->death[0] ? o->death : NULL;
}

/* If the clock was set back meanwhile, it still counts as soon. */
static bool soon(const struct attempt *a) { return a->step <= a->first_step && a->ended < a->started + SOON_USEC; }

/* The program could not be started, or a shell reports that it could not start its own. */
static bool was_not_started(const struct attempt *a) {
        bool code = a->exit_code == EXIT_NOT_EXECUTABLE || a->exit_code == EXIT_NOT_FOUND;

        return (a->exit_class == EXIT_CLASS_LAUNCH && a->exit_code >= 0) ||
               (a->exit_class == EXIT_CLASS_USER_ERROR && code) ||
               (a->exit_class == EXIT_CLASS_FAILED && code && soon(a));
}

/* An interpreter cannot read its script: "python3 train.py" then exits with 2 and a longer line, "sh train.sh" with a
 * shorter one. The same usage was right before. */
static bool lacks_file(const struct attempt *a) {
        static const char *const words[] = { "No such file", "can't cd to", "Stale file handle",
                                             "Transport endpoint is not connected", "Input/output error" };
        const char *text = attempt_private(a);

        if (a->exit_class != EXIT_CLASS_USER_ERROR || a->exit_code != BERTD_EXIT_USAGE || !soon(a) || !text)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strstr(text, words[i]))
                        return true;
        return false;
}

/* What is missing may come back if the job had it before: a file system that is mounted late, a program that is being
 * installed. In a first attempt it is the user's mistake. */
static bool is_missing(const struct ending *e) {
        const struct attempt *a = e->attempt;

        if (a->exit_class == EXIT_CLASS_USER_ERROR && a->exit_code == BERTD_EXIT_INPUT)
                return e->stepped;
        return (was_not_started(a) || lacks_file(a)) && e->ran;
}

/* ---- the policy ---- */

static void judge(const struct ending *e, struct outcome *ret, struct policy_decision *decision) {
        const struct attempt *a = e->attempt;
        struct policy_death deaths[POLICY_HISTORY_MAX];
        size_t n = MIN(e->n_history, (size_t) POLICY_HISTORY_MAX - 1);

        ret->counted = true;
        ret->last_death = job_death(a);
        ret->last_death.exit_class = ret->exit_class;
        if (n > 0)
                memcpy(deaths, &e->history[e->n_history - n], n * sizeof(*deaths));
        deaths[n++] = ret->last_death;
        policy_count(&ret->counters, deaths, n);
        const struct policy_case c = { .history = deaths,
                                       .n = n,
                                       .counters = ret->counters,
                                       .good = e->good,
                                       .n_good = e->n_good,
                                       .starts_wait_usec = e->starts_wait_usec,
                                       .unasked = !e->asked && ret->exit_class == EXIT_CLASS_STOPPED &&
                                                  a->exit_code == BERTD_EXIT_STOPPED,
                                       .random = e->random };
        policy_decide(&e->config, &c, decision);
        ret->waits = decision->action == POLICY_RETRY && e->hosts_wait_usec > decision->delay_usec;
        if (ret->waits)
                decision->delay_usec = e->hosts_wait_usec;
}

/* The newest good one except `step`; 0: none. */
static uint64_t newest_but(const struct ending *e, uint64_t step) {
        for (size_t i = 0; i < e->n_good; i++)
                if (e->good[i] != step)
                        return e->good[i];
        return 0;
}

/* The next attempt first moves newer files away, because retention would count them as good. */
static void change_ledger(const struct ending *e, const struct policy_decision *decision, struct outcome *ret) {
        if (decision->demote) {
                ret->change = LEDGER_DEMOTED;
                ret->changed_step = decision->demote_step;
                ret->from_step = newest_but(e, decision->demote_step);
        } else if (decision->rollback) {
                ret->change = LEDGER_GONE_BACK;
                ret->changed_step = ret->from_step = decision->rollback_step;
        }
        if (ret->change != LEDGER_KEPT)
                (void) reason_of_decision(decision, &e->config, ret->change_reason, sizeof(ret->change_reason));
}

/* ---- texts ---- */

/* The death and the policy's additions (`parts`: its text, the samples, the delay). */
static void put_reason(char *buffer, size_t size, const char *death, const char *const parts[3]) {
        const char *text = parts[0], *samples = parts[1], *delay = parts[2];
        bool said = death && death[0], more = said || text[0] || samples[0];

        (void) snprintf(buffer, size, "%s%s%s%s%s%s", said ? death : "", said && text[0] ? "; " : "", text, samples,
                        more && delay[0] ? "; " : "", delay);
}

static void explain(const struct ending *e, const struct policy_decision *decision, struct outcome *ret) {
        const struct attempt *a = e->attempt;
        char text[OUTCOME_TEXT_MAX], samples[64] = "", delay[OUTCOME_TEXT_MAX] = "";
        const char *const parts[] = { text, samples, delay };

        (void) reason_of_decision(decision, &e->config, text, sizeof(text));
        if (decision->cause == CAUSE_SAME_STEP && a->samples_last > 0)
                (void) snprintf(samples, sizeof(samples), " (samples %" PRIu64 " to %" PRIu64 ")", a->samples_first,
                                a->samples_last);
        if (ret->waits)
                (void) snprintf(delay, sizeof(delay), "no spare host: waiting %.0f s for %.64s",
                                (double) ret->delay_usec / (double) USEC_PER_SEC, e->waits_for);
        else if (ret->event == EVENT_RETRY)
                (void) reason_of_delay(decision, e->now_usec + ret->delay_usec, delay, sizeof(delay));
        put_reason(ret->reason, sizeof(ret->reason), death_reason(a, ret), parts);
        if (a->private)
                put_reason(ret->private, sizeof(ret->private), a->private, parts);
}

static void add_more(char *buffer, size_t size, const char *whole, const char *more) {
        size_t n = strlen(buffer);

        (void) snprintf(buffer + n, size - n, "%s%s", n > 0 ? "; " : "", n == 0 && whole ? whole : more);
}

/* A job that is done, or ended as requested, shows its attempt's reason only if there is more to report. */
static void say_more(const struct attempt *a, struct outcome *ret) {
        const char *death = death_reason(a, ret);

        if (!a->more)
                return;
        (void) snprintf(ret->private, sizeof(ret->private), "%s", ret->reason);
        add_more(ret->private, sizeof(ret->private), a->private ? a->private : death,
                 a->more_private ? a->more_private : a->more);
        add_more(ret->reason, sizeof(ret->reason), death, a->more);
}

/* ---- the decision ---- */

static void decide_stop(const struct ending *e, struct outcome *ret) {
        const struct stop_rule *rule = &stops[e->stop_reason];
        bool finished = ret->exit_class == EXIT_CLASS_FINISHED && !(e->asked && e->command);

        if (finished && rule->unless_finished) {
                ret->event = EVENT_FINISHED;
                return;
        }
        ret->event = rule->event;
        (void) snprintf(ret->reason, sizeof(ret->reason), "%s", rule->reason);
        const char *death = death_reason(e->attempt, ret);
        if (e->stop_reason == STOP_PAUSE && ret->exit_class == EXIT_CLASS_HOST_LOST && death)
                add_more(ret->reason, sizeof(ret->reason), NULL, death); /* there was no checkpoint */
}

static void decide_death(const struct ending *e, struct outcome *ret) {
        static const enum job_event events[] = {
                [POLICY_DONE] = EVENT_FINISHED, [POLICY_RETRY] = EVENT_RETRY, [POLICY_FAIL] = EVENT_GAVE_UP
        };
        struct policy_decision decision;

        judge(e, ret, &decision);
        ret->event = events[decision.action];
        ret->cause = decision.cause;
        ret->delay_usec = decision.delay_usec;
        if (e->allocation && ret->exit_class == EXIT_CLASS_HOST_LOST)
                ret->event = EVENT_GAVE_UP;
        change_ledger(e, &decision, ret);
        if (ret->event != EVENT_FINISHED)
                explain(e, &decision, ret);
}

/* A stop of bertd with its jobs ends a lease, too: its head asks for another. */
static void decide_lease(const struct ending *e, struct outcome *ret) {
        const struct attempt *a = e->attempt;
        bool finished = ret->exit_class == EXIT_CLASS_FINISHED;

        if (e->stop_reason != STOP_NONE) {
                ret->event = EVENT_CANCELLED;
                (void) snprintf(ret->reason, sizeof(ret->reason), "%s", stops[e->stop_reason].reason);
                return;
        }
        ret->event = finished ? EVENT_FINISHED : EVENT_GAVE_UP;
        if (finished)
                return;
        (void) snprintf(ret->reason, sizeof(ret->reason), "%s", death_reason(a, ret) ? death_reason(a, ret) : "");
        (void) snprintf(ret->private, sizeof(ret->private), "%s", a->private ? a->private : "");
}

void outcome(const struct ending *e, struct outcome *ret) {
        *ret = (struct outcome) { .exit_class = (enum exit_class) e->attempt->exit_class, .counters = e->counters };
        explain_death(e->attempt, ret);
        if (is_missing(e))
                ret->exit_class = EXIT_CLASS_MISSING;
        if (e->lease)
                decide_lease(e, ret);
        else if (e->stop_reason == STOP_NONE)
                decide_death(e, ret);
        else
                decide_stop(e, ret);
        if (ret->event != EVENT_RETRY && ret->event != EVENT_GAVE_UP)
                say_more(e->attempt, ret);
}
