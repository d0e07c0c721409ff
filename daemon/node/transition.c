/* See transition.h. */
#include "daemon/node/transition.h"

#include <inttypes.h>

#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/rules/goodput.h"
#include "daemon/rules/ledger.h"

/* Step 1 of plan/on_exit.h. */
static void owe_exit(struct job *job) {
        job->exit_owed = job->on_exit ? EXIT_OWED_START : EXIT_OWED_NONE;
        job->exit_phase = EXIT_WAITS;
        job->exit_pause = job->exit_after = 0;
}

static void set_times(struct job *job, enum job_event event) {
        uint64_t now = loop_realtime();

        if (event == EVENT_HELLO && job->started == 0)
                job->started = now;
        if (event == EVENT_RESUME)
                job->ended = 0;
        else if (state_has_ended(job->state))
                job->ended = now;
        if (job->state != JOB_BACKOFF)
                job->not_before = 0;
}

enum verdict node_move(struct node *m, struct job *job, enum job_event event, const char *reason) {
        return node_move_privately(m, job, event, reason, NULL);
}

enum verdict node_move_privately(struct node *m, struct job *job, enum job_event event, const char *reason,
                                 const char *private) {
        struct transition t = state_after(job->state, event);
        enum job_state from = job->state;

        if (t.verdict == STATE_IMPOSSIBLE)
                log_error("job %" PRIu64 ": event %s is not allowed in state %s", job->id, job_event_name(event),
                          job_state_name(job->state));
        if (t.verdict != STATE_MOVE)
                return t.verdict;
        goodput_note_time(job, loop_realtime());
        job->state = t.next;
        job_set_reason(job, reason, private);
        set_times(job, event);
        job->holds_checkpoints = state_has_ended(job->state) && !job_is_lease(job) && ledger_is_below_job(job);
        store_note_move(m->store, job, from, job_event_name(event));
        node_commit_soon(m);
        log_transition(job->id, job_state_name(from), job_state_name(job->state), job->reason);
        if (state_has_ended(job->state)) {
                owe_exit(job);
                node_plan_soon(m); /* frees the job's memory */
        }
        return STATE_MOVE;
}
