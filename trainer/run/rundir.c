/*
 * See rundir.h. Owns the lock's descriptor. Invariants: only names of the pattern step-N.ckpt are ever touched; the
 * newest checkpoint is never removed; nothing else in the process opens .lock, since closing it would drop the fcntl
 * lock.
 */
#include "trainer/run/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/array.h"
#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

#define CHECKPOINTS_MAX 1000000u

struct rundir {
        char *path, *checkpoints;
        int lock;
};

static int take_lock(struct rundir *rundir, struct error *error) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET }, holder = lock;
        cleanup_free char *path = format_string("%s/.lock", rundir->path);
        if (!path)
                return error_errno(error, ENOMEM, "%s", rundir->path);

        rundir->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (rundir->lock < 0)
                return error_output(error, errno, path);
        if (fcntl(rundir->lock, F_SETLK, &lock) == 0)
                return 0;
        if (errno != EACCES && errno != EAGAIN)
                return error_errno(error, errno, "%s", path);
        if (fcntl(rundir->lock, F_GETLK, &holder) < 0 || holder.l_type == F_UNLCK)
                holder.l_pid = 0;
        return error_set(error, EBUSY, "%s: another trainer (pid %d) uses this run folder", rundir->path,
                         (int) holder.l_pid);
}

static int remove_leftovers(const struct rundir *rundir, struct error *error) {
        cleanup_closedir DIR *folder = opendir(rundir->checkpoints);
        if (!folder)
                return error_errno(error, errno, "%s", rundir->checkpoints);
        for (struct dirent *entry; (entry = readdir(folder));) {
                if (strncmp(entry->d_name, "step-", 5) == 0 && text_ends_with(entry->d_name, ".ckpt.tmp"))
                        (void) unlinkat(dirfd(folder), entry->d_name, 0);
        }
        return 0;
}

int rundir_open(const char *path, struct rundir **ret, struct error *error) {
        struct rundir *rundir = calloc(1, sizeof(*rundir));
        if (!rundir)
                return error_errno(error, ENOMEM, "%s", path);

        rundir->lock = -1;
        rundir->path = strdup(path);
        rundir->checkpoints = format_string("%s/checkpoints", path);
        int r = rundir->path && rundir->checkpoints ? 0 : error_errno(error, ENOMEM, "%s", path);
        if (r >= 0)
                r = mkdir_parents(rundir->checkpoints, 0700, error);
        if (r >= 0)
                r = take_lock(rundir, error);
        if (r >= 0)
                r = remove_leftovers(rundir, error);
        if (r < 0) {
                rundir_close(rundir);
                return r;
        }
        *ret = rundir;
        return 0;
}

void rundir_close(struct rundir *rundir) {
        if (!rundir)
                return;
        if (rundir->lock >= 0)
                (void) close(rundir->lock);
        free(rundir->checkpoints);
        free(rundir->path);
        free(rundir);
}

char *rundir_checkpoint_path(const struct rundir *rundir, uint64_t step) {
        return format_string("%s/" CHECKPOINT_NAME, rundir->checkpoints, step);
}

static int compare_steps(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
        return x < y ? -1 : x > y;
}

static int list(const char *checkpoints, uint64_t **ret_steps, size_t *ret_n, struct error *error) {
        cleanup_closedir DIR *folder = opendir(checkpoints);
        cleanup_free uint64_t *steps = NULL;
        size_t n = 0, room = 0;

        if (!folder)
                return error_errno(error, errno, "%s", checkpoints);
        for (struct dirent *entry; (entry = readdir(folder));) {
                uint64_t step;
                if (!checkpoint_name_read(entry->d_name, &step))
                        continue;
                if (n == CHECKPOINTS_MAX || array_reserve(&steps, &room, n + 1, sizeof(*steps)) < 0)
                        return error_errno(error, ENOMEM, "%s", checkpoints);
                steps[n++] = step;
        }
        if (n > 0)
                qsort(steps, n, sizeof(*steps), compare_steps);
        *ret_steps = steal_pointer(&steps);
        *ret_n = n;
        return 0;
}

int rundir_list(const struct rundir *rundir, uint64_t **ret_steps, size_t *ret_n, struct error *error) {
        return list(rundir->checkpoints, ret_steps, ret_n, error);
}

int rundir_peek(const char *run_dir, uint64_t **ret_steps, size_t *ret_n) {
        cleanup_free char *checkpoints = format_string("%s/checkpoints", run_dir);

        return checkpoints ? list(checkpoints, ret_steps, ret_n, NULL) : -ENOMEM;
}

char *rundir_peek_path(const char *run_dir, uint64_t step) {
        return format_string("%s/checkpoints/" CHECKPOINT_NAME, run_dir, step);
}

int rundir_retain(const struct rundir *rundir, uint32_t keep, uint64_t keep_every, uint64_t best, struct error *error) {
        cleanup_free uint64_t *steps = NULL;
        size_t n = 0;

        int r = rundir_list(rundir, &steps, &n, error);
        if (r < 0)
                return r;
        keep = MAX(keep, 1u);
        for (size_t i = 0; i + keep < n; i++) {
                if ((keep_every > 0 && steps[i] % keep_every == 0) || steps[i] == best)
                        continue;
                cleanup_free char *path = rundir_checkpoint_path(rundir, steps[i]);
                if (!path || (unlink(path) < 0 && errno != ENOENT))
                        return error_errno(error, path ? errno : ENOMEM, "%s", path ? path : rundir->checkpoints);
        }
        return 0;
}

static int abandon(const struct rundir *rundir, const char *folder, uint64_t step, struct error *error) {
        cleanup_free char *from = rundir_checkpoint_path(rundir, step);
        cleanup_free char *to = format_string("%s/" CHECKPOINT_NAME, folder, step);
        if (!from || !to)
                return error_errno(error, ENOMEM, "%s", folder);
        return rename(from, to) < 0 ? error_output(error, errno, from) : 0;
}

int rundir_abandon_newer(const struct rundir *rundir, uint64_t step, struct error *error) {
        cleanup_free char *folder = format_string("%s/abandoned", rundir->checkpoints);
        cleanup_free uint64_t *steps = NULL;
        size_t n = 0;

        if (!folder)
                return error_errno(error, ENOMEM, "%s", rundir->checkpoints);
        int r = rundir_list(rundir, &steps, &n, error);
        if (r < 0 || n == 0 || steps[n - 1] <= step)
                return r;
        r = mkdir_parents(folder, 0700, error);
        for (size_t i = 0; r >= 0 && i < n; i++)
                if (steps[i] > step)
                        r = abandon(rundir, folder, steps[i], error);
        return r;
}
