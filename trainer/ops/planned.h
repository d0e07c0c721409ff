/*
 * The part of the CUDA backend's table that plans of memory need (model_plan_memory), without a GPU, a driver or the module: its types and
 * the sizes that it allocates by (cuda/sizes.h), for a GPU that does attention on tensor cores, which takes more.
 */
#ifndef TRAINER_OPS_PLANNED_H
#define TRAINER_OPS_PLANNED_H

#include <stdint.h>

#include "common/spec/spec.h"

struct ops;

const struct ops *ops_planned(enum precision precision); /* fp64: the CPU's; not PRECISION_AUTO */

/* Bytes that a rank can allocate on a card that it has for itself, by the size that the card reports or is sold with. */
uint64_t ops_planned_room(uint64_t bytes);
uint64_t ops_planned_room_nominal(uint64_t bytes);

#endif
