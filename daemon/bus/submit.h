/*
 * Submit's a{sv} (include/bertd/bus.h): one table of keys with types and bounds. A submission is checked whole before anything
 * is stored; the error's text names the key and what was expected.
 *
 *   cleanup_submission struct submission submission = {};
 *   submission_defaults(&submission);
 *   submission_read(&submission, message, &error), then submission_check(&submission, &host, &too_large, &error)
 */
#ifndef DAEMON_SUBMIT_H
#define DAEMON_SUBMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>

#include "common/cleanup.h"
#include "common/error.h"

#define SUBMIT_RLIMITS_MAX 16

struct submit_rlimit {
        uint32_t resource;
        uint64_t soft, hard; /* UINT64_MAX = none */
};

struct submission {
        char *name, *kind, *run_dir, *on_exit, *spec, *cwd, *on_nan, *ends_with; /* NULL = stop, first */
        char *cpu_list;                                                          /* NULL: any CPU */
        char *scheduling;              /* as common/scheduling.h; NULL: as usual */
        char **command, **environment; /* NULL-terminated or NULL */
        int32_t priority;
        uint32_t ranks, threads, gpus, max_without_progress, backoff_min_sec, backoff_max_sec, grace_sec, keep, umask;
        uint64_t keep_every, memory;
        uint64_t log_max_size; /* bytes */
        uint32_t log_keep;     /* files */
        double cpus;
        int32_t hang_sec, start_sec, nice;
        struct submit_rlimit rlimits[SUBMIT_RLIMITS_MAX];
        uint32_t n_rlimits;
};

/* What the host has in all. */
struct submit_host {
        uint64_t slots;
        uint32_t gpus;
        bool limits; /* its launcher holds a job to memory and cpus */
};

void submission_defaults(struct submission *submission);
void submission_free(struct submission *submission); /* the contents, not the struct */
#define cleanup_submission cleanup(submission_free)

/* Reads the message's a{sv}: unknown keys, wrong types and keys given twice are refused. */
int submission_read(struct submission *submission, sd_bus_message *message, struct error *error);

/* HOME, where it has none. −ENOMEM. */
int submission_add_home(struct submission *submission, const char *home);

/* Bytes of its texts. */
size_t submission_size(const struct submission *submission);

/* What a client says of its limits is its word: none is kept above `own`, which are the kernel's, and none is left out. */
void submission_clamp_limits(struct submission *submission, const struct rlimit own[RLIM_NLIMITS]);

/* Bounds of every field. ret_too_large tells a request that the host can never meet from a wrong one. */
int submission_check(const struct submission *submission, const struct submit_host *host, bool *ret_too_large,
                     struct error *error);

#endif
