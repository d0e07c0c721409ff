/* Validation; see run.h. The same samples every time, with draws of their own (PHILOX_EVALUATE) and without
 * dropout: rows compare. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "trainer/run.h"

void run_evaluate(struct run *run) {
        struct model_pass pass = { .seed = run->spec->train.seed, .stage = run->stage };
        struct run_sums sums = {};
        struct metrics_losses losses;
        uint64_t begin, end;

        if (!run->now->validation)
                return;
        if (run->rank == 0)
                progress_busy(run->progress, "evaluation");
        uint64_t samples = MIN(run->spec->train.evaluate_samples, samples_n(run->now->validation_samples));
        batches_share(samples, run->rank, run->n_ranks, &begin, &end);
        batches_fill(run->validation_batches, begin, end);
        for (uint32_t i = 0; i < batches_n(run->validation_batches); i++) {
                model_evaluate(run->model, batches_get(run->validation_batches, i), &pass, &sums.loss);
                if (run->rank == 0)
                        progress_watchdog(run->progress);
        }
        sums = run_agree_sums(run, &sums);
        run_losses(run, &sums.loss, &losses);
        if (isfinite(losses.loss) && !(run->best_validation_loss <= losses.loss)) {
                run->best_validation_loss = losses.loss;
                run->best_validation_step = run->step;
        }
        if (run->rank != 0)
                return;
        progress_busy(run->progress, NULL);
        metrics_validation(run->metrics, run->step, samples, &losses);
        progress_end_line(run->progress);
        (void) fprintf(stderr, "validation at step %" PRIu64 ": loss %.4f, mlm loss %.4f, accuracy %.3f\n", run->step,
                       losses.loss, losses.mlm_loss, losses.mlm_accuracy);
}
