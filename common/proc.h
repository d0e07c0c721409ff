/*
 * Processes in /proc, and killing a tree of them. Reads only `stat` and `status` in /proc/PID, which never wait for a
 * lock of the process. A process is identified by pid and start time; signals go through a pidfd, checked after it was
 * opened.
 *
 *   procs_read()      all processes of the host, by pid, unmarked
 *   (mark)            the caller marks some of them
 *   procs_spread()    marks the descendants of marked ones
 *   procs_free()
 */
#ifndef COMMON_PROC_H
#define COMMON_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum proc_mark {
        PROC_UNKNOWN,
        PROC_OTHER,
        PROC_ROOT, /* its descendants are marked, itself is not */
        PROC_OURS,
};

struct proc {
        pid_t pid, parent;
        uint64_t start; /* clock ticks after boot */
        char state;     /* R, S, D, T, Z, ... */
        int threads;    /* living threads and the first one, which may exit before others: state Z, but not dead */
        enum proc_mark mark;
};

struct procs {
        struct proc *list;
        size_t n, room;
};

/* −ESRCH: no such process. A zombie is found; it is dead unless it has other living threads. */
int proc_stat(pid_t pid, struct proc *ret);
bool proc_is_dead(const struct proc *proc);

/* Whether one of its user ids (real, effective, saved, file system) is `uid`. */
bool proc_has_uid(pid_t pid, uid_t uid);

/* Whether it has a handler for this signal. */
bool proc_catches(pid_t pid, int signal);

/* 0 or −errno. −ESRCH: gone, or its pid was reused; −EPERM: another user's. */
int proc_signal(const struct proc *proc, int signal);

/* 0 or −errno, then the list is empty. */
int procs_read(struct procs *procs);
struct proc *procs_find(const struct procs *procs, pid_t pid); /* NULL: not in the list */
void procs_spread(struct procs *procs);
bool procs_add(struct procs *procs, const struct proc *proc);        /* at the end; false: no memory */
bool procs_have(const struct procs *procs, const struct proc *proc); /* in any order */
void procs_free(struct procs *procs);

/* Reads, marks by the callback, spreads, and keeps the marked living ones except this process. 0 or −errno. */
typedef void procs_marker_t(struct procs *procs, void *userdata);
int procs_read_ours(struct procs *procs, procs_marker_t *mark, void *userdata);

/* Kills the marked processes: first stops all (a stopped process does not fork), then kills them. Returns the number of
 * living ones that were signalled, or −errno if some may have been missed; the caller repeats until 0, with a bound. */
ssize_t procs_end(procs_marker_t *mark, void *userdata);

/* Repeats procs_end, with growing pauses, until it returns 0 or the time is over. Returns its last result. */
ssize_t procs_end_all(procs_marker_t *mark, void *userdata, uint64_t limit_usec);

#endif
