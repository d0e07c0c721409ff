/*
 * How well a classifier did, from its confusion matrix: (n × n) counts, a row a true class, a column a predicted one. The definitions
 * are scikit-learn's with its defaults (precision_recall_fscore_support): what has nothing to divide by is 0.
 */
#ifndef TRAINER_INFER_SCORES_H
#define TRAINER_INFER_SCORES_H

#include <stdbool.h>
#include <stdint.h>

struct class_scores {
        uint64_t support, predicted, hits; /* texts of the class, predicted as it, both */
        double precision, recall, f1;
};

/* Turns a row of logits into probabilities; returns the greatest, the first if several are. */
uint32_t scores_softmax(double *row, uint32_t n);

struct class_scores scores_of_class(const uint64_t *confusion, uint32_t n, uint32_t k);

/* The mean F1 of the classes that occur in truth or prediction; 0 if none does. */
double scores_macro_f1(const uint64_t *confusion, uint32_t n);

static inline bool scores_occurs(const struct class_scores *scores) { return scores->support + scores->predicted > 0; }

#endif
