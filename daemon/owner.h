/*
 * bertd --owner PID: a bertd of one process, its parent (`bertctl run`). It ignores SIGTERM and SIGINT, which a batch
 * system sends to every process of an allocation; it ends on Shutdown, or, jobs first, when its owner has ended, and
 * then removes its state folder.
 */
#ifndef DAEMON_OWNER_H
#define DAEMON_OWNER_H

#include <sys/types.h>

#include "common/error.h"
#include "daemon/node/node.h"

#define OWNER_FOLDER "bertd-run-" /* how the name of a state folder that may be removed begins */

/* A pidfd of the parent; the caller closes. Refused: PID is not the parent (it may have ended), another folder. */
int owner_open(pid_t pid, const char *state_dir, int *ret_fd, struct error *error);

/* Takes the pidfd. 0 or −errno. */
int owner_watch(struct node *node, int fd, struct source **ret);

/* The last act: waits for on_exit programs, removes the folder. */
void owner_clean(const char *state_dir);

#endif
