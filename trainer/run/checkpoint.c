/*
 * Taking checkpoints; see run.h. Before a snapshot all ranks compare a hash of their weights: a rank that drifted
 * (broken memory, a bug) must not be written down as good. A periodic checkpoint that cannot be written is reported and
 * tried again at the next interval; the last one must succeed. A state that is not finite ends the run.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "trainer/run/run.h"

static int compare_weights(struct run *run, struct error *error) {
        uint32_t rank;

        if (!run_find_odd_weights(run, &rank))
                return 0;
        (void) error_set(error, EIO, "step %" PRIu64 ": the weights of rank %u differ from those of rank 0",
                         run->state.step, rank);
        return exchange_blame(run->ranks.exchange, rank, error);
}

static void finished(struct run *run, const struct saver_result *result) {
        struct error error = {};

        if (!result->done)
                return;
        if (result->r < 0) {
                run->state.last_checkpoint_step = UINT64_MAX;
                if (result->error.exit == BERTD_EXIT_NAN) {
                        run->out.not_finite = result->error;
                        return;
                }
                if (run_classifies(run) && result->step == run->state.best_validation_step) {
                        run_lose_best(run, &result->error);
                        run_link_best(run);
                        return;
                }
                progress_end_line(run->out.progress);
                (void) fprintf(stderr, "bert-trainer: %s: no checkpoint of step %" PRIu64 ", training continues\n",
                               result->error.text, result->step);
                return;
        }
        progress_checkpoint(run->out.progress, result->path, run->out.stall_sec, result->seconds);
        run_keep_best(run, result->step);
        run_link_best(run);
        if (rundir_retain(run->out.rundir, run->spec->checkpoint.keep, run->spec->checkpoint.keep_every,
                          run->out.best_kept_step, &error) < 0)
                (void) fprintf(stderr, "bert-trainer: %s\n", error.text);
}

void run_settle(struct run *run) {
        uint64_t begin = clock_monotonic_usec();

        if (run->ranks.own != 0)
                return;
        saver_settle(run->out.saver);
        double seconds = (double) (clock_monotonic_usec() - begin) / 1e6;
        run->out.stall_sec += seconds;
        run->out.checkpoint_sec += seconds;
}

void run_checkpoint_poll(struct run *run) {
        struct saver_result result;

        if (run->ranks.own != 0)
                return;
        saver_poll(run->out.saver, &result);
        finished(run, &result);
}

static int save(struct run *run, bool last, struct error *error) {
        cleanup_free char *path = rundir_checkpoint_path(run->out.rundir, run->state.step);
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct saver_result result;
        if (!path)
                return error_errno(error, ENOMEM, "checkpoint");

        uint64_t begin = clock_monotonic_usec();
        metrics_sync(run->out.metrics);
        saver_wait(run->out.saver, &result); /* before meta is made: it records which is the best on disk */
        finished(run, &result);
        run_meta_now(run, &meta);
        saver_begin(run->out.saver, path, run->state.step, &meta, &result);
        if (last)
                saver_wait(run->out.saver, &result);
        run->out.stall_sec = (double) (clock_monotonic_usec() - begin) / 1e6;
        if (!last)
                return 0;
        if (result.r < 0) {
                *error = result.error;
                return result.r;
        }
        finished(run, &result);
        return 0;
}

/* The state is on disk already, or being written: only wait. */
static int wait_for_current(struct run *run, struct error *error) {
        struct saver_result result;
        uint64_t begin = clock_monotonic_usec();

        saver_wait(run->out.saver, &result);
        run->out.stall_sec += (double) (clock_monotonic_usec() - begin) / 1e6;
        if (result.done && result.r < 0)
                return save(run, true, error);
        finished(run, &result);
        return 0;
}

int run_checkpoint(struct run *run, bool last, struct error *error) {
        uint64_t begin = clock_monotonic_usec();

        run_check_device(run);
        /* Rank 0 knows whether a write of this step failed meanwhile. */
        bool current = exchange_or(run->ranks.exchange,
                                   run->ranks.own == 0 && run->state.last_checkpoint_step == run->state.step) != 0;

        if (current && !last)
                return 0;
        int r = current ? 0 : compare_weights(run, error);
        if (r < 0)
                return r;
        run->state.last_checkpoint_step = run->state.step;
        run->out.last_checkpoint_usec = clock_boottime_usec();
        if (run->ranks.own == 0)
                r = current ? wait_for_current(run, error) : save(run, last, error);
        if (r >= 0 && run->out.not_finite.code > 0) {
                *error = run->out.not_finite;
                r = -error->code;
        }
        run->out.checkpoint_sec += (double) (clock_monotonic_usec() - begin) / 1e6;
        /* For the last one this is the barrier that follows the durable rename (C6). */
        return exchange_agree(run->ranks.exchange, r, error);
}
