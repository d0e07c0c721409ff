/* The arguments of mpirun before the program. Pure. */
#ifndef DAEMON_ATTEMPT_OPEN_MPI_H
#define DAEMON_ATTEMPT_OPEN_MPI_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/strv.h"

/* `scratch`: a short folder of this attempt, NULL = none; private_shm: the launcher gives the attempt a private
 * /dev/shm. */
void open_mpi_arguments(uint32_t ranks, const char *scratch, bool private_shm, struct strv *argv);

#endif
