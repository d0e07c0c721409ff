/*
 * See pace.h. Owns a ring of ratios a rank. A step's ratio is a rank's seconds for a unit of work over the median rank's, or 1 where the
 * rank had nothing to do or its lag is below the floor: shares differ in length, and tiny steps by chance. A median decides over
 * PACE_STEPS ratios, so that a pause or two make nobody slow.
 */
#include "trainer/report/pace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

struct pace {
        uint32_t n_ranks;
        uint64_t steps;
        bool slow;
        uint32_t rank; /* of the slow one, as last reported */
        double ratio;
        struct pace_share *shares;    /* (n_ranks) of the step */
        double *sorted;               /* (n_ranks) scratch */
        double (*ratios)[PACE_STEPS]; /* (n_ranks) */
};

struct pace *pace_new(uint32_t n_ranks) {
        struct pace *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->n_ranks = n_ranks;
        p->shares = calloc(n_ranks, sizeof(*p->shares));
        p->sorted = calloc(n_ranks, sizeof(*p->sorted));
        p->ratios = calloc(n_ranks, sizeof(*p->ratios));
        if (p->shares && p->sorted && p->ratios)
                return p;
        pace_free(p);
        return NULL;
}

void pace_free(struct pace *p) {
        if (!p)
                return;
        free(p->shares);
        free(p->sorted);
        free(p->ratios);
        free(p);
}

static int compare(const void *a, const void *b) {
        const double *x = a, *y = b;
        return (*x > *y) - (*x < *y);
}

static double lower_median(double *values, uint32_t n) {
        if (n == 0)
                return 0;
        qsort(values, n, sizeof(*values), compare);
        return values[(n - 1) / 2];
}

static void describe(struct pace *p, struct pace_row *ret) {
        const struct pace_share *shares = p->shares;

        *ret = (struct pace_row) { .min = shares[0].seconds, .max = shares[0].seconds };
        for (uint32_t r = 0; r < p->n_ranks; r++) {
                p->sorted[r] = shares[r].seconds;
                ret->min = MIN(ret->min, shares[r].seconds);
                if (shares[r].seconds > ret->max) {
                        ret->max = shares[r].seconds;
                        ret->slowest = r;
                }
        }
        ret->median = lower_median(p->sorted, p->n_ranks);
}

static double for_work(const struct pace_share *s) { return s->work > 0 ? s->seconds / s->work : 0; }

static void add_ratios(struct pace *p) {
        const struct pace_share *shares = p->shares;
        uint32_t n = 0;

        for (uint32_t r = 0; r < p->n_ranks; r++)
                if (for_work(&shares[r]) > 0)
                        p->sorted[n++] = for_work(&shares[r]);
        double median = lower_median(p->sorted, n);
        for (uint32_t r = 0; r < p->n_ranks; r++) {
                double lag = shares[r].seconds - median * shares[r].work;
                bool counts = n > 0 && for_work(&shares[r]) > 0 && fabs(lag) >= PACE_FLOOR_SEC;
                p->ratios[r][p->steps % PACE_STEPS] = counts ? for_work(&shares[r]) / median : 1;
        }
        p->steps++;
}

static double median_ratio(const struct pace *p, uint32_t rank) {
        double ratios[PACE_STEPS];

        memcpy(ratios, p->ratios[rank], sizeof(ratios));
        return lower_median(ratios, PACE_STEPS);
}

static bool find_slow(const struct pace *p, uint32_t *ret_rank, double *ret_ratio) {
        double most = 0;

        for (uint32_t r = 0; r < p->n_ranks; r++) {
                double ratio = median_ratio(p, r);
                if (ratio > most) {
                        most = ratio;
                        *ret_rank = r;
                }
        }
        *ret_ratio = most;
        return most >= (p->slow && *ret_rank == p->rank ? PACE_OVER : PACE_SLOW);
}

struct pace_share *pace_shares(struct pace *p) {
        return p->shares;
}

bool pace_step(struct pace *p, struct pace_row *ret) {
        uint32_t rank = 0;
        double ratio = 0;

        describe(p, ret);
        add_ratios(p);
        bool slow = p->steps >= PACE_STEPS && find_slow(p, &rank, &ratio);
        bool is_new = slow != p->slow || (slow && (rank != p->rank || fabs(ratio - p->ratio) >= 0.1));
        if (is_new) {
                p->slow = slow;
                p->rank = rank;
                p->ratio = ratio;
        }
        return is_new;
}

bool pace_slow(const struct pace *p, uint32_t *ret_rank, double *ret_ratio) {
        *ret_rank = p->rank;
        *ret_ratio = p->ratio;
        return p->slow;
}
