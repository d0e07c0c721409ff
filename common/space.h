/* Meaning of ENOSPC: the kernel returns it for a full disk and for a file system without free inodes, which `df` may
 * show as half empty. */
#ifndef COMMON_SPACE_H
#define COMMON_SPACE_H

#include <stdbool.h>

/* Whether the file system has space for data but not for another file. `path` need not exist; its folder must. */
bool space_no_inodes(const char *path);
bool space_no_inodes_at(int fd);

/* strerror(code), or BERTD_NO_INODES instead of ENOSPC. */
#define BERTD_NO_INODES "No inodes left on device (df -i shows it)"
const char *space_text(int code, const char *path);
const char *space_text_at(int code, int fd);

#endif
