/* See ledger.h. Owns nothing. Invariant: a file never makes a demoted or abandoned row good again. */
#include "daemon/rules/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bertd/job.h"
#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/file.h"

#define PATH_BYTES_MAX 4096

char *ledger_path(const char *run_dir, uint64_t step) {
        return format_string("%s/checkpoints/" CHECKPOINT_NAME, run_dir, step);
}

bool ledger_may_hold(const struct job *job, const char *run_dir, const char *path) {
        if (strlen(path) >= PATH_BYTES_MAX)
                return false;
        for (const unsigned char *p = (const unsigned char *) path; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        return false;
        return path_is_below(path, run_dir) || (job->kind == JOB_COMMAND && path_is_below(path, job->cwd));
}

static bool mark_deleted(struct checkpoint *c) {
        c->state = CHECKPOINT_DELETED;
        return c->dirty = true;
}

static bool take_gone(struct job *job, uint64_t step) {
        struct checkpoint *c = job_checkpoint(job, step);

        if (!c || !checkpoint_is_usable(c))
                return false;
        return mark_deleted(c);
}

/* The file of a deleted row is back: keeps the attempts that wrote and used it. */
static bool take_back(struct checkpoint *c, uint64_t size) {
        c->size = size;
        c->state = CHECKPOINT_GOOD;
        return c->dirty = true;
}

static bool take_found(struct job *job, const char *run_dir, uint64_t step, uint64_t size, uint64_t created) {
        struct checkpoint *known = job_checkpoint(job, step);

        if (step == 0 || step > INT64_MAX || size == 0 || size > INT64_MAX || created > INT64_MAX)
                return false;
        if ((known && known->state != CHECKPOINT_DELETED) || (job->resume_abandon && step > job->resume_from))
                return false;
        cleanup_free char *path = ledger_path(run_dir, step);
        if (known && path && strcmp(known->path, path) == 0)
                return take_back(known, size);
        struct checkpoint row = { .step = step,
                                  .size = size,
                                  .state = CHECKPOINT_GOOD,
                                  .attempt = job->attempt.number,
                                  .created = created,
                                  .path = path,
                                  .dirty = true };
        return path && job_checkpoint_add(job, &row) == 0;
}

bool ledger_take(struct job *job, const char *run_dir, const struct ledger_news *news) {
        bool changed = false;

        for (size_t i = 0; i < news->n_gone; i++)
                changed |= take_gone(job, news->gone[i]);
        for (size_t i = 0; i + 2 < news->n_found; i += 3)
                changed |= take_found(job, run_dir, news->found[i], news->found[i + 1], news->found[i + 2]);
        return changed;
}

void ledger_overwritten(struct job *job, const struct checkpoint *by) {
        for (size_t i = 0; i < job->n_ledger; i++) {
                struct checkpoint *c = &job->ledger[i];
                if (c->step != by->step && c->state != CHECKPOINT_DELETED && strcmp(c->path, by->path) == 0)
                        (void) mark_deleted(c);
        }
}

void ledger_abandon_newer(struct job *job, uint64_t step) {
        for (size_t i = 0; i < job->n_ledger; i++) {
                struct checkpoint *c = &job->ledger[i];
                if (c->step <= step || c->state == CHECKPOINT_DELETED)
                        continue;
                c->state = CHECKPOINT_ABANDONED;
                c->dirty = true;
        }
}

void ledger_rolled_back(struct job *job, const struct checkpoint *saved, uint64_t at) {
        const struct checkpoint *newest = job_newest_good(job);

        if (saved->state == CHECKPOINT_GOOD && newest && newest->step > MAX(saved->step, at))
                ledger_abandon_newer(job, saved->step);
}

struct checkpoint *ledger_choose(struct job *job) {
        return job_newest_until(job, job->resume_abandon ? job->resume_from : UINT64_MAX);
}

static size_t steps_of(const struct job *job, enum checkpoint_state state, uint64_t *steps, size_t max) {
        size_t n = 0;

        for (size_t i = job->n_ledger; i-- > 0 && n < max;)
                if (job->ledger[i].state == state)
                        steps[n++] = job->ledger[i].step;
        return n;
}

size_t ledger_good_steps(const struct job *job, uint64_t *steps, size_t max) {
        size_t n = steps_of(job, CHECKPOINT_GOOD, steps, max);

        return n > 0 ? n : steps_of(job, CHECKPOINT_UNCONFIRMED, steps, max);
}

/* Ignores the state folder's own name, because it may have been moved; a false match is only kept too long. */
bool ledger_is_below_job(const struct job *job) {
        char folder[32];

        (void) snprintf(folder, sizeof(folder), "/jobs/%" PRIu64 "/", job->id);
        for (size_t i = 0; i < job->n_ledger; i++)
                if (checkpoint_is_usable(&job->ledger[i]) && strstr(job->ledger[i].path, folder))
                        return true;
        return false;
}
