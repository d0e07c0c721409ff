/*
 * Processes as /proc shows them, and how a tree of them is ended. Of /proc/PID only `stat` and `status` are read: no lock that the
 * process may hold is waited for. A process is its pid and its start time; a signal goes through a pidfd, checked after it was opened.
 *
 *   procs_read()      all processes of the host, by pid, unmarked
 *   (mark)            the caller marks some of them
 *   procs_spread()    what descends from a marked one is ours
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
        PROC_ROOT, /* its descendants are ours, it is not */
        PROC_OURS,
};

struct proc {
        pid_t pid, parent;
        uint64_t start; /* clock ticks after boot */
        char state;     /* R, S, D, T, Z, ... */
        int threads;    /* that live, and the first, which may have ended before others: Z, and not dead */
        enum proc_mark mark;
};

struct procs {
        struct proc *list;
        size_t n, room;
};

/* −ESRCH: there is none. A zombie is one, and is dead unless other threads of it live. */
int proc_stat(pid_t pid, struct proc *ret);
bool proc_is_dead(const struct proc *proc);

/* Is one of its user ids (real, effective, saved, file system) this one? */
bool proc_has_uid(pid_t pid, uid_t uid);

/* Does it handle this signal itself? */
bool proc_catches(pid_t pid, int signal);

/* 0, or −errno: −ESRCH: it is gone, or its number another's; −EPERM: it is another user's. */
int proc_signal(const struct proc *proc, int signal);

/* 0 or −errno, then the list is empty. */
int procs_read(struct procs *procs);
struct proc *procs_find(const struct procs *procs, pid_t pid); /* NULL: not in the list */
void procs_spread(struct procs *procs);
bool procs_add(struct procs *procs, const struct proc *proc); /* at the end; false: no memory */
void procs_free(struct procs *procs);

/* Reads, marks by the callback, spreads, and keeps those that are ours and live, but ourselves. 0 or −errno. */
typedef void procs_marker_t(struct procs *procs, void *userdata);
int procs_read_ours(struct procs *procs, procs_marker_t *mark, void *userdata);

/* Ends what is ours: first all are stopped (what is stopped does not fork), then killed. Returns how many living ones were found and
 * could be signalled, or −errno where some may have been missed; the caller repeats until 0, with a bound. */
ssize_t procs_end(procs_marker_t *mark, void *userdata);

/* procs_end, with growing pauses, until it finds none or for so long. Returns what it returned last. */
ssize_t procs_end_all(procs_marker_t *mark, void *userdata, uint64_t limit_usec);

#endif
