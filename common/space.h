/* What ENOSPC means: the kernel says it of a full disk and of a file system that has no inode left, which `df` shows as half empty. */
#ifndef COMMON_SPACE_H
#define COMMON_SPACE_H

#include <stdbool.h>

/* Whether the file system has room for data and none for another file. `path` need not be there yet; its folder must be. */
bool space_no_inodes(const char *path);
bool space_no_inodes_at(int fd);

/* strerror(code), or BERTD_NO_INODES in place of ENOSPC. */
#define BERTD_NO_INODES "No inodes left on device (df -i shows it)"
const char *space_text(int code, const char *path);
const char *space_text_at(int code, int fd);

#endif
