/*
 * The restart policy (contract C8). Pure: a job's deaths and its checkpoints in, a decision out.
 *
 * Everything is priced in progress: a death in an attempt that committed a newer checkpoint than the job had costs nothing and
 * resets both the budget and the back-off.
 */
#ifndef DAEMON_POLICY_H
#define DAEMON_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/job.h"

#define POLICY_HISTORY_MAX 16 /* deaths that are looked at for what repeats itself: the newest */
#define POLICY_STARTS_MAX 60  /* of a job within POLICY_STARTS_SEC */
#define POLICY_STARTS_SEC 3600

/* How one attempt ended. */
struct policy_death {
        enum exit_class exit_class;
        bool resumed;             /* it began from the checkpoint of step `first_step` */
        uint64_t first_step;      /* 0 = from the beginning */
        uint64_t step;            /* last completed step; > first_step: it completed at least one */
        uint64_t checkpoint_step; /* newest checkpoint of the job when it ended, 0 = none */
        bool host;                /* the host's or bertd's doing, whatever its class: costs no budget */
};

/* Deaths since the last newer checkpoint, the submission or the user's last resume: numbers of their own, for a budget may be longer
 * than any history. */
struct policy_counters {
        uint32_t costing, free; /* that cost budget, that do not */
};

struct policy_config {
        uint32_t max_without_progress; /* restarts in a row that may pass without a newer checkpoint */
        uint32_t backoff_min_sec, backoff_max_sec;
        bool nan_rollback; /* on_nan: rollback; else a NaN ends the job */
        bool reports;      /* the job has reported progress: others do not hear of checkpoints */
};

enum policy_action {
        POLICY_DONE,  /* the work is finished */
        POLICY_RETRY, /* again after delay_usec */
        POLICY_FAIL,  /* not again */
};

enum policy_cause {
        CAUSE_NONE,          /* nothing beyond the death itself */
        CAUSE_UNUSABLE,      /* the checkpoint of demote_step cannot be used */
        CAUSE_UNUSABLE_LAST, /* the checkpoint of `step` cannot be used and there is no older one */
        CAUSE_SAME_STEP,     /* failed twice the same way at `step` */
        CAUSE_BEFORE_FIRST,  /* two deaths before the first step from demote_step */
        CAUSE_BUDGET,        /* `deaths` without a newer checkpoint */
        CAUSE_NAN,           /* on_nan: stop */
        CAUSE_ROLLBACK,      /* on_nan: rollback, to rollback_step */
        CAUSE_MISSING,       /* EXIT_CLASS_MISSING: it is waited for */
        CAUSE_MAX
};

struct policy_decision {
        enum policy_action action;
        uint64_t delay_usec;
        bool hourly; /* the delay is what POLICY_STARTS_MAX asks for */
        bool demote; /* the checkpoint of demote_step is not to be used again */
        uint64_t demote_step;
        bool rollback; /* checkpoints after rollback_step are to be set aside; 0: all of them */
        uint64_t rollback_step;
        enum policy_cause cause; /* in words: daemon/rules/reasons.h */
        uint64_t step;
        uint32_t deaths;
};

/* Counts the death at the end of the history. */
void policy_count(struct policy_counters *counters, const struct policy_death *history, size_t n);

/* How long a job must wait that was started `n` times within the last POLICY_STARTS_SEC, first at `oldest_usec`: 0, or at most that long. */
uint64_t policy_starts_wait(uint32_t n, uint64_t oldest_usec, uint64_t now_usec);

/* What it is judged by. */
struct policy_case {
        const struct policy_death
                *history; /* since the submission or the user's last resume, oldest first; the one to judge last */
        size_t n;         /* >= 1 */
        struct policy_counters counters; /* that one included */
        const uint64_t *good;            /* steps of the good checkpoints, newest first */
        size_t n_good;
        uint64_t starts_wait_usec; /* of policy_starts_wait */
        bool unasked;              /* it stopped with a checkpoint, and nobody had asked it to */
        uint32_t random;           /* any 32 bits: the jitter */
};
void policy_decide(const struct policy_config *config, const struct policy_case *c, struct policy_decision *ret);

/* The class of an exit that the shim did not name: exit_code −1 = none, signal 0 = none. 128 + N counts as signal N. */
enum exit_class policy_classify(int exit_code, int signal, bool oom);

/* Does it cost budget? Deaths by host, admin or an outside kill do not. */
bool policy_costs_budget(const struct policy_death *death);

#endif
