/*
 * See confirm.h. The process writes its result twice: after the check, and after syncfs, which may take any time.
 * Invariant: it follows no link, and below the checkpoint it opens only folders.
 */
#include "daemon/shim/confirm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"

/* ---- the process ---- */

static bool lies_below(const char *real, const char *folder) {
        char real_folder[PATH_MAX];

        return folder && realpath(folder, real_folder) && path_is_below(real, real_folder);
}

struct sum {
        unsigned entries;
        uint64_t size;
        bool partial; /* there is more than this */
};

static void sum_folder(int folder, unsigned depth, struct sum *sum) {
        cleanup_closedir DIR *dir = fdopendir(folder);

        if (!dir)
                (void) close(folder);
        for (const struct dirent *entry; dir && sum->entries < CONFIRM_ENTRIES_MAX && (entry = readdir(dir));) {
                struct stat st;
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                ++sum->entries;
                if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue; /* removed meanwhile */
                if (S_ISREG(st.st_mode))
                        sum->size += (uint64_t) st.st_size;
                else if (S_ISDIR(st.st_mode) && depth < CONFIRM_DEPTH_MAX) {
                        int inner = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                        if (inner >= 0)
                                sum_folder(inner, depth + 1, sum);
                } else
                        sum->partial |= S_ISDIR(st.st_mode);
        }
        sum->partial |= sum->entries == CONFIRM_ENTRIES_MAX;
}

static enum confirm_refusal look(int fd, uint64_t *size) {
        struct sum sum = {};
        struct stat st;

        if (fstat(fd, &st) < 0)
                return CONFIRM_GONE;
        if (geteuid() != 0 && st.st_uid != geteuid())
                return CONFIRM_FOREIGN;
        if (S_ISREG(st.st_mode))
                sum.size = (uint64_t) st.st_size;
        else if (S_ISDIR(st.st_mode))
                sum_folder(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, &sum);
        else
                return CONFIRM_NOT_A_CHECKPOINT;
        *size = sum.size;
        return sum.size > 0 || sum.partial ? CONFIRM_GOOD : CONFIRM_EMPTY;
}

/* O_PATH first: opening a device or a pipe may have an effect. */
static enum confirm_refusal open_checkpoint(const char *path, int *ret_fd) {
        cleanup_close int looked = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (looked < 0 || fstat(looked, &st) < 0)
                return CONFIRM_GONE;
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
                return CONFIRM_NOT_A_CHECKPOINT;
        *ret_fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        return *ret_fd < 0 ? errno == EACCES ? CONFIRM_FOREIGN : CONFIRM_GONE : CONFIRM_GOOD;
}

static __attribute__((noreturn)) void confirmer(const char *path, const char *run_dir, const char *cwd) {
        struct confirm_result result = {};
        char real[PATH_MAX];
        int fd = -1;

        if (!realpath(path, real))
                result.refusal = CONFIRM_GONE;
        else if (!lies_below(real, run_dir) && !lies_below(real, cwd))
                result.refusal = CONFIRM_OUTSIDE;
        else
                result.refusal = open_checkpoint(path, &fd);
        if (result.refusal == CONFIRM_GOOD)
                result.refusal = look(fd, &result.size);
        if (write_all(STDIN_FILENO, &result, sizeof(result)) < 0)
                _exit(1);
        result.durable = result.refusal == CONFIRM_GOOD && syncfs(fd) == 0;
        _exit(write_all(STDIN_FILENO, &result, sizeof(result)) < 0);
}

/* ---- the shim ---- */

int confirm_start(struct confirm *confirm, const char *path, const char *run_dir, const char *cwd) {
        int fds[2];

        confirm->bytes = 0;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        cleanup_close int reader = fds[0], writer = fds[1];
        if (fcntl(reader, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) { /* without the shim's descriptors: its lock is released when it exits */
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (dup2(writer, STDIN_FILENO) < 0 || close_range(STDIN_FILENO + 1, ~0u, 0) < 0)
                        _exit(1);
                confirmer(path, run_dir, cwd);
        }
        confirm->pidfd = pidfd_open(pid, 0);
        confirm->fd = steal_fd(&reader);
        return 0;
}

int confirm_read(struct confirm *confirm) {
        while (confirm->bytes < sizeof(confirm->results)) {
                ssize_t n = read(confirm->fd, (char *) confirm->results + confirm->bytes,
                                 sizeof(confirm->results) - confirm->bytes);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n <= 0)
                        return 1;
                confirm->bytes += (size_t) n;
        }
        return 1;
}

bool confirm_result(const struct confirm *confirm, struct confirm_result *ret) {
        size_t n = confirm->bytes / sizeof(*ret);

        if (n > 0)
                *ret = confirm->results[n - 1];
        return n > 0 && ret->refusal < CONFIRM_REFUSAL_MAX;
}

const char *confirm_refusal_text(enum confirm_refusal refusal) {
        static const char *const texts[CONFIRM_REFUSAL_MAX] = {
                [CONFIRM_GOOD] = "",
                [CONFIRM_GONE] = "no such file or folder",
                [CONFIRM_NOT_A_CHECKPOINT] = "expected a file or a folder, not a link",
                [CONFIRM_EMPTY] = "empty",
                [CONFIRM_OUTSIDE] = "not below the job's run folder or working directory",
                [CONFIRM_FOREIGN] = "owned by another user",
        };
        return texts[refusal];
}

void confirm_close(struct confirm *confirm) {
        if (confirm->pidfd >= 0)
                (void) pidfd_send_signal(confirm->pidfd, SIGKILL, NULL, 0);
        cleanup_close_p(&confirm->pidfd);
        cleanup_close_p(&confirm->fd);
        *confirm = (struct confirm) { .fd = -1, .pidfd = -1 };
}
