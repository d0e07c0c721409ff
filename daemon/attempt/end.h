/* The end of an attempt: record, sweep, tombstone, outcome. */
#ifndef DAEMON_ATTEMPT_END_H
#define DAEMON_ATTEMPT_END_H

#include "daemon/attempt/run.h"

/* The shim is gone or must be killed. Class and text apply if there is no usable exit record. Frees the run, now or
 * when the last process of the attempt is dead: the caller must not use it afterwards. */
void attempt_over(struct attempt_run *run, enum exit_class exit_class, const char *text);
/* The same, with class launch and the reason "cannot be started: TEXT". */
void attempt_not_started(struct attempt_run *run, const char *text);

#endif
