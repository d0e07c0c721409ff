/* Whether the run fits its GPU, before anything is allocated, and what would fit; see run.h. Owns nothing. */
#include <inttypes.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/model/room.h"
#include "trainer/ops/planned.h"
#include "trainer/run/run.h"

#define MIB (UINT64_C(1) << 20)

/* The run with another micro-batch in one stage, and perhaps with recomputation. */
struct question {
        const struct run *run;
        uint32_t stage;
        bool recompute;
};

static uint64_t bytes_of(const struct run *run, const struct model_limits *limits) {
        struct model_memory memory;

        if (model_plan_memory(&run->job->config, run->ops, limits, &memory, NULL) < 0)
                return UINT64_MAX;
        return model_memory_sum(&memory) + run->ops->later_bytes(run->ranks.n > 1);
}

static uint64_t bytes_with(const void *context, uint64_t micro_batch) {
        const struct question *q = context;
        struct model_limits limits = run_model_limits_with(q->run, q->stage, micro_batch);

        limits.recompute = limits.recompute || q->recompute;
        return bytes_of(q->run, &limits);
}

/* The one with the most tokens in a micro-batch. */
static uint32_t largest_stage(const struct run *run) {
        uint32_t largest = 0;
        uint64_t most = 0;

        for (uint32_t s = 0; s < run->job->n_stages; s++) {
                const struct run_stage *stage = &run->job->stages[s];
                uint64_t tokens = stage->spec->train.micro_batch * stage->source[PART_TRAIN].max_length;
                if (tokens > most)
                        most = tokens, largest = s;
        }
        return largest;
}

/* "at most 12 fit, or 31 with train.recompute_activations: true" */
static void write_cure(const struct run *run, uint32_t stage, uint64_t room, char *text, size_t size) {
        const struct spec_train *t = &run->job->stages[stage].spec->train;
        struct question plain = { run, stage, false }, again = { run, stage, true };
        uint64_t fit = room_largest(bytes_with, &plain, t->micro_batch, room),
                 fit_again = room_largest(bytes_with, &again, t->micro_batch, room);
        int n = 0;

        if (fit_again == 0)
                (void) snprintf(text, size, "even 1 does not fit%s: use a GPU with more memory, or a smaller model",
                                t->recompute_activations ? "" : " with train.recompute_activations: true");
        else if (fit > 0)
                n = snprintf(text, size, "at most %" PRIu64 " %s", fit, fit == 1 ? "fits" : "fit");
        if (fit_again > fit)
                (void) snprintf(text + n, size - (size_t) n, "%s%" PRIu64 "%s with train.recompute_activations: true",
                                fit > 0 ? ", or " : "at most ", fit_again,
                                fit > 0          ? ""
                                : fit_again == 1 ? " fits"
                                                 : " fit");
}

static int refuse(const struct run *run, uint64_t need, size_t unused, size_t all, struct error *error) {
        uint32_t stage = largest_stage(run);
        const char *gpu = run->ops->variant();
        char cure[256] = "", name[32] = "";
        int width = (int) MIN(strcspn(gpu, "/"), (size_t) 64);
        bool others = need <= ops_planned_room(all);

        write_cure(run, stage, unused, cure, sizeof(cure));
        if (run->job->n_stages > 1)
                (void) snprintf(name, sizeof(name), "stage %u: ", stage);
        return error_input(error, others ? BERTD_EXIT_OSERR : BERTD_EXIT_CONFIG,
                           "%s: %strain.micro_batch: %" PRIu64 ": needs %" PRIu64
                           " MiB of GPU memory, but %zu of %zu MiB are free (%.*s)%s; %s",
                           run->options->spec_path, name, run->job->stages[stage].spec->train.micro_batch,
                           (need + MIB - 1) / MIB, unused >> 20, all >> 20, width, gpu,
                           others ? ": other processes use it, nvidia-smi names them" : "", cure);
}

int run_check_memory(const struct run *run, struct error *error) {
        struct model_limits limits = run_model_limits(run);
        size_t unused, all;

        if (!run->ops->memory || !run->ops->memory(&unused, &all))
                return 0;
        uint64_t need = bytes_of(run, &limits);
        return need <= unused || need == UINT64_MAX ? 0 : refuse(run, need, unused, all, error);
}
