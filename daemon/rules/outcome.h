/*
 * The outcome of an attempt's end for its job (contracts C6 and C8). Pure. Input: how the attempt ended, the current
 * stop, earlier deaths and checkpoints; output: everything that follows. tests/unit/outcomes is its table.
 *
 *   1. attempt/end.c reads the record and gathers an `ending`.
 *   2. outcome() decides.
 *   3. attempt/end.c applies the outcome: one transition, the attempt's class, the counters, the ledger.
 */
#ifndef DAEMON_RULES_OUTCOME_H
#define DAEMON_RULES_OUTCOME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/rules/job.h"
#include "daemon/rules/policy.h"
#include "daemon/rules/states.h"

#define OUTCOME_REASON_MAX 1024
#define OUTCOME_TEXT_MAX 256

/* Input of an outcome. Borrowed for the call. */
struct ending {
        const struct attempt *attempt; /* with `ended`, checkpoint_step and its record */
        enum stop_reason stop_reason;  /* the current stop */
        bool asked;                    /* ended on request, by its record */
        bool command;                  /* JOB_COMMAND: may exit 0 unfinished after a stop */
        bool allocation;               /* of a batch system: no host takes the place of a lost one */
        bool lease;                    /* never tried again */
        bool stepped;                  /* the job has completed a step, in this attempt or before it */
        bool ran;                      /* an earlier attempt executed the program (store_has_run) */
        struct policy_config config;
        const struct policy_death *history; /* earlier deaths, oldest first */
        size_t n_history;
        struct policy_counters counters; /* before this one */
        const uint64_t *good;            /* steps of the good checkpoints, newest first */
        size_t n_good;
        uint64_t starts_wait_usec; /* of policy_starts_wait */
        uint64_t hosts_wait_usec;  /* of hosts_choose: until enough hosts have cooled down */
        const char *waits_for;     /* the last of those */
        uint64_t now_usec;         /* wall time */
        uint32_t random;           /* any 32 bits: the jitter */
};

enum ledger_change {
        LEDGER_KEPT,
        LEDGER_DEMOTED,   /* demotes the checkpoint of `changed_step` */
        LEDGER_GONE_BACK, /* abandons those after `changed_step` */
};

struct outcome {
        enum job_event event;
        enum exit_class exit_class;       /* of the attempt: from its record, or EXIT_CLASS_MISSING */
        char death[OUTCOME_TEXT_MAX];     /* the attempt's reason if its record has none; "": unchanged */
        char reason[OUTCOME_REASON_MAX];  /* the job's, for everybody */
        char private[OUTCOME_REASON_MAX]; /* for the owner and root; "" = reason */
        uint64_t delay_usec;              /* EVENT_RETRY: from now_usec */
        bool waits;                       /* the delay is that of hosts which cool down */
        enum policy_cause cause;          /* the policy's cause, also in `reason` */
        bool counted;                     /* judged by the policy: last_death is added to the history */
        struct policy_death last_death;
        struct policy_counters counters; /* after it */
        enum ledger_change change;
        uint64_t changed_step;
        uint64_t from_step;                   /* with a change: the next attempt starts at this step or before it */
        char change_reason[OUTCOME_TEXT_MAX]; /* of its event row */
};

void outcome(const struct ending *ending, struct outcome *ret);

#endif
