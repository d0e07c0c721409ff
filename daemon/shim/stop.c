/*
 * Stopping a job: its grace time, which grows while a checkpoint is being written, and the order of signals. Invariant:
 * a repeated request can only shorten the time.
 */
#include "daemon/shim/shim.h"

#include <inttypes.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/leash.h"

#define UNREADY_USEC (2 * USEC_PER_SEC)  /* grace for a job that was never ready: it has nothing to save */
#define LOOK_USEC USEC_PER_SEC           /* between checks of a checkpoint being written */
#define STALLED_USEC (10 * USEC_PER_SEC) /* a checkpoint file unchanged for this long is not being written */
#define GRACE_FACTOR 4                   /* maximum multiple of the grace time while a checkpoint is being written */
#define GRACE_MAX_USEC (7 * 24 * 3600 * USEC_PER_SEC)
#define FOLLOW_USEC (10 * USEC_PER_SEC) /* for a launcher to exit after its ranks */

static int on_grace(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;
        uint64_t now = clock_boottime_usec(), mark = shim_writing_mark(shim);

        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        if (mark != shim->written_mark && mark != 0)
                shim->written_usec = now;
        shim->written_mark = mark;
        bool writing = mark != 0 && now - shim->written_usec < STALLED_USEC && now < shim->stop_limit_usec;
        if (now >= shim->stop_until_usec && !writing) {
                if (shim->stop_asked)
                        shim_left_killed(shim);
                shim_kill_all(shim);
                return 0;
        }
        if (writing)
                (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, (uint64_t) (STALLED_USEC + KILL_LIMIT_USEC));
        uint64_t next = now + LOOK_USEC;
        if (now < shim->stop_until_usec && shim->stop_until_usec < next)
                next = shim->stop_until_usec;
        (void) sd_event_source_set_time(source, next);
        shim_look(shim);
        return 0;
}

/* A repeated request can only shorten the time. */
static int arm_grace(struct shim *shim, uint64_t grace_usec) {
        uint64_t now = clock_boottime_usec();
        bool again = shim->stop_until_usec != 0;

        shim->stop_until_usec = MIN(again ? shim->stop_until_usec : UINT64_MAX, now + grace_usec);
        shim->stop_limit_usec = MIN(again ? shim->stop_limit_usec : UINT64_MAX, now + GRACE_FACTOR * grace_usec);
        if (!again) {
                shim->written_mark = shim_writing_mark(shim);
                shim->written_usec = 0; /* files of an older attempt do not count until they change */
        }
        uint64_t left = shim->stop_until_usec > now ? shim->stop_until_usec - now : 0;
        shim->grace = sd_event_source_disable_unref(shim->grace);
        (void) sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64, left + KILL_LIMIT_USEC + STALLED_USEC);
        return sd_event_add_time(shim->event, &shim->grace, CLOCK_BOOTTIME, now + MIN(left, LOOK_USEC), 1, on_grace,
                                 shim);
}

/* A ready trainer writes a checkpoint; mpirun forwards the signal. */
static bool stops_by_usr1(const struct shim *shim) { return !shim->attempt.stop_by_term && shim->progress.ready; }

/* In a stop, a program that has declared a stop signal gets only that, and its launcher has time to exit after it. What
 * a launcher left behind gets SIGTERM. */
static bool stops_by_itself(struct shim *shim) {
        if (!shim->stop_asked || shim->declared.stop == 0 || shim->declared.main.pid == 0)
                return false;
        uint64_t now = clock_boottime_usec();
        if (shim_declared_lives(shim))
                shim->declared.lived_usec = now;
        return now < shim->declared.lived_usec + FOLLOW_USEC;
}

/* Without a free descriptor SIGTERM goes at least to the first process. */
void shim_ask_next(struct shim *shim) {
        if (shim_is_lease(shim)) /* it ends its processes itself */
                return;
        if (stops_by_usr1(shim) || stops_by_itself(shim)) {
                (void) term_continue(shim_first(shim));
                return;
        }
        uint64_t now = clock_boottime_usec(), end = shim->stop_until_usec;
        int64_t next = term_look(&shim->term, shim_first(shim), now);
        if (next > 0 && ((uint64_t) next < end || end <= now))
                (void) sd_event_source_set_time(shim->grace, (uint64_t) next);
        else if (next < 0 && shim->term.asked.n == 0 && shim_first(shim) > 0)
                (void) kill(shim_first(shim), SIGTERM);
}

void shim_stop(struct shim *shim, uint64_t grace_usec) {
        if (shim->state == SHIM_ENDED)
                return;
        /* Stopping the processes left behind does not change how the job ended. */
        bool ended = shim->child.reaped && shim->attempt.ends_with == ENDS_WITH_FIRST;
        shim->stop_asked = shim->stop_asked || !ended;
        if (shim->state == SHIM_WAITING) {
                shim_end_unstarted(shim, EXIT_CLASS_STOPPED, "stopped before it was started");
                return;
        }
        grace_usec = MIN(grace_usec, GRACE_MAX_USEC);
        if (!shim->attempt.stop_by_term && !shim->progress.ready)
                grace_usec = MIN(grace_usec, UNREADY_USEC);
        if (grace_usec == 0) {
                shim_kill_all(shim);
                return;
        }
        if (shim->gang.is && shim->attempt.kind == JOB_COMMAND && shim->term.asked.n == 0) {
                term_mark_stop(shim_first(shim));
                shim->term.next_usec = clock_boottime_usec() + LEASH_STOP_PAUSE_USEC;
        }
        if (shim->gang.is)
                shim_gang_ask(shim, "stop", shim->declared.stop);
        else if (stops_by_usr1(shim))
                (void) kill(shim_first(shim), SIGUSR1);
        if (shim_is_lease(shim) && shim_first(shim) > 0)
                (void) kill(shim_first(shim), SIGTERM);
        if (shim->stop_asked)
                (void) shim_declared_signal(shim, shim->declared.stop);
        shim_end_all(shim, grace_usec);
}

void shim_end_all(struct shim *shim, uint64_t grace_usec) {
        if (arm_grace(shim, grace_usec) < 0)
                shim_kill_all(shim); /* without a timer the job might never end */
        else
                shim_ask_next(shim);
}

void shim_checkpoint(struct shim *shim) {
        bool understands = shim->attempt.kind != JOB_COMMAND && shim->progress.ready;

        if (shim->state != SHIM_RUNNING)
                return;
        if (shim->gang.is && (understands || shim->declared.checkpoint != 0))
                shim_gang_ask(shim, "checkpoint", shim->declared.checkpoint);
        else if (understands)
                (void) kill(shim->child.pid, SIGUSR2);
        if (!understands)
                (void) shim_declared_signal(shim, shim->declared.checkpoint);
}
