/*
 * A job that continues another's run from its folder (bertctl submit --continue): its counters and the ledger of its
 * checkpoints, as Submit brings them. Pure. They come from a file of the user's: every number has a bound, every path
 * is below the job's folders.
 */
#ifndef DAEMON_RULES_PAST_H
#define DAEMON_RULES_PAST_H

#include "common/error.h"
#include "daemon/rules/submission.h"

/* The state that a row may have, −EINVAL. */
int past_state_from_name(const char *name);

/* Bounds; the numbers of the table are checked elsewhere. */
int past_check(const struct submission *submission, struct error *error);

/* Into a new job; without memory a row is missing. The caller marks the job. */
void past_take(struct job *job, const struct submission *submission);

#endif
