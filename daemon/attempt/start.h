/* The start of an attempt: intent and launch. */
#ifndef DAEMON_ATTEMPT_START_H
#define DAEMON_ATTEMPT_START_H

#include "daemon/attempt/run.h"

/* Gives a queued job its resources and moves it to starting; it is launched when the intent is durable. */
void attempt_start(struct node *node, struct job *job, uint64_t gpu_mask);

/* The intent is durable: launches. */
void attempt_launch(struct attempt_run *run);

/* Arms the limit for the shim's hello. */
void attempt_await_hello(struct attempt_run *run);

#endif
