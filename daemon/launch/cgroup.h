/* systemd's cgroups, v2 or the hierarchy "name=systemd": their processes, and killing them. Never blocks. */
#ifndef DAEMON_LAUNCH_CGROUP_H
#define DAEMON_LAUNCH_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

/* The path of the process's cgroup if its last part is `unit`, else NULL. The caller frees. */
char *cgroup_of(pid_t pid, const char *unit);

/* The path of a unit's cgroup in this slice, derived from systemd's own; NULL: unknown. The caller frees. */
char *cgroup_expected(const char *slice, const char *unit);

/* A handle of a cgroup by its path, or −errno; −ENOENT: removed. */
int cgroup_open(const char *path);

/* SIGKILL to all processes in it: by cgroup.kill, or (kernels before 5.14) one by one while frozen. */
void cgroup_kill(int cgroup, const char *path);
void cgroup_kill_each(int cgroup, const char *path); /* the latter; for cgroup_kill and tests */

/* Whether a process lives in it. */
bool cgroup_is_populated(int cgroup);

#endif
