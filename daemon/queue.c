/*
 * See queue.h. Owns nothing. Invariant: the jobs that start now fit together, and no job starts while one before it waits.
 */
#include "daemon/queue.h"

#include <stdlib.h>

static int compare(const void *a, const void *b) {
        const struct queue_entry *x = a, *y = b;

        if (x->priority != y->priority)
                return x->priority > y->priority ? -1 : 1;
        return x->id < y->id ? -1 : x->id > y->id;
}

bool queue_is_behind(const struct queue_entry *head, struct queue_entry *entry) {
        if (head->id == 0 || compare(head, entry) >= 0)
                return false;
        entry->wait = WAIT_BEHIND;
        entry->behind = head->id;
        return true;
}

size_t queue_plan(struct queue_entry *entries, size_t n, struct queue_free free) {
        size_t started = 0;
        const struct queue_entry *head = NULL;

        qsort(entries, n, sizeof(*entries), compare);
        for (size_t i = 0; i < n; i++) {
                struct queue_entry *e = &entries[i];
                if (e->slots > free.slots_total || e->gpus > free.gpus_total) {
                        e->wait = WAIT_NEVER;
                } else if (head) {
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
