/*
 * From a spec to a fresh model; see run.h. Every phase that can fail on one rank ends in exchange_agree, so all ranks
 * leave together with one message. Rank 0 alone writes: the run folder's lock and the window maps.
 */
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/run.h"

/* mpirun's OMP_NUM_THREADS wins: bertd sets it. */
static void set_threads(const struct run *run) {
        if (!getenv("OMP_NUM_THREADS"))
                omp_set_num_threads((int) run->spec->resources.threads);
}

static int make_model(struct run *run, struct error *error) {
        struct model_limits limits = run_model_limits(run);

        int r = model_new(&run->config, run->ops, &limits, &run->model, error);
        if (r >= 0 && run->rank == 0)
                r = saver_new(run->model, &run->saver, error);
        if (r >= 0)
                model_init(run->model, run->whole->train.seed);
        return r;
}

static void measure_peak(struct run *run) {
        double mine = run_measure_peak(), sum = 0;
        const double *all = exchange_gather(run->exchange, &mine, sizeof(mine));

        for (uint32_t r = 0; r < run->n_ranks; r++)
                sum += all[r];
        run->peak_flops = sum;
}

int run_setup(struct run *run, struct error *error) {
        run->rank = exchange_rank(run->exchange);
        run->n_ranks = exchange_n_ranks(run->exchange);
        run->best_validation_loss = run->best_validation_accuracy = NAN;
        run->last_checkpoint_step = UINT64_MAX;

        int r = exchange_agree(run->exchange, run_load_inputs(run, error), error);
        if (r < 0)
                return r;
        set_threads(run);
        if (run->rank == 0)
                r = rundir_open(run->options->run_dir, &run->rundir, error);
        r = exchange_agree(run->exchange, r, error);
        if (r < 0)
                return r;
        run->ops = run->whole->train.precision == PRECISION_FP64 ? ops_fp64() : ops_cpu();
        r = run_open_stages(run, error);
        if (r >= 0)
                r = exchange_agree(run->exchange, make_model(run, error), error);
        if (r >= 0)
                measure_peak(run);
        return r;
}

void run_free(struct run *run) {
        saver_free(run->saver);
        run_close_stages(run);
        model_free(run->model);
        samples_vocab_free(&run->samples_vocab);
        encoder_free(run->encoder);
        labels_free(&run->labels);
        vocab_free(run->vocab);
        free(run->vocab_path);
        metrics_close(run->metrics);
        progress_free(run->progress);
        rundir_close(run->rundir);
        spec_free(run->whole);
}
