/* The argument vector of an attempt (contract C6). Pure. */
#ifndef DAEMON_ATTEMPT_COMMAND_H
#define DAEMON_ATTEMPT_COMMAND_H

#include "common/error.h"
#include "daemon/base/strv.h"
#include "daemon/rules/job.h"

struct command_input {
        const struct job *job;
        const char *trainer; /* path of bert-trainer */
        const char *spec;    /* path of the normalised spec */
        const char *run_dir;
        const char *resume;  /* checkpoint path, or "" */
        const char *scratch; /* short folder of this attempt for Open MPI, or NULL */
        bool private_shm;    /* the launcher gives the attempt a private /dev/shm */
        bool gang;           /* another program starts mpirun */
        uint32_t hosts;      /* of an allocation, where mpirun starts ranks itself; else 1 */
        const char *rank;    /* path of bertd-gang, by which a command's ranks are started there */
        const char *command; /* as submitted, packed */
        size_t command_size;
};

int command_argv(const struct command_input *input, struct strv *ret, struct error *error);

#endif
