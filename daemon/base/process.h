/* Identity of processes: /proc, pidfds and the boot id. A pid is only valid together with its start time and boot id
 * (contract C4). */
#ifndef DAEMON_BASE_PROCESS_H
#define DAEMON_BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/error.h"

/* Checks that /proc shows what bertd needs. */
int process_check(struct error *error);

/* Start time in clock ticks after boot. −ESRCH: no such process, or a zombie, which counts as dead. Other errors:
 * unknown. */
int process_start_time(pid_t pid, uint64_t *ret_ticks);

/* An O_CLOEXEC pidfd, or −errno. */
int process_pidfd(pid_t pid);

/* The pidfd of `pid` if it still is the process that started at `start`, else −ESRCH. Other errors: unknown. */
int process_pidfd_checked(pid_t pid, uint64_t start);

/* The kernel's boot id into a buffer of BOOT_ID_SIZE; "unknown" if it cannot be read. */
void process_boot_id(char *buffer, size_t size);

/* The limits of a process whose effective uid is `uid`; −ESRCH: no such process (the pid may have been reused). */
int process_limits(pid_t pid, uid_t uid, struct rlimit ret[RLIM_NLIMITS]);

/* Whether it was started with this variable. May block as long as the process hangs in the kernel: never call it in
 * bertd's loop. */
bool process_has_variable(pid_t pid, const char *name, const char *value);

#endif
