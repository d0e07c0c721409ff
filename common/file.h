/* Files: whole reads with a bound, durable replacement, paths. */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

/* Writes all of it, through short writes and EINTR. Returns 0 or −errno. */
int write_all(int fd, const void *data, size_t size);

/* Reads a whole regular file of at most `max` bytes into a NUL-terminated buffer that the caller frees. */
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_size, struct error *error);

/* Refuses (65) a Git LFS pointer file, the few lines that stand for a large file where Git LFS has not fetched it. */
int file_refuse_pointer(const char *path, const void *data, size_t size, struct error *error);

/* The same of what a descriptor has from its position on: a file, a pipe, a device, no folder. `name` is for messages. */
int file_read_fd(int fd, const char *name, size_t max, char **ret_data, size_t *ret_size, struct error *error);

/* Whether something has that name; a link that leads nowhere does, and cannot be read. */
bool file_is_there(const char *path);

/* Whether a file begins as an SQLite database does, a checkpoint for one. */
bool file_is_sqlite(const char *path);

/* Replaces `path` durably: temporary name, fsync, rename, fsync of the folder. The file is there whole or as it was.
 * What is not a regular file (a device, a folder) is refused. */
int file_write_atomic(const char *path, const void *data, size_t size, mode_t mode, struct error *error);

/* Whether that could begin: for what computes long before it writes. */
int file_check_writable(const char *path, struct error *error);

/* fsync of the folder that holds `path`. Returns 0 or −errno. */
int fsync_parent(const char *path);

/* mkdir -p: existing folders are fine. "~/x" is refused: nobody means a folder that is called ~. */
int mkdir_parents(const char *path, mode_t mode, struct error *error);

/* First thing of a program: descriptors 0 to 2 that were closed are taken, so that nothing else gets their numbers. Their use fails, as it
 * did. */
void file_hold_standard(void);

/* Absolute, without "." and "//" (".." is kept: links). `path` relative to `base` (absolute). Caller frees; NULL: no memory. */
char *path_absolute(const char *base, const char *path);

/* Whether the text `path` names something below `folder` (absolute): what follows the folder's own text holds no "..", "." or "//".
 * Looks at no file. */
bool path_is_below(const char *path, const char *folder);

/* printf into fresh memory; NULL: no memory. */
char *format_string(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* In a child of fork: no descriptor but stdio and `keep` (−1: none) stays open. What it does before exec may take long and outlive its
 * parent, whose sockets must not stay open by its copies. */
void close_others(int keep);

#endif
