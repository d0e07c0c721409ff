/*
 * The keeper of an attempt (fork.c) holds a byte of STATE/jobs/keepers, a file of bertd's own, for life: so the kernel names it, over
 * a restart of bertd, too.
 */
#ifndef DAEMON_LAUNCH_KEEPER_H
#define DAEMON_LAUNCH_KEEPER_H

#include <sys/types.h>

#include "daemon/rules/job.h"

/* In the keeper: an fd that it keeps, or −errno. */
int keeper_hold(int jobs_fd, const struct job *job);

/* Of the job's attempt; 0 = there is none. */
pid_t keeper_find(int jobs_fd, const struct job *job);

#endif
