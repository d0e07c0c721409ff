/* bertctl submit --slurm: a batch script for a spec, which sbatch gets. */
#ifndef CTL_SBATCH_H
#define CTL_SBATCH_H

#include "ctl/command.h"

/* The first argument is --slurm, and none asks for help. */
bool sbatch_is_asked(int argc, char **argv);

/* Returns the exit code; sbatch replaces this process. */
int sbatch_submit(struct ctl *ctl, int argc, char **argv);

#endif
