/*
 * See mixture.h. Part p has the slots [first_slot[p], first_slot[p + 1]) of an epoch and the windows [first_window[p],
 * first_window[p + 1]) of the map, in which documents are in order.
 */
#include "trainer/data/mixture.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

struct mixture {
        uint32_t n_parts;
        uint64_t *first_slot, *first_window; /* (n_parts + 1) */
};

/* First window whose document is not before `document`. */
static uint64_t find_window(const struct windows *windows, uint64_t document) {
        uint64_t low = 0, high = windows_n(windows);

        while (low < high) {
                uint64_t middle = low + (high - low) / 2;
                if (windows_get(windows, middle)->document < document)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static int divide(struct mixture *mixture, const struct corpora *corpora, const struct windows *windows,
                  const double *weights, struct error *error) {
        double n = (double) windows_n(windows), sum = 0, before = 0;

        for (uint32_t p = 0; p < corpora->n; p++)
                sum += weights[p];
        for (uint32_t p = 0; p < corpora->n; p++) {
                before += weights[p];
                mixture->first_slot[p + 1] =
                        p + 1 < corpora->n ? (uint64_t) llround(n * (before / sum)) : windows_n(windows);
                mixture->first_window[p + 1] = find_window(windows, corpora->first_document[p + 1]);
                if (mixture->first_window[p + 1] == mixture->first_window[p])
                        return error_input(error, BERTD_EXIT_DATA, "%s: holds no text", corpora->prefixes[p]);
                if (mixture->first_slot[p + 1] == mixture->first_slot[p])
                        return error_input(
                                error, BERTD_EXIT_DATA,
                                "%s: its weight in data.train_weights, %.15g of %.15g, is not one of the %" PRIu64
                                " samples of an epoch: give it more or leave it out",
                                corpora->prefixes[p], weights[p], sum, windows_n(windows));
        }
        return 0;
}

int mixture_new(const struct corpora *corpora, const struct windows *windows, const double *weights,
                struct mixture **ret, struct error *error) {
        struct mixture *mixture = calloc(1, sizeof(*mixture));
        if (!mixture)
                return error_errno(error, ENOMEM, "corpora");

        mixture->n_parts = corpora->n;
        mixture->first_slot = calloc((size_t) corpora->n + 1, sizeof(*mixture->first_slot));
        mixture->first_window = calloc((size_t) corpora->n + 1, sizeof(*mixture->first_window));
        int r = mixture->first_slot && mixture->first_window ? divide(mixture, corpora, windows, weights, error)
                                                             : error_errno(error, ENOMEM, "corpora");
        if (r < 0) {
                mixture_free(mixture);
                return r;
        }
        *ret = mixture;
        return 0;
}

void mixture_free(struct mixture *mixture) {
        if (!mixture)
                return;
        free(mixture->first_slot);
        free(mixture->first_window);
        free(mixture);
}

struct turn mixture_turn(const struct mixture *mixture, uint64_t epoch, uint64_t slot) {
        uint32_t p = 0;

        while (slot >= mixture->first_slot[p + 1])
                p++;
        uint64_t share = mixture->first_slot[p + 1] - mixture->first_slot[p];
        uint64_t turn = epoch * share + slot - mixture->first_slot[p];
        uint64_t n = mixture->first_window[p + 1] - mixture->first_window[p];
        return (struct turn) {
                .part = p, .first = mixture->first_window[p], .n = n, .epoch = turn / n, .index = turn % n
        };
}
