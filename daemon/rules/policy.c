/*
 * See policy.h. Role: contract C8. Owns nothing, stateless.
 * Invariants: a decision depends only on its arguments; the last good checkpoint is never demoted; a user's error is
 * never retried; every delay is at least the floor, and at most the longer of backoff_max and POLICY_STARTS_SEC.
 */
#include "daemon/rules/policy.h"

#include <assert.h>
#include <signal.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

#define USEC_PER_SEC UINT64_C(1000000)
#define FLOOR_USEC USEC_PER_SEC /* between two starts, whatever the job's spec */
/* Minimum ceiling of the back-off for deaths that cost no budget: no other limit applies to them. */
#define FREE_MAX_USEC (60 * USEC_PER_SEC)

static const struct class_rule {
        bool free;       /* costs no budget */
        bool repeatable; /* twice at the same step means data or code */
        bool loading;    /* before the first step the checkpoint may be the cause */
        bool elsewhere;  /* of another host: started again after the floor, at least once in FREE_MAX_USEC */
} rules[] = {
        [EXIT_CLASS_FINISHED] = { .free = true },
        [EXIT_CLASS_STOPPED] = { .free = true },
        [EXIT_CLASS_USER_ERROR] = { .free = false },
        [EXIT_CLASS_BAD_CHECKPOINT] = { .free = false },
        [EXIT_CLASS_NAN] = { .repeatable = true, .loading = true },
        [EXIT_CLASS_FAILED] = { .repeatable = true, .loading = true },
        [EXIT_CLASS_SIGNAL] = { .repeatable = true, .loading = true },
        [EXIT_CLASS_KILLED] = { .free = true },
        [EXIT_CLASS_OOM] = { .repeatable = true },
        [EXIT_CLASS_MPI] = { .repeatable = true, .loading = true },
        [EXIT_CLASS_DISK_FULL] = { .free = true }, /* waits until there is space */
        [EXIT_CLASS_HANG] = { .repeatable = true, .loading = true },
        [EXIT_CLASS_REBOOT] = { .free = true },
        [EXIT_CLASS_LOST] = { .free = true },
        [EXIT_CLASS_LAUNCH] = { .free = false },
        [EXIT_CLASS_MISSING] = { .free = true }, /* a mount may be late after a reboot */
        [EXIT_CLASS_HOST_LOST] = { .free = true, .elsewhere = true },
        [EXIT_CLASS_WAIT] = { .free = true, .elsewhere = true },
};
static_assert(ELEMENTSOF(rules) == EXIT_CLASS_MAX, "a class without a rule");

bool policy_costs_budget(const struct policy_death *death) { return !rules[death->exit_class].free && !death->host; }

static bool stepped(const struct policy_death *death) { return death->step > death->first_step; }

static bool progressed(const struct policy_death *history, size_t i) {
        return history[i].checkpoint_step > (i > 0 ? history[i - 1].checkpoint_step : history[i].first_step);
}

void policy_count(struct policy_counters *counters, const struct policy_death *history, size_t n) {
        uint32_t *count = policy_costs_budget(&history[n - 1]) ? &counters->costing : &counters->free;

        if (progressed(history, n - 1))
                *counters = (struct policy_counters) {};
        else if (*count < UINT32_MAX)
                ++*count;
}

/* The caller does not count starts that are in the future because a clock was set back, so that the wait ends. */
uint64_t policy_starts_wait(uint32_t n, uint64_t oldest_usec, uint64_t now_usec) {
        uint64_t age = now_usec > oldest_usec ? now_usec - oldest_usec : 0, most = POLICY_STARTS_SEC * USEC_PER_SEC;

        return n >= POLICY_STARTS_MAX && age < most ? most - age : 0;
}

/* A job that exits in order to be restarted (`asked`), or lacks another host, starts again after the floor. */
static uint64_t backoff(const struct policy_config *config, const struct policy_case *c, bool asked) {
        bool elsewhere = rules[c->history[c->n - 1].exit_class].elsewhere;
        uint64_t delay = asked || elsewhere ? 0 : (uint64_t) config->backoff_min_sec * USEC_PER_SEC,
                 most = elsewhere ? 0 : (uint64_t) config->backoff_max_sec * USEC_PER_SEC,
                 deaths = (uint64_t) c->counters.costing + c->counters.free;

        delay = MAX(delay, FLOOR_USEC);
        most = MAX(most, policy_costs_budget(&c->history[c->n - 1]) ? FLOOR_USEC : FREE_MAX_USEC);
        for (uint64_t i = 1; i < deaths && delay < most; i++)
                delay *= 2;
        delay = MIN(delay, most);
        return MAX(delay - delay / 4 * (c->random % 1024) / 1024, FLOOR_USEC);
}

static void delay(struct policy_decision *decision, uint64_t delay_usec, uint64_t starts_wait_usec) {
        decision->hourly = starts_wait_usec > delay_usec;
        decision->delay_usec = MAX(delay_usec, starts_wait_usec);
}

/* A death before the first step may be caused by the start, a NaN is always caused by the update. */
static bool tells_of_step(const struct policy_death *death) {
        return rules[death->exit_class].repeatable && (stepped(death) || death->exit_class == EXIT_CLASS_NAN);
}

static bool same_step_twice(const struct policy_death *history, size_t n) {
        const struct policy_death *last = &history[n - 1];

        if (!tells_of_step(last))
                return false;
        for (size_t i = 0; i + 1 < n; i++)
                if (history[i].exit_class == last->exit_class && history[i].step == last->step &&
                    tells_of_step(&history[i]))
                        return true;
        return false;
}

static bool died_loading(const struct policy_death *death) {
        return death->resumed && !stepped(death) && rules[death->exit_class].loading;
}

/* Failed twice before the first step from this checkpoint, and never from an older one. */
static bool checkpoint_is_suspect(const struct policy_death *history, size_t n) {
        const struct policy_death *last = &history[n - 1];
        size_t deaths = 0;

        if (!died_loading(last))
                return false;
        for (size_t i = 0; i < n; i++) {
                if (!died_loading(&history[i]))
                        continue;
                if (history[i].first_step < last->first_step)
                        return false;
                deaths += history[i].first_step == last->first_step;
        }
        return deaths >= 2;
}

static bool has_older(const uint64_t *good, size_t n_good, uint64_t step) {
        for (size_t i = 0; i < n_good; i++)
                if (good[i] < step)
                        return true;
        return false;
}

static void demote(struct policy_decision *decision, uint64_t step, enum policy_cause cause) {
        decision->action = POLICY_RETRY;
        decision->demote = true;
        decision->demote_step = step;
        decision->cause = cause;
}

static void give_up(struct policy_decision *decision, enum policy_cause cause, uint64_t step) {
        decision->action = POLICY_FAIL;
        decision->cause = cause;
        decision->step = step;
}

/* Back to the one before the newest: the newest may contain a hardware error. */
static void roll_back(struct policy_decision *decision, const uint64_t *good, size_t n_good) {
        decision->action = POLICY_RETRY;
        decision->rollback = true;
        decision->rollback_step = n_good > 1 ? good[1] : n_good > 0 ? good[0] : 0;
        decision->cause = CAUSE_ROLLBACK;
}

static void decide_death(const struct policy_config *config, const struct policy_case *c, struct policy_decision *ret) {
        const struct policy_death *last = &c->history[c->n - 1];
        bool older = has_older(c->good, c->n_good, last->first_step);

        /* retries 0 also covers outside kills and a full disk. */
        bool full = last->exit_class == EXIT_CLASS_DISK_FULL && !last->host;
        bool once = config->max_without_progress == 0 && (last->exit_class == EXIT_CLASS_KILLED || full || c->unasked);

        ret->action = POLICY_RETRY;
        ret->deaths = once ? 1 : c->counters.costing;
        if (last->exit_class == EXIT_CLASS_USER_ERROR)
                give_up(ret, CAUSE_NONE, 0);
        else if (last->exit_class == EXIT_CLASS_BAD_CHECKPOINT && last->resumed && older)
                demote(ret, last->first_step, CAUSE_UNUSABLE);
        else if (last->exit_class == EXIT_CLASS_BAD_CHECKPOINT && last->resumed)
                give_up(ret, CAUSE_UNUSABLE_LAST, last->first_step);
        else if (last->exit_class == EXIT_CLASS_NAN && !config->nan_rollback)
                give_up(ret, CAUSE_NAN, last->step);
        else if (same_step_twice(c->history, c->n))
                give_up(ret, CAUSE_SAME_STEP, last->step);
        else if (checkpoint_is_suspect(c->history, c->n) && older)
                demote(ret, last->first_step, CAUSE_BEFORE_FIRST);
        else if ((once || policy_costs_budget(last)) && ret->deaths > config->max_without_progress)
                give_up(ret, CAUSE_BUDGET, 0);
        else if (last->exit_class == EXIT_CLASS_NAN)
                roll_back(ret, c->good, c->n_good);
        else if (last->exit_class == EXIT_CLASS_MISSING)
                ret->cause = CAUSE_MISSING;
}

void policy_decide(const struct policy_config *config, const struct policy_case *c, struct policy_decision *ret) {
        assert(c->n > 0);
        const struct policy_death *last = &c->history[c->n - 1];
        bool asked = last->exit_class == EXIT_CLASS_STOPPED && (progressed(c->history, c->n - 1) || stepped(last));

        *ret = (struct policy_decision) {};
        if (last->exit_class == EXIT_CLASS_FINISHED) {
                ret->action = POLICY_DONE;
                return;
        }
        if (asked && !(c->unasked && config->max_without_progress == 0))
                ret->action = POLICY_RETRY;
        else
                decide_death(config, c, ret);
        if (ret->action == POLICY_RETRY)
                delay(ret, backoff(config, c, asked), c->starts_wait_usec);
}

enum exit_class policy_classify(int exit_code, int signal, bool oom) {
        if (oom)
                return EXIT_CLASS_OOM;
        if (signal == 0 && exit_code > 128 && exit_code <= 128 + 64)
                signal = exit_code - 128;
        if (signal == SIGKILL || signal == SIGTERM || signal == SIGINT)
                return EXIT_CLASS_KILLED;
        if (signal != 0)
                return EXIT_CLASS_SIGNAL;
        switch (exit_code) {
        case BERTD_EXIT_OK:
                return EXIT_CLASS_FINISHED;
        case BERTD_EXIT_STOPPED:
                return EXIT_CLASS_STOPPED;
        case BERTD_EXIT_USAGE:
        case BERTD_EXIT_DATA:
        case BERTD_EXIT_INPUT:
        case BERTD_EXIT_CONFIG:
                return EXIT_CLASS_USER_ERROR;
        case BERTD_EXIT_BAD_CHECKPOINT:
                return EXIT_CLASS_BAD_CHECKPOINT;
        case BERTD_EXIT_NAN:
                return EXIT_CLASS_NAN;
        case -1:
                return EXIT_CLASS_LOST;
        default:
                return EXIT_CLASS_FAILED;
        }
}
