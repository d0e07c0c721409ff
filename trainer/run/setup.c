/*
 * From a spec to a fresh model; see run.h. Every phase that can fail on one rank ends in exchange_agree, so all ranks
 * leave together with one message. Rank 0 alone writes: the run folder's lock and the window maps.
 */
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/ops/device.h"
#include "trainer/run/run.h"

/* mpirun's OMP_NUM_THREADS wins: bertd sets it. */
static void set_threads(const struct run *run) {
        if (!getenv("OMP_NUM_THREADS"))
                omp_set_num_threads((int) run->spec->resources.threads);
}

/* `ranks` is how many a host must have; bertd starts as many as the job has now, whatever its spec once had. */
static int check_ranks(const struct run *run, struct error *error) {
        const struct spec_resources *resources = &run->job->whole->resources;
        uint32_t n = exchange_n_local(run->ranks.exchange);

        if (!resources->ranks_given || getenv(BERTD_ENV_JOB_ID) || n == resources->ranks)
                return 0;
        if (n > resources->ranks)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: resources.ranks: %u, but %u were started on this host: start as many, or set "
                                   "resources.ranks: %u",
                                   run->options->spec_path, resources->ranks, n, n);
        if (run->ranks.own == 0)
                (void) fprintf(
                        stderr,
                        "bert-trainer: %s: resources.ranks: %u, but %u started on this host: continuing with %u\n",
                        run->options->spec_path, resources->ranks, n, run->ranks.n);
        return 0;
}

/* What the spec leaves open is the device's choice for a new run. One that continues keeps what it was begun in, on whatever GPU. */
static enum precision asked_precision(const struct run *run) {
        enum precision precision = run->job->whole->train.precision;

        if (precision == PRECISION_AUTO && run->ranks.own == 0)
                precision = run_restored_precision(run);
        exchange_broadcast(run->ranks.exchange, &precision, sizeof(precision));
        return precision;
}

static int open_device(struct run *run, enum precision precision, struct error *error) {
        int r = device_open(run->job->whole->device, precision, exchange_local_rank(run->ranks.exchange), &run->device,
                            error);
        if (r < 0 && precision != run->job->whole->train.precision)
                r = error_prefix(error, "the run was begun in %s (a new one can take its weights: model.init)",
                                 precision_names[precision]);
        if (r < 0)
                return error->exit == BERTD_EXIT_CONFIG ? error_prefix(error, "%s", run->options->spec_path) : r;
        run->ops = device_ops(run->device);
        return 0;
}

/* Ranks on different backends would wait for each other in different exchanges. */
static int agree_device(struct run *run, enum precision precision, struct error *error) {
        bool on_cpu = run->ops->host_memory;
        bool any_cpu = exchange_or(run->ranks.exchange, on_cpu) != 0,
             any_gpu = exchange_or(run->ranks.exchange, !on_cpu) != 0;
        int r = 0;

        if (!any_cpu || !any_gpu)
                return 0;
        if (run->ranks.own == 0)
                (void) fprintf(
                        stderr,
                        "bert-trainer: device: auto: there are fewer GPUs than ranks, so all compute on the CPU\n");
        if (!on_cpu) {
                device_close(run->device);
                run->device = NULL;
                r = device_open(DEVICE_CPU, precision, 0, &run->device, error);
                run->ops = r < 0 ? NULL : device_ops(run->device);
        }
        return exchange_agree(run->ranks.exchange, r, error);
}

/* Where one GPU of several has no bf16, what it chose is for all. */
static int agree_precision(struct run *run, enum precision asked, struct error *error) {
        bool half = asked == PRECISION_AUTO && device_precision(run->device) == PRECISION_FP16;

        if (!exchange_or(run->ranks.exchange, half))
                return 0;
        int r = half ? 0 : device_change_precision(run->device, PRECISION_FP16, error);
        run->ops = device_ops(run->device);
        if (run->ranks.own == 0 && r >= 0)
                (void) fprintf(stderr, "bert-trainer: train.precision: auto: fp16, as %s has no bf16 (rank 0 has %s)\n",
                               run->ranks.n > 1 ? "a GPU" : "this GPU", run->ops->variant());
        return exchange_agree(run->ranks.exchange, r, error);
}

static int choose_device(struct run *run, struct error *error) {
        enum precision precision = asked_precision(run);

        int r = exchange_agree(run->ranks.exchange, open_device(run, precision, error), error);
        if (r >= 0)
                r = agree_device(run, precision, error);
        if (r >= 0)
                r = agree_precision(run, precision, error);
        if (r < 0)
                return r;
        run->precision = device_precision(run->device);
        run->state.loss_scale = loss_scale_new(run->precision == PRECISION_FP16);
        return run_compare_backend(run, error);
}

static int make_model(struct run *run, struct error *error) {
        struct model_limits limits = run_model_limits(run);

        int r = run_check_memory(run, error);
        if (r >= 0)
                r = model_new(&run->job->config, run->ops, &limits, &run->model, error);
        if (r >= 0 && run->ranks.own == 0)
                r = saver_new(run->model, &run->out.saver, error);
        if (r >= 0 && run->ranks.own == 0)
                saver_set_assets(run->out.saver, &run->job->assets);
        if (r >= 0)
                model_init(run->model, run->job->whole->train.seed);
        return r;
}

static void measure_peak(struct run *run) {
        double mine = run->ops->peak_flops(), sum = 0;
        const double *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));

        for (uint32_t r = 0; r < run->ranks.n; r++)
                sum += all[r];
        run->peak_flops = sum;
}

int run_setup(struct run *run, struct error *error) {
        run->state.best_validation_loss = run->state.best_validation_accuracy = NAN;
        run->state.last_checkpoint_step = UINT64_MAX;

        int r = run_share_inputs(run, error);
        if (r >= 0)
                r = run_compare_inputs(run, error);
        if (r >= 0)
                r = exchange_agree(run->ranks.exchange, check_ranks(run, error), error);
        if (r < 0)
                return r;
        set_threads(run);
        if (run->ranks.own == 0)
                r = rundir_open(run->options->run_dir, &run->out.rundir, error);
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r < 0)
                return r;
        r = choose_device(run, error);
        if (r >= 0)
                run_bind(run);
        if (r >= 0)
                r = run_open_stages(run, error);
        if (r >= 0)
                r = run_compare_data(run, 0, run->job->n_stages, error);
        if (r >= 0)
                r = exchange_agree(run->ranks.exchange, make_model(run, error), error);
        if (r >= 0)
                r = run_buckets_new(run, error);
        if (r < 0)
                return r;
        measure_peak(run);
        if (run->ranks.own == 0)
                saver_take_spare(run->out.saver);
        return 0;
}

void run_free(struct run *run, struct run_job *job) {
        saver_free(run->out.saver);
        run_close_stages(run, job);
        run_buckets_free(run);
        model_free(run->model);
        device_close(run->device);
        checked_free(&job->checked);
        samples_vocab_free(&job->samples_vocab);
        encoder_free(job->encoder);
        for (uint32_t t = 0; t < job->n_tasks; t++) {
                labels_free(&job->tasks[t].labels);
                free(job->tasks[t].name);
        }
        free(job->class_ranges);
        vocab_free(job->vocab);
        assets_free(&job->assets);
        free(job->vocab_path);
        metrics_close(run->out.metrics);
        progress_free(run->out.progress);
        pace_free(run->out.pace);
        rundir_close(run->out.rundir);
        spec_free(job->whole);
}
