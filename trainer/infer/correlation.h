/* How well numbers were predicted. Definitions are SciPy's (pearsonr, spearmanr): NaN where a side is constant, or there are fewer than two. */
#ifndef TRAINER_INFER_CORRELATION_H
#define TRAINER_INFER_CORRELATION_H

#include <stddef.h>

#include "common/error.h"

double mean_squared_error(const double *x, const double *y, size_t n);

/* Pearson's r. */
double correlation_pearson(const double *x, const double *y, size_t n);

/* Spearman's rho: Pearson's r of the ranks; equal numbers have the mean of theirs. */
int correlation_spearman(const double *x, const double *y, size_t n, double *ret, struct error *error);

#endif
