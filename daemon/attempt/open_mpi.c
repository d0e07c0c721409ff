/* See open_mpi.h. Owns nothing. */
#include "daemon/attempt/open_mpi.h"

/* --bind-to none: the default binding puts every one-rank job on core 0. A rank with a GPU binds itself to the CPUs
 * next to it (trainer/run/bind.c), within the mask that it is given. The attempt has its own session folder and
 * shared-memory segments, so that leftovers of kill -9 can be found and removed. */
void open_mpi_arguments(uint32_t ranks, uint32_t hosts, const char *scratch, bool private_shm, struct strv *argv) {
        strv_add(argv, "mpirun");
        strv_add(argv, "-n");
        strv_format(argv, "%u", ranks * hosts);
        if (hosts > 1) {
                strv_add(argv, "--map-by");
                strv_format(argv, "ppr:%u:node", ranks);
        }
        strv_add(argv, "--bind-to");
        strv_add(argv, "none");
        strv_add(argv, "--oversubscribe");
        if (!scratch || hosts > 1)
                return;
        strv_add(argv, "--mca");
        strv_add(argv, "orte_tmpdir_base");
        strv_add(argv, scratch);
        if (!private_shm) {
                strv_add(argv, "--mca");
                strv_add(argv, "btl_vader_backing_directory");
                strv_add(argv, scratch);
        }
}
