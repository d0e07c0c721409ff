/* Files of a process below /proc/PID, and other files of the kernel, which have no size. Every read is bounded. */
#ifndef COMMON_PROC_FILES_H
#define COMMON_PROC_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_NAME_SIZE 16

/* A file of /proc, /sys or a cgroup, at most `max` bytes and a NUL; `path` is relative to the folder `dir` (AT_FDCWD).
 * −1 and errno: not readable. Caller frees. */
ssize_t proc_read_at(int dir, const char *path, size_t max, char **ret);

/* The same below /proc/PID. Files that read the process's memory (cmdline, environ) may block as long as the process
 * hangs in the kernel. */
ssize_t proc_read_file(pid_t pid, const char *name, size_t max, char **ret);

/* Its beginning, as much as the buffer takes with a NUL, without memory: for files that never block. False and errno:
 * not readable, or empty. */
bool proc_read_text(pid_t pid, const char *name, char *buffer, size_t size);

/* The name of its program, up to 15 bytes of it; "": gone. Never blocks. */
void proc_name(pid_t pid, char ret[static PROC_NAME_SIZE]);

/* The value of a variable in the text of "environ"; NULL: none. */
const char *proc_variable(const char *text, ssize_t size, const char *name);

/* The target of a link below /proc/PID, e.g. "exe" or "fd/0"; "" if it cannot be read. Never blocks. */
void proc_read_link(pid_t pid, const char *name, char *buffer, size_t size);

/* The inode of the pipe that "fd/0" or such is; 0: it is none. Never blocks. */
uint64_t proc_pipe(pid_t pid, const char *name);

/* Its rank as set by Open MPI, PMIx, Slurm or torchrun; −1: not a rank. May block as above. */
int proc_rank(pid_t pid);

#endif
