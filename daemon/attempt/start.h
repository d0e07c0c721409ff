/* The beginning of an attempt: its intent, and its launch. */
#ifndef DAEMON_ATTEMPT_START_H
#define DAEMON_ATTEMPT_START_H

#include "daemon/attempt/run.h"

/* A queued job gets its resources and moves to starting: it is launched when the intent is durable. */
void attempt_start(struct node *node, struct job *job, uint64_t gpu_mask);

/* The intent has become durable: launch. */
void attempt_launch(struct attempt_run *run);

/* The shim is given a time to be heard. */
void attempt_await_hello(struct attempt_run *run);

#endif
