/*
 * See settle.h. Owns the changes that wait, the source that settles and the timer that tries again. Invariants: nothing of the loop
 * runs between a change's apply and its keep or undo; an effect is brought about once, after its commit.
 */
#include "daemon/settle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/attempt.h"
#include "daemon/bus_server.h"
#include "daemon/child.h"
#include "daemon/log.h"
#include "daemon/reserve.h"
#include "daemon/trash.h"

#define RETRY_MIN_USEC USEC_PER_SEC
#define RETRY_MAX_USEC (60 * USEC_PER_SEC)
#define WAITING_MAX 8 /* changes of one commit: each may hold a spec and an environment, and others wait for it */

struct settle {
        struct manager *manager;
        sd_event_source *source, *retry;
        uint64_t retry_usec;
        struct change *first, **last; /* that wait, in their order */
        unsigned waiting;
};

static int on_settle(sd_event_source *source, void *userdata) {
        (void) settle_now(userdata);
        return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) settle_now(userdata);
        return 0;
}

int settle_new(struct manager *manager, struct settle **ret) {
        struct settle *s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;

        *s = (struct settle) { .manager = manager, .last = &s->first };
        /* Of the same priority as the sources that ask for it: those that were ready before it come first, none can starve it. */
        int r = sd_event_add_defer(manager->loop, &s->source, on_settle, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
        if (r < 0) {
                free(s);
                return r;
        }
        *ret = s;
        return 0;
}

/* ---- effects ---- */

void settle_exit(struct manager *m, struct job *job) {
        bool waits = job->exit_due && state_has_ended(job->state) && !child_on_exit(m, job);

        job->exit_due = waits;
        m->exits_wait = m->exits_wait || waits;
}

static void tell(struct manager *m, struct job *job) {
        bool ended = state_has_ended(job->state);

        if (ended || job->state == JOB_PAUSED)
                wait_answer(job);
        settle_exit(m, job);
        if (job->stop_due && job->state == JOB_STOPPING)
                attempt_stop(job);
        job->stop_due = false;
        if (job->run && job->run->phase == PHASE_COMMITTING)
                attempt_launch(job->run);
}

/* What the commit has made true. */
static void tell_all(struct manager *m) {
        struct job *job;

        for (size_t i = 0; (job = store_flushed(m->store, i)); i++)
                tell(m, job);
}

/* ---- the commit ---- */

static void arm_retry(struct settle *s) {
        s->retry_usec = s->retry_usec == 0 ? RETRY_MIN_USEC : MIN(s->retry_usec * 2, RETRY_MAX_USEC);
        s->retry = sd_event_source_disable_unref(s->retry);
        if (sd_event_get_state(s->manager->loop) == SD_EVENT_FINISHED)
                return;
        int r = sd_event_add_time_relative(s->manager->loop, &s->retry, CLOCK_BOOTTIME, s->retry_usec, 0, on_retry, s);
        if (r < 0)
                log_error("timer: %s", strerror(-r));
}

static void note_success(struct settle *s) {
        struct manager *m = s->manager;

        if (m->storage_error[0]) {
                log_info("state.db can be written again");
                manager_plan_soon(m); /* what has waited for this */
        }
        m->storage_error[0] = '\0';
        s->retry_usec = 0;
        s->retry = sd_event_source_disable_unref(s->retry);
        reserve_fill(m->reserve_fd);
        if (store_has_trash(m->store))
                trash_soon(m->trash);
}

/* Only what is still marked is tried again: a change that was undone is its caller's to repeat. */
static void note_failure(struct settle *s, const char *why) {
        struct manager *m = s->manager;

        if (!store_pending(m->store))
                return;
        if (!m->storage_error[0])
                log_error("%s (kept in memory, tried again until it works)", why);
        (void) snprintf(m->storage_error, sizeof(m->storage_error), "%.250s", why);
        arm_retry(s);
}

/* The changes that were taken, newest first: all that wait, or as many as are enough for one commit. */
static struct change *apply_all(struct settle *s, unsigned *ret_n) {
        struct change *applied = NULL;

        for (struct change *change; (change = s->first) && !store_is_heavy(s->manager->store);) {
                s->first = change->next;
                s->waiting--;
                uid_t uid = change->uid;
                uint64_t begin = clock_boottime_usec();
                bool taken = change->apply(change) >= 0;
                uint64_t usec = clock_boottime_usec() - begin;
                if (!taken) {
                        bus_server_charge(s->manager->server, uid, usec);
                        continue;
                }
                change->usec = usec;
                change->next = applied;
                applied = change;
                (*ret_n)++;
        }
        if (s->first)
                settle_soon(s); /* the rest, after others had their turn */
        else
                s->last = &s->first;
        return applied;
}

static struct change *reversed(struct change *list) {
        struct change *result = NULL;

        while (list) {
                struct change *change = list;
                list = change->next;
                change->next = result;
                result = change;
        }
        return result;
}

/* Each pays its part of the commit that they shared. */
static void conclude(struct settle *s, struct change *applied, const char *why, uint64_t usec_each) {
        struct change *list = why ? applied : reversed(applied);

        while (list) {
                struct change *change = list;
                list = change->next;
                bus_server_charge(s->manager->server, change->uid, change->usec + usec_each);
                if (why)
                        change->undo(change, why);
                else
                        change->keep(change);
        }
}

bool settle_now(struct settle *s) {
        struct manager *m = s->manager;
        struct error error = {};
        unsigned n = 0;

        uint64_t noted = store_noted(m->store);
        struct change *applied = apply_all(s, &n);
        uint64_t begin = clock_boottime_usec();
        bool changed = store_pending(m->store);
        int r = store_flush(m->store, &error);
        uint64_t usec_each = n > 0 ? (clock_boottime_usec() - begin) / n : 0;
        if (r >= 0) {
                note_success(s);
                tell_all(m);
                conclude(s, applied, NULL, usec_each);
                store_drop_removed(m->store);
                if (changed)
                        bus_server_tell_change(m->server, ++m->serial);
        } else {
                store_forget_notes(m->store, store_noted(m->store) - noted);
                conclude(s, applied, error.text, usec_each);
                store_undone(m->store);
                note_failure(s, error.text);
        }
        if (m->draining)
                manager_check_drained(m);
        return r >= 0;
}

void settle_soon(struct settle *s) { (void) sd_event_source_set_enabled(s->source, SD_EVENT_ONESHOT); }

void settle_add(struct settle *s, struct change *change) {
        change->next = NULL;
        *s->last = change;
        s->last = &change->next;
        if (++s->waiting >= WAITING_MAX)
                (void) settle_now(s);
        else
                settle_soon(s);
}

/* ---- the end ---- */

static void log_not_kept(const struct manager *m, const char *why) {
        for (size_t i = 0; i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                if (job->dirty)
                        log_error("job %" PRIu64 ": that it is %s could not be kept: %s", job->id,
                                  job_state_name(job->state), why);
        }
}

void settle_free(struct settle *s) {
        if (!s)
                return;
        bool kept = settle_now(s);
        while (s->first)
                kept = settle_now(s);
        if (!kept)
                log_not_kept(s->manager, s->manager->storage_error);
        (void) sd_event_source_disable_unref(s->source);
        (void) sd_event_source_disable_unref(s->retry);
        free(s);
}
