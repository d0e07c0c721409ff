/*
 * One attempt of a job, from the committed intent to the closed record (contract C4).
 *
 *   1. start.h: the intent row is committed, files are written, the launcher starts the shim.
 *   2. live.h: the shim is heard; its pid is watched; the job runs.
 *   3. report.h, and attempt_stop while it lives. bertd may die and come back: adopt.h.
 *   4. end.h: the shim's pidfd fires: exit.json is read, all that is left of the attempt is killed (its cgroup; without one sweep.h), the
 *      tombstone written, the policy asked. Only then does the job leave its state.
 */
#ifndef DAEMON_ATTEMPT_RUN_H
#define DAEMON_ATTEMPT_RUN_H

#include "daemon/attempt/shim_link.h"
#include "daemon/node/node.h"
#include "daemon/rules/goodput.h"

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

/* NULL: no memory. */
struct attempt_run *attempt_run_new(struct node *node, struct job *job, enum attempt_phase phase);
void attempt_run_free(struct attempt_run *run);

const struct launcher *attempt_run_launcher(const struct attempt_run *run);

/* Once armed an end can only come nearer: nothing that a client says or repeats moves it away. */
void attempt_run_deadline(struct attempt_run *run, uint64_t usec, loop_handler_t handler);

/* Takes the pidfd. */
int attempt_run_watch(struct attempt_run *run, int pidfd, loop_ready_t handler);

#endif
