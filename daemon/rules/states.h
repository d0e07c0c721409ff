/*
 * The states of a job and what may happen in each (contract C3). Pure: no I/O, no clock.
 *
 * One table gives the result for every state and event. A caller looks it up and changes the job only on STATE_MOVE;
 * the change and its event row are then one transaction of the store.
 */
#ifndef DAEMON_RULES_STATES_H
#define DAEMON_RULES_STATES_H

#include <stdbool.h>

#include "common/names.h"

enum job_event {
        EVENT_START,     /* the queue assigned slots and GPUs */
        EVENT_HELLO,     /* the shim of the current attempt connected */
        EVENT_CANCEL,    /* requested by the owner */
        EVENT_PAUSE,     /* requested by the owner */
        EVENT_SHUTDOWN,  /* the daemon stops its jobs */
        EVENT_RESUME,    /* requested by the owner */
        EVENT_REMOVE,    /* requested by the owner; removes the row */
        EVENT_WAKE,      /* the back-off is over */
        EVENT_FINISHED,  /* the attempt ended: the job's work is done */
        EVENT_RETRY,     /* the attempt ended: retry after a back-off */
        EVENT_REQUEUE,   /* the attempt ended: retry at once */
        EVENT_GAVE_UP,   /* the attempt ended: no retry */
        EVENT_CANCELLED, /* the attempt ended by a cancel */
        EVENT_PAUSED,    /* the attempt ended by a pause */
        EVENT_MAX
};

enum verdict {
        STATE_IMPOSSIBLE, /* a bug, or a late message: no change, the caller logs it */
        STATE_REFUSE,     /* not allowed in this state: WrongState */
        STATE_STAY,       /* accepted, no change of state */
        STATE_MOVE,       /* to `next` */
};

struct transition {
        enum verdict verdict;
        enum job_state next; /* STATE_MOVE only */
};

struct transition state_after(enum job_state state, enum job_event event);

bool state_has_ended(enum job_state state);       /* done, failed, cancelled: only resume or rm follow */
bool state_holds_resources(enum job_state state); /* starting, running, stopping: an attempt is open */

const char *job_event_name(enum job_event event); /* the `what` of an event row */

#endif
