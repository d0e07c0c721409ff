/*
 * See queue.h. Owns nothing. Invariants: the jobs that start now fit together; no job gets resources that an earlier
 * job waits for.
 */
#include "daemon/rules/queue.h"

#include <stdlib.h>

static int compare(const void *a, const void *b) {
        const struct queue_entry *x = a, *y = b;

        if (x->lease != y->lease)
                return x->lease ? -1 : 1;
        if (x->priority != y->priority)
                return x->priority > y->priority ? -1 : 1;
        return x->id < y->id ? -1 : x->id > y->id;
}

static bool is_after(const struct queue_entry *head, const struct queue_entry *entry) {
        return head->id != 0 && compare(head, entry) < 0;
}

bool queue_is_behind(const struct queue_heads *heads, struct queue_entry *entry) {
        const struct queue_entry *head = &heads->all;
        enum wait_kind wait = head->wait == WAIT_FILES ? WAIT_FILES : WAIT_BEHIND;

        if (!is_after(head, entry)) {
                head = &heads->gpus;
                wait = WAIT_BEHIND_GPUS;
                if (entry->gpus == 0 || !is_after(head, entry))
                        return false;
        }
        entry->wait = wait;
        entry->behind = head->id;
        return true;
}

/* GPUs before slots: slots reserved for a job that still lacks GPUs would be idle. */
static enum wait_kind judge(const struct queue_entry *e, const struct queue_free *free) {
        if (free->starts == 0)
                return WAIT_FILES;
        if (e->gpus > free->gpus)
                return WAIT_GPUS;
        return e->slots > free->slots ? WAIT_SLOTS : WAIT_NONE;
}

size_t queue_plan(struct queue_entry *entries, size_t n, struct queue_free free, struct queue_heads *ret) {
        size_t started = 0;

        *ret = (struct queue_heads) {};
        qsort(entries, n, sizeof(*entries), compare);
        for (size_t i = 0; i < n; i++) {
                struct queue_entry *e = &entries[i];
                if (e->slots > free.slots_total || e->gpus > free.gpus_total) {
                        e->wait = WAIT_NEVER;
                        continue;
                }
                if (queue_is_behind(ret, e))
                        continue;
                e->wait = judge(e, &free);
                if (e->wait != WAIT_NONE && e->lease)
                        continue;
                if (e->wait == WAIT_GPUS) {
                        ret->gpus = *e;
                } else if (e->wait != WAIT_NONE) {
                        ret->all = *e;
                } else {
                        free.starts--;
                        free.slots -= e->slots;
                        free.gpus -= e->gpus;
                        started++;
                }
        }
        return started;
}
