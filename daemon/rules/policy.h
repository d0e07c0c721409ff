/*
 * The restart policy (contract C8). Pure: a job's deaths and its checkpoints in, a decision out.
 *
 * The measure is progress: a death in an attempt that committed a newer checkpoint costs nothing and resets both the
 * budget and the back-off.
 */
#ifndef DAEMON_RULES_POLICY_H
#define DAEMON_RULES_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/job.h"

#define POLICY_HISTORY_MAX 16 /* newest deaths, which are searched for repetitions */
#define POLICY_STARTS_MAX 60  /* per job within POLICY_STARTS_SEC */
#define POLICY_STARTS_SEC 3600

/* How one attempt ended. */
struct policy_death {
        enum exit_class exit_class;
        bool resumed;             /* started from the checkpoint of step `first_step` */
        uint64_t first_step;      /* 0 = from the beginning */
        uint64_t step;            /* last completed step; > first_step: it completed at least one */
        uint64_t checkpoint_step; /* newest checkpoint of the job when it ended, 0 = none */
        bool host;                /* caused by the host or bertd, whatever its class: costs no budget */
};

/* Deaths since the last newer checkpoint, the submission or the user's last resume. Counted apart from the history,
 * which is shorter than a budget may be. */
struct policy_counters {
        uint32_t costing, free; /* with and without cost to the budget */
};

struct policy_config {
        uint32_t max_without_progress; /* restarts in a row without a newer checkpoint */
        uint32_t backoff_min_sec, backoff_max_sec;
        bool nan_rollback; /* on_nan: rollback; else a NaN ends the job */
        bool reports;      /* the job has reported progress: checkpoints appear only in such jobs' reasons */
};

enum policy_action {
        POLICY_DONE,  /* finished */
        POLICY_RETRY, /* retry after delay_usec */
        POLICY_FAIL,  /* not again */
};

enum policy_cause {
        CAUSE_NONE,          /* nothing beyond the death itself */
        CAUSE_UNUSABLE,      /* the checkpoint of demote_step cannot be used */
        CAUSE_UNUSABLE_LAST, /* the checkpoint of `step` cannot be used and there is no older one */
        CAUSE_SAME_STEP,     /* failed twice the same way at `step` */
        CAUSE_BEFORE_FIRST,  /* failed twice before the first step from demote_step */
        CAUSE_BUDGET,        /* `deaths` without a newer checkpoint */
        CAUSE_NAN,           /* on_nan: stop */
        CAUSE_ROLLBACK,      /* on_nan: rollback, to rollback_step */
        CAUSE_MISSING,       /* EXIT_CLASS_MISSING: waits for the input */
        CAUSE_MAX
};

struct policy_decision {
        enum policy_action action;
        uint64_t delay_usec;
        bool hourly; /* the delay comes from POLICY_STARTS_MAX */
        bool demote; /* demotes the checkpoint of demote_step */
        uint64_t demote_step;
        bool rollback; /* abandons checkpoints after rollback_step; 0: all of them */
        uint64_t rollback_step;
        enum policy_cause cause; /* in words: daemon/rules/reasons.h */
        uint64_t step;
        uint32_t deaths;
};

/* Counts the death at the end of the history. */
void policy_count(struct policy_counters *counters, const struct policy_death *history, size_t n);

/* Delay for a job that was started `n` times within the last POLICY_STARTS_SEC, first at `oldest_usec`: 0 to
 * POLICY_STARTS_SEC. */
uint64_t policy_starts_wait(uint32_t n, uint64_t oldest_usec, uint64_t now_usec);

/* Input of a decision. */
struct policy_case {
        const struct policy_death
                *history; /* since the submission or the user's last resume, oldest first; ends with the one to judge */
        size_t n;         /* >= 1 */
        struct policy_counters counters; /* that one included */
        const uint64_t *good;            /* steps of the good checkpoints, newest first */
        size_t n_good;
        uint64_t starts_wait_usec; /* of policy_starts_wait */
        bool unasked;              /* it stopped with a checkpoint without a request */
        uint32_t random;           /* 32 random bits for the jitter */
};
void policy_decide(const struct policy_config *config, const struct policy_case *c, struct policy_decision *ret);

/* The class of an exit if the shim gave none: exit_code −1 = none, signal 0 = none. 128 + N counts as signal N. */
enum exit_class policy_classify(int exit_code, int signal, bool oom);

/* Whether the class costs budget. Deaths by host, admin or an outside kill do not. */
bool policy_costs_budget(const struct policy_death *death);

#endif
