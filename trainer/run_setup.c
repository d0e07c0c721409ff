/*
 * From a spec to a fresh model; see run.h. Every phase that can fail on one rank ends in exchange_agree, so all ranks
 * leave together with one message. Rank 0 alone writes: the run folder's lock and the window maps.
 */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/run.h"
#include "trainer/weights.h"

static int check_spec(const struct run *run, struct error *error) {
        const struct spec *spec = run->spec;
        const char *path = run->options->spec_path;

        if (spec->kind != JOB_PRETRAIN)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: kind: expected pretrain", path);
        if (spec->data.sequence_length > run->config.max_position_embeddings)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: data.sequence_length: %u, but %s has max_position_embeddings %u", path,
                                   spec->data.sequence_length, spec->model.config, run->config.max_position_embeddings);
        if (spec->data.sequence_length < 8)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: data.sequence_length: %u, expected at least 8", path,
                                   spec->data.sequence_length);
        if (spec->train.micro_batch * spec->data.sequence_length > INT32_MAX / 2 ||
            spec->train.global_batch > UINT32_MAX)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: train.micro_batch: %llu samples of %u tokens are more than can be indexed",
                                   path, (unsigned long long) spec->train.micro_batch, spec->data.sequence_length);
        if (run->samples_vocab.size > run->config.vocab_size)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: vocab_size: %u, but %s has %u tokens",
                                   spec->model.config, run->config.vocab_size, spec->model.vocab,
                                   run->samples_vocab.size);
        return 0;
}

static int load_inputs(struct run *run, struct error *error) {
        int r = spec_load(run->options->spec_path, &run->spec, error);
        if (r < 0)
                return r;
        if (run->spec->kind == JOB_PRETRAIN) {
                r = config_load(run->spec->model.config, &run->config, error);
                if (r >= 0)
                        r = vocab_load(run->spec->model.vocab, &run->vocab, error);
                if (r >= 0)
                        r = samples_vocab_init(&run->samples_vocab, run->vocab, run->spec->model.vocab, error);
        }
        return r < 0 ? r : check_spec(run, error);
}

/* mpirun's OMP_NUM_THREADS wins: bertd sets it. OpenBLAS itself stays on one thread a call (T2). */
static void set_threads(const struct run *run) {
        if (!getenv("OMP_NUM_THREADS"))
                omp_set_num_threads((int) run->spec->resources.threads);
        openblas_set_num_threads(1);
}

static struct samples_options make_options(const struct run *run, bool evaluation) {
        const struct spec_data *d = &run->spec->data;
        uint32_t most = (uint32_t) MAX(1.0, ceil(d->masked_fraction * d->sequence_length));

        return (struct samples_options) {
                .seed = run->spec->train.seed,
                .stage = run->stage,
                .sequence_length = d->sequence_length,
                .objective = d->objective,
                .masked_fraction = d->masked_fraction,
                .max_predictions = d->max_predictions > 0 ? d->max_predictions : most,
                .short_probability = d->short_sequence_probability,
                .mask_unit = d->mask_unit,
                .dupe_factor = d->masking == MASKING_STATIC ? d->dupe_factor : 0,
                .evaluation = evaluation,
        };
}

static int build_map(struct run *run, const struct corpora *corpora, const char *map,
                     const struct samples_options *options, struct error *error) {
        char hash[VOCAB_HASH_MAX];

        vocab_hash(run->vocab, hash);
        int r = corpora_check(corpora, run->samples_vocab.size, hash, error);
        return r < 0 ? r : samples_build_map(map, corpora, options, error);
}

/* Collective: rank 0 builds the map, then all open it. */
static int open_samples(struct run *run, const char *name, char *const *prefixes, uint32_t n, bool evaluation,
                        struct corpora **ret_corpora, struct samples **ret_samples, struct error *error) {
        struct samples_options options = make_options(run, evaluation);
        cleanup_free char *map = format_string("%s/windows-%s-%u.map", run->options->run_dir, name, run->stage);
        if (!map)
                abort(); /* the other ranks wait in the next call */

        int r = corpora_open(prefixes, n, ret_corpora, error);
        if (r >= 0 && run->rank == 0)
                r = build_map(run, *ret_corpora, map, &options, error);
        r = exchange_agree(run->exchange, r, error);
        if (r < 0)
                return r;
        r = samples_new(map, *ret_corpora, &run->samples_vocab, &options, ret_samples, error);
        return exchange_agree(run->exchange, r, error);
}

static int open_data(struct run *run, struct error *error) {
        const struct spec_data *d = &run->spec->data;
        char corpus_hash[33] = "", map_hash[33];

        int r = open_samples(run, "train", d->train, d->n_train, false, &run->train, &run->train_samples, error);
        if (r >= 0 && d->n_validation > 0)
                r = open_samples(run, "validation", d->validation, d->n_validation, true, &run->validation,
                                 &run->validation_samples, error);
        if (r >= 0)
                r = exchange_agree(run->exchange, corpora_hash(run->train, corpus_hash, error), error);
        if (r < 0)
                return r;
        run->ops = run->spec->train.precision == PRECISION_FP64 ? ops_fp64() : ops_cpu();
        samples_map_hash(run->train_samples, map_hash);
        run_meta_fill(run, corpus_hash, map_hash);
        weights_set_text(&run->meta, run->spec->model.vocab, corpus_text_options(run->train->part[0]));
        return 0;
}

static struct batches_limits make_limits(const struct run *run, uint64_t count) {
        const struct samples_options *o = samples_options(run->train_samples);
        uint64_t begin, end, micro = run->spec->train.micro_batch;

        batches_share(count, run->rank, run->n_ranks, &begin, &end);
        struct model_limits model = model_limits_of(micro, o->sequence_length, o->max_predictions);
        /* Shares differ by one between steps' samples of one rank never, between ranks by one. */
        return (struct batches_limits) { .max_share = (uint32_t) (end - begin),
                                         .max_tokens = model.max_tokens,
                                         .max_samples = model.max_samples,
                                         .max_masked = model.max_masked };
}

static int make_model(struct run *run, struct error *error) {
        struct batches_limits limits = make_limits(run, run->spec->train.global_batch);
        const struct samples_options *o = samples_options(run->train_samples);
        struct model_limits model =
                model_limits_of(run->spec->train.micro_batch, o->sequence_length, o->max_predictions);

        model.recompute = run->spec->train.recompute_activations;
        int r = model_new(&run->config, run->ops, &model, &run->model, error);
        if (r >= 0)
                r = prefetch_new(run->train_samples, &limits, &run->prefetch, error);
        if (r >= 0 && run->validation) {
                limits = make_limits(run, MIN(run->spec->train.evaluate_samples, samples_n(run->validation_samples)));
                r = batches_new(run->validation_samples, &limits, &run->validation_batches, error);
        }
        if (r >= 0 && run->rank == 0)
                r = saver_new(run->model, &run->saver, error);
        if (r >= 0)
                model_init(run->model, run->spec->train.seed);
        return r;
}

static void measure_peak(struct run *run) {
        double mine = run_measure_peak(), sum = 0;
        cleanup_free double *all = calloc(run->n_ranks, sizeof(*all));
        if (!all)
                abort();

        exchange_gather(run->exchange, &mine, sizeof(mine), all);
        for (uint32_t r = 0; r < run->n_ranks; r++)
                sum += all[r];
        run->peak_flops = sum;
}

int run_setup(struct run *run, struct error *error) {
        run->rank = exchange_rank(run->exchange);
        run->n_ranks = exchange_n_ranks(run->exchange);
        run->best_validation_loss = NAN;
        run->last_checkpoint_step = UINT64_MAX;

        int r = exchange_agree(run->exchange, load_inputs(run, error), error);
        if (r < 0)
                return r;
        set_threads(run);
        if (run->rank == 0)
                r = rundir_open(run->options->run_dir, &run->rundir, error);
        r = exchange_agree(run->exchange, r, error);
        if (r >= 0)
                r = open_data(run, error);
        if (r >= 0)
                r = exchange_agree(run->exchange, make_model(run, error), error);
        if (r >= 0)
                measure_peak(run);
        return r;
}

void run_free(struct run *run) {
        saver_free(run->saver);
        prefetch_free(run->prefetch);
        batches_free(run->validation_batches);
        samples_free(run->train_samples);
        samples_free(run->validation_samples);
        corpora_close(run->train);
        corpora_close(run->validation);
        model_free(run->model);
        samples_vocab_free(&run->samples_vocab);
        vocab_free(run->vocab);
        metrics_close(run->metrics);
        progress_free(run->progress);
        rundir_close(run->rundir);
        spec_free(run->spec);
}
