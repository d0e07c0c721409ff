/* Files of a process below /proc/PID, and its rank. */
#ifndef COMMON_PROC_FILES_H
#define COMMON_PROC_FILES_H

#include <sys/types.h>

/* A file below /proc/PID, at most `max` bytes and a NUL; −1: gone or not readable. Caller frees. Files that read the
 * process's memory (cmdline, environ) may block as long as the process hangs in the kernel. */
ssize_t proc_read_file(pid_t pid, const char *name, size_t max, char **ret);

/* The target of a link below /proc/PID, e.g. "exe" or "fd/0"; "" if it cannot be read. Never blocks. */
void proc_read_link(pid_t pid, const char *name, char *buffer, size_t size);

/* Its rank as set by Open MPI, PMIx, Slurm or torchrun; −1: not a rank. May block as above. */
int proc_rank(pid_t pid);

#endif
