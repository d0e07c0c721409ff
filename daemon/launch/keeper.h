/*
 * The keeper of an attempt (fork.c) locks a byte of STATE/jobs/keepers, a file of bertd's user, for its lifetime: so
 * the kernel can name its pid, also after a restart of bertd.
 */
#ifndef DAEMON_LAUNCH_KEEPER_H
#define DAEMON_LAUNCH_KEEPER_H

#include <sys/types.h>

#include "daemon/rules/job.h"

/* In the keeper: an fd to keep open, or −errno. */
int keeper_hold(int jobs_fd, const struct job *job);

/* Pid of the keeper of the job's attempt; 0 = none. */
pid_t keeper_find(int jobs_fd, const struct job *job);

#endif
