/*
 * One attempt of a job, from the committed intent to the closed record (contract C4).
 *
 *   1. start.h: commits the intent row, writes files, the launcher starts the shim.
 *   2. live.h: the shim connects; its pid is watched; the job runs.
 *   3. report.h, and attempt_stop while it lives. After a restart of bertd: adopt.h.
 *   4. end.h: the shim's pidfd fires: reads exit.json, kills remaining processes (by cgroup, else sweep.h), writes the
 * tombstone, decides the outcome. Only then the job leaves its state.
 */
#ifndef DAEMON_ATTEMPT_RUN_H
#define DAEMON_ATTEMPT_RUN_H

#include "daemon/attempt/shim_link.h"
#include "daemon/node/node.h"
#include "daemon/rules/goodput.h"

enum attempt_phase {
        PHASE_COMMITTING, /* the intent is not durable yet */
        PHASE_LAUNCHING,  /* launch in progress; no hello yet */
        PHASE_LIVE,       /* the shim's pid is watched */
        PHASE_SWEEPING,   /* the shim is gone; kills remaining processes */
};

struct attempt_run {
        struct node *node;
        struct job *job;
        enum attempt_phase phase;
        struct shim_link *link; /* NULL while not connected */
        struct source *pidfd;   /* owns its fd */
        struct timer timer;     /* hello, stop or sweep limit, by phase */
        uint64_t deadline_usec; /* of that limit, boot time */
        struct launch *launch;  /* launch in progress; freed by the launcher's `forget` */
        char *cgroup;           /* systemd launcher: the unit's, else NULL */
        struct source *sweeper; /* the helper that sweeps, without a cgroup */
        pid_t sweeper_pid;
        bool waits;             /* for a free helper */
        unsigned sweeps;        /* sweeps that left processes */
        bool adopted;           /* started by another bertd */
        bool asked;             /* ended on request, by its exit record */
        bool told_full;         /* the log has a line about a checkpoint without space in memory */
        bool began;             /* the shim has reported its start step */
        bool path_refused;      /* a reported path was refused and logged */
        bool record_refused;    /* the same for its record */
        char *newer;            /* version of a shim with an unknown protocol; else NULL */
        int32_t first_exit;     /* of the first process if others still run: its exit code, or minus the signal */
        uint32_t runs_on;       /* number of these; 0: the first process lives */
        bool takes_checkpoints; /* a command that has declared a checkpoint signal */
        char *slowest;          /* common/pace.h; NULL: no rank lags */
        uint64_t slowest_since; /* usec since the epoch: since when this rank does */
        struct step_clock clock;
};

/* NULL: no memory. */
struct attempt_run *attempt_run_new(struct node *node, struct job *job, enum attempt_phase phase);
void attempt_run_free(struct attempt_run *run);

const struct launcher *attempt_run_launcher(const struct attempt_run *run);

/* Once armed, the limit can only be shortened, whatever clients send. */
void attempt_run_deadline(struct attempt_run *run, uint64_t usec, loop_handler_t handler);

/* Takes the pidfd. */
int attempt_run_watch(struct attempt_run *run, int pidfd, loop_ready_t handler);

#endif
