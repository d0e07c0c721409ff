/* Validation; see run.h. The same samples every time, with separate draws (PHILOX_EVALUATE) and without
 * dropout: rows compare. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/run/run.h"
#include "trainer/run/signals.h"

/* The ranks' micro-batches of a share are not equally many: all look as often. */
static uint64_t most_turns(struct run *run, uint64_t mine) {
        const uint64_t *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));
        uint64_t most = 0;

        for (uint32_t r = 0; r < run->ranks.n; r++)
                most = MAX(most, all[r]);
        return most;
}

/* Sums over one part, all ranks together, a share of bounded size at a time. False: a stop was asked for. */
static bool evaluate_part(struct run *run, enum run_part part, struct batches *batches, struct run_sums *ret) {
        struct model_pass pass = { .seed = run->spec->train.seed,
                                   .stage = run->state.stage,
                                   .classify = run_classifies(run),
                                   .ranges = run->job->class_ranges };
        struct run_sums sums = {};
        uint64_t begin, end, n = run_n_evaluated(run, part), largest = n / run->ranks.n + (n % run->ranks.n > 0);

        batches_share(n, run->ranks.own, run->ranks.n, &begin, &end);
        for (uint64_t done = 0; done < largest; done += EVALUATION_SHARE_MAX) {
                uint64_t at = MIN(end, begin + done);
                batches_fill(batches, at, MIN(end, at + EVALUATION_SHARE_MAX));
                uint64_t turns = most_turns(run, batches_n(batches));
                for (uint64_t i = 0; i < turns; i++) {
                        if (exchange_or(run->ranks.exchange, signals_wanted() & SIGNALS_STOP))
                                return false;
                        if (i < batches_n(batches))
                                model_evaluate(run->model, batches_get(batches, (uint32_t) i), &pass, &sums.loss);
                        if (run->ranks.own == 0)
                                progress_watchdog(run->out.progress);
                }
        }
        *ret = run_agree_sums(run, &sums, NULL);
        return true;
}

/* `of`: what the row names the weights, or "". */
static void say(struct run *run, const char *what, uint64_t samples, const struct metrics_losses *l, const char *of) {
        progress_end_line(run->out.progress);
        if (run_regresses(run))
                (void) fprintf(stderr, "%s at step %" PRIu64 ": mean squared error %.4f of %" PRIu64 " texts%s\n", what,
                               run->state.step, l->loss, samples, of);
        else if (run_classifies(run))
                (void) fprintf(stderr,
                               "%s at step %" PRIu64 ": accuracy %.4f (error %.2f %%) of %" PRIu64
                               " texts, loss %.4f%s\n",
                               what, run->state.step, l->sentence_accuracy, 100 * (1 - l->sentence_accuracy), samples,
                               l->loss, of);
        else if (isnan(l->mlm_accuracy) && isnan(l->sentence_accuracy))
                (void) fprintf(stderr,
                               "%s at step %" PRIu64 ": no token of the %" PRIu64
                               " samples is masked: there is no loss\n",
                               what, run->state.step, samples);
        else if (isnan(l->mlm_accuracy))
                (void) fprintf(stderr,
                               "%s at step %" PRIu64 ": loss %.4f, of the sentences alone: no token is masked\n", what,
                               run->state.step, l->loss);
        else
                (void) fprintf(stderr, "%s at step %" PRIu64 ": loss %.4f, mlm loss %.4f, accuracy %.3f\n", what,
                               run->state.step, l->loss, l->mlm_loss, l->mlm_accuracy);
}

bool run_evaluate(struct run *run) {
        struct metrics_losses losses;

        run->state.evaluation_due = false;
        if (run->now->n[PART_VALIDATION] == 0)
                return false;
        if (run->ranks.own == 0)
                progress_busy(run->out.progress, "evaluation");
        struct run_sums sums;
        run->state.evaluation_due = !evaluate_part(run, PART_VALIDATION, run->validation_batches, &sums);
        if (run->state.evaluation_due) {
                if (run->ranks.own == 0)
                        progress_busy(run->out.progress, NULL);
                return false;
        }
        (void) run_losses(run, &sums.loss, &losses);
        run->state.validated = (struct run_figures) { run->state.step, losses.loss, losses.sentence_accuracy };
        bool better = run_is_better(run, losses.loss, losses.sentence_accuracy, run_classifies(run));
        exchange_broadcast(run->ranks.exchange, &better,
                           sizeof(better)); /* rank 0 knows whether the best was written */
        if (better) {
                run->state.best_validation_loss = losses.loss;
                run->state.best_validation_accuracy = losses.sentence_accuracy;
                run->state.best_validation_step = run->state.step;
        }
        if (run->ranks.own == 0) {
                progress_busy(run->out.progress, NULL);
                metrics_validation(run->out.metrics, "validation", run->state.step,
                                   run_n_evaluated(run, PART_VALIDATION), &losses, NULL);
                say(run, "validation", run_n_evaluated(run, PART_VALIDATION), &losses, "");
        }
        return better && run_classifies(run);
}

/* ---- at the end ---- */

/* The weights become the best checkpoint's, or stay the last one's: *ret_best. */
static int take_tested(struct run *run, bool *ret_best, struct error *error) {
        struct {
                uint64_t step;
                bool read;
        } best = {};

        run_settle(run); /* a checkpoint may still be copied from the weights */
        int r = run->ranks.own == 0 ? run_read_best(run, &best.read, error) : 0;
        best.step = run->out.best_kept_step;
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r < 0)
                return r;
        exchange_broadcast(run->ranks.exchange, &best, sizeof(best));
        *ret_best = best.step > 0;
        if (best.step > 0)
                run->state.step = best.step;
        return best.read ? run_broadcast(run, 1, error) : 0;
}

static void report_test(struct run *run, const struct metrics_losses *losses, bool best) {
        cleanup_free char *path = rundir_checkpoint_path(run->out.rundir, run->state.step);
        cleanup_free char *of = format_string(", of the %s checkpoint, %s", best ? "best" : "last", path ? path : "");

        metrics_validation(run->out.metrics, "test", run->state.step, run->now->n[PART_TEST], losses,
                           best ? "best" : "last");
        say(run, "test", run->now->n[PART_TEST], losses, of ? of : "");
}

int run_test(struct run *run, struct error *error) {
        struct batches *batches = NULL;
        struct metrics_losses losses;
        struct run_sums sums;
        bool best = false;

        if (run->ranks.own == 0 && run_classifies(run))
                run_settle_best(run);
        if (run->now->n[PART_TEST] == 0)
                return 0;
        int r = take_tested(run, &best, error);
        if (r < 0)
                return r;
        r = exchange_agree(run->ranks.exchange, run_evaluation_batches(run, PART_TEST, &batches, error), error);
        if (r >= 0)
                r = evaluate_part(run, PART_TEST, batches, &sums) ? 0 : 1;
        if (r == 0) {
                (void) run_losses(run, &sums.loss, &losses);
                if (run->ranks.own == 0)
                        report_test(run, &losses, best);
        }
        batches_free(batches);
        return r;
}
