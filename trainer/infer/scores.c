/* See scores.h. Owns nothing. */
#include "trainer/infer/scores.h"

#include <math.h>
#include <stddef.h>

static double share(uint64_t part, uint64_t whole) { return whole > 0 ? (double) part / (double) whole : 0; }

struct class_scores scores_of_class(const uint64_t *confusion, uint32_t n, uint32_t k) {
        struct class_scores x = { .hits = confusion[(size_t) k * n + k] };

        for (uint32_t i = 0; i < n; i++) {
                x.support += confusion[(size_t) k * n + i];
                x.predicted += confusion[(size_t) i * n + k];
        }
        x.precision = share(x.hits, x.predicted);
        x.recall = share(x.hits, x.support);
        x.f1 = share(2 * x.hits, x.support + x.predicted);
        return x;
}

double scores_macro_f1(const uint64_t *confusion, uint32_t n) {
        double sum = 0;
        uint32_t occurring = 0;

        for (uint32_t k = 0; k < n; k++) {
                struct class_scores x = scores_of_class(confusion, n, k);
                sum += x.f1;
                occurring += scores_occurs(&x);
        }
        return occurring > 0 ? sum / occurring : 0;
}

uint32_t scores_softmax(double *row, uint32_t n) {
        uint32_t best = 0;
        double sum = 0;

        for (uint32_t i = 1; i < n; i++)
                best = row[i] > row[best] ? i : best;
        double highest = row[best];
        for (uint32_t i = 0; i < n; i++)
                sum += row[i] = exp(row[i] - highest);
        for (uint32_t i = 0; i < n; i++)
                row[i] /= sum;
        return best;
}
