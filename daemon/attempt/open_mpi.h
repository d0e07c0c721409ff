/* The arguments of mpirun before the program. Pure. */
#ifndef DAEMON_ATTEMPT_OPEN_MPI_H
#define DAEMON_ATTEMPT_OPEN_MPI_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/strv.h"

/* `scratch`: a short folder of this attempt, NULL = none; private_shm: the launcher gives the attempt a private
 * /dev/shm. */
/* `hosts` > 1: the batch system's allocation, `ranks` on each; then without the folders, which other hosts lack. */
void open_mpi_arguments(uint32_t ranks, uint32_t hosts, const char *scratch, bool private_shm, struct strv *argv);

#endif
