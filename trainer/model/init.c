/*
 * Initial weights: a function of (seed, tensor, element) alone, so they do not depend on threads, backend or what else the
 * model holds. Normal values by the inverse of the distribution function (Acklam's rational approximation, relative error
 * 1.2e-9), cut at two standard deviations by drawing the probability between Φ(−2) and Φ(2); rounded to fp32 in every backend.
 */
#include <math.h>
#include <string.h>

#include "common/cleanup.h"
#include "trainer/model/internal.h"
#include "trainer/random/philox.h"

#define PHI_MINUS_2 0.022750131948179207200
#define CHUNK 4096 /* elements, a multiple of 4 */

static double inverse_tail(double p) {
        double q = sqrt(-2 * log(p));

        return (((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838e+00) * q -
                  2.549732539343734e+00) *
                         q +
                 4.374664141464968e+00) *
                        q +
                2.938163982698783e+00) /
               ((((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996e+00) * q +
                 3.754408661907416e+00) *
                        q +
                1);
}

static double inverse_normal(double p) {
        if (p < 0.02425)
                return inverse_tail(p);
        if (p > 1 - 0.02425)
                return -inverse_tail(1 - p);
        double q = p - 0.5, r = q * q;
        return (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
                  1.383577518672690e+02) *
                         r -
                 3.066479806614716e+01) *
                        r +
                2.506628277459239e+00) *
               q /
               (((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
                  6.680131188771972e+01) *
                         r -
                 1.328068155288572e+01) *
                        r +
                1);
}

static double truncated_normal(uint32_t word) {
        double u = ((double) word + 0.5) * 0x1p-32;

        return inverse_normal(PHI_MINUS_2 + u * (1 - 2 * PHI_MINUS_2));
}

static void init_normal(struct model *model, uint64_t seed, uint32_t index) {
        const struct model_tensor *t = &model->layout.tensors[index];
        double deviation = model->config.initializer_range;
        size_t n_chunks = (t->n_elements + CHUNK - 1) / CHUNK;

#pragma omp parallel for schedule(static)
        for (size_t chunk = 0; chunk < n_chunks; chunk++) {
                size_t first = chunk * CHUNK, n = MIN((size_t) CHUNK, t->n_elements - first);
                double values[CHUNK];
                for (size_t i = 0; i < n; i += 4) {
                        struct philox r =
                                philox(seed, (uint32_t) ((first + i) / 4), philox_site(PHILOX_INIT, 0, 0, 0), index);
                        for (size_t j = 0; j < 4; j++)
                                values[i + j] = (float) (deviation * truncated_normal(r.v[j]));
                }
                model->ops->store(model->ops->master, model->state.parameters, t->offset + first, values, n);
        }
}

static void init_constant(struct model *model, uint32_t index, double value) {
        const struct model_tensor *t = &model->layout.tensors[index];
        double values[CHUNK];

        for (size_t i = 0; i < CHUNK; i++)
                values[i] = value;
        for (size_t first = 0; first < t->n_elements; first += CHUNK)
                model->ops->store(model->ops->master, model->state.parameters, t->offset + first, values,
                                  MIN((size_t) CHUNK, t->n_elements - first));
}

/* Vectors are LayerNorm's weights, which start at 1, and biases. */
static bool is_norm_weight(const struct model_tensor *t) {
        const char *dot = strrchr(t->name, '.');

        return t->n_dims == 1 && dot && strcmp(dot, ".weight") == 0;
}

void model_init(struct model *model, uint64_t seed) {
        for (uint32_t i = 0; i < model->layout.n_tensors; i++)
                if (model->layout.tensors[i].n_dims == 2)
                        init_normal(model, seed, i);
                else
                        init_constant(model, i, is_norm_weight(&model->layout.tensors[i]) ? 1.0 : 0.0);
        state_parameters_changed(&model->state);
}
