/* See space.h. Owns nothing. A file system without inode limits reports a total of 0, and never runs out of them. */
#include "common/space.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

static bool has_none(const struct statvfs *fs) { return fs->f_files > 0 && fs->f_favail == 0; }

bool space_no_inodes(const char *path) {
        const char *slash = strrchr(path, '/');
        size_t n = slash ? (size_t) (slash - path) + 1 : 0;
        char folder[4096] = ".";
        struct statvfs fs;

        if (n >= sizeof(folder))
                return false;
        if (n > 0) {
                memcpy(folder, path, n);
                folder[n] = '\0';
        }
        return statvfs(folder, &fs) == 0 && has_none(&fs);
}

bool space_no_inodes_at(int fd) {
        struct statvfs fs;

        return fstatvfs(fd, &fs) == 0 && has_none(&fs);
}

const char *space_text(int code, const char *path) {
        return code == ENOSPC && space_no_inodes(path) ? BERTD_NO_INODES : strerror(code);
}

const char *space_text_at(int code, int fd) {
        return code == ENOSPC && space_no_inodes_at(fd) ? BERTD_NO_INODES : strerror(code);
}
