/* Validation; see run.h. The same samples every time, with draws of their own (PHILOX_EVALUATE) and without
 * dropout: rows compare. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "trainer/run.h"
#include "trainer/signals.h"
#include "trainer/weights.h"

/* The ranks' micro-batches of a share are not equally many: all look as often. */
static uint64_t most_turns(struct run *run, uint64_t mine) {
        const uint64_t *all = exchange_gather(run->exchange, &mine, sizeof(mine));
        uint64_t most = 0;

        for (uint32_t r = 0; r < run->n_ranks; r++)
                most = MAX(most, all[r]);
        return most;
}

/* Sums over one part, all ranks together, a share of bounded size at a time. False: a stop was asked for. */
static bool evaluate_part(struct run *run, enum run_part part, struct batches *batches, struct run_sums *ret) {
        struct model_pass pass = { .seed = run->spec->train.seed,
                                   .stage = run->stage,
                                   .classify = run_classifies(run),
                                   .ranges = run->class_ranges };
        struct run_sums sums = {};
        uint64_t begin, end, n = run_n_evaluated(run, part), largest = n / run->n_ranks + (n % run->n_ranks > 0);

        batches_share(n, run->rank, run->n_ranks, &begin, &end);
        for (uint64_t done = 0; done < largest; done += EVALUATION_SHARE_MAX) {
                uint64_t at = MIN(end, begin + done);
                batches_fill(batches, at, MIN(end, at + EVALUATION_SHARE_MAX));
                uint64_t turns = most_turns(run, batches_n(batches));
                for (uint64_t i = 0; i < turns; i++) {
                        if (exchange_or(run->exchange, signals_wanted() & SIGNALS_STOP))
                                return false;
                        if (i < batches_n(batches))
                                model_evaluate(run->model, batches_get(batches, (uint32_t) i), &pass, &sums.loss);
                        if (run->rank == 0)
                                progress_watchdog(run->progress);
                }
        }
        *ret = run_agree_sums(run, &sums);
        return true;
}

/* Classes are told apart well first, and surely then. */
static bool is_better(const struct run *run, const struct metrics_losses *l) {
        if (!isfinite(l->loss))
                return false;
        if (run_classifies(run) && !(run->best_validation_accuracy == l->sentence_accuracy))
                return !(run->best_validation_accuracy > l->sentence_accuracy);
        return !(run->best_validation_loss <= l->loss);
}

static void say(struct run *run, const char *what, uint64_t samples, const struct metrics_losses *l) {
        progress_end_line(run->progress);
        if (run_classifies(run))
                (void) fprintf(
                        stderr,
                        "%s at step %" PRIu64 ": accuracy %.4f (error %.2f %%) of %" PRIu64 " texts, loss %.4f\n", what,
                        run->step, l->sentence_accuracy, 100 * (1 - l->sentence_accuracy), samples, l->loss);
        else
                (void) fprintf(stderr, "%s at step %" PRIu64 ": loss %.4f, mlm loss %.4f, accuracy %.3f\n", what,
                               run->step, l->loss, l->mlm_loss, l->mlm_accuracy);
}

bool run_evaluate(struct run *run) {
        struct metrics_losses losses;

        run->evaluation_due = false;
        if (run->now->n[PART_VALIDATION] == 0)
                return false;
        if (run->rank == 0)
                progress_busy(run->progress, "evaluation");
        struct run_sums sums;
        run->evaluation_due = !evaluate_part(run, PART_VALIDATION, run->validation_batches, &sums);
        if (run->evaluation_due) {
                if (run->rank == 0)
                        progress_busy(run->progress, NULL);
                return false;
        }
        run_losses(run, &sums.loss, &losses);
        bool better = is_better(run, &losses);
        if (better) {
                run->best_validation_loss = losses.loss;
                run->best_validation_accuracy = losses.sentence_accuracy;
                run->best_validation_step = run->step;
        }
        if (run->rank == 0) {
                progress_busy(run->progress, NULL);
                metrics_validation(run->metrics, "validation", run->step, run_n_evaluated(run, PART_VALIDATION),
                                   &losses);
                say(run, "validation", run_n_evaluated(run, PART_VALIDATION), &losses);
        }
        return better && run_classifies(run);
}

/* ---- at the end ---- */

static int read_best(struct run *run, struct error *error) {
        cleanup_free char *path = rundir_checkpoint_path(run->rundir, run->best_validation_step);
        cleanup_checkpoint struct checkpoint *c = NULL;

        if (!path)
                return error_errno(error, ENOMEM, "checkpoint");
        int r = checkpoint_open(path, &c, error);
        return r < 0 ? r : weights_read(c, run->model, error);
}

int run_test(struct run *run, struct error *error) {
        struct batches *batches = NULL;
        struct metrics_losses losses;
        uint64_t n = run->now->n[PART_TEST];

        if (n == 0)
                return 0;
        exchange_broadcast(run->exchange, &run->best_validation_step, sizeof(run->best_validation_step));
        if (run->best_validation_step > 0) {
                run_settle(run);
                int r = exchange_agree(run->exchange, run->rank == 0 ? read_best(run, error) : 0, error);
                if (r >= 0)
                        r = run_broadcast(run, 1, error);
                if (r < 0)
                        return r;
                run->step = run->best_validation_step;
        }
        int r = exchange_agree(run->exchange, run_evaluation_batches(run, PART_TEST, &batches, error), error);
        struct run_sums sums;
        if (r >= 0)
                r = evaluate_part(run, PART_TEST, batches, &sums) ? 0 : 1;
        if (r == 0) {
                run_losses(run, &sums.loss, &losses);
                if (run->rank == 0) {
                        metrics_validation(run->metrics, "test", run->step, n, &losses);
                        say(run, "test", n, &losses);
                }
        }
        batches_free(batches);
        return r;
}
