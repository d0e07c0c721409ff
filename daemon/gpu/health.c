/* See health.h. Owns nothing. */
#include "daemon/gpu/health.h"

#include <stdio.h>

#include "common/cleanup.h"

/* The process to name: preferably one of a job. */
static const struct nvml_process *culprit(const struct nvml_gpu *gpu) {
        uint32_t n = MIN(gpu->n_processes, (uint32_t) NVML_PROCESSES_MAX);

        for (uint32_t i = 0; i < n; i++)
                if (gpu->processes[i].job > 0)
                        return &gpu->processes[i];
        return n > 0 ? &gpu->processes[0] : NULL;
}

static void describe(struct gpu_health *health, const struct nvml_gpu *gpu, const struct nvml_process *p) {
        char who[96] = "", more[32] = "";
        double gib = (double) (p && p->used ? p->used : gpu->used) / (double) (1 << 30);
        uint64_t job = p && p->job ? p->job : health->job;

        if (p)
                (void) snprintf(who, sizeof(who), "pid %lld%s%s%s", (long long) p->pid, p->user[0] ? " (user " : "",
                                p->user, p->user[0] ? ")" : "");
        if (gpu->n_processes > 1)
                (void) snprintf(more, sizeof(more), " and %u more", gpu->n_processes - 1);
        if (health->state == GPU_QUARANTINED)
                (void) snprintf(health->note, GPU_NOTE_MAX, "quarantined: job %llu left %s%s%s%.1f GiB",
                                (unsigned long long) job, who, more, who[0] ? ", " : "", gib);
        else
                (void) snprintf(health->note, GPU_NOTE_MAX, "in use outside bertd: %s%s%s%.1f GiB%s", who, more,
                                who[0] ? ", " : "", gib, who[0] ? "" : ", owner unknown");
}

void gpu_judge(struct gpu_health *health, const struct nvml_gpu *gpu) {
        if (!gpu) {
                gpu_unknown(health, "not listed by the driver");
                return;
        }
        const struct nvml_process *p = culprit(gpu);
        /* Memory in use at first sight may be somebody's leftover: more than 1/16 of the total is never a baseline. */
        uint64_t baseline = MIN(health->baseline, gpu->total / 16);
        if (!p)
                baseline = health->baseline = MIN(baseline, gpu->used);
        if (!p && gpu->used <= baseline + GPU_BASELINE_TOLERANCE) {
                health->state = GPU_FREE;
                health->released = false;
                health->note[0] = '\0';
                return;
        }
        bool ours = p && !p->hidden ? p->job > 0 : health->released;
        health->state = ours ? GPU_QUARANTINED : GPU_BUSY;
        describe(health, gpu, p);
}

void gpu_unknown(struct gpu_health *health, const char *why) {
        health->state = GPU_UNKNOWN;
        (void) snprintf(health->note, GPU_NOTE_MAX, "unknown: %s", why);
}

void gpu_withhold(struct gpu_health *health, const char *why) {
        health->state = GPU_BUSY;
        (void) snprintf(health->note, GPU_NOTE_MAX, "%s", why);
}
