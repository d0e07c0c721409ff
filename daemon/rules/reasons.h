/* Decisions of the pure modules as text for users. One line, truncated to the buffer; each returns it. */
#ifndef DAEMON_RULES_REASONS_H
#define DAEMON_RULES_REASONS_H

#include "daemon/rules/policy.h"
#include "daemon/rules/queue.h"

/* "waits for 4 slots (2 of 8 free)"; empty for WAIT_NONE. */
char *reason_of_waiting(const struct queue_entry *entry, struct queue_free free, char *buffer, size_t size);

/* The policy's addition to the reason of a death; empty for CAUSE_NONE. */
char *reason_of_decision(const struct policy_decision *decision, const struct policy_config *config, char *buffer,
                         size_t size);

/* When a job is retried: "retrying in 5.0 s", or, if it has used up its starts of an hour, the local time. */
char *reason_of_delay(const struct policy_decision *decision, uint64_t start_usec, char *buffer, size_t size);

#endif
