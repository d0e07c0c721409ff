/*
 * Removes the folders of what state.db has given up (store.h, "what is not kept"): of attempts, and of ended jobs. As the jobs' users, a
 * few at a time; what a death of bertd cuts off is begun again by the next.
 */
#ifndef DAEMON_TRASH_H
#define DAEMON_TRASH_H

#include "daemon/node/node.h"

struct trash;

int trash_new(struct node *node, struct trash **ret);
void trash_soon(struct trash *trash); /* after a commit; NULL is fine */
enum trash_end {
        TRASH_GONE,
        TRASH_LEFT,    /* not all of the folder could be removed */
        TRASH_UNKNOWN, /* bertd ends; the next goes on */
};
typedef void (*trash_gone_t)(void *userdata, enum trash_end end, const char *folder);
/* Asks to be told, once, what became of the job's folder; its row of trash is durable. −ENOMEM: nobody is told. */
int trash_ask(struct trash *trash, uint64_t job, trash_gone_t gone, void *userdata);
void trash_free(struct trash *trash); /* helpers go on by themselves; after children_free */

#endif
