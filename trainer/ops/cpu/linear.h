/* linear.c: the entries of ops.h of these names, and the sums of columns. */
#ifndef TRAINER_OPS_CPU_LINEAR_H
#define TRAINER_OPS_CPU_LINEAR_H

#include "trainer/ops/ops.h"

void cpu_linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
                struct tensor y);
void cpu_linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                   struct tensor dx, struct tensor dbias);
void cpu_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias);
void cpu_activation_backward(enum activation act, struct tensor saved, struct tensor dx);

/* Zeroes a fresh tensor before something is added to it; t may be absent. */
void cpu_begin_sum(struct tensor t);

/* to (1, N) += the sums of x's columns, blocks of rows in order; `to` absent: nothing. */
void cpu_add_column_sums(struct tensor x, struct tensor to);

#endif
