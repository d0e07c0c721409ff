/*
 * The manager assembles a node (daemon/node/node.h): the loop, the store, the bus server and every open attempt; and
 * frees it.
 *
 *   manager_new    opens the state folder (one daemon per folder) and loads it; a refusal is one line
 *   manager_start  listens, adopts or closes open attempts (attempt/adopt.h), plans the queue
 *   loop_run(node->loop)
 *   manager_free   jobs keep running
 */
#ifndef DAEMON_MANAGER_H
#define DAEMON_MANAGER_H

#include "daemon/node/node.h"

int manager_new(const struct node_options *options, struct node **ret, struct error *error);
int manager_start(struct node *node, struct error *error);
void manager_free(struct node *node);

#endif
