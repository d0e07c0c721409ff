/* See shim.h: whether a checkpoint is being written. Owns nothing. Invariant: it checks a bounded number of files. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/copies.h"
#include "common/file.h"
#include "common/parse.h"
#include "daemon/shim/shim.h"

#define WRITING_FILES_MAX 1024
#define WRITING_DEPTH 2

struct marks {
        const struct shim *shim;
        unsigned files;
        uint64_t sum;
};

/* The attempt's folder may be in the run folder, and its log grows at any time. */
static bool is_own_folder(const struct shim *shim, const struct stat *st) {
        struct stat own;

        return fstat(shim->dir_fd, &own) == 0 && own.st_dev == st->st_dev && own.st_ino == st->st_ino;
}

static void mark_folder(struct marks *marks, int at, const char *path, unsigned depth) {
        int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

        for (const struct dirent *entry; dir && marks->files < WRITING_FILES_MAX && (entry = readdir(dir));) {
                struct stat st;
                marks->files++;
                if (strncmp(entry->d_name, COPIES_HEARTBEAT, strlen(COPIES_HEARTBEAT)) == 0 || /* the shim's own */
                    strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                    text_ends_with(entry->d_name, ".ckpt") ||
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                if (S_ISREG(st.st_mode))
                        marks->sum += (uint64_t) st.st_size * 31 + (uint64_t) st.st_mtim.tv_sec * 1000003 +
                                      (uint64_t) st.st_mtim.tv_nsec + 1;
                else if (S_ISDIR(st.st_mode) && depth > 0 && !is_own_folder(marks->shim, &st))
                        mark_folder(marks, dirfd(dir), entry->d_name, depth - 1);
        }
}

/* A trainer writes in one folder, a program with a stop signal anywhere below its run folder. */
uint64_t shim_writing_mark(const struct shim *shim) {
        const char *run_dir = attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR);
        bool trainer = shim->attempt.kind != JOB_COMMAND;
        cleanup_free char *path = run_dir ? format_string("%s%s", run_dir, trainer ? "/checkpoints" : "") : NULL;
        struct marks marks = { .shim = shim };

        if (path && (trainer || shim->declared.stop != 0))
                mark_folder(&marks, AT_FDCWD, path, trainer ? 0 : WRITING_DEPTH);
        return marks.sum;
}
