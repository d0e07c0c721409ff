/* See launcher.h. Owns nothing: one table of variables, by their meaning. */
#include "trainer/run/launcher.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/parse.h"

#define CURE "start it with Open MPI's mpirun -n N or srun --mpi=pmix; to run alone, unset it"

static const struct variable {
        const char *name;
        uint64_t most; /* a value above it means other processes */
} variables[] = {
        { "OMPI_COMM_WORLD_SIZE", 1 }, /* Open MPI's own: the variables of launchers around it do not count */
        { "PMI_SIZE", 1 },             /* MPICH, Intel MPI, srun --mpi=pmi2 */
        { "MPI_LOCALNRANKS", 1 },      /* the same, of this host */
        { "MV2_COMM_WORLD_SIZE", 1 },  /* MVAPICH2 */
        { "JSM_NAMESPACE_SIZE", 1 },   /* jsrun */
        { "FLUX_JOB_SIZE", 1 },
        { "SLURM_STEP_NUM_TASKS", 1 },
        { "PMIX_RANK", 0 }, /* ranks: the first one does not mean that there are others */
        { "PMI_RANK", 0 },
        { "PALS_RANKID", 0 },
        { "ALPS_APP_PE", 0 },
};

static const char *value_of(const char *name) {
        const char *value = getenv(name);
        return value && value[0] ? value : NULL;
}

static bool tells_of_others(const struct variable *variable) {
        const char *text = value_of(variable->name);
        uint64_t value;

        return text && parse_u64(text, 0, UINT32_MAX, &value) >= 0 && value > variable->most;
}

struct launcher launcher_read(void) {
        struct launcher l = { .is_mpirun = value_of(variables[0].name) != NULL };
        size_t n = l.is_mpirun ? 1 : ELEMENTSOF(variables);

        for (size_t i = 0; i < n && !l.others; i++)
                if (tells_of_others(&variables[i])) {
                        l.others = variables[i].name;
                        (void) snprintf(l.value, sizeof(l.value), "%s", value_of(l.others));
                }
        l.connects = l.is_mpirun || value_of("PMIX_RANK") || value_of("PMI_RANK") || value_of("PMI_FD");
        l.is_found = l.is_mpirun || value_of("PMIX_RANK") || l.others;
        return l;
}

int launcher_check(const struct launcher *l, struct error *error) {
        if (!l->others || l->connects)
                return 0;
        return error_input(error, BERTD_EXIT_CONFIG,
                           "%s is %s, but these processes were given no way to find each other: " CURE, l->others,
                           l->value);
}

int launcher_check_size(const struct launcher *l, uint32_t n_ranks, struct error *error) {
        if (!l->others || n_ranks > 1)
                return 0;
        return error_input(error, BERTD_EXIT_CONFIG,
                           "%s is %s, but for MPI (this bert-trainer has Open MPI's) this process is alone: " CURE,
                           l->others, l->value);
}
