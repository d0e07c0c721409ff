/* Short-lived children that run as a job's user: removing its files, its on_exit program. Each is killed after a limit.
 */
#ifndef DAEMON_LAUNCH_USER_TASK_H
#define DAEMON_LAUNCH_USER_TASK_H

#include "daemon/node/node.h"
#include "daemon/base/strv.h"

/* Removes folders of the job's user, as that user. The job may be freed at once. `name`, of the helper's unit, must
 * live until `done` (may be NULL) is called: when it has exited, or (`ran` is false) could not be started. −errno: not
 * started. */
int user_task_remove_paths(struct node *node, const struct job *job, const char *name, const struct strv *paths,
                           void (*done)(void *userdata, bool ran), void *userdata);

/* Runs the job's on_exit by /bin/sh in its working directory. False: not possible, logged; else `began` is called, now
 * or later, with the result. */
bool user_task_on_exit(struct node *node, const struct job *job, const struct strv *environment,
                       void (*began)(struct node *node, uint64_t job, bool started));

/* Adds the number of running and starting ones, in total and of the user. */
void user_task_count_exits(const struct node *node, uid_t uid, unsigned *all, unsigned *of_uid);

/* The daemon exits: running tasks continue. */
void user_tasks_free(struct node *node);

#endif
