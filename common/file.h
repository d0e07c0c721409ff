/* Files: bounded reads of whole files, durable replacement, paths. */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

/* Writes everything, despite short writes and EINTR. Returns 0 or −errno. */
int write_all(int fd, const void *data, size_t size);

/* Reads a whole regular file of at most `max` bytes into a NUL-terminated buffer that the caller frees. */
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_size, struct error *error);

/* Refuses (65) a Git LFS pointer, the short text that replaces a large file until Git LFS has fetched it. */
int file_refuse_pointer(const char *path, const void *data, size_t size, struct error *error);

/* The same for a descriptor, from its position on: a file, a pipe, a device, but not a folder. `name` is for messages.
 */
int file_read_fd(int fd, const char *name, size_t max, char **ret_data, size_t *ret_size, struct error *error);

/* Whether the name exists; true for a dangling link. */
bool file_is_there(const char *path);

/* Whether a file has the header of an SQLite database, e.g. a checkpoint. */
bool file_is_sqlite(const char *path);

/* Replaces `path` durably: temporary name, fsync, rename, fsync of the folder. The file is then either complete or
 * unchanged. Refuses other kinds of files (a device, a folder). */
int file_write_atomic(const char *path, const void *data, size_t size, mode_t mode, struct error *error);

/* For a file that is written under a temporary name until it is whole: locks the open file and empties it. 0;
 * −EWOULDBLOCK: another process writes it, or has just renamed it; −errno. */
int file_claim(int fd, const char *temporary);

/* Checks in advance whether it can be written, for long computations. */
int file_check_writable(const char *path, struct error *error);

/* fsync of the folder of `path`. Returns 0 or −errno. */
int fsync_parent(const char *path);

/* mkdir -p: existing folders are fine. Refuses "~/x": a folder named ~ is never intended. */
int mkdir_parents(const char *path, mode_t mode, struct error *error);

/* Call first in a program: opens closed descriptors 0 to 2, so that no other file gets their numbers. Using them still
 * fails. */
void file_hold_standard(void);

/* Absolute, without "." and "//" (".." is kept because of links). `path` is relative to `base` (absolute). Caller
 * frees; NULL: no memory. */
char *path_absolute(const char *base, const char *path);

/* Whether the text `path` is below `folder` (absolute): the rest after the folder contains no "..", "." or "//".
 * Accesses no file. */
bool path_is_below(const char *path, const char *folder);

/* printf into new memory; NULL: no memory. Caller frees. */
char *format_string(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* In a child of fork: closes all descriptors except stdio and `keep` (−1: none). The child may take long before exec
 * and outlive its parent, whose sockets its copies would keep open. */
void close_others(int keep);

#endif
