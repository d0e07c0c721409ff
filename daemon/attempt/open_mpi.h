/* The words before a program that Open MPI starts. Pure. */
#ifndef DAEMON_ATTEMPT_OPEN_MPI_H
#define DAEMON_ATTEMPT_OPEN_MPI_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/strv.h"

/* `scratch`: a short folder of this attempt, NULL = none; private_shm: the launcher gives the attempt a /dev/shm of its own. */
void open_mpi_arguments(uint32_t ranks, const char *scratch, bool private_shm, struct strv *argv);

#endif
