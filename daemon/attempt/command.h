/* What an attempt runs: argument vector and environment (contracts C4, C6). Pure but for the user database. */
#ifndef DAEMON_COMMAND_H
#define DAEMON_COMMAND_H

#include "common/error.h"
#include "daemon/rules/job.h"
#include "daemon/base/strv.h"

struct command_input {
        const struct job *job;
        const char *trainer; /* path of bert-trainer */
        const char *spec;    /* path of the normalised spec */
        const char *run_dir;
        const char *resume;       /* checkpoint path, or "" */
        const char *scratch;      /* short folder of this attempt for Open MPI, or NULL */
        bool private_shm;         /* the launcher gives the attempt a /dev/shm of its own */
        const char *visible_gpus; /* CUDA_VISIBLE_DEVICES, or NULL to leave it alone */
        const char *environment;  /* as submitted, packed; the same for the command, if it is one */
        size_t environment_size;
        const char *command;
        size_t command_size;
};

int command_argv(const struct command_input *input, struct strv *ret, struct error *error);
int command_environment(const struct command_input *input, struct strv *ret, struct error *error);

#endif
