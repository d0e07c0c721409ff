/*
 * One commit per turn of the loop (contracts C2, C3). Code that changes a job marks it (node_move, store_note,
 * store_mark) and calls node_commit_soon; a source of the loop then writes all marked jobs in one transaction. Visible
 * effects follow that commit: answers, waits, on_exit, the launch of an attempt, the stop of a shim.
 *
 * A client's call that changes something is a struct change: it waits for that source, so that no client reads a change
 * that may still be undone. If the commit fails the change is undone and refused; events that bertd itself detected (a
 * death, a hello) stay in memory, and a timer retries the commit.
 *
 * While another program has state.db locked (a backup, an administrator's transaction) nothing is applied and the loop
 * does not block: the changes stay queued, the timer retries, and each is refused after SETTLE_BUSY_USEC. The memory
 * they hold is bounded.
 */
#ifndef DAEMON_PLAN_SETTLE_H
#define DAEMON_PLAN_SETTLE_H

#include "common/clock.h"
#include "daemon/node/node.h"

#define SETTLE_BUSY_USEC (8 * USEC_PER_SEC) /* shorter than any client's timeout */

struct change {
        struct change *next;
        uid_t uid;             /* the caller, who is charged for the time */
        size_t size;           /* bytes it holds, see settle_has_room */
        uint64_t usec, waited; /* private to settle: duration of apply; since when it waits */
        bool last;             /* it is not applied again */
        /* Changes memory, marks jobs, queues rows. Negative: refused and answered, nothing changed, freed. Positive
         * (never if `last`): not possible yet, nothing changed; it is called again after settle_held, or after
         * SETTLE_BUSY_USEC. */
        int (*apply)(struct change *change);
        void (*keep)(struct change *change); /* durable: answers, frees */
        void (*undo)(struct change *change,
                     const char *why); /* not written: restores the state before apply, answers, frees */
};

struct settle;

int settle_new(struct node *node, struct settle **ret);
/* Writes marked and requested changes a last time; logs those that cannot be written. */
void settle_free(struct settle *settle);

/* Whether this many more bytes of the user's changes may wait. Always true unless state.db is locked. */
bool settle_has_room(const struct settle *settle, uid_t uid, size_t size);

/* Takes the change, and applies it before this turn's commit. */
void settle_add(struct settle *settle, struct change *change);

/* Call this when the condition that held changes wait for may be true. */
void settle_held(struct settle *settle);

/* Commits now; true = marked and requested changes are durable. Frees no job in memory, unless it was removed. */
bool settle_now(struct settle *settle);

#endif
