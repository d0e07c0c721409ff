/*
 * Who started this process, by what launchers of several processes put into the environment: Open MPI's mpirun, srun, MPICH's and its
 * relatives' mpiexec, and others. It only decides whether to ask MPI; MPI's answer counts. Not collective.
 */
#ifndef TRAINER_RUN_LAUNCHER_H
#define TRAINER_RUN_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct launcher {
        bool is_mpirun; /* Open MPI's: it passes SIGUSR1 and SIGUSR2 on, and ends ranks by SIGTERM with SIGKILL soon after */
        bool is_found;      /* MPI must be asked */
        bool connects;      /* it offers a way by which ranks find each other */
        const char *others; /* the variable that means other processes, and its value; NULL: none does */
        char value[24];
};

/* Before MPI is started, which sets such variables itself. */
struct launcher launcher_read(void);

/* Before MPI is asked: several processes without a way to find each other are refused (exit 78) with the cure. */
int launcher_check(const struct launcher *launcher, struct error *error);

/* Once MPI has answered: a process that is alone for MPI, and one of several for its launcher, is refused likewise. */
int launcher_check_size(const struct launcher *launcher, uint32_t n_ranks, struct error *error);

#endif
