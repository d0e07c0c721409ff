/* Attempts that an earlier bertd left open. */
#ifndef DAEMON_ATTEMPT_ADOPT_H
#define DAEMON_ATTEMPT_ADOPT_H

#include "daemon/node/node.h"

/* Call after the daemon's start: adopts living attempts, closes dead ones. */
void attempt_adopt(struct node *node, struct job *job);

#endif
