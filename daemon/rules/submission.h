/* What a client asks for when it submits a job. Plain data; bus/submit.h reads it from a message and checks it. */
#ifndef DAEMON_RULES_SUBMISSION_H
#define DAEMON_RULES_SUBMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "daemon/rules/job.h"

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
        struct job_rlimit rlimits[JOB_RLIMITS_MAX];
        uint32_t n_rlimits;
};

void submission_defaults(struct submission *submission);
void submission_free(struct submission *submission); /* the contents, not the struct */
#define cleanup_submission cleanup(submission_free)

#endif
