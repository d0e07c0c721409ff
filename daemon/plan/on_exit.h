/*
 * on_exit, the program of a job that has ended. It is owed by the job's row from the commit of the end until the start is committed, so
 * that no death of bertd loses it:
 *
 *   1. with the end (node/transition.c), EXIT_OWED_START.
 *   2. on_exit_next, once that is durable and it has its turn (BERTD_ON_EXIT_OF_UID_MAX at a time): EXIT_OWED_STARTED.
 *   3. on_exit_next, once that is durable: it is started. What has been started is owed no more: EXIT_OWED_NONE.
 *
 * A bertd that finds EXIT_OWED_STARTED does not know whether it was: it starts it with BERTD_NOTICE_REPEATED=1, as EXIT_OWED_REPEATED,
 * which none starts again. A job whose on_exit is owed stays in memory, and is neither removed nor resumed before.
 */
#ifndef DAEMON_ON_EXIT_H
#define DAEMON_ON_EXIT_H

#include "daemon/node/node.h"

/* The job's row is durable: what comes next, where it may come now. */
void on_exit_next(struct node *node, struct job *job);

/* The same for the jobs that had to wait. */
void on_exit_next_all(struct node *node);

/* A job that an earlier bertd has left so. */
void on_exit_adopt(struct node *node, struct job *job);

#endif
