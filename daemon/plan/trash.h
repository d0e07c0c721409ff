/*
 * Removes the folders of what state.db has given up (store.h, "what is not kept"): of attempts, and of ended jobs. As the jobs' users, a
 * few at a time; what a death of bertd cuts off is begun again by the next.
 */
#ifndef DAEMON_TRASH_H
#define DAEMON_TRASH_H

#include <systemd/sd-bus.h>

#include "daemon/node/node.h"

struct trash;

int trash_new(struct node *node, struct trash **ret);
void trash_soon(struct trash *trash); /* after a commit; NULL is fine */
/* The call, Remove, is answered when the job's folder is gone or could not be removed; its row of trash is durable. −errno: it is not. */
int trash_answer(struct trash *trash, uint64_t job, sd_bus_message *call);
void trash_free(struct trash *trash); /* helpers go on by themselves; after children_free */

#endif
