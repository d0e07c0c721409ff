/* What a process that bertd has forked becomes before it executes a user's program. */
#ifndef DAEMON_LAUNCH_BECOME_H
#define DAEMON_LAUNCH_BECOME_H

#include "daemon/store/store.h"

/* Between fork and exec: group list, ids, umask and limits of the job's user. Returns 0 or −errno, `*ret_what` names
 * the step. */
int launcher_become(const struct job *job, const struct job_inputs *inputs, const char **ret_what);

#endif
