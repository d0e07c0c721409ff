/*
 * See gang.h: the start, until mpirun runs. All hosts are called at the same time; their leases are taken one after the
 * other, sorted by name, so that of two jobs that want the same hosts one gets them all. A host that fails is replaced
 * by the next spare. Owns nothing.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/gang/gang.h"

#define BUSY_LIMIT_USEC (5 * USEC_PER_SEC)

static unsigned count(const struct gang *gang, unsigned states) {
        unsigned n = 0;

        for (size_t i = 0; i < gang->n_hosts; i++)
                n += (states & 1u << gang->hosts[i].state) != 0;
        return n;
}

static struct gang_host *next_spare(struct gang *gang) {
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_IDLE)
                        return &gang->hosts[i];
        return NULL;
}

/* The first by name that can be taken. */
static struct gang_host *next_to_take(struct gang *gang) {
        struct gang_host *next = NULL;

        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_THERE && (!next || strcasecmp(gang->hosts[i].name, next->name) < 0))
                        next = &gang->hosts[i];
        return next;
}

static void say_status(struct gang *gang) {
        char names[160] = "";
        size_t n = 0;

        for (size_t i = 0; i < gang->n_hosts; i++)
                if ((gang->hosts[i].state == HOST_CALLED || gang->hosts[i].state == HOST_TAKING) &&
                    n + strlen(gang->hosts[i].name) + 3 < sizeof(names))
                        n += (size_t) snprintf(names + n, sizeof(names) - n, "%s%s", n > 0 ? ", " : "",
                                               gang->hosts[i].name);
        if (n > 0)
                gang_status(gang, "starting: waits for the lease of %s", names);
}

static void run(struct gang *gang) {
        struct error error = {};

        gang->phase = GANG_RUNNING;
        gang->first_failure = (struct gang_verdict) {};
        shim_link_hosts(gang);
        gang_status(gang, "starting");
        if (mpirun_start(gang, &error) < 0) {
                struct gang_verdict v = gang_verdict(EXIT_CLASS_LAUNCH, NULL, "%s", error.text);
                gang_end(gang, &v);
        }
}

/* Two jobs that want the same hosts take them in the same order. So of two that hold a part, only one waits for a host
 * that comes after all that it holds, this one included; the other gives its own back. */
uint64_t start_patience(const struct gang *gang, const struct gang_host *host) {
        if (strcasecmp(gang->plan.head, host->name) > 0)
                return 0;
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_HELD && strcasecmp(gang->hosts[i].name, host->name) > 0)
                        return 0;
        return BUSY_LIMIT_USEC;
}

/* False: one that has answered cannot be used, and all was done that follows from it. */
static bool are_fit(struct gang *gang) {
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_THERE && !gang->hosts[i].judged && !host_is_fit(&gang->hosts[i]))
                        return false;
        return true;
}

/* Whether there are enough hosts, perhaps after calling spares. */
static bool has_enough(struct gang *gang) {
        const unsigned alive =
                1u << HOST_PAUSED | 1u << HOST_CALLED | 1u << HOST_THERE | 1u << HOST_TAKING | 1u << HOST_HELD;
        struct gang_host *spare;

        while (gang->phase != GANG_ENDING && count(gang, alive) < gang->n_first && (spare = next_spare(gang)))
                host_call(spare); /* which may fail at once, and call the next one */
        if (gang->phase == GANG_ENDING)
                return false;
        if (count(gang, alive) >= gang->n_first ||
            (gang->plan.shrink && gang->first_failure.exit_class == EXIT_CLASS_WAIT))
                return true;
        gang_end(gang, &gang->first_failure);
        return false;
}

void start_continue(struct gang *gang) {
        if (gang->phase > GANG_TAKING || !has_enough(gang) || gang->phase > GANG_TAKING)
                return;
        if (gang->self.state != HOST_CALLED && !are_fit(gang))
                return;
        if (gang->self.state != HOST_CALLED &&
            count(gang, 1u << HOST_PAUSED | 1u << HOST_CALLED | 1u << HOST_TAKING) == 0) {
                struct gang_host *next = next_to_take(gang);
                gang->phase = GANG_TAKING;
                if (!next) {
                        run(gang);
                        return;
                }
                host_take(next);
        }
        say_status(gang);
}

/* What does not pass by waiting counts more than what does; of a job that has run less, and not at all while other
 * hosts of it cool down. */
void start_failed(struct gang *gang, struct gang_host *host, const struct gang_verdict *verdict) {
        struct gang_verdict *first = &gang->first_failure;
        bool lasts = verdict->exit_class == EXIT_CLASS_USER_ERROR, lasted = first->exit_class == EXIT_CLASS_USER_ERROR;

        if (!first->set || (gang->plan.ran ? lasted && !lasts : lasts && !lasted))
                *first = *verdict;
        if (gang->plan.ran && gang->plan.cooling && first->exit_class == EXIT_CLASS_USER_ERROR)
                first->exit_class = EXIT_CLASS_WAIT;
        gang_note(gang, "%s", verdict->reason);
        start_continue(gang);
}
