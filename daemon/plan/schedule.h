/* Decides which job starts next, and when: recomputed from the jobs after every change. */
#ifndef DAEMON_PLAN_SCHEDULE_H
#define DAEMON_PLAN_SCHEDULE_H

#include "daemon/node/node.h"

/* Creates node->plan. 0 or −errno. */
int schedule_new(struct node *node);
void schedule_free(struct node *node);

/* The job as an entry of the queue. */
struct queue_entry schedule_entry(const struct job *job);

/* A job was queued: plans soon, or sets its wait at once if it must wait for the head of the queue. */
void schedule_add(struct node *node, struct job *job);

/* Shuts down: at once, or with `jobs` when they have stopped. */
void schedule_shutdown(struct node *node, bool jobs);

/* While draining: ends the loop when no job holds resources any more. */
void schedule_check_drained(struct node *node);

#endif
