/* Checks that every backend must pass: each entry of its table against the naive fp64 twin on the same random numbers,
 * at odd shapes and at shapes of several tiles. Runs under cmocka; a failure names the entry. */
#ifndef TESTS_OPS_CHECKS_H
#define TESTS_OPS_CHECKS_H

#include "trainer/ops/ops.h"

/* `limit`: of the NMSE. Inputs are numbers of the backend's dtype, so what is measured is the entry's own rounding.
 * `all`: also the largest shapes, which are slow where kernels are emulated. */
void ops_check_linear(const struct ops *backend, double limit, bool all);
void ops_check_norm(const struct ops *backend, double limit, bool all);
void ops_check_attention(const struct ops *backend, double limit, bool all);
void ops_check_rows(const struct ops *backend, double limit, bool all);
void ops_check_xent(const struct ops *backend, double limit, bool all);
void ops_check_flat(const struct ops *backend, double limit, bool all);
void ops_check_update(const struct ops *backend, double limit, bool all); /* of a backend with `update` */

#endif
