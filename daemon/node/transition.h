/* The one place where a job's state changes. */
#ifndef DAEMON_NODE_TRANSITION_H
#define DAEMON_NODE_TRANSITION_H

#include "daemon/node/node.h"

/*
 * Looks up the verdict; on STATE_MOVE sets state, times and reason, queues the event row and marks the job for this
 * turn's commit. Returns the verdict. `private`: the reason as the owner and root read it, NULL = reason.
 */
enum verdict node_move(struct node *node, struct job *job, enum job_event event, const char *reason);
enum verdict node_move_privately(struct node *node, struct job *job, enum job_event event, const char *reason,
                                 const char *private);

#endif
