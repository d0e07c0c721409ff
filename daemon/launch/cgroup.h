/* A cgroup of systemd's, v2 or, without it, of the hierarchy "name=systemd": who is in it, and its end. Nothing here waits. */
#ifndef DAEMON_CGROUP_H
#define DAEMON_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

/* The path of the process's cgroup where its last part is `unit`, else NULL: the caller frees. */
char *cgroup_of(pid_t pid, const char *unit);

/* Where systemd has the cgroup of a unit in this slice, by the place of its own; NULL: not known. The caller frees. */
char *cgroup_expected(const char *slice, const char *unit);

/* A handle of a cgroup by its path, or −errno: −ENOENT: it is gone. */
int cgroup_open(const char *path);

/* SIGKILL to all in it; by cgroup.kill, or, where the kernel (before 5.14) has none, one by one, frozen. */
void cgroup_kill(int cgroup, const char *path);
void cgroup_kill_each(int cgroup, const char *path); /* the latter; for cgroup_kill and tests */

/* Does a process live in it? */
bool cgroup_is_populated(int cgroup);

#endif
