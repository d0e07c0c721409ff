/* attention.c: the entries of ops.h of these names. */
#ifndef TRAINER_OPS_CPU_ATTENTION_H
#define TRAINER_OPS_CPU_ATTENTION_H

#include "trainer/ops/ops.h"

size_t cpu_attention_workspace_bytes(const struct ops_shape *shape);
void cpu_attention_forward(const struct op_attention *op);
void cpu_attention_backward(const struct op_attention *op);

#endif
