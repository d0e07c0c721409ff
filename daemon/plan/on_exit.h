/*
 * on_exit, the program that runs after a job has ended. The job's row records from the commit of the end until the
 * commit of the start that it is still to run (owed), so that it is not lost if bertd is killed:
 *
 *   1. EXIT_OWED_START, committed with the end of the job (node/transition.c).
 *   2. on_exit_next, when that is durable and it has a turn (BERTD_ON_EXIT_OF_UID_MAX at a time): EXIT_OWED_STARTED.
 *   3. on_exit_next, when that is durable: starts the program, then EXIT_OWED_NONE.
 *
 * A new bertd that finds EXIT_OWED_STARTED cannot know whether the program was started: it starts it with
 * BERTD_NOTICE_REPEATED=1 as EXIT_OWED_REPEATED, which is never started again. Until then the job stays in memory, and
 * is neither removed nor resumed.
 */
#ifndef DAEMON_PLAN_ON_EXIT_H
#define DAEMON_PLAN_ON_EXIT_H

#include "daemon/node/node.h"

/* The job's row is durable: takes the next step if it is possible now. */
void on_exit_next(struct node *node, struct job *job);

/* The same for jobs that had to wait for a turn. */
void on_exit_next_all(struct node *node);

/* For a job that an earlier bertd left with an on_exit owed. */
void on_exit_adopt(struct node *node, struct job *job);

#endif
