/*
 * One attempt of a job, from the committed intent to the closed record (contract C4).
 *
 *   1. attempt_start: the intent row is committed, files are written, the launcher starts the shim.
 *   2. attempt_hello: the shim is heard; its pid is watched; the job runs.
 *   3. attempt_report, attempt_stop while it lives. bertd may die and come back: attempt_adopt.
 *   4. the shim's pidfd fires: exit.json is read, all that is left of the attempt is killed (its cgroup; without one sweep.h), the
 *      tombstone written, the policy asked. Only then does the job leave its state.
 */
#ifndef DAEMON_ATTEMPT_H
#define DAEMON_ATTEMPT_H

#include <systemd/sd-bus.h>

#include "daemon/rules/goodput.h"
#include "daemon/rules/ledger.h"
#include "daemon/attempt/shim_link.h"
#include "daemon/node/node.h"

enum attempt_phase {
        PHASE_COMMITTING, /* the intent is not durable yet */
        PHASE_LAUNCHING,  /* the launcher works; no hello yet */
        PHASE_LIVE,       /* the shim's pid is watched */
        PHASE_SWEEPING,   /* it is gone; leftovers are killed until none is left */
};

struct attempt_run {
        struct node *node;
        struct job *job;
        enum attempt_phase phase;
        struct shim_link *link; /* NULL while it has none */
        struct source *pidfd;   /* owns its fd */
        struct timer timer;     /* hello, stop or sweep limit, by phase */
        uint64_t deadline_usec; /* of that limit, boot time */
        struct launch *launch;  /* that is under way; freed by the launcher's `forget` */
        char *cgroup;           /* systemd launcher: the unit's, else NULL */
        struct source *sweeper; /* the helper that sweeps, without a cgroup */
        pid_t sweeper_pid;
        bool waits;          /* for its turn to have one */
        unsigned sweeps;     /* that were begun and left some */
        bool adopted;        /* started by another bertd */
        bool asked;          /* its exit record says that it ended on request */
        bool told_full;      /* a checkpoint that there was no room for has been logged */
        bool began;          /* the shim has said where it began */
        bool path_refused;   /* a path that it reported was refused, and the log has a line about it */
        bool record_refused; /* the same of its record */
        char *newer;         /* the version of a shim whose protocol we do not know; NULL: we do */
        int32_t first_exit;  /* of the first process where others run on: its exit code, or minus the signal */
        uint32_t runs_on;    /* so many do; 0: it lives */
        struct step_clock clock;
};

/* A queued job gets its resources and moves to starting: it is launched when the intent is durable. */
void attempt_start(struct node *node, struct job *job, uint64_t gpu_mask);

/* The intent has become durable: launch. */
void attempt_launch(struct attempt_run *run);

/* After a daemon's start: takes over what lives, closes what died. */
void attempt_adopt(struct node *node, struct job *job);

/* The shim's hello. `*ret_answer` is BERTD_ATTEMPT_GO or _STOP; −EPERM: not the job's user; −EPROTONOSUPPORT: it is newer than we are and
 * is left running. */
int attempt_hello(struct node *node, struct shim_link *link, uid_t uid, pid_t pid, uint64_t job, uint32_t number,
                  const char *nonce, const char *version, uint32_t *ret_answer);

struct attempt_report {
        uint64_t job;
        uint32_t attempt;
        const char *nonce, *status, *checkpoint_path, *record;
        bool has_step, has_steps, has_loss, has_rate, has_checkpoint, has_stall, has_write, exited;
        bool has_resumed;
        uint64_t step, steps, checkpoint_step, checkpoint_size, samples_first, samples_last, resumed_step;
        int32_t first_exit;
        uint32_t runs_on;
        double loss, rate, checkpoint_stall, checkpoint_write;
        struct ledger_news news;
};
/* The open attempt of that nonce whose shim may speak; NULL: there is none. */
struct job *attempt_find_open(struct node *node, uint64_t id, uint32_t number, const char *nonce);
/* It says that it has ended: its process is given a moment to. */
void attempt_exited(struct attempt_run *run);
int attempt_report(struct node *node, uid_t uid, const struct attempt_report *report);

/* Sends the stop that job->wish asks for, now or when the shim is heard again; escalates when it does not help. */
void attempt_stop(struct job *job);

/* Asks the ranks for a checkpoint; −ENOTCONN while the shim is not connected. */
int attempt_checkpoint(struct job *job);

/* The connection is gone. */
void attempt_link_gone(struct node *node, struct shim_link *link);

/* Remaining time by the mean step time of this run, in seconds; 0 = unknown. */
uint64_t attempt_eta_sec(const struct job *job);

/* See goodput.h; NaN = unknown. */
double attempt_goodput(const struct job *job);

void attempt_run_free(struct attempt_run *run);

#endif
