/*
 * Timers, in the order in which they are due: what every loop does with them, whatever its clock. A timer is a member of what it
 * belongs to; zeros are one that is not armed. It is disarmed before its owner is freed.
 */
#ifndef DAEMON_BASE_TIMERS_H
#define DAEMON_BASE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
        struct timer *next, *before; /* NULL while it is not armed */
        uint64_t usec;               /* boot time */
        void (*handler)(void *userdata);
        void *userdata;
};

/* The head of a ring, which stays where it is. */
struct timers {
        struct timer head;
};

void timers_init(struct timers *timers);

/* Armed already it is armed anew; of those of one time the first armed is the first. */
void timers_arm(struct timers *timers, struct timer *timer, uint64_t usec, void (*handler)(void *userdata),
                void *userdata);

/* When the first is due; UINT64_MAX: none is armed. */
uint64_t timers_next(const struct timers *timers);

/* Calls the handler of the first, which is not armed meanwhile, where it is due; false: none was. */
bool timers_fire(struct timers *timers, uint64_t now_usec);

static inline bool timer_is_armed(const struct timer *timer) { return timer->next; }
void timer_disarm(struct timer *timer);

#endif
