/*
 * Corpora by weight (data.train_weights). An epoch of the stream has n samples, as many as there are windows; corpus p has a fixed
 * share of them, n · weight / sum of weights, rounded so that they add up. Its samples of all epochs, one after the other, are
 * its turns: they go through its own windows again and again, so that each of these comes as often as any other, give or
 * take one. All of it is a function of (epoch, slot): O(1), nothing is saved.
 */
#ifndef TRAINER_DATA_MIXTURE_H
#define TRAINER_DATA_MIXTURE_H

#include <stdint.h>

#include "common/error.h"
#include "trainer/data/corpora.h"
#include "trainer/data/windows.h"

struct mixture;

/* The `index`-th turn of round `epoch` through the windows [first, first + n) of a corpus. */
struct turn {
        uint32_t part;
        uint64_t first, n, epoch, index;
};

/* weights (corpora->n): above 0. A corpus without a window or without a sample in an epoch is refused (exit 65). Borrows nothing. */
int mixture_new(const struct corpora *corpora, const struct windows *windows, const double *weights,
                struct mixture **ret, struct error *error);
void mixture_free(struct mixture *mixture);

struct turn mixture_turn(const struct mixture *mixture, uint64_t epoch, uint64_t slot); /* slot < n */

#endif
