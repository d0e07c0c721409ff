/* Comparisons of numbers for tests: what is not a number is never close, and worse than any error. */
#ifndef TESTS_CLOSE_H
#define TESTS_CLOSE_H

#include <math.h>
#include <stdbool.h>

static inline bool is_close(double x, double want, double bound) { return fabs(x - want) <= bound; }

/* fmax() and `error > worst` would forget a NaN. */
static inline bool is_worse(double error, double worst) { return !isnan(worst) && !(error <= worst); }
static inline double worse(double worst, double error) { return is_worse(error, worst) ? error : worst; }

#endif
