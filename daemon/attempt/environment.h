/* The environment of an attempt (contracts C4, C6), and of a job's other programs. Pure. */
#ifndef DAEMON_ATTEMPT_ENVIRONMENT_H
#define DAEMON_ATTEMPT_ENVIRONMENT_H

#include "common/error.h"
#include "daemon/base/strv.h"
#include "daemon/rules/job.h"

struct environment_input {
        const struct job *job;
        const char *run_dir;
        const char *resume;       /* checkpoint path, or "" */
        const char *visible_gpus; /* CUDA_VISIBLE_DEVICES, or NULL to leave it alone */
        const char *hosts;        /* of an allocation, the head first; NULL: of one host */
        const char *submitted;    /* as submitted, packed */
        size_t submitted_size;
};

int attempt_environment(const struct environment_input *input, struct strv *ret, struct error *error);

#endif
