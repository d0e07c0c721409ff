/* Which job starts next, and when: recomputed from the jobs whenever something has changed. */
#ifndef DAEMON_PLAN_SCHEDULE_H
#define DAEMON_PLAN_SCHEDULE_H

#include "daemon/node/node.h"

/* Makes node->plan. −errno. */
int schedule_new(struct node *node);
void schedule_free(struct node *node);

/* A job that has just been queued: planned soon, or at once found to wait behind the head of the queue. */
void schedule_add(struct node *node, struct job *job);

/* Shutdown: without jobs at once, with jobs when they have stopped. */
void schedule_shutdown(struct node *node, bool jobs);

/* While it drains: ends the loop when nothing holds resources any more. */
void schedule_check_drained(struct node *node);

#endif
