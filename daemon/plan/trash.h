/*
 * Removes the folders of attempts and jobs that were pruned from state.db (store.h, "what is not kept"). Runs as the
 * jobs' users, a few at a time; the next bertd repeats an interrupted removal.
 */
#ifndef DAEMON_PLAN_TRASH_H
#define DAEMON_PLAN_TRASH_H

#include "daemon/node/node.h"

struct trash;

int trash_new(struct node *node, struct trash **ret);
void trash_soon(struct trash *trash); /* after a commit; NULL is fine */
enum trash_end {
        TRASH_GONE,
        TRASH_LEFT,    /* the folder could not be removed completely */
        TRASH_UNKNOWN, /* bertd exits; the next one continues */
};
typedef void (*trash_gone_t)(void *userdata, enum trash_end end, const char *folder);
/* Calls back once with the result for the job's folder, whose row of trash is durable. −ENOMEM: no callback. */
int trash_ask(struct trash *trash, uint64_t job, trash_gone_t gone, void *userdata);
void trash_free(struct trash *trash); /* helpers keep running; after user_tasks_free */

#endif
