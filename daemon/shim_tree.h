/*
 * The processes of an attempt: all descendants of the shim (a subreaper keeps every orphan below itself) and every process of
 * this uid that carries the attempt's nonce.
 *
 *   struct tree tree = {};
 *   tree_read(&tree, nonce) ... tree_free(&tree)
 */
#ifndef DAEMON_SHIM_TREE_H
#define DAEMON_SHIM_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tree_process {
        pid_t pid, parent;
        char state; /* of /proc/PID/stat: R, S, D, T, ... */
        bool zombie, ours;
};

struct tree {
        struct tree_process *list;
        size_t n, room;
};

/* The living processes of the attempt, without the shim, by pid. False: /proc cannot be read (no descriptor is free). */
bool tree_read(struct tree *tree, const char *nonce);
void tree_free(struct tree *tree);

/* SIGKILL to the main child and to all of the tree, repeated until none is found. Reaps as it goes; the main child's status is
 * put into *main_status (−1 where it did not die here). `main`: 0 where it was reaped before. Returns the number of processes still there after `limit_usec`. */
unsigned tree_kill(pid_t main, const char *nonce, uint64_t limit_usec, int *main_status);

/* A file below /proc/PID, at most `max` bytes and a NUL; −1: gone or not ours to read. Caller frees. */
ssize_t tree_read_proc(pid_t pid, const char *name, size_t max, char **ret);

/* The value of a variable in the environment that the process was started with; NULL: none. Caller frees. */
char *tree_getenv(pid_t pid, const char *name);

/* Its number among the ranks as Open MPI, PMIx, Slurm or torchrun gave it; −1: it is no rank. */
int tree_rank(pid_t pid);

#endif
