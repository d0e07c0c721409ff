/* A submission. Plain data; bus/submit.h reads it from a message and checks it. */
#ifndef DAEMON_RULES_SUBMISSION_H
#define DAEMON_RULES_SUBMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "daemon/rules/job.h"

/* A row of the ledger of a run that is continued. */
struct past_checkpoint {
        uint64_t step, size, created;
        enum checkpoint_state state;
        char *path; /* "": RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt */
};

#define SUBMISSION_ASKED(since, type, member, ...) type member;
#define SUBMISSION_INPUT(type, member, ...) type member;
/* Texts are owned, NULL = none. */
struct submission {
        JOB_ASKED(SUBMISSION_ASKED)
        JOB_INPUTS(SUBMISSION_INPUT)
        uint32_t n_rlimits, n_past;
        bool given[JOB_N_FIELDS]; /* given by the client and not empty; indexed like job_fields */
};

void submission_defaults(struct submission *submission);
void submission_free(struct submission *submission); /* the contents, not the struct */
#define cleanup_submission cleanup(submission_free)

#endif
