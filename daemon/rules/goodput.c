/* See goodput.h. Owns nothing. Invariants: run_steps counts closed attempts only; lost_steps <= run_steps. */
#include "daemon/rules/goodput.h"

#include <math.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/rules/states.h"

void step_clock_note(struct step_clock *clock, uint64_t step, uint64_t now_usec) {
        if (clock->first_usec == 0) {
                clock->first_step = step;
                clock->first_usec = now_usec;
        }
        clock->last_step = step;
        clock->last_usec = now_usec;
}

static bool counts(const struct job *job) {
        return job->started > 0 && !state_has_ended(job->state) && job->state != JOB_PAUSED;
}

/* If the wall clock was set back, nothing is added. */
static uint64_t time_since(const struct job *job, uint64_t now_usec) {
        return counts(job) && job->since_usec > 0 && now_usec > job->since_usec ? now_usec - job->since_usec : 0;
}

void goodput_note_time(struct job *job, uint64_t now_usec) {
        job->active_usec += time_since(job, now_usec);
        job->since_usec = now_usec;
}

static uint64_t steps_of(const struct attempt *a) { return a->step > a->first_step ? a->step - a->first_step : 0; }

#define USEC_MAX (BERTD_SECONDS_MAX * USEC_PER_SEC)

/* Step numbers come from the user's program and are untrusted. */
static uint64_t whole_usec(double usec) { return usec < (double) USEC_MAX ? (uint64_t) usec : USEC_MAX; }

/* Time of all steps of the attempt, estimated from the timed ones; 0 = none timed. */
static uint64_t time_of(const struct attempt *a, const struct step_clock *clock) {
        if (!clock || clock->last_step <= clock->first_step)
                return 0;
        double per_step =
                (double) (clock->last_usec - clock->first_usec) / (double) (clock->last_step - clock->first_step);
        return whole_usec(per_step * (double) steps_of(a));
}

static uint64_t lost_behind(const struct job *job, uint64_t useful) {
        return job->run_steps > useful ? job->run_steps - useful : 0;
}

void goodput_close_attempt(struct job *job, const struct step_clock *clock, bool done) {
        const struct attempt *a = &job->attempt;
        const struct checkpoint *newest = job_newest_good(job);
        uint64_t usec = time_of(a, clock), kept = newest ? MIN(newest->step, a->step) : 0;

        /* Estimates the time of untimed steps, or the mean step time would be too low. */
        if (usec > 0 || job->run_usec == 0 || job->run_steps == 0)
                job->run_usec += usec;
        else
                job->run_usec += whole_usec((double) job->run_usec / (double) job->run_steps * (double) steps_of(a));
        job->run_usec = MIN(job->run_usec, USEC_MAX);
        job->run_steps += steps_of(a);
        job->lost_steps = lost_behind(job, done ? a->step : kept);
}

void goodput_note_lost(struct job *job) {
        const struct attempt *a = &job->attempt;
        uint64_t since = a->started;

        if (a->exit_class < 0 || a->exit_class == EXIT_CLASS_FINISHED)
                return;
        for (size_t i = 0; i < job->n_ledger; i++)
                if (job->ledger[i].attempt == a->number)
                        since = MAX(since, job->ledger[i].created);
        job_lose(job, (enum exit_class) a->exit_class, a->ended > since ? a->ended - since : 0);
}

void goodput_start_attempt(struct job *job) { job->lost_steps = lost_behind(job, job->attempt.first_step); }

double goodput(const struct job *job, const struct step_clock *clock, uint64_t now_usec) {
        const struct attempt *a = &job->attempt;
        bool open = clock && clock->first_usec > 0;
        uint64_t live = open ? time_of(a, clock) : 0, steps = job->run_steps + (live > 0 ? steps_of(a) : 0);
        uint64_t wall = job->active_usec + time_since(job, now_usec);

        if (steps == 0 || wall == 0 || job->run_usec + live == 0)
                return NAN;
        double per_step = (double) (job->run_usec + live) / (double) steps;
        double useful = (double) (steps > job->lost_steps ? steps - job->lost_steps : 0);
        double ratio = useful * per_step / (double) wall;
        return ratio > 1 ? 1 : ratio;
}
