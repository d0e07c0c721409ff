/*
 * The queue: a job starts when its ranks × threads fit the host's slots and its GPUs are free. Pure.
 *
 * Order: priority, then age (id). A job that cannot start keeps for itself only what it waits for. The first that waits for GPUs takes
 * them from those behind it, and no slots: jobs without GPUs pass it. Once its GPUs are free it waits for slots as any other: the first
 * that does closes the queue, so a wide job is never starved by narrow ones that keep slipping past it.
 */
#ifndef DAEMON_QUEUE_H
#define DAEMON_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wait_kind {
        WAIT_NONE,        /* it starts now */
        WAIT_SLOTS,       /* first in line, slots are missing; its GPUs are free */
        WAIT_GPUS,        /* first in line for GPUs, these are missing */
        WAIT_BEHIND,      /* behind job `behind`, which waits for slots */
        WAIT_BEHIND_GPUS, /* behind job `behind`, which waits for GPUs as this one does */
        WAIT_FILES,       /* bertd has no open files left for one job more */
        WAIT_NEVER,       /* this host has not so much: nobody waits behind it */
};

struct queue_entry {
        uint64_t id;
        int32_t priority;
        uint64_t slots; /* ranks × threads */
        uint32_t gpus;
        enum wait_kind wait; /* out */
        uint64_t behind;     /* out, WAIT_BEHIND, WAIT_BEHIND_GPUS */
};

struct queue_free {
        uint64_t slots, slots_total;
        uint32_t gpus, gpus_total;
        uint32_t starts; /* attempts for which bertd has open files */
        uint64_t files;  /* that bertd may have open */
};

/* Who waits for resources, id 0: nobody. */
struct queue_heads {
        struct queue_entry all;  /* for slots or open files: all behind it wait */
        struct queue_entry gpus; /* for GPUs: those behind it wait that want GPUs */
};

/* Sorts the entries into queue order and sets `wait` of each. Returns how many start now. */
size_t queue_plan(struct queue_entry *entries, size_t n, struct queue_free free, struct queue_heads *ret);

/* Whether a job that is queued now waits behind one of the heads: then it changes nothing for anybody, and its `wait` is set without
 * planning anew. */
bool queue_is_behind(const struct queue_heads *heads, struct queue_entry *entry);

#endif
