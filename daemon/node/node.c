/* See node.h. Invariant: slots_used and gpus_used are the sum over jobs that hold resources. */
#include "daemon/node/node.h"

#include "common/cleanup.h"
#include "daemon/gpu/watch.h"

void node_commit_soon(struct node *m) { source_soon(m->commit); }

void node_plan_soon(struct node *m) { source_soon(m->plan); }

static void tell_gpu_watch(struct node *m) {
        uint64_t holders[GPUS_MAX] = {};

        for (size_t i = 0; m->gpu_watch && i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                uint64_t mask =
                        state_holds_resources(job->state) ? gpus_mask(&m->options.gpus, job->attempt.gpus, NULL) : 0;
                for (uint32_t g = 0; mask >> g; g++)
                        if (mask & UINT64_C(1) << g)
                                holders[g] = job->id;
        }
        for (uint32_t g = 0; m->gpu_watch && g < m->options.gpus.n; g++)
                gpu_watch_holder(m->gpu_watch, g, holders[g]);
}

void node_account(struct node *m) {
        m->attempts = 0;
        m->slots_used = 0;
        m->gpus_used = 0;
        m->gpus_lost = 0;
        for (size_t i = 0; i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                uint32_t missing;
                if (!state_holds_resources(job->state))
                        continue;
                m->attempts++;
                m->slots_used += job_slots(job);
                m->gpus_used |= gpus_mask(&m->options.gpus, job->attempt.gpus, &missing);
                m->gpus_lost += missing;
        }
        tell_gpu_watch(m);
}

struct queue_free node_free_resources(const struct node *m) {
        uint64_t taken = m->gpus_used | gpu_watch_blocked(m->gpu_watch);
        uint32_t used = (uint32_t) __builtin_popcountll(taken), n = m->options.gpus.n;

        return (struct queue_free) { .slots = m->options.slots > m->slots_used ? m->options.slots - m->slots_used : 0,
                                     .slots_total = m->options.slots,
                                     .gpus = n > used ? n - used : 0,
                                     .gpus_total = n,
                                     .starts = m->files.attempts > m->attempts ? m->files.attempts - m->attempts : 0,
                                     .files = m->files.limit };
}
