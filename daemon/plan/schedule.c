/*
 * See schedule.h. Invariants: no job starts while a commit is outstanding or the daemon drains; the timer runs on
 * CLOCK_BOOTTIME, and is armed only while a back-off is pending.
 */
#include "daemon/plan/schedule.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "daemon/attempt/start.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/gpu/watch.h"
#include "daemon/node/transition.h"
#include "daemon/plan/on_exit.h"

#define WAKES_A_TURN 64 /* back-offs that end in one commit: after a long downtime all may be due */

/* ---- the queue ---- */

struct queue_entry schedule_entry(const struct job *job) {
        return (struct queue_entry) { .id = job->id,
                                      .priority = job->priority,
                                      .slots = job_slots(job),
                                      .gpus = job->gpus,
                                      .lease = job_is_lease(job) };
}

static size_t collect_queued(const struct store *store, struct queue_entry *entries) {
        size_t n = 0;

        for (size_t i = 0; i < store_count(store); i++) {
                const struct job *job = store_at(store, i);
                if (job->state != JOB_QUEUED)
                        continue;
                if (entries)
                        entries[n] = schedule_entry(job);
                n++;
        }
        return n;
}

/* Before GPUs are given to jobs the driver is queried for their users. Until it answers, the jobs that would get them
 * keep their slots. */
static void hold_gpus(struct node *m, struct queue_entry *entries, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (entries[i].wait == WAIT_NONE && entries[i].gpus > 0 && !gpu_watch_fresh(m->gpu_watch))
                        entries[i].wait = WAIT_GPUS;
}

static void plan(struct node *m) {
        size_t n = collect_queued(m->store, NULL);
        cleanup_free struct queue_entry *entries = n ? calloc(n, sizeof(*entries)) : NULL;

        m->heads = (struct queue_heads) {};
        if (!entries)
                return;
        (void) collect_queued(m->store, entries);
        (void) queue_plan(entries, n, node_free_resources(m), &m->heads);
        hold_gpus(m, entries, n);
        for (size_t i = 0; i < n; i++)
                store_find(m->store, entries[i].id)->wait = entries[i];
        /* No job starts while state.db cannot be written. */
        bool may_start = !store_pending(m->store) && !m->draining;
        for (size_t i = 0; i < n && may_start; i++) {
                struct job *job = store_find(m->store, entries[i].id);
                bool starts = entries[i].wait == WAIT_NONE && m->drain.since == 0;
                if (!starts && entries[i].lease && gpu_watch_fresh(m->gpu_watch))
                        (void) node_move(m, job, EVENT_CANCEL,
                                         m->drain.since > 0 ? "this host is drained" : "no longer free");
                if (!starts)
                        continue;
                uint64_t taken = m->gpus_used | gpu_watch_blocked(m->gpu_watch);
                attempt_start(m, job, gpus_take(&m->options.gpus, taken, job->gpus));
        }
}

/* ---- back-off ---- */

static void on_wake(void *userdata) {
        struct node *m = userdata;
        uint64_t now = loop_boottime();
        unsigned woken = 0;

        /* The rest follows in the next turn, after a commit and other clients' calls. */
        for (size_t i = 0; i < store_count(m->store) && woken < WAKES_A_TURN; i++) {
                struct job *job = store_at(m->store, i);
                if (job->state == JOB_BACKOFF && job->wake_boottime <= now)
                        woken += node_move(m, job, EVENT_WAKE, NULL) == STATE_MOVE;
        }
        node_plan_soon(m);
}

/* Arms the timer for the earliest back-off. */
static void arm_wake(struct node *m) {
        uint64_t earliest = UINT64_MAX;

        for (size_t i = 0; i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                if (job->state == JOB_BACKOFF)
                        earliest = MIN(earliest, job->wake_boottime);
        }
        timer_disarm(&m->wake);
        if (earliest != UINT64_MAX)
                loop_at(m->loop, &m->wake, earliest, on_wake, m);
}

/* ---- a turn ---- */

static void on_plan(void *userdata) {
        struct node *m = userdata;

        on_exit_next_all(m);
        store_release(m->store);
        plan(m);
        arm_wake(m);
}

void schedule_add(struct node *m, struct job *job) {
        job->wait = schedule_entry(job);
        if (!queue_is_behind(&m->heads, &job->wait))
                node_plan_soon(m);
}

/* ---- shutdown ---- */

/* Of the system service: a separate status, by which systemd detects a requested end and does not restart it. */
static void end_on_request(struct node *m) {
        loop_end(m->loop, m->options.launcher == LAUNCHER_SYSTEMD ? BERTD_EXIT_STOPPED : BERTD_EXIT_OK);
}

void schedule_check_drained(struct node *m) {
        if (!m->draining)
                return;
        for (size_t i = 0; i < store_count(m->store); i++)
                if (state_holds_resources(store_at(m->store, i)->state))
                        return;
        log_info("all jobs have stopped");
        end_on_request(m);
}

void schedule_shutdown(struct node *m, bool jobs) {
        if (!jobs) {
                end_on_request(m);
                return;
        }
        m->draining = true;
        for (size_t i = 0; i < store_count(m->store); i++) {
                struct job *job = store_at(m->store, i);
                if (!state_holds_resources(job->state))
                        continue;
                if (job->stop_reason == STOP_NONE)
                        job->stop_reason = STOP_SHUTDOWN;
                if (node_move(m, job, EVENT_SHUTDOWN, "the daemon is shutting down") == STATE_MOVE)
                        job->stop_due = true;
        }
        schedule_check_drained(m);
}

int schedule_new(struct node *m) {
        int r = loop_defer(m->loop, on_plan, m, &m->plan);

        if (r >= 0)
                source_set_order(m->plan, LOOP_LATER);
        return r;
}

void schedule_free(struct node *m) {
        m->plan = source_free(m->plan);
        timer_disarm(&m->wake);
}
