/* Which program a process executes, by the name of its file. Never blocks. */
#ifndef COMMON_PROC_PROGRAM_H
#define COMMON_PROC_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/proc.h"

/* One of these names, perhaps followed by a version: "/usr/bin/ksh93 (deleted)" is ksh. */
bool proc_runs(pid_t pid, const char *const *names, size_t n_names);

bool proc_is_shell(pid_t pid);

/* Whether it only reads what another of these writes, and SIGTERM would end it before the last of that: tee in `python
 * train.py | tee log`. */
bool proc_ends_with_writer(const struct procs *procs, const struct proc *proc);

#endif
