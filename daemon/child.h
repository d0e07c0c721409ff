/* Short-lived children that run as a job's user: removing its files, its on_exit program. Each is killed after a limit. */
#ifndef DAEMON_CHILD_H
#define DAEMON_CHILD_H

#include "daemon/manager.h"
#include "daemon/strv.h"

/* Removes the folder and what is in it, as the job's user, then the folder itself as we are. The job may be freed at once.
 * `request` (may be NULL) is answered when that is done. Returns 0 or −ENOMEM, then nothing was begun or answered. */
int child_remove_tree(struct manager *manager, const struct job *job, const char *path, sd_bus_message *request);

/* Removes the folders, of this job's user, as that user. `name` names the helper's unit and lives until `done` is called: when it has
 * ended, however. −errno: it was not begun. */
int child_remove_paths(struct manager *manager, const struct job *job, const char *name, const struct strv *paths,
                       void (*done)(void *userdata), void *userdata);

/* Fewer than BERTD_REMOVALS_OF_UID_MAX for the job's user are under way. */
bool child_may_remove(const struct manager *manager, const struct job *job);

/* Runs the job's on_exit by /bin/sh in its working directory, with BERTD_STATE, BERTD_REASON and so on in its environment and the job's
 * limits. Returns false where its user, or all, have as many as may run: it is tried again when one has ended (settle_exits). */
bool child_on_exit(struct manager *manager, const struct job *job);

/* The daemon ends: what still runs goes on by itself. */
void children_free(struct manager *manager);

#endif
