/* rows.c: the entries of ops.h of these names. */
#ifndef TRAINER_OPS_CPU_ROWS_H
#define TRAINER_OPS_CPU_ROWS_H

#include "trainer/ops/ops.h"

size_t cpu_rows_workspace_bytes(const struct ops_shape *shape);
void cpu_embed_forward(const struct op_embed *op, const struct op_norm *norm);
void cpu_embed_backward(const struct op_embed *op);
void cpu_gather_rows(struct tensor x, const int32_t *rows, struct tensor y);
void cpu_scatter_add_rows(struct tensor dy, const int32_t *rows, struct tensor dx);
void cpu_softmax_xent(const struct op_xent *op);

#endif
