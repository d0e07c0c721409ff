/* See reserve.h. Owns nothing. */
#include "daemon/base/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"

#define RESERVE_BYTES (1 << 20)        /* more than the rows of one job and their pages */
#define ROOM_BYTES (2 * RESERVE_BYTES) /* enough for the reserve and a commit */

int reserve_open(const char *state_dir) {
        cleanup_free char *path = format_string("%s/reserve", state_dir);
        int fd = path ? open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;

        if (fd < 0)
                return path ? -errno : -ENOMEM;
        reserve_fill(fd);
        return fd;
}

void reserve_spend(int fd) {
        struct statvfs fs;

        if (fd >= 0 && fstatvfs(fd, &fs) == 0 && fs.f_bavail * fs.f_frsize < RESERVE_BYTES)
                (void) !ftruncate(fd, 0);
}

void reserve_fill(int fd) {
        struct statvfs fs;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size >= RESERVE_BYTES || fstatvfs(fd, &fs) < 0 ||
            fs.f_bavail * fs.f_frsize < ROOM_BYTES)
                return;
        if (posix_fallocate(fd, 0, RESERVE_BYTES) != 0)
                (void) !ftruncate(fd, 0);
}
