/*
 * The queue: a job starts when its ranks × threads fit the host's slots and its GPUs are free. Pure.
 *
 * Order: priority, then age (id). A job that cannot start reserves only what it waits for. The first job that waits for
 * GPUs reserves GPUs but no slots: later jobs without GPUs may start. Once its GPUs are free it waits for slots like
 * any other job: the first that does closes the queue, so narrow jobs cannot starve a wide one.
 */
#ifndef DAEMON_RULES_QUEUE_H
#define DAEMON_RULES_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wait_kind {
        WAIT_NONE,        /* it starts now */
        WAIT_SLOTS,       /* first in line for slots; its GPUs are free */
        WAIT_GPUS,        /* first in line for GPUs */
        WAIT_BEHIND,      /* after job `behind`, which waits for slots */
        WAIT_BEHIND_GPUS, /* after job `behind`, which waits for GPUs as well */
        WAIT_FILES,       /* bertd cannot open enough files for another job */
        WAIT_NEVER,       /* needs more than this host has; reserves nothing */
};

struct queue_entry {
        uint64_t id;
        int32_t priority;
        uint64_t slots; /* ranks × threads */
        uint32_t gpus;
        bool lease;          /* granted: the first of all, and reserves nothing */
        enum wait_kind wait; /* out */
        uint64_t behind;     /* out, WAIT_BEHIND, WAIT_BEHIND_GPUS */
};

struct queue_free {
        uint64_t slots, slots_total;
        uint32_t gpus, gpus_total;
        uint32_t starts; /* further attempts that bertd can open files for */
        uint64_t files;  /* bertd's limit of open files */
};

/* First waiting jobs; id 0: none. */
struct queue_heads {
        struct queue_entry all;  /* for slots or open files: all later jobs wait */
        struct queue_entry gpus; /* for GPUs: later jobs with GPUs wait */
};

/* Sorts the entries into queue order and sets `wait` of each. Returns how many start now. */
size_t queue_plan(struct queue_entry *entries, size_t n, struct queue_free free, struct queue_heads *ret);

/* Whether a newly queued job must wait after one of the heads: then its `wait` is set, and no planning is needed. */
bool queue_is_behind(const struct queue_heads *heads, struct queue_entry *entry);

#endif
