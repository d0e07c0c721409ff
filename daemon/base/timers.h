/*
 * Timers ordered by due time: shared by all loops, whatever their clock. A timer is a member of its owner's struct; all
 * zeros = not armed. Disarm it before its owner is freed.
 */
#ifndef DAEMON_BASE_TIMERS_H
#define DAEMON_BASE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
        struct timer *next, *before; /* NULL while not armed */
        uint64_t usec;               /* boot time */
        void (*handler)(void *userdata);
        void *userdata;
};

/* Head of the ring; must not move in memory. */
struct timers {
        struct timer head;
};

void timers_init(struct timers *timers);

/* Re-arms an armed timer. Timers due at the same time keep the order in which they were armed. */
void timers_arm(struct timers *timers, struct timer *timer, uint64_t usec, void (*handler)(void *userdata),
                void *userdata);

/* When the first timer is due; UINT64_MAX: none. */
uint64_t timers_next(const struct timers *timers);

/* If the first timer is due, disarms it and calls its handler; false: none was due. */
bool timers_fire(struct timers *timers, uint64_t now_usec);

static inline bool timer_is_armed(const struct timer *timer) { return timer->next; }
void timer_disarm(struct timer *timer);

#endif
