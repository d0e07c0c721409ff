/*
 * What a job's wall time bought. Pure.
 *
 *   useful steps  those that need not be done again: all of a job that is done or runs, else those up to its newest good checkpoint
 *   lost steps    steps done by all attempts, less the useful ones
 *   goodput       useful steps × mean time of a step / wall time since the first start; pauses and the time after the end do not count
 */
#ifndef DAEMON_GOODPUT_H
#define DAEMON_GOODPUT_H

#include "daemon/rules/job.h"

/* The steps that bertd has heard of in one attempt; times on CLOCK_BOOTTIME, 0 = none yet. */
struct step_clock {
        uint64_t first_step, first_usec, last_step, last_usec;
};

void step_clock_note(struct step_clock *clock, uint64_t step, uint64_t now_usec);

/* Before a transition to another state, `now_usec` in realtime: adds the time since the last one. */
void goodput_note_time(struct job *job, uint64_t now_usec);

/* The attempt has ended, the ledger is up to date: adds its steps. `done`: the job is finished. Sets lost_steps. */
void goodput_close_attempt(struct job *job, const struct step_clock *clock, bool done);

/* The same moment, the attempt's end known: adds to job->lost_usec the time since its newest checkpoint, or since its start. */
void goodput_note_lost(struct job *job);

/* The next attempt begins at attempt.first_step: what lies behind it is lost. */
void goodput_start_attempt(struct job *job);

/* 0 to 1; NaN = unknown. `clock`: of the open attempt, NULL = none. */
double goodput(const struct job *job, const struct step_clock *clock, uint64_t now_usec);

#endif
