/*
 * What a process does, as text: evidence of a hang. Call this in a separate process with a time limit: some of these
 * wait as long as the process looked at hangs in the kernel.
 */
#ifndef COMMON_PROC_STACKS_H
#define COMMON_PROC_STACKS_H

#include <stdint.h>
#include <sys/types.h>

/* One file below /proc/PID as a section. cmdline may block, the next does not. */
void proc_write_file(int fd, pid_t pid, const char *name);

/* status, wchan, syscall and stack of it and of its threads. */
void proc_write_state(int fd, pid_t pid);

/* The stacks of its threads by eu-stack or gdb, which stop it for that time; until `deadline` (clock_monotonic_usec) at
 * most. */
void proc_write_stacks(int fd, pid_t pid, uint64_t deadline);

#endif
