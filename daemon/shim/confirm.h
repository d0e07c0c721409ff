/*
 * A checkpoint reported by a program, a file or a folder: a separate process of the job's user checks it, sums its size
 * and makes it durable, so that a hanging file system or a huge folder does not block the shim.
 *
 *   confirm_start(&confirm, ...)   forks; confirm.fd becomes readable
 *   confirm_read(&confirm)         until it returns 1; then confirm_result
 *   confirm_close(&confirm)        also while it runs: kills it
 */
#ifndef DAEMON_SHIM_CONFIRM_H
#define DAEMON_SHIM_CONFIRM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIRM_ENTRIES_MAX \
        100000 /* that are summed in a folder and its folders; beyond that the size is a lower bound */
#define CONFIRM_DEPTH_MAX 32

enum confirm_refusal {
        CONFIRM_GOOD,
        CONFIRM_GONE,
        CONFIRM_NOT_A_CHECKPOINT, /* a link, a device */
        CONFIRM_EMPTY,
        CONFIRM_OUTSIDE, /* a link in the path leads out of the job's folders */
        CONFIRM_FOREIGN, /* owned by another user */
        CONFIRM_REFUSAL_MAX
};

struct confirm_result {
        enum confirm_refusal refusal;
        uint64_t size; /* bytes of its files */
        bool durable;  /* syncfs of its file system has returned */
};

struct confirm {
        int fd, pidfd; /* −1: not running */
        size_t bytes;  /* of the results read: first without `durable`, then with it */
        struct confirm_result results[2];
};

/* `path` is absolute and must be below `run_dir` or `cwd`; either may be NULL. 0 or −errno. */
int confirm_start(struct confirm *confirm, const char *path, const char *run_dir, const char *cwd);

/* 1: it has ended, 0: more will follow. */
int confirm_read(struct confirm *confirm);

/* The result so far; false: none yet. */
bool confirm_result(const struct confirm *confirm, struct confirm_result *ret);

/* For "checkpoint /d/x: TEXT; not recorded". */
const char *confirm_refusal_text(enum confirm_refusal refusal);

void confirm_close(struct confirm *confirm);

#endif
