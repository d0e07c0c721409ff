/*
 * See queue.h. Owns nothing. Invariant: the jobs that start now fit together, and no job starts while one before it waits.
 */
#include "daemon/queue.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b) {
        const struct queue_entry *x = a, *y = b;

        if (x->priority != y->priority)
                return x->priority > y->priority ? -1 : 1;
        return x->id < y->id ? -1 : x->id > y->id;
}

size_t queue_plan(struct queue_entry *entries, size_t n, struct queue_free free) {
        size_t started = 0;
        const struct queue_entry *head = NULL;

        qsort(entries, n, sizeof(*entries), compare);
        for (size_t i = 0; i < n; i++) {
                struct queue_entry *e = &entries[i];
                if (head) {
                        e->wait = WAIT_BEHIND;
                        e->behind = head->id;
                } else if (e->slots > free.slots || e->gpus > free.gpus) {
                        e->wait = e->slots > free.slots ? WAIT_SLOTS : WAIT_GPUS;
                        head = e;
                } else {
                        e->wait = WAIT_NONE;
                        free.slots -= e->slots;
                        free.gpus -= e->gpus;
                        started++;
                }
        }
        return started;
}

char *queue_wait_text(const struct queue_entry *entry, struct queue_free free, char *buffer, size_t size) {
        buffer[0] = '\0';
        if (entry->wait == WAIT_SLOTS)
                (void) snprintf(buffer, size, "waits for %" PRIu64 " slot%s (%" PRIu64 " of %" PRIu64 " free)", entry->slots,
                                entry->slots == 1 ? "" : "s", free.slots, free.slots_total);
        else if (entry->wait == WAIT_GPUS)
                (void) snprintf(buffer, size, "waits for %u GPU%s (%u of %u free)", entry->gpus, entry->gpus == 1 ? "" : "s",
                                free.gpus, free.gpus_total);
        else if (entry->wait == WAIT_BEHIND)
                (void) snprintf(buffer, size, "waits behind job %" PRIu64 " (needs %" PRIu64 " slot%s; %" PRIu64 " of %" PRIu64 " free)",
                                entry->behind, entry->slots, entry->slots == 1 ? "" : "s", free.slots, free.slots_total);
        return buffer;
}
