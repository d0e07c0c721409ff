/*
 * A separate process of the job's user that copies one checkpoint, and the run's bertd.json, to another folder or host
 * (common/copies.h), so that neither the job nor the shim waits for a disk or a network.
 *
 *   copy_start(&copy, ...)   forks; copy.fd becomes readable
 *   copy_read(&copy, ...)    until it returns non-zero
 *   copy_close(&copy)        also while it runs: kills it
 */
#ifndef DAEMON_SHIM_COPY_H
#define DAEMON_SHIM_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define COPY_REASON_MAX 224

struct copy {
        int fd, pidfd; /* −1: none runs */
        char reason[COPY_REASON_MAX];
        size_t bytes; /* of the reason, received so far */
};

struct copy_work {
        const char *to;      /* DIR or HOST:DIR */
        const char *path;    /* of the checkpoint */
        const char *run_dir; /* with bertd.json, if it exists */
        const char *host;    /* this one's name */
        uint32_t keep;
        mode_t umask;
        char **environment; /* of the job: ssh's PATH */
};

/* 0 or −errno. */
int copy_start(struct copy *copy, const struct copy_work *work);

/* 0: more to read; 1: the copy exists; −1: it failed, see copy.reason. */
int copy_read(struct copy *copy);
void copy_close(struct copy *copy);

#endif
