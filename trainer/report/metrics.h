/*
 * RUN_DIR/metrics.jsonl: one JSON object a line, and the same curves for TensorBoard in RUN_DIR/tensorboard. A training row a logged step, and rows with "validation": {…}. Each
 * step has one row: a run that resumes at step s first cuts off what lies past s. Used by rank 0 alone.
 *
 *   step                 updates completed
 *   loss                 mlm_loss + nsp_loss (nats)
 *   mlm_accuracy, nsp_accuracy   shares in 0..1; of classification there is one, accuracy; of numbers none, the loss is the mean squared error
 *   stage                the stage of the run, from 0
 *   learning_rate, gradient_norm
 *   steps_per_sec, samples_per_sec, tokens_per_sec (valid ones), flops_per_sec, mfu   of all ranks together; mfu: of what their matrix product alone does,
 *                        measured at start; FLOPs as model_batch_flops (model.h) counts them, no frozen or unused part among them
 *   first_k, last_k, sample_hash          the step's samples in the stage's stream, and the sum of their hashes
 *   data_sec, forward_sec, backward_sec, exchange_sec, update_sec, checkpoint_sec   how rank 0 spent the step; on a device by its
 *                        own clock, which knows the update of the step before
 *   compute_min, compute_median, compute_max, slowest   of several ranks: seconds that a rank computed before the exchange, waiting for no
 *                        other; and the rank that took longest, with its host
 */
#ifndef TRAINER_REPORT_METRICS_H
#define TRAINER_REPORT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"
#include "trainer/report/pace.h"

struct metrics;

struct metrics_losses {
        double loss, mlm_loss, mlm_accuracy, sentence_loss, sentence_accuracy; /* NaN: no such loss, written as null */
};

struct metrics_row {
        uint64_t step, first_k, last_k, sample_hash;
        uint32_t stage;
        struct metrics_losses losses;
        double learning_rate, gradient_norm, steps_per_sec, samples_per_sec, tokens_per_sec, flops_per_sec, mfu;
        double data_sec, forward_sec, backward_sec, exchange_sec, update_sec, checkpoint_sec;
        struct pace_row pace;
        const char *slowest_host; /* NULL: one rank */
};

/* Opens or creates RUN_DIR/metrics.jsonl, and cuts rows with a step above `step`, and a last line that was cut short; `validate`:
 * the validation of that step, too, which is made again. Begins an event file. */
int metrics_open(const char *run_dir, uint64_t step, bool validate, struct metrics **ret, struct error *error);

/* The stage of the rows that follow, and, by its data, what the sentence's loss is called there: "nsp" (at first) or "sop"; of classification they have loss and
 * accuracy alone. */
void metrics_set_stage(struct metrics *metrics, uint32_t stage, const struct spec_data *data);
void metrics_close(struct metrics *metrics);

/* A row that cannot be written (disk full) is lost; the first loss is reported on stderr, training continues. */
void metrics_step(struct metrics *metrics, const struct metrics_row *row);
/* `part`: "validation" or "test"; `checkpoint`: which one a test is of, "best" or "last"; else NULL. */
void metrics_validation(struct metrics *metrics, const char *part, uint64_t step, uint64_t samples,
                        const struct metrics_losses *losses, const char *checkpoint);

/* Makes rows durable: before a checkpoint of the same step. */
void metrics_sync(struct metrics *metrics);

#endif
