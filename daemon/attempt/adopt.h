/* The attempts that another bertd has left open. */
#ifndef DAEMON_ATTEMPT_ADOPT_H
#define DAEMON_ATTEMPT_ADOPT_H

#include "daemon/node/node.h"

/* After a daemon's start: takes over what lives, closes what died. */
void attempt_adopt(struct node *node, struct job *job);

#endif
