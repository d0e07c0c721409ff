/* norm.c: the entries of ops.h of these names. */
#ifndef TRAINER_OPS_CPU_NORM_H
#define TRAINER_OPS_CPU_NORM_H

#include "trainer/ops/ops.h"

size_t cpu_norm_workspace_bytes(const struct ops_shape *shape);
void cpu_add_norm_forward(const struct op_norm *op);
void cpu_add_norm_backward(const struct op_norm *op);
void cpu_norm_dropout_forward(const struct op_norm *op);
void cpu_norm_dropout_backward(const struct op_norm *op);

#endif
