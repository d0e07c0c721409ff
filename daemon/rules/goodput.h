/*
 * Goodput: the share of a job's wall time spent on useful steps. Pure.
 *
 *   useful steps  those that are not repeated: all steps of a done or running job, else those up to its newest good
 * checkpoint lost steps    steps done by all attempts, minus the useful ones goodput       useful steps × mean step
 * time / wall time since the first start, without pauses and the time after the end
 */
#ifndef DAEMON_RULES_GOODPUT_H
#define DAEMON_RULES_GOODPUT_H

#include "daemon/rules/job.h"

/* Reported steps of one attempt; times on CLOCK_BOOTTIME, 0 = none yet. */
struct step_clock {
        uint64_t first_step, first_usec, last_step, last_usec;
};

void step_clock_note(struct step_clock *clock, uint64_t step, uint64_t now_usec);

/* Call before each transition, `now_usec` in realtime: adds the time since the last one. */
void goodput_note_time(struct job *job, uint64_t now_usec);

/* Call after an attempt has ended and the ledger is up to date: adds its steps, sets lost_steps. `done`: the job is
 * finished. */
void goodput_close_attempt(struct job *job, const struct step_clock *clock, bool done);

/* Call then too: adds the time since the attempt's newest checkpoint, or since its start, to job->lost_usec. */
void goodput_note_lost(struct job *job);

/* Call when the next attempt begins at attempt.first_step: later steps are lost. */
void goodput_start_attempt(struct job *job);

/* 0 to 1; NaN = unknown. `clock`: of the open attempt, NULL = none. */
double goodput(const struct job *job, const struct step_clock *clock, uint64_t now_usec);

#endif
