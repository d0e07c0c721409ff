/* See keeper.h. */
#include "daemon/launch/keeper.h"

#include <errno.h>
#include <fcntl.h>

#include "common/cleanup.h"
#include "common/file.h"

/* A record lock: released when its process exits, kept over an exec. */
static struct flock keeper_lock(const struct job *job) {
        return (struct flock) { .l_type = F_WRLCK,
                                .l_whence = SEEK_SET,
                                .l_start = (off_t) ((job->id & INT32_MAX) << 32 | job->attempt.number),
                                .l_len = 1 };
}

int keeper_hold(int jobs_fd, const struct job *job) {
        struct flock lock = keeper_lock(job);
        cleanup_close int fd = openat(jobs_fd, "keepers", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        return fd < 0 || fcntl(fd, F_SETLK, &lock) < 0 ? -errno : steal_fd(&fd);
}

pid_t keeper_find(int jobs_fd, const struct job *job) {
        struct flock lock = keeper_lock(job);
        cleanup_close int fd = openat(jobs_fd, "keepers", O_RDWR | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}
