/* A Slurm allocation, as the environment of a process in it describes it, and Slurm's own commands. */
#ifndef CTL_SLURM_H
#define CTL_SLURM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"

struct slurm {
        char job[64];      /* "123", of an array "120_3"; "" = not in an allocation */
        char cpus[32];     /* of this host, for bertd's --slots; "" = unknown */
        char gpus[2048];   /* for bertd's --gpus; "" = unknown */
        uint32_t nodes;    /* at least 1 */
        uint64_t restarts; /* how often Slurm has requeued the job */
};

/* Refused: a rank of a step, where each rank would start its own bertd. */
int slurm_read(struct slurm *ret, struct error *error);

/* Sets the spec's hosts: those of the allocation, this one first. A command without hosts in its spec runs on this one
 * alone: it may start others with srun. Drops the limits of memory and CPUs, which are the allocation's. Refused:
 * several hosts without an allocation. */
int slurm_take_spec(const struct slurm *slurm, struct spec *spec, struct error *error);

/* Refused: scontrol is missing, or this is not a Slurm job. */
int slurm_check_requeue(const struct slurm *slurm, struct error *error);

/* Runs scontrol requeue, bounded. */
int slurm_requeue(const struct slurm *slurm, struct error *error);

#endif
