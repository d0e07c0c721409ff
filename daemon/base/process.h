/* Who a process is: /proc, pidfds and the boot id. A pid means nothing without its start time and boot (contract C4). */
#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/error.h"

/* /proc shows what bertd goes by. */
int process_check(struct error *error);

/* Start time in clock ticks after boot. −ESRCH where there is none or it is a zombie: a zombie is dead. Other errors: not known. */
int process_start_time(pid_t pid, uint64_t *ret_ticks);

/* An O_CLOEXEC pidfd, or −errno. */
int process_pidfd(pid_t pid);

/* The pidfd of `pid` if it still is the process that began at `start`, else −ESRCH. Other errors: not known. */
int process_pidfd_checked(pid_t pid, uint64_t start);

/* The kernel's boot id into a buffer of BOOT_ID_SIZE; "unknown" where it cannot be read. */
void process_boot_id(char *buffer, size_t size);

/* The limits of a process whose effective uid is `uid`; −ESRCH where there is none (the pid may be another's by now). */
int process_limits(pid_t pid, uid_t uid, struct rlimit ret[RLIM_NLIMITS]);

/* Whether it was started with this variable. May block for as long as the process hangs in the kernel: not for bertd's loop. */
bool process_has_variable(pid_t pid, const char *name, const char *value);

#endif
