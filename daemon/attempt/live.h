/* An attempt that lives: its shim is heard, watched, asked to stop. */
#ifndef DAEMON_ATTEMPT_LIVE_H
#define DAEMON_ATTEMPT_LIVE_H

#include "daemon/attempt/run.h"

/* The shim's hello. `*ret_answer` is BERTD_ATTEMPT_GO or _STOP; −EPERM: not the job's user; −EPROTONOSUPPORT: it is newer than we are and
 * is left running. */
int attempt_hello(struct node *node, struct shim_link *link, uid_t uid, pid_t pid, uint64_t job, uint32_t number,
                  const char *nonce, const char *version, uint32_t *ret_answer);

/* The shim is this process: it is watched. Takes the pidfd. */
int attempt_watch_shim(struct attempt_run *run, int pidfd);

/* Notes the cgroup of its shim. */
void attempt_note_cgroup(struct attempt_run *run, pid_t pid);

/* The open attempt of that nonce whose shim may speak; NULL: there is none. */
struct job *attempt_find_open(struct node *node, uint64_t id, uint32_t number, const char *nonce);
/* It says that it has ended: its process is given a moment to. */
void attempt_exited(struct attempt_run *run);

/* Sends the stop that job->stop_reason asks for, now or when the shim is heard again; escalates when it does not help. */
void attempt_stop(struct job *job);

/* Asks the ranks for a checkpoint; −ENOTCONN while the shim is not connected. */
int attempt_checkpoint(struct job *job);

/* The connection is gone. */
void attempt_link_gone(struct node *node, struct shim_link *link);

/* Remaining time by the mean step time of this run, in seconds; 0 = unknown. */
uint64_t attempt_eta_sec(const struct job *job);

/* See goodput.h; NaN = unknown. */
double attempt_goodput(const struct job *job);

#endif
