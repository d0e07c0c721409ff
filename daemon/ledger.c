/* See ledger.h. Owns nothing. Invariant: a row goes from deleted back to good only where its file is there again. */
#include "daemon/ledger.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"

#define FOLDER_ENTRIES_MAX 20000

static bool is_file(int dirfd, const char *path, struct stat *st) {
        return fstatat(dirfd, path, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode) && st->st_size > 0;
}

/* "step-000012000.ckpt", exactly as the trainer writes it. */
static bool parse_name(const char *name, uint64_t *ret_step) {
        char digits[24], again[64];
        size_t n = strlen(name);

        if (n < 5 + 1 + 5 || n > 5 + 20 + 5)
                return false;
        (void) snprintf(digits, sizeof(digits), "%.*s", (int) (n - 10), name + 5);
        if (parse_u64(digits, 1, INT64_MAX, ret_step) < 0)
                return false;
        (void) snprintf(again, sizeof(again), "step-%09" PRIu64 ".ckpt", *ret_step);
        return strcmp(name, again) == 0;
}

bool ledger_is_there(const struct checkpoint *c) {
        struct stat st;

        return is_file(AT_FDCWD, c->path, &st);
}

bool ledger_note_deleted(struct job *job) {
        bool changed = false;

        for (size_t i = 0; i < job->n_ledger; i++) {
                struct checkpoint *c = &job->ledger[i];
                if (c->state != CHECKPOINT_GOOD || ledger_is_there(c))
                        continue;
                c->state = CHECKPOINT_DELETED;
                c->dirty = changed = true;
        }
        return changed;
}

static bool take_up(struct job *job, const char *folder, const char *name, uint64_t step, const struct stat *st) {
        const struct checkpoint *known = job_checkpoint(job, step);
        cleanup_free char *path = format_string("%s/%s", folder, name);

        if (!path || (known && known->state != CHECKPOINT_DELETED) || (job->resume_abandon && step > job->resume_from))
                return false;
        struct checkpoint row = { .step = step,
                                  .size = (uint64_t) st->st_size,
                                  .state = CHECKPOINT_GOOD,
                                  .attempt = job->attempt.number,
                                  .created = (uint64_t) st->st_mtim.tv_sec * USEC_PER_SEC,
                                  .path = path,
                                  .dirty = true };
        return job_checkpoint_add(job, &row) == 0;
}

bool ledger_refresh(struct job *job, const char *run_dir) {
        bool changed = ledger_note_deleted(job);
        size_t seen = 0;
        cleanup_free char *path = format_string("%s/checkpoints", run_dir);
        int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
        cleanup_closedir DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;

        if (fd >= 0 && !folder)
                (void) close(fd);
        for (struct dirent *entry; folder && seen++ < FOLDER_ENTRIES_MAX && (entry = readdir(folder));) {
                struct stat st;
                uint64_t step;
                if (parse_name(entry->d_name, &step) && is_file(dirfd(folder), entry->d_name, &st))
                        changed |= take_up(job, path, entry->d_name, step, &st);
        }
        return changed;
}

struct checkpoint *ledger_choose(struct job *job) {
        for (size_t i = job->n_ledger; i-- > 0;) {
                struct checkpoint *c = &job->ledger[i];
                if (c->state == CHECKPOINT_GOOD && !(job->resume_abandon && c->step > job->resume_from))
                        return c;
        }
        return NULL;
}

size_t ledger_good_steps(const struct job *job, uint64_t *steps, size_t max) {
        size_t n = 0;

        for (size_t i = job->n_ledger; i-- > 0 && n < max;)
                if (job->ledger[i].state == CHECKPOINT_GOOD)
                        steps[n++] = job->ledger[i].step;
        return n;
}

/* The state folder's own name does not matter, it may have been moved: what is taken for the job's by mistake is kept. */
bool ledger_is_below_job(const struct job *job) {
        char folder[32];

        (void) snprintf(folder, sizeof(folder), "/jobs/%" PRIu64 "/", job->id);
        for (size_t i = 0; i < job->n_ledger; i++)
                if (job->ledger[i].state == CHECKPOINT_GOOD && strstr(job->ledger[i].path, folder))
                        return true;
        return false;
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
