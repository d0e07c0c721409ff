/* See correlation.h. Sums about the mean, so that far-off numbers lose nothing. Owns the ranks, for a call. */
#include "trainer/infer/correlation.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/cleanup.h"

double mean_squared_error(const double *x, const double *y, size_t n) {
        double sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += (x[i] - y[i]) * (x[i] - y[i]);
        return sum / (double) n;
}

static double mean_of(const double *x, size_t n) {
        double sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += x[i];
        return sum / (double) n;
}

static bool is_constant(const double *x, size_t n) {
        size_t i = 1;

        while (i < n && x[i] == x[0])
                i++;
        return i >= n;
}

double correlation_pearson(const double *x, const double *y, size_t n) {
        double xx = 0, yy = 0, xy = 0;

        if (is_constant(x, n) || is_constant(y, n)) /* its mean may be rounded */
                return NAN;
        double x_mean = mean_of(x, n), y_mean = mean_of(y, n);
        for (size_t i = 0; i < n; i++) {
                double dx = x[i] - x_mean, dy = y[i] - y_mean;
                xx += dx * dx;
                yy += dy * dy;
                xy += dx * dy;
        }
        double r = xy / (sqrt(xx) * sqrt(yy));
        return isfinite(r) ? fmax(-1, fmin(1, r)) : NAN;
}

/* ---- ranks ---- */

struct placed {
        double value;
        size_t place;
};

static int by_value(const void *a, const void *b) {
        const struct placed *x = a, *y = b;

        return (x->value > y->value) - (x->value < y->value);
}

static void rank(const double *x, size_t n, struct placed *sorted, double *ret) {
        for (size_t i = 0; i < n; i++)
                sorted[i] = (struct placed) { x[i], i };
        qsort(sorted, n, sizeof(*sorted), by_value);
        for (size_t i = 0, end; i < n; i = end) {
                for (end = i + 1; end < n && sorted[end].value == sorted[i].value; end++)
                        ;
                for (size_t k = i; k < end; k++)
                        ret[sorted[k].place] = (double) (i + end + 1) / 2; /* the mean of i + 1 … end */
        }
}

int correlation_spearman(const double *x, const double *y, size_t n, double *ret, struct error *error) {
        cleanup_free struct placed *sorted = malloc((n + 1) * sizeof(*sorted));
        cleanup_free double *x_ranks = malloc((n + 1) * sizeof(*x_ranks)),
                            *y_ranks = malloc((n + 1) * sizeof(*y_ranks));

        if (!sorted || !x_ranks || !y_ranks)
                return error_errno(error, ENOMEM, "ranks of %zu numbers", n);
        rank(x, n, sorted, x_ranks);
        rank(y, n, sorted, y_ranks);
        *ret = correlation_pearson(x_ranks, y_ranks, n);
        return 0;
}
