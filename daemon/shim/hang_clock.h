/*
 * Decides whether a job is hung. Pure: the caller passes the time (usec on CLOCK_BOOTTIME) and checks every
 * shim_watch_period. Each check adds at most two periods of silence, so that time in which the shim or the host was
 * stopped or suspended does not count.
 *
 * The start limit applies until the attempt's first step, then the hang limit. A step is a number different from the
 * last one; the first is above the one that the attempt, or the program by its first number, starts from.
 */
#ifndef DAEMON_SHIM_HANG_CLOCK_H
#define DAEMON_SHIM_HANG_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define SHIM_WATCH_STEPS 63 /* step times for the median */
#define SHIM_HANG_MIN_SEC 300
#define SHIM_HANG_FACTOR 20
#define SHIM_START_SEC 1800

struct shim_watch {
        int hang_sec, start_sec; /* −1: max(5 min, 20 × median); start: 30 min if `trains`. 0: no limit */
        bool trains, stepping;
        uint64_t first_step, step;
        uint64_t begun_usec, looked_usec, step_usec;
        uint64_t quiet_usec; /* observed silence since the last sign of life */
        uint64_t times[SHIM_WATCH_STEPS], n_times;
};

/* `first_step`: the step the attempt resumes from. `trains`: not a command. */
void shim_watch_begin(struct shim_watch *watch, int hang_sec, int start_sec, bool trains, uint64_t first_step,
                      uint64_t now);

void shim_watch_step(struct shim_watch *watch, uint64_t step, uint64_t now);

/* A sign of life other than a step, or the shim itself was stopped: restarts the silence. */
void shim_watch_alive(struct shim_watch *watch, uint64_t now);

uint64_t shim_watch_limit(const struct shim_watch *watch);  /* usec; 0: none */
uint64_t shim_watch_period(const struct shim_watch *watch); /* usec to the next check */

/* True: the limit has passed. */
bool shim_watch_look(struct shim_watch *watch, uint64_t now);

#endif
