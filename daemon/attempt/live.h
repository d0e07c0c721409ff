/* A live attempt: its shim connects, is watched and gets a stop. */
#ifndef DAEMON_ATTEMPT_LIVE_H
#define DAEMON_ATTEMPT_LIVE_H

#include "daemon/attempt/run.h"

/* The shim's hello. `*ret_answer` is BERTD_ATTEMPT_GO or _STOP; −EPERM: not the job's user; −EPROTONOSUPPORT: newer
 * than this bertd; it keeps running. */
int attempt_hello(struct node *node, struct shim_link *link, uid_t uid, pid_t pid, uint64_t job, uint32_t number,
                  const char *nonce, const char *version, uint32_t *ret_answer);

/* Watches this process as the shim. Takes the pidfd. */
int attempt_watch_shim(struct attempt_run *run, int pidfd);

/* Records the cgroup of its shim. */
void attempt_note_cgroup(struct attempt_run *run, pid_t pid);

/* The open attempt with that nonce; NULL: none. */
struct job *attempt_find_open(struct node *node, uint64_t id, uint32_t number, const char *nonce);
/* The shim reported the end: gives its process a short time to exit. */
void attempt_exited(struct attempt_run *run);

/* Sends the stop for job->stop_reason, now or when the shim connects again; escalates if that has no effect. */
void attempt_stop(struct job *job);

/* Requests a checkpoint from the ranks; −ENOTCONN while the shim is not connected. */
int attempt_checkpoint(struct job *job);

/* Lets a lease's head know why it should move, if its shim is connected; else attempt_hello does. */
void attempt_move(struct job *job, const char *reason);

/* Whether a command's program has declared a checkpoint signal. */
bool attempt_takes_checkpoints(const struct job *job);

/* The connection was closed. */
void attempt_link_gone(struct node *node, struct shim_link *link);

/* Remaining time by the mean step time of this run, in seconds; 0 = unknown. */
uint64_t attempt_eta_sec(const struct job *job);

/* See goodput.h; NaN = unknown. */
double attempt_goodput(const struct job *job);

#endif
