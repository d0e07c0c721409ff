/* See past.h. Owns nothing. */
#include "daemon/rules/past.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/rules/ledger.h"
#include "daemon/rules/states.h"

static const struct {
        const char *name;
        enum checkpoint_state state;
} states[] = { { "good", CHECKPOINT_GOOD },
               { "demoted", CHECKPOINT_DEMOTED },
               { "unconfirmed", CHECKPOINT_UNCONFIRMED } };

int past_state_from_name(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (strcmp(states[i].name, name) == 0)
                        return (int) states[i].state;
        return -EINVAL;
}

static bool may_have(const struct submission *s, const char *path) {
        for (const unsigned char *p = (const unsigned char *) path; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        return false;
        return !path[0] || path_is_below(path, s->run_dir) ||
               (s->kind == JOB_COMMAND && s->cwd && path_is_below(path, s->cwd));
}

int past_check(const struct submission *s, struct error *error) {
        size_t bytes = 0;

        if (s->n_past > 0 && !s->run_dir)
                return error_set(error, EINVAL, "past_checkpoints: needs run_dir");
        for (uint32_t i = 0; i < s->n_past; i++) {
                const struct past_checkpoint *c = &s->past_checkpoints[i];
                bytes += strlen(c->path);
                if (c->step == 0 || c->step > BERTD_STEPS_MAX || c->size > BERTD_SAMPLES_MAX || c->created > INT64_MAX)
                        return error_set(error, EINVAL, "past_checkpoints: step %" PRIu64 ": out of range", c->step);
                if (strlen(c->path) > BERTD_PATH_MAX || !may_have(s, c->path))
                        return error_set(error, EINVAL,
                                         "past_checkpoints: step %" PRIu64 ": its path is not below run_dir", c->step);
        }
        return bytes <= BERTD_PAST_PATHS_MAX ? 0
                                             : error_set(error, EINVAL, "past_checkpoints: paths of more than %u bytes",
                                                         BERTD_PAST_PATHS_MAX);
}

static void add_row(struct job *job, const struct past_checkpoint *c) {
        cleanup_free char *usual = c->path[0] ? NULL : ledger_path(job->run_dir, c->step);
        struct checkpoint row = { .step = c->step,
                                  .size = c->size,
                                  .created = c->created,
                                  .state = c->state,
                                  .path = c->path[0] ? c->path : usual,
                                  .dirty = true };

        if (row.path)
                (void) job_checkpoint_add(job, &row);
}

/* A budget that is used up begins again, as with `resume`. */
static uint32_t deaths_of(const struct submission *s) {
        return s->past_deaths >= s->max_without_progress ? 0 : s->past_deaths;
}

void past_take(struct job *job, const struct submission *s) {
        job_set_counters(job, (struct policy_counters) { .costing = deaths_of(s), .free = s->past_free_deaths });
        job->run_steps = s->past_run_steps;
        job->run_usec = s->past_run_usec;
        job->active_usec = s->past_active_usec;
        job_set_lost(job, s->past_lost);
        for (int i = 0; job->lost_usec && i < EXIT_CLASS_MAX; i++)
                job->lost_usec[i] = MIN(job->lost_usec[i], BERTD_SECONDS_MAX * USEC_PER_SEC);
        for (uint32_t i = 0; i < s->n_past; i++)
                add_row(job, &s->past_checkpoints[i]);
}
