/*
 * The manager puts a node together (daemon/node/node.h), the loop, the store, the bus server and every open attempt, and takes it apart.
 *
 *   manager_new    opens the state folder (one daemon each) and loads it; refuses with one line
 *   manager_start  listens, reconciles with what lives (attempt/adopt.h), plans the queue
 *   loop_run(node->loop)
 *   manager_free   jobs live on
 */
#ifndef DAEMON_MANAGER_H
#define DAEMON_MANAGER_H

#include "daemon/node/node.h"

int manager_new(const struct node_options *options, struct node **ret, struct error *error);
int manager_start(struct node *node, struct error *error);
void manager_free(struct node *node);

#endif
