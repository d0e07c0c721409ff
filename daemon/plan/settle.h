/*
 * One commit a turn of the loop (contracts C2, C3). Whatever changes a job marks it (node_move, store_note, store_mark) and
 * calls node_commit_soon; a source of the loop then writes all that is marked in one transaction. What others are told of a change
 * follows that commit: answers, waits, on_exit, the launch of an attempt, the stop of a shim.
 *
 * A client's call that changes something is a struct change: it waits for that source, so that between its work in memory and the
 * commit nobody reads what may still be undone. Where the commit fails it is undone and refused; what bertd itself has seen (a
 * death, a hello) stays the truth in memory and is tried again by a timer.
 *
 * While another program has state.db locked (a backup, an administrator's transaction) nothing is applied and nothing waits in the loop: the
 * changes stay where they are and are tried again by that timer, each for SETTLE_BUSY_USEC, after which it is refused, and what they
 * hold is bounded.
 */
#ifndef DAEMON_SETTLE_H
#define DAEMON_SETTLE_H

#include "common/clock.h"
#include "daemon/node/node.h"

#define SETTLE_BUSY_USEC (8 * USEC_PER_SEC) /* less than any client waits for an answer */

struct change {
        struct change *next;
        uid_t uid;             /* who asked: the time that it takes is charged to it */
        size_t size;           /* bytes that it holds, see settle_has_room */
        uint64_t usec, waited; /* settle's own: what apply took; since when it waits */
        bool last;             /* it is not asked again */
        /* In memory, with marks and rows of the transaction. Negative: refused and answered, nothing has changed, freed. Positive, not
         * where it is the `last` time: not yet, nothing has changed; it is asked again after settle_held, or after SETTLE_BUSY_USEC. */
        int (*apply)(struct change *change);
        void (*keep)(struct change *change); /* it is durable: answers, frees */
        void (*undo)(struct change *change,
                     const char *why); /* it could not be written: as before apply, answers, frees */
};

struct settle;

int settle_new(struct node *node, struct settle **ret);
/* What is marked and asked for is written a last time; what cannot be is named in the log. */
void settle_free(struct settle *settle);

/* Whether so many bytes more of that user's changes may wait. Always, but while state.db is locked. */
bool settle_has_room(const struct settle *settle, uid_t uid, size_t size);

/* Takes the change. Its time comes before this turn's commit. */
void settle_add(struct settle *settle, struct change *change);

/* What the held changes wait for may have come. */
void settle_held(struct settle *settle);

/* Commits now; true = what was marked or asked for is durable. Frees no job that is in memory, unless it was removed. */
bool settle_now(struct settle *settle);

#endif
