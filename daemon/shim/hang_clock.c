/* See hang_clock.h. Owns nothing. */
#include "daemon/shim/hang_clock.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define PERIODS 8 /* checks within one limit */
#define PERIOD_MIN_USEC (USEC_PER_SEC / 20)
#define PERIOD_MAX_USEC (5 * USEC_PER_SEC)

void shim_watch_begin(struct shim_watch *watch, int hang_sec, int start_sec, bool trains, uint64_t first_step,
                      uint64_t now) {
        *watch = (struct shim_watch) { .hang_sec = hang_sec,
                                       .start_sec = start_sec,
                                       .trains = trains,
                                       .first_step = first_step,
                                       .step = first_step,
                                       .begun_usec = now,
                                       .looked_usec = now };
}

void shim_watch_alive(struct shim_watch *watch, uint64_t now) {
        watch->quiet_usec = 0;
        watch->looked_usec = now;
}

void shim_watch_step(struct shim_watch *watch, uint64_t step, uint64_t now) {
        if (step == watch->step)
                return;
        if (!watch->stepping && step <= watch->first_step) { /* a program may start from an older checkpoint, or none */
                watch->first_step = watch->step = step;
                return;
        }
        if (watch->stepping) {
                uint64_t steps = step > watch->step ? step - watch->step : 1; /* reports may be lost */
                watch->times[watch->n_times++ % SHIM_WATCH_STEPS] = (now - watch->step_usec) / steps;
        }
        watch->stepping = true;
        watch->step = step;
        watch->step_usec = now;
        shim_watch_alive(watch, now);
}

static int compare_times(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
        return (x > y) - (x < y);
}

/* Before the second step the only known bound is the time of the start and first step together. */
static uint64_t median(const struct shim_watch *watch) {
        size_t n = MIN(watch->n_times, (uint64_t) SHIM_WATCH_STEPS);
        uint64_t sorted[SHIM_WATCH_STEPS];

        if (n == 0)
                return watch->step_usec - watch->begun_usec;
        memcpy(sorted, watch->times, n * sizeof(sorted[0]));
        qsort(sorted, n, sizeof(sorted[0]), compare_times);
        return sorted[n / 2];
}

uint64_t shim_watch_limit(const struct shim_watch *watch) {
        if (!watch->stepping) {
                int sec = watch->start_sec >= 0 ? watch->start_sec : watch->trains ? SHIM_START_SEC : 0;
                return (uint64_t) sec * USEC_PER_SEC;
        }
        if (watch->hang_sec >= 0)
                return (uint64_t) watch->hang_sec * USEC_PER_SEC;
        return MAX(SHIM_HANG_MIN_SEC * USEC_PER_SEC, SHIM_HANG_FACTOR * median(watch));
}

uint64_t shim_watch_period(const struct shim_watch *watch) {
        uint64_t limit = shim_watch_limit(watch);
        uint64_t period = limit > 0 ? limit / PERIODS : PERIOD_MAX_USEC;

        return MIN(MAX(period, PERIOD_MIN_USEC), PERIOD_MAX_USEC);
}

bool shim_watch_look(struct shim_watch *watch, uint64_t now) {
        uint64_t limit = shim_watch_limit(watch), passed = now - watch->looked_usec;

        watch->quiet_usec += MIN(passed, 2 * shim_watch_period(watch));
        watch->looked_usec = now;
        return limit > 0 && watch->quiet_usec >= limit;
}
