/* The end of an attempt: record, sweep, tombstone, policy. */
#ifndef DAEMON_ATTEMPT_END_H
#define DAEMON_ATTEMPT_END_H

#include "daemon/attempt/run.h"

/* The shim is gone, or has to go. Class and text hold where there is no usable exit record. Frees the run, now or when the
 * last process of the attempt is dead: the caller must not touch it afterwards. */
void attempt_over(struct attempt_run *run, enum exit_class exit_class, const char *text);
/* The same, of the class launch and with the reason "cannot be started: TEXT". */
void attempt_not_started(struct attempt_run *run, const char *text);

#endif
