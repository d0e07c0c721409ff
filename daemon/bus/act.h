/*
 * What a client asks for, done: the node and plain values in, an answer or a refusal out. It knows no bus: methods.c
 * reads a message into these values and sends what comes of it; a test calls it as it is.
 *
 * An act that changes a job is run within a commit (plan/settle.h): act_undo puts everything back if that fails.
 */
#ifndef DAEMON_BUS_ACT_H
#define DAEMON_BUS_ACT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/node/node.h"

/* Why not: a BERTD_ERROR_ name and one line for the client. */
struct refusal {
        const char *name;
        char text[1024];
};

struct act {
        struct node *node;
        uid_t uid; /* who asks, as the kernel has it */
        pid_t pid;
        bool last;               /* it is not asked again: what would have to wait is refused */
        struct refusal *refusal; /* borrowed */
        struct job *job;         /* that it is about */
        struct job *loaded;      /* the same if it has ended and is not in memory: act_clear frees it */
        bool owner;              /* who asks is its user, root or the daemon's own user */
        struct job_saved saved;  /* as the job was */
        bool has_saved;
        bool inserted; /* `job` is new */
};

/* The contents, not the struct. */
void act_clear(struct act *act);
/* Puts back what has been changed, in memory. */
void act_undo(struct act *act);

/* All below return 0 or −errno; `refusal` has a name if the client gets a reason. 1: not yet, nothing has changed. */
int act_refuse(struct act *act, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

bool act_may_act_for(const struct act *act, uid_t uid);
int act_check_admin(struct act *act);
/* Sets job, loaded and owner. */
int act_find_job(struct act *act, uint64_t id, bool owner_only);

/* ---- submit ---- */

int act_may_submit(struct act *act);
/* Bounds, what the host has, and the limits of the calling process, above which none is set. */
int act_check_submission(struct act *act, struct submission *submission);
int act_submit(struct act *act, const struct submission *submission, gid_t gid, const char *user);
/* It is durable. */
void act_submitted(struct act *act);

/* ---- lending: lend.c ---- */

int act_may_lend(struct act *act);
/* Grants it at once or refuses: it never waits, and takes nothing that a queued job waits for. */
int act_lend(struct act *act, const struct submission *submission, gid_t gid, const char *user);
int act_drain(struct act *act, const char *reason, bool move);
void act_drained(struct act *act, const char *reason, bool move); /* it is durable */
int act_undrain(struct act *act);
void act_undrained(struct act *act);
void act_load_drain(struct node *node); /* as the last bertd left it */

/* ---- of the job ---- */

struct resume_options {
        bool has_ranks, has_from, has_use;
        uint32_t ranks, use;
        uint64_t from;
};

int act_cancel(struct act *act, bool now);
int act_pause(struct act *act);
int act_resume(struct act *act, const struct resume_options *options);
int act_remove(struct act *act);
int act_checkpoint(struct act *act);
void act_shutdown(struct act *act, bool jobs);

/* ---- reading ---- */

/* Its state will not change by itself, and is durable. */
bool act_rests(const struct act *act);
/* The caller frees; nothing and 0 for others than its owner. */
int act_command(struct act *act, char **ret, size_t *ret_size);
int act_spec(struct act *act, char **ret);
/* The job's whole ledger comes into memory, until job_ledger_trim. */
int act_ledger(struct act *act);
int act_find_name(struct act *act, const char *name, uint64_t *ret_id);
/* As store_page and store_events, of BERTD_LIST_PAGE_MAX rows at most. */
int act_jobs(struct act *act, uint64_t first, uint32_t max, bool open,
             int (*row)(void *userdata, const struct job *job), void *userdata);
int act_events(struct act *act, uint64_t after, uint32_t max, int (*row)(void *userdata, const struct event_row *event),
               void *userdata);

#endif
