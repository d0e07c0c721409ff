/* flat.c: the entries of ops.h of these names. */
#ifndef TRAINER_OPS_CPU_FLAT_H
#define TRAINER_OPS_CPU_FLAT_H

#include "trainer/ops/ops.h"

void cpu_zero(void *data, size_t size);
double cpu_sum_squares(const void *data, size_t n);
void cpu_adamw(const struct op_adam *op, size_t n, const void *gradient, void *parameter, void *moment1, void *moment2);
void cpu_adam_direction(const struct op_adam *op, size_t n, void *gradient, const void *parameter, void *moment1,
                        void *moment2);
void cpu_descend(double rate, size_t n, const void *direction, void *parameter);

#endif
