/*
 * See settle.h. Owns the waiting changes, the source that settles and the retry timer. Invariants: no other handler
 * runs between a change's apply and its keep or undo; each effect happens once, after its commit.
 */
#include "daemon/plan/settle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/limits.h"
#include "common/cleanup.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/start.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/plan/on_exit.h"
#include "daemon/base/reserve.h"
#include "daemon/plan/trash.h"
#include "daemon/plan/schedule.h"

#define RETRY_MIN_USEC USEC_PER_SEC
#define RETRY_MAX_USEC (60 * USEC_PER_SEC)
#define WAITING_MAX 8 /* changes per commit: each may hold a spec and an environment, and others wait for it */
/* Between two attempts to lock state.db: while a client waits for it, and otherwise. */
#define LOCK_MIN_USEC 10000
#define LOCK_MAX_USEC 200000
#define LOCK_ALONE_MAX_USEC USEC_PER_SEC
#define LOCK_QUIET_USEC USEC_PER_SEC /* shorter locks are not reported */
#define LAST_PAUSE_USEC 20000

struct settle {
        struct node *node;
        struct timer retry;
        uint64_t retry_usec;
        struct change *first, **last; /* waiting changes, in order */
        struct change *held;          /* changes to apply again later */
        struct timer held_timer;
        unsigned waiting;
        uint64_t busy_since, busy_pause; /* since when another program has state.db locked, 0 = not locked */
        bool busy_told;
};

static void on_settle(void *userdata) { (void) settle_now(userdata); }

int settle_new(struct node *node, struct settle **ret) {
        struct settle *s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;

        *s = (struct settle) { .node = node, .last = &s->first };
        /* Same priority as the sources that request commits: earlier ready ones run first, none can starve it. */
        int r = loop_defer(node->loop, on_settle, s, &node->commit);
        if (r < 0) {
                free(s);
                return r;
        }
        *ret = s;
        return 0;
}

/* ---- effects ---- */

static void charge(const struct node *m, uid_t uid, uint64_t usec) {
        if (m->listener)
                m->listener->charge(m->listener_data, uid, usec);
}

static void tell_change(struct node *m) {
        m->serial++;
        if (m->listener)
                m->listener->changed(m->listener_data, m->serial);
}

static void tell(struct node *m, struct job *job) {
        bool ended = state_has_ended(job->state);

        if (m->listener && (ended || job->state == JOB_PAUSED))
                m->listener->rests(job);
        if (ended && job->on_exit)
                node_plan_soon(m); /* frees its memory once no on_exit is owed */
        on_exit_next(m, job);
        if (job->stop_due && job->state == JOB_STOPPING)
                attempt_stop(job);
        job->stop_due = false;
        if (job->run && job->run->phase == PHASE_COMMITTING)
                attempt_launch(job->run);
}

/* Effects of the commit. */
static void tell_all(struct node *m) {
        struct job *job;

        for (size_t i = 0; (job = store_flushed(m->store, i)); i++)
                tell(m, job);
}

/* ---- the commit ---- */

static void forget_lock(struct settle *s) {
        s->busy_since = s->busy_pause = 0;
        s->busy_told = false;
}

static void note_success(struct settle *s) {
        struct node *m = s->node;

        if (m->storage_error[0] || s->busy_told)
                log_info("state.db is writable again");
        if (m->storage_error[0] || s->busy_since > 0)
                node_plan_soon(m); /* jobs that waited for this */
        m->storage_error[0] = '\0';
        forget_lock(s);
        s->retry_usec = 0;
        timer_disarm(&s->retry);
        reserve_fill(m->reserve_fd);
        if (store_has_trash(m->store))
                trash_soon(m->trash);
}

/* Only marked changes are retried: an undone change must be repeated by its caller. */
static void note_failure(struct settle *s, const char *why) {
        struct node *m = s->node;

        forget_lock(s);
        if (!store_pending(m->store))
                return;
        if (!m->storage_error[0])
                log_error("%s (changes kept in memory; retrying)", why);
        (void) snprintf(m->storage_error, sizeof(m->storage_error), "%.250s", why);
        s->retry_usec = s->retry_usec == 0 ? RETRY_MIN_USEC : MIN(s->retry_usec * 2, RETRY_MAX_USEC);
        loop_after(m->loop, &s->retry, s->retry_usec, on_settle, s);
}

/* ---- changes that wait for something other than the commit ---- */

static void append(struct settle *s, struct change *change) {
        change->next = NULL;
        *s->last = change;
        s->last = &change->next;
        s->waiting++;
}

/* Applies them again; for the last time those that have waited since `since` or longer. */
static void ask_held(struct settle *s, uint64_t since) {
        struct change *list = s->held;

        s->held = NULL;
        while (list) {
                struct change *change = list;
                list = change->next;
                change->last = change->waited <= since;
                append(s, change);
        }
        if (s->first)
                node_commit_soon(s->node);
}

static void on_held(void *userdata) { ask_held(userdata, loop_boottime() - SETTLE_BUSY_USEC); }

/* In order; the first has waited longest. */
static void hold(struct settle *s, struct change *change) {
        struct change **at = &s->held;

        while (*at && (*at)->waited <= change->waited)
                at = &(*at)->next;
        change->next = *at;
        *at = change;
        loop_at(s->node->loop, &s->held_timer, s->held->waited + SETTLE_BUSY_USEC, on_held, s);
}

void settle_held(struct settle *s) { ask_held(s, 0); }

static struct change *take_first(struct settle *s) {
        struct change *change = s->first;

        s->first = change->next;
        s->waiting--;
        if (!s->first)
                s->last = &s->first;
        return change;
}

/* The taken changes, newest first: all that wait, or enough for one commit. */
static struct change *apply_all(struct settle *s, unsigned *ret_n) {
        struct change *applied = NULL;

        for (unsigned i = 0; s->first && i < WAITING_MAX && !store_is_heavy(s->node->store); i++) {
                struct change *change = take_first(s);
                uid_t uid = change->uid;
                uint64_t begin = loop_boottime();
                int r = change->apply(change);
                uint64_t usec = loop_boottime() - begin;
                if (r > 0)
                        hold(s, change);
                if (r != 0) {
                        charge(s->node, uid, usec);
                        continue;
                }
                change->usec = usec;
                change->next = applied;
                applied = change;
                (*ret_n)++;
        }
        if (s->first)
                node_commit_soon(s->node); /* the rest, after other handlers */
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

/* Charges each change its part of the shared commit. */
static void conclude(struct settle *s, struct change *applied, const char *why, uint64_t usec_each) {
        struct change *list = why ? applied : reversed(applied);

        while (list) {
                struct change *change = list;
                list = change->next;
                charge(s->node, change->uid, change->usec + usec_each);
                if (why)
                        change->undo(change, why);
                else
                        change->keep(change);
        }
}

/* ---- while another program has state.db locked ---- */

static void refuse_until(struct settle *s, uint64_t since, const char *why) {
        while (s->first && s->first->waited <= since) {
                struct change *change = take_first(s);
                change->undo(change, why);
        }
}

static void tell_lock(struct settle *s, const char *why) {
        struct node *m = s->node;

        if (!s->busy_told)
                log_error("%s; writes wait for it", why);
        s->busy_told = true;
        if (store_pending(m->store))
                (void) snprintf(m->storage_error, sizeof(m->storage_error), "%.250s", why);
}

/* Nothing was applied. */
static void wait_for_lock(struct settle *s, const char *why) {
        uint64_t now = loop_boottime();

        if (s->busy_since == 0)
                s->busy_since = now;
        if (now >= SETTLE_BUSY_USEC)
                refuse_until(s, now - SETTLE_BUSY_USEC, why);
        if (now - s->busy_since >= LOCK_QUIET_USEC)
                tell_lock(s, why);
        if (s->first || store_pending(s->node->store)) {
                uint64_t most = s->first ? LOCK_MAX_USEC : LOCK_ALONE_MAX_USEC;
                s->busy_pause = MIN(MAX(s->busy_pause * 2, (uint64_t) LOCK_MIN_USEC), most);
                loop_after(s->node->loop, &s->retry, s->busy_pause, on_settle, s);
        } else {
                forget_lock(s);
        }
}

bool settle_has_room(const struct settle *s, uid_t uid, size_t size) {
        size_t all = size, of_uid = size;

        if (s->busy_since == 0 && !s->held)
                return true;
        const struct change *lists[] = { s->first, s->held };
        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                for (const struct change *change = lists[i]; change; change = change->next) {
                        all += change->size;
                        of_uid += change->uid == uid ? change->size : 0;
                }
        return all <= BERTD_REQUESTS_MAX && of_uid <= BERTD_REQUESTS_OF_UID_MAX;
}

bool settle_now(struct settle *s) {
        struct node *m = s->node;
        struct error error = {};
        unsigned n = 0;

        /* Any other failure shows in the flush below. */
        if ((s->first || store_pending(m->store)) && store_begin(m->store, &error) == -EBUSY) {
                wait_for_lock(s, error.text);
                schedule_check_drained(m);
                return false;
        }
        error = (struct error) {};
        uint64_t noted = store_noted(m->store);
        struct change *applied = apply_all(s, &n);
        uint64_t begin = loop_boottime();
        bool changed = store_pending(m->store);
        int r = store_flush(m->store, &error);
        uint64_t usec_each = n > 0 ? (loop_boottime() - begin) / n : 0;
        if (r >= 0) {
                note_success(s);
                tell_all(m);
                conclude(s, applied, NULL, usec_each);
                store_drop_removed(m->store);
                if (changed)
                        tell_change(m);
        } else {
                store_forget_notes(m->store, store_noted(m->store) - noted);
                conclude(s, applied, error.text, usec_each);
                store_undone(m->store);
                note_failure(s, error.text);
        }
        schedule_check_drained(m);
        return r >= 0;
}

void settle_add(struct settle *s, struct change *change) {
        change->waited = loop_boottime();
        append(s, change);
        if (s->waiting >= WAITING_MAX && s->busy_since == 0)
                (void) settle_now(s);
        else
                node_commit_soon(s->node);
}

/* ---- the end ---- */

static void log_not_kept(const struct node *m, const char *why) {
        for (size_t i = 0; i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                if (job->dirty)
                        log_error("job %" PRIu64 ": state %s could not be saved: %s", job->id,
                                  job_state_name(job->state), why);
        }
}

/* The loop has ended: this may wait for a program that has state.db locked. */
static bool settle_last(struct settle *s) {
        uint64_t end = loop_boottime() + SETTLE_BUSY_USEC;
        ask_held(s, UINT64_MAX);
        bool kept = settle_now(s);
        while (s->first || (s->busy_since > 0 && loop_boottime() < end)) {
                if (s->busy_since > 0)
                        loop_sleep(LAST_PAUSE_USEC);
                kept = settle_now(s);
        }
        /* The effects of the commit have marked jobs again. */
        return kept && store_pending(s->node->store) ? settle_now(s) : kept;
}

void settle_free(struct settle *s) {
        if (!s)
                return;
        bool kept = settle_last(s);
        if (!kept)
                log_not_kept(s->node, s->node->storage_error);
        s->node->commit = source_free(s->node->commit);
        timer_disarm(&s->retry);
        timer_disarm(&s->held_timer);
        free(s);
}
