/*
 * The queue (issue: "a job starts when its ranks × threads fit the host's slots and its GPUs are free"). Pure.
 *
 * Order: priority, then age (id). The first job that does not fit closes the queue for those behind it, so a wide job is never
 * starved by narrow ones that keep slipping past it.
 */
#ifndef DAEMON_QUEUE_H
#define DAEMON_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wait_kind {
        WAIT_NONE,   /* it starts now */
        WAIT_SLOTS,  /* first in line, slots are missing */
        WAIT_GPUS,   /* first in line, GPUs are missing */
        WAIT_BEHIND, /* behind job `behind` */
        WAIT_NEVER,  /* this host has not so much: nobody waits behind it */
};

struct queue_entry {
        uint64_t id;
        int32_t priority;
        uint64_t slots; /* ranks × threads */
        uint32_t gpus;
        enum wait_kind wait; /* out */
        uint64_t behind;     /* out, WAIT_BEHIND */
};

struct queue_free {
        uint64_t slots, slots_total;
        uint32_t gpus, gpus_total;
};

/* Sorts the entries into queue order and sets `wait` of each. Returns how many start now. */
size_t queue_plan(struct queue_entry *entries, size_t n, struct queue_free free);

/* Whether a job that is queued now waits behind `head`, the one that waits for resources (id 0: none does): then it changes nothing
 * for anybody, and its `wait` is set without planning anew. */
bool queue_is_behind(const struct queue_entry *head, struct queue_entry *entry);

#endif
