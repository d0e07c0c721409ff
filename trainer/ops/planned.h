/*
 * The CUDA backend's table as far as plans of memory ask for it (model_plan_memory), without a GPU, a driver or the module: its types, and the sizes
 * that it allocates by (cuda/sizes.h). Of a GPU whose attention is on tensor cores, which keeps more.
 */
#ifndef TRAINER_OPS_PLANNED_H
#define TRAINER_OPS_PLANNED_H

#include <stdint.h>

#include "common/spec/spec.h"

struct ops;

const struct ops *ops_planned(enum precision precision); /* fp64: the CPU's */

/* What a rank that has a card for itself can allocate by that table: of one that reports so many bytes; of one that is sold as one of so many. */
uint64_t ops_planned_room(uint64_t bytes);
uint64_t ops_planned_room_nominal(uint64_t bytes);

#endif
