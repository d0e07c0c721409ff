/*
 * How fast ranks compute (contract C11), from what each reports of its share of a step: the seconds before the exchange, in which it
 * waited for no other, and the work, as FLOPs. Rank 0's; does no I/O and reads no clock.
 *
 *   pace_new → { pace_step } → pace_free
 */
#ifndef TRAINER_REPORT_PACE_H
#define TRAINER_REPORT_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_STEPS 20       /* that count */
#define PACE_SLOW 1.2       /* times the median: worth a report, in the median of those steps */
#define PACE_OVER 1.1       /* and then no longer */
#define PACE_FLOOR_SEC 1e-3 /* a lag below is none */

struct pace_share {
        double seconds, work;
};

/* Of one step; the median of an even number is the lower one: with two ranks the faster is what the other is held against. */
struct pace_row {
        double min, median, max; /* seconds */
        uint32_t slowest;        /* the rank that took max */
};

struct pace;

struct pace *pace_new(uint32_t n_ranks); /* NULL: no memory */
void pace_free(struct pace *pace);

/* Room for n_ranks shares in rank order, which pace_step takes. True: pace_slow's answer is new, by a rank or by a tenth. */
struct pace_share *pace_shares(struct pace *pace);
bool pace_step(struct pace *pace, struct pace_row *ret);

/* The slowest of the slow ranks, and how many times longer than the median it takes for the same work. False: none is slow. */
bool pace_slow(const struct pace *pace, uint32_t *ret_rank, double *ret_ratio);

#endif
