/* See timers.h. Invariant: the ring is ordered by time. */
#include "daemon/base/timers.h"

#include <stddef.h>

void timers_init(struct timers *timers) { timers->head.next = timers->head.before = &timers->head; }

void timers_arm(struct timers *timers, struct timer *timer, uint64_t usec, void (*handler)(void *userdata),
                void *userdata) {
        timer_disarm(timer);
        struct timer *before = timers->head.before; /* from the end: most are the last */
        while (before != &timers->head && before->usec > usec)
                before = before->before;
        *timer = (struct timer) {
                .next = before->next, .before = before, .usec = usec, .handler = handler, .userdata = userdata
        };
        timer->next->before = before->next = timer;
}

uint64_t timers_next(const struct timers *timers) {
        return timers->head.next == &timers->head ? UINT64_MAX : timers->head.next->usec;
}

bool timers_fire(struct timers *timers, uint64_t now_usec) {
        struct timer *first = timers->head.next;

        if (timers_next(timers) > now_usec)
                return false;
        timer_disarm(first);
        first->handler(first->userdata);
        return true;
}

void timer_disarm(struct timer *timer) {
        if (!timer->next)
                return;
        timer->next->before = timer->before;
        timer->before->next = timer->next;
        timer->next = timer->before = NULL;
}
