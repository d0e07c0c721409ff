/*
 * One update; see run.h. Order: plan (samples, N), forward and backward of each micro-batch, sum of gradients, check,
 * update. No gradient that is not finite reaches the weights; what an update itself makes of them is checked before it
 * is written down (saver.c). All ranks take the same number of turns, the ones that ran out of micro-batches only agree
 * on the flags.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "trainer/model/optimizer.h"
#include "trainer/run/run.h"
#include "trainer/run/signals.h"

/* What ranks exchange before the first backward. */
struct plan {
        uint64_t n_masked, n_micro, hash;
};

struct timer {
        uint64_t last;
};

static double lap(struct timer *timer) {
        uint64_t now = clock_monotonic_usec();
        double seconds = (double) (now - timer->last) / 1e6;
        timer->last = now;
        return seconds;
}

static struct batches *take_batches(struct run *run) {
        uint64_t begin, end, b = run->spec->train.global_batch, at = run->state.stage_step * b;

        batches_share(b, run->ranks.own, run->ranks.n, &begin, &end);
        return prefetch_take(run->prefetch, at + begin, at + end, at + b + begin, at + b + end);
}

static struct plan agree_plan(struct run *run, const struct batches *batches) {
        struct plan mine = { batches_n_masked(batches), batches_n(batches), batches_hash(batches) }, total = {};
        const struct plan *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));

        for (uint32_t r = 0; r < run->ranks.n; r++) {
                total.n_masked += all[r].n_masked;
                total.n_micro = MAX(total.n_micro, all[r].n_micro);
                total.hash += all[r].hash;
        }
        return total;
}

/* What any rank wants now. The clock that counts is rank 0's. */
static uint64_t agree_flags(struct run *run) {
        uint64_t wanted = signals_wanted(), every = run->spec->checkpoint.every_sec * USEC_PER_SEC;
        uint64_t mine = (wanted & SIGNALS_STOP ? RUN_STOP : 0) | (wanted & SIGNALS_CHECKPOINT ? RUN_CHECKPOINT : 0);

        signals_clear(wanted & SIGNALS_CHECKPOINT);
        if (run->ranks.own == 0 && every > 0 && clock_boottime_usec() - run->out.last_checkpoint_usec >= every)
                mine |= RUN_INTERVAL;
        return exchange_or(run->ranks.exchange, mine);
}

/* `sum`: gradients may go to the other ranks as they become ready. */
static void run_micro_batch(struct run *run, const struct batch *batch, uint64_t n_masked, bool sum,
                            struct run_sums *sums) {
        double scale = run->state.loss_scale.value;
        struct model_pass pass = { .seed = run->spec->train.seed,
                                   .stage = run->state.stage,
                                   .dropout = true,
                                   .classify = run_classifies(run),
                                   .ranges = run->job->class_ranges,
                                   .frozen = run->spec->optimizer.freeze,
                                   .mlm_scale = n_masked > 0 ? scale / (double) n_masked : 0,
                                   .sentence_scale = scale / (double) run->spec->train.global_batch,
                                   .ready = sum && run->buckets ? run_buckets_ready : NULL,
                                   .context = run };

        uint64_t begin = clock_monotonic_usec();
        model_forward_backward(run->model, batch, &pass, NULL);
        sums->compute_sec += (double) (clock_monotonic_usec() - begin) / 1e6;
        sums->flops += model_batch_flops(run->model, batch, &pass);
        sums->tokens += batch->n_tokens;
}

/* The first tensor whose gradient is not finite, or −1. Squares are added in double: those of finite floats stay finite. */
static int64_t find_not_finite(const struct run *run) {
        size_t size = model_state(run->model)->element_size;

        for (uint32_t i = 0; i < model_n_tensors(run->model); i++) {
                const struct model_tensor *t = model_tensor(run->model, i);
                const char *g = (const char *) model_state(run->model)->gradients + t->offset * size;
                if (!isfinite(run->ops->sum_squares(g, t->n_elements)))
                        return i;
        }
        return -1;
}

static void update(struct run *run, struct metrics_row *row) {
        const struct spec_optimizer *o = &run->spec->optimizer;

        row->learning_rate = schedule_rate(o, run->state.stage_step, run->spec->train.steps);
        if (isfinite(row->gradient_norm)) {
                optimizer_update(run->model, o, row->learning_rate, run->state.correction_step + 1,
                                 optimizer_gradient_scale(o, row->gradient_norm) / run->state.loss_scale.value);
                run->state.correction_step++;
                loss_scale_clean(&run->state.loss_scale);
        }
        run->state.step++;
        run->state.stage_step++;
}

/* fp16 alone: the gradients overflowed and the next step has a lower loss scale. This one's samples are spent. */
static bool leave_out(struct run *run, const struct metrics_row *row) {
        if (!isfinite(row->losses.loss) || isfinite(row->gradient_norm) || !loss_scale_overflow(&run->state.loss_scale))
                return false;
        if (run->ranks.own == 0) {
                progress_end_line(run->out.progress);
                (void) fprintf(stderr,
                               "step %" PRIu64 ": fp16 gradients overflow, no update; the loss scale is now %g\n",
                               row->step, run->state.loss_scale.value);
        }
        return true;
}

/* Sums of a step, in the one message that all ranks send for the loss, and how long each computed for its share. */
static struct run_sums agree_step(struct run *run, const struct run_sums *mine, struct metrics_row *row) {
        struct pace_share *shares = run->out.pace ? pace_shares(run->out.pace) : NULL;
        struct run_sums total = run_agree_sums(run, mine, shares);
        uint32_t rank;
        double ratio;

        if (!run->out.pace)
                return total;
        bool is_new = pace_step(run->out.pace, &row->pace);
        row->slowest_host = exchange_host(run->ranks.exchange, row->pace.slowest);
        if (is_new && pace_slow(run->out.pace, &rank, &ratio))
                progress_slowest(run->out.progress, exchange_host(run->ranks.exchange, rank), rank, ratio);
        else if (is_new)
                progress_slowest(run->out.progress, NULL, 0, 0);
        return total;
}

/* `begin`: of the step; `paused`: checkpoint_sec before it. */
static void report(struct run *run, struct metrics_row *row, const struct run_sums *sums, uint64_t begin,
                   double paused) {
        double seconds = (double) MAX(clock_monotonic_usec() - begin, UINT64_C(1)) / 1e6 + paused;
        uint64_t every = MAX(run->spec->train.log_every, UINT64_C(1));
        bool last = run->state.stage_step == run->spec->train.steps; /* of the stage */

        if (run->ranks.own != 0)
                return;
        row->checkpoint_sec = run->out.checkpoint_sec;
        run->out.checkpoint_sec = 0;
        row->steps_per_sec = 1 / seconds;
        row->samples_per_sec = (double) run->spec->train.global_batch * row->steps_per_sec;
        row->tokens_per_sec = (double) sums->tokens * row->steps_per_sec;
        row->flops_per_sec = sums->flops * row->steps_per_sec;
        row->mfu = run->peak_flops > 0 ? row->flops_per_sec / run->peak_flops : NAN;
        if (run->state.step % every == 0 || last)
                metrics_step(run->out.metrics, row);
        run_announce_samples(run);
        progress_step(run->out.progress, run->state.step, row->losses.loss, row->samples_per_sec,
                      last && run->state.stage + 1 == run->job->n_stages);
}

/* Where a device is in a step: the host runs ahead of it, and its clock would measure only what was waited for. */
enum { STAMP_PASSED = MODEL_STAMPS, STAMP_SUMMED, STAMP_UPDATED, STAMPS };
static_assert(STAMPS <= OPS_STAMPS, "more stamps than a device has");

static void stamp(struct run *run, unsigned i) {
        if (run->ops->stamp)
                run->ops->stamp(i);
}
static double device_sec(const struct run *run, unsigned from, unsigned to) {
        return run->ops->between ? run->ops->between(from, to) : 0;
}

/* backward_sec is forward's, too. A device has not done this step's update yet: the one before is reported. */
static void split_times(struct run *run, struct metrics_row *row, double update_before) {
        if (run->ops->between) {
                row->backward_sec = device_sec(run, STAMP_BEGIN, STAMP_PASSED);
                row->exchange_sec = device_sec(run, STAMP_PASSED, STAMP_SUMMED);
                row->update_sec = update_before;
        }
        row->forward_sec = row->backward_sec * model_take_forward_share(run->model);
        row->backward_sec -= row->forward_sec;
}

/* Forward and backward of this rank's share. Returns 1 where a stop was asked for. `sum`: as run_micro_batch's, in the last turn. */
static int accumulate(struct run *run, const struct batches *batches, const struct plan *plan, bool sum,
                      struct run_sums *sums, uint64_t *flags) {
        uint64_t turns = MAX(plan->n_micro, UINT64_C(1));

        model_zero_gradients(run->model);
        for (uint64_t i = 0; i < turns; i++) {
                *flags |= agree_flags(run);
                if (*flags & RUN_STOP)
                        return 1;
                if (i < batches_n(batches))
                        run_micro_batch(run, batches_get(batches, (uint32_t) i), plan->n_masked, sum && i + 1 == turns,
                                        sums);
                if (run->ranks.own == 0)
                        progress_watchdog(run->out.progress);
        }
        model_settle_gradients(run->model); /* a rank may have had nothing to do */
        stamp(run, STAMP_PASSED);
        model_take_loss(run->model, &sums->loss);
        if (run->ops->between) /* the host only waited for it */
                sums->compute_sec = device_sec(run, STAMP_BEGIN, STAMP_PASSED);
        return 0;
}

void run_announce_samples(struct run *run) {
        uint64_t b = run->spec->train.global_batch, first = run->state.stage_step * b;

        if (run->state.stage_step < run->spec->train.steps)
                progress_samples(run->out.progress, first, first + b - 1);
}

/* What a rank found in its own share. */
struct finding {
        int64_t tensor; /* −1: all gradients are finite */
        bool loss;      /* is not */
};

/* The sum of all ranks does not show which rank is at fault: each makes its share again (the draws are the same) and checks it. Returns the
 * first rank that finds something, its finding in *ret; n_ranks if none does (a fault that does not come again). */
static uint32_t find_culprit(struct run *run, const struct batches *batches, const struct plan *plan,
                             struct finding *ret) {
        struct run_sums sums = {};
        uint64_t flags = 0;

        if (accumulate(run, batches, plan, false, &sums, &flags) > 0)
                return run->ranks.n; /* a stop was asked for: alike on all ranks */
        struct finding mine = { .tensor = find_not_finite(run),
                                .loss = !isfinite(sums.loss.mlm_sum) || !isfinite(sums.loss.sentence_sum) };
        const struct finding *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));
        for (uint32_t r = 0; r < run->ranks.n; r++)
                if (all[r].tensor >= 0 || all[r].loss) {
                        *ret = all[r];
                        return r;
                }
        return run->ranks.n;
}

static int not_finite(struct run *run, const struct batches *batches, const struct plan *plan,
                      const struct metrics_row *row, struct error *error) {
        struct finding found = { .tensor = find_not_finite(run) };
        uint32_t rank = run->ranks.n > 1 ? find_culprit(run, batches, plan, &found) : 0;
        const char *name = found.tensor >= 0 ? model_tensor(run->model, (uint32_t) found.tensor)->name : NULL;

        (void) error_input(
                error, BERTD_EXIT_NAN,
                "step %" PRIu64 ": loss %g, gradient norm %g: not finite%s%s (samples %" PRIu64 " to %" PRIu64 ")%s",
                row->step, row->losses.loss, row->gradient_norm, name ? ", first in the gradient of " : "",
                name ? name : "", row->first_k, row->last_k,
                run->precision == PRECISION_FP16 ? "; a new run with train.precision: fp32 has more range" : "");
        return rank < run->ranks.n ? exchange_blame(run->ranks.exchange, rank, error) : -error->code;
}

int run_step(struct run *run, uint64_t *ret_flags, struct error *error) {
        uint64_t begin = clock_monotonic_usec();
        struct timer timer = { begin };
        struct metrics_row row = { .step = run->state.step + 1,
                                   .stage = run->state.stage,
                                   .first_k = run->state.stage_step * run->spec->train.global_batch };
        struct run_sums sums = {};
        double paused = run->out.checkpoint_sec;

        row.last_k = row.first_k + run->spec->train.global_batch - 1;
        *ret_flags = 0;
        struct batches *batches = take_batches(run);
        double data_sec = (double) (clock_monotonic_usec() - begin) / 1e6; /* its own, before it waits for the others */
        struct plan plan = agree_plan(run, batches);
        row.sample_hash = plan.hash;
        row.data_sec = lap(&timer);
        if (accumulate(run, batches, &plan, true, &sums, ret_flags) > 0)
                return 1;
        run_check_device(run);
        row.backward_sec = lap(&timer); /* forward, too, as yet */
        double update_before = device_sec(run, STAMP_SUMMED, STAMP_UPDATED);
        run_sum_gradients(run);
        stamp(run, STAMP_SUMMED);
        sums.compute_sec += data_sec;
        sums = agree_step(run, &sums, &row);
        row.exchange_sec = lap(&timer);
        bool counted = run_losses(run, &sums.loss, &row.losses);
        row.gradient_norm = optimizer_gradient_norm(run->model) / run->state.loss_scale.value;
        run_check_device(run);
        if (((counted && !isfinite(row.losses.loss)) || !isfinite(row.gradient_norm)) && !leave_out(run, &row))
                return not_finite(run, batches, &plan, &row, error);
        row.update_sec = lap(&timer);
        run_settle(run);
        (void) lap(&timer);
        update(run, &row);
        stamp(run, STAMP_UPDATED);
        row.update_sec += lap(&timer);
        split_times(run, &row, update_before);
        report(run, &row, &sums, begin, paused);
        return 0;
}
