/*
 * Is a job hung? Pure: the caller brings the time (usec on CLOCK_BOOTTIME) and looks every shim_watch_period. Silence is counted
 * look by look, at most two periods a look: time in which the shim or the host was stopped or suspended is not the job's.
 *
 * Until the attempt's first step the start limit counts, then the hang limit. A step is a number above the attempt's first and
 * other than the last one.
 */
#ifndef DAEMON_SHIM_WATCH_H
#define DAEMON_SHIM_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#define SHIM_WATCH_STEPS 63 /* step times that the median is taken of */
#define SHIM_HANG_MIN_SEC 300
#define SHIM_HANG_FACTOR 20
#define SHIM_START_SEC 1800

struct shim_watch {
        int hang_sec, start_sec; /* −1: max(5 min, 20 × median); start: 30 min where `trains`. 0: no limit */
        bool trains, stepping;
        uint64_t first_step, step;
        uint64_t begun_usec, looked_usec, step_usec;
        uint64_t quiet_usec; /* since the last sign of life, as far as we could see */
        uint64_t times[SHIM_WATCH_STEPS], n_times;
};

/* `first_step`: where the attempt goes on from. `trains`: not a command. */
void shim_watch_begin(struct shim_watch *watch, int hang_sec, int start_sec, bool trains, uint64_t first_step,
                      uint64_t now);

void shim_watch_step(struct shim_watch *watch, uint64_t step, uint64_t now);

/* A sign of life that is no step, or the shim itself was stopped: silence counts from now on. */
void shim_watch_alive(struct shim_watch *watch, uint64_t now);

uint64_t shim_watch_limit(const struct shim_watch *watch);  /* usec; 0: none */
uint64_t shim_watch_period(const struct shim_watch *watch); /* usec to the next look */

/* True: the limit has passed. */
bool shim_watch_look(struct shim_watch *watch, uint64_t now);

#endif
