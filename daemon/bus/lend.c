/*
 * See act.h: what other hosts ask for, and draining. Invariants: a lease takes only what is free and what no queued job
 * waits for; what was granted and does not run yet counts as taken.
 */
#include "daemon/bus/act.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/utf8.h"
#include "daemon/attempt/live.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/gpu/watch.h"
#include "daemon/plan/schedule.h"

#define HOLDERS_MAX 512 /* bytes of a list of jobs */
#define DRAIN_KEY "drain"

int act_may_lend(struct act *a) {
        const struct node *node = a->node;

        int r = act_may_submit(a);
        if (r < 0)
                return r;
        if (node->options.launcher != LAUNCHER_SYSTEMD)
                return act_refuse(a, BERTD_ERROR_LENDS_NOTHING, BERTD_LENDS_NOTHING);
        if (node->drain.since > 0)
                return act_refuse(a, BERTD_ERROR_DRAINED, "drained: %s", node->drain.reason);
        return 0;
}

/* ---- what is free ---- */

/* Granted in this turn or the one before it: the queue starts them first. */
static void take_granted(const struct node *node, struct queue_free *free) {
        for (size_t i = 0; i < store_count(node->store); i++) {
                const struct job *job = store_at(node->store, i);
                if (!job_is_lease(job) || job->state != JOB_QUEUED)
                        continue;
                free->slots -= MIN(free->slots, job_slots(job));
                free->gpus -= MIN(free->gpus, job->gpus);
                free->starts -= free->starts > 0;
        }
}

static void name_holder(const struct job *job, char *text, size_t size) {
        if (job_is_lease(job))
                (void) snprintf(text, size, "job %" PRIu64 " of %s, a lease of %.64s", job->id, job->user,
                                job->lease_of);
        else
                (void) snprintf(text, size, "job %" PRIu64 " of %s", job->id, job->user);
}

/* The first that holds some, and how many others do. */
static void name_holders(const struct node *node, bool gpus, char text[HOLDERS_MAX]) {
        unsigned others = 0;

        text[0] = '\0';
        for (size_t i = 0; i < store_count(node->store); i++) {
                const struct job *job = store_at(node->store, i);
                bool granted = job_is_lease(job) && job->state == JOB_QUEUED;
                if ((!state_holds_resources(job->state) && !granted) || (gpus && job->gpus == 0))
                        continue;
                if (text[0])
                        others++;
                else
                        name_holder(job, text, HOLDERS_MAX);
        }
        size_t n = strlen(text);
        if (others > 0)
                (void) snprintf(text + n, HOLDERS_MAX - n, " and %u other%s", others, others == 1 ? "" : "s");
}

/* A GPU that no job has is in use by another process, or not fit. */
static int refuse_gpus(struct act *a, const struct queue_free *free, uint32_t wanted) {
        const struct node *node = a->node;
        char holders[HOLDERS_MAX];

        name_holders(node, true, holders);
        for (uint32_t i = 0; !holders[0] && i < node->options.gpus.n; i++)
                if (gpu_watch_note(node->gpu_watch, i)[0])
                        (void) snprintf(holders, sizeof(holders), "GPU %u: %s", i, gpu_watch_note(node->gpu_watch, i));
        return act_refuse(a, BERTD_ERROR_BUSY, "%u of %u GPUs are free, %u are needed: %s", free->gpus,
                          free->gpus_total, wanted, holders);
}

static int refuse_slots(struct act *a, const struct queue_free *free, uint64_t wanted) {
        char holders[HOLDERS_MAX];

        name_holders(a->node, false, holders);
        if (free->slots == 0)
                return act_refuse(a, BERTD_ERROR_BUSY, "all %" PRIu64 " slots are busy: %s", free->slots_total,
                                  holders);
        return act_refuse(a, BERTD_ERROR_BUSY, "%" PRIu64 " of %" PRIu64 " slots are free, %" PRIu64 " are needed: %s",
                          free->slots, free->slots_total, wanted, holders);
}

/* 1: the GPUs' driver is being asked. */
static int check_free(struct act *a, const struct submission *s) {
        const struct node *node = a->node;
        struct queue_free free = node_free_resources(node);
        struct queue_entry entry = {
                .id = UINT64_MAX, .priority = INT32_MIN, .slots = (uint64_t) s->ranks * s->threads, .gpus = s->gpus
        };

        if (s->gpus > 0 && !gpu_watch_fresh(node->gpu_watch)) {
                if (!a->last)
                        return 1;
                return act_refuse(a, BERTD_ERROR_UNAVAILABLE, "the driver of the GPUs does not answer");
        }
        take_granted(node, &free);
        if (entry.slots > free.slots)
                return refuse_slots(a, &free, entry.slots);
        if (entry.gpus > free.gpus)
                return refuse_gpus(a, &free, entry.gpus);
        if (free.starts == 0)
                return act_refuse(a, BERTD_ERROR_BUSY, "bertd cannot open files for another job");
        if (queue_is_behind(&node->heads, &entry)) {
                const struct job *first = store_find(node->store, entry.behind);
                return act_refuse(a, BERTD_ERROR_BUSY, "job %" PRIu64 " of %s waits for its slots or GPUs",
                                  entry.behind, first ? first->user : "another user");
        }
        return 0;
}

int act_lend(struct act *a, const struct submission *submission, gid_t gid, const char *user) {
        struct error error = {};

        int r = act_may_lend(a);
        if (r >= 0)
                r = check_free(a, submission);
        if (r != 0)
                return r;
        r = store_insert(a->node->store, submission, a->uid, gid, user, a->node->options.launcher, &a->job, &error);
        if (r < 0)
                return act_refuse(a, r == -EDQUOT ? BERTD_ERROR_QUOTA : BERTD_ERROR_STORAGE, "%s", error.text);
        a->inserted = true;
        return 0;
}

/* ---- draining ---- */

static void ask_to_move(struct node *node) {
        for (size_t i = 0; i < store_count(node->store); i++) {
                struct job *job = store_at(node->store, i);
                if (job_is_lease(job))
                        attempt_move(job, node->drain.reason);
        }
}

/* Without a reason that of before stays. */
static const char *reason_of(const struct node_drain *drain, const char *given) {
        return given[0] ? given : drain->since > 0 ? drain->reason : "drained by the administrator";
}

int act_drain(struct act *a, const char *reason, bool move) {
        struct error error = {};
        char value[BERTD_DRAIN_REASON_MAX + 64];

        if (!text_is_line(reason) || strlen(reason) > BERTD_DRAIN_REASON_MAX)
                return act_refuse(a, BERTD_ERROR_INVALID_SPEC, "reason: expected one line of at most %d bytes",
                                  BERTD_DRAIN_REASON_MAX);
        (void) snprintf(value, sizeof(value), "%" PRIu64 " %d %s", loop_realtime(), move,
                        reason_of(&a->node->drain, reason));
        int r = store_set_setting(a->node->store, DRAIN_KEY, value, &error);
        return r < 0 ? act_refuse(a, BERTD_ERROR_STORAGE, "%s: nothing was changed", error.text) : 0;
}

void act_drained(struct act *a, const char *reason, bool move) {
        struct node_drain *drain = &a->node->drain;

        drain->move = move;
        if (reason[0] || drain->since == 0)
                (void) snprintf(drain->reason, sizeof(drain->reason), "%s", reason_of(drain, reason));
        drain->since = loop_realtime();
        log_info("drained by uid %u: %s", (unsigned) a->uid, drain->reason);
        if (move)
                ask_to_move(a->node);
        node_plan_soon(a->node);
}

int act_undrain(struct act *a) {
        struct error error = {};

        int r = store_set_setting(a->node->store, DRAIN_KEY, NULL, &error);
        return r < 0 ? act_refuse(a, BERTD_ERROR_STORAGE, "%s: nothing was changed", error.text) : 0;
}

void act_load_drain(struct node *node) {
        struct error error = {};
        cleanup_free char *value = NULL;
        int move = 0, at = 0;
        uint64_t since;

        if (store_load_setting(node->store, DRAIN_KEY, &value, &error) < 0)
                log_error("state.db: %s", error.text);
        if (!value || sscanf(value, "%" SCNu64 " %d %n", &since, &move, &at) != 2 || at == 0)
                return;
        node->drain = (struct node_drain) { .since = since, .move = move != 0 };
        (void) snprintf(node->drain.reason, sizeof(node->drain.reason), "%s", value + at);
        log_info("still drained: %s", node->drain.reason);
}

void act_undrained(struct act *a) {
        if (a->node->drain.since > 0)
                log_info("no longer drained, by uid %u", (unsigned) a->uid);
        a->node->drain = (struct node_drain) {};
        node_plan_soon(a->node);
}
