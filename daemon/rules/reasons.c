/* See reasons.h. Owns nothing. */
#include "daemon/rules/reasons.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "common/clock.h"

static void slots_wanted(const struct queue_entry *e, const struct queue_free *free, char *buffer, size_t size) {
        (void) snprintf(buffer, size, "%" PRIu64 " slot%s (%" PRIu64 " of %" PRIu64 " free)", e->slots,
                        e->slots == 1 ? "" : "s", free->slots, free->slots_total);
}

static void gpus_wanted(const struct queue_entry *e, const struct queue_free *free, char *buffer, size_t size) {
        (void) snprintf(buffer, size, "%u GPU%s (%u of %u free)", e->gpus, e->gpus == 1 ? "" : "s", free->gpus,
                        free->gpus_total);
}

static void never(const struct queue_entry *e, const struct queue_free *free, char *buffer, size_t size) {
        if (e->slots > free->slots_total)
                (void) snprintf(buffer, size,
                                "needs %" PRIu64 " slots, this host has %" PRIu64 ": pause it and resume it with fewer",
                                e->slots, free->slots_total);
        else
                (void) snprintf(buffer, size, "needs %u GPU%s, this host has %u", e->gpus, e->gpus == 1 ? "" : "s",
                                free->gpus_total);
}

char *reason_of_waiting(const struct queue_entry *entry, struct queue_free free, char *buffer, size_t size) {
        char slots[80], gpus[80];

        slots_wanted(entry, &free, slots, sizeof(slots));
        gpus_wanted(entry, &free, gpus, sizeof(gpus));
        buffer[0] = '\0';
        switch (entry->wait) {
        case WAIT_SLOTS:
                (void) snprintf(buffer, size, "waits for %s", slots);
                break;
        case WAIT_GPUS:
                (void) snprintf(buffer, size, "waits for %s%s%s", gpus, entry->slots > free.slots ? " and " : "",
                                entry->slots > free.slots ? slots : "");
                break;
        case WAIT_BEHIND:
                (void) snprintf(buffer, size, "queued after job %" PRIu64 ", waits for %s", entry->behind, slots);
                break;
        case WAIT_BEHIND_GPUS:
                (void) snprintf(buffer, size, "queued after job %" PRIu64 ", waits for %s", entry->behind, gpus);
                break;
        case WAIT_FILES:
                (void) snprintf(buffer, size,
                                "waits for open files: bertd may open %" PRIu64
                                "; raise its hard limit (LimitNOFILE=, ulimit -Hn) and restart it",
                                free.files);
                break;
        case WAIT_NEVER:
                never(entry, &free, buffer, size);
                break;
        case WAIT_NONE:
                break;
        }
        return buffer;
}

static void budget_words(const struct policy_decision *d, const struct policy_config *config, char *buffer,
                         size_t size) {
        const char *key = config->reports ? "max_without_progress" : "--retries";

        if (config->max_without_progress == 0)
                (void) snprintf(buffer, size, "not retried (%s 0)", key);
        else
                (void) snprintf(buffer, size, "failed %u times%s (%s %u)", d->deaths,
                                config->reports ? " without a newer checkpoint" : "", key,
                                config->max_without_progress);
}

char *reason_of_decision(const struct policy_decision *d, const struct policy_config *config, char *buffer,
                         size_t size) {
        buffer[0] = '\0';
        switch (d->cause) {
        case CAUSE_UNUSABLE:
        case CAUSE_BEFORE_FIRST:
                (void) snprintf(buffer, size, "%s; falling back from checkpoint %" PRIu64 " to an older one",
                                d->cause == CAUSE_UNUSABLE ? "it cannot be used" : "failed twice before its first step",
                                d->demote_step);
                break;
        case CAUSE_UNUSABLE_LAST:
                (void) snprintf(buffer, size, "checkpoint %" PRIu64 " cannot be used and there is no older one",
                                d->step);
                break;
        case CAUSE_SAME_STEP:
                (void) snprintf(buffer, size,
                                "failed twice the same way at step %" PRIu64
                                ": likely the data or the code, not the hardware",
                                d->step);
                break;
        case CAUSE_NAN:
                (void) snprintf(buffer, size, "on_nan is stop");
                break;
        case CAUSE_ROLLBACK:
                (void) snprintf(buffer, size, "on_nan is rollback: restarting from step %" PRIu64, d->rollback_step);
                break;
        case CAUSE_BUDGET:
                budget_words(d, config, buffer, size);
                break;
        case CAUSE_MISSING:
                (void) snprintf(buffer, size, "the job has run before: waiting for it to reappear");
                break;
        default:
                break;
        }
        return buffer;
}

char *reason_of_delay(const struct policy_decision *decision, uint64_t start_usec, char *buffer, size_t size) {
        time_t minute = (time_t) ((start_usec + 59 * USEC_PER_SEC) / USEC_PER_SEC); /* not before it */
        struct tm tm = {};

        if (decision->hourly && localtime_r(&minute, &tm))
                (void) snprintf(buffer, size, "restarted %d times in the last hour; next start %02d:%02d",
                                POLICY_STARTS_MAX, tm.tm_hour, tm.tm_min);
        else
                (void) snprintf(buffer, size, "retrying in %.1f s",
                                (double) decision->delay_usec / (double) USEC_PER_SEC);
        return buffer;
}
