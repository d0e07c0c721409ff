/*
 * Stages (contract T9); see run.h. The data of every stage is opened and checked before the first step: what is wrong with the
 * second stage is reported at once, not after days of the first. Only the current stage has batches in the making.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/infer/fit.h"
#include "trainer/run/run.h"

static int check_pairs(const struct run *run, const struct spec *spec, struct error *error) {
        cleanup_free char *key = format_string("%s: data.text", run->options->spec_path);
        int r = key ? 0 : error_errno(error, ENOMEM, "%s", run->options->spec_path);

        for (uint32_t t = 0; r >= 0 && spec->data.objective == OBJECTIVE_CLASSIFY && t < spec_n_tasks(spec); t++)
                if (spec_is_pair(spec_task(spec, t)))
                        r = fit_pair(spec_model_path(spec), &run->job->config, key, BERTD_EXIT_CONFIG, error);
        return r;
}

static int check_stage(const struct run *run, const struct spec *spec, struct error *error) {
        const char *path = run->options->spec_path;

        cleanup_free char *key = format_string("%s: data.sequence_length", path);
        int r = key ? fit_length(spec_model_path(spec), &run->job->config, key, spec->data.sequence_length,
                                 BERTD_EXIT_CONFIG, error)
                    : error_errno(error, ENOMEM, "%s", path);
        if (r < 0)
                return r;
        if (spec->data.sequence_length < 8)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: data.sequence_length: %u, expected at least 8", path,
                                   spec->data.sequence_length);
        if ((spec->data.objective == OBJECTIVE_MLM_NSP || spec->data.objective == OBJECTIVE_MLM_SOP) &&
            run->job->config.type_vocab_size < 2)
                return error_input(
                        error, BERTD_EXIT_CONFIG,
                        "%s: data.objective: pairs need a type_vocab_size of 2, but the model's is %u; expected mlm",
                        path, run->job->config.type_vocab_size);
        r = check_pairs(run, spec, error);
        if (r < 0)
                return r;
        uint64_t segments = spec->data.truncation == TRUNCATION_SEGMENTS ? spec->data.max_segments : 1;
        if (spec->train.micro_batch * spec->data.sequence_length * segments > INT32_MAX / 2 ||
            spec->train.global_batch > UINT32_MAX)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: train.micro_batch: %llu samples of %u tokens are more than can be indexed",
                                   path, (unsigned long long) spec->train.micro_batch, spec->data.sequence_length);
        return 0;
}

int run_check_stages(const struct run *run, struct error *error) {
        int r = 0;

        for (uint32_t s = 0; r >= 0 && s < spec_n_stages(run->job->whole); s++)
                r = check_stage(run, spec_at(run->job->whole, s), error);
        return r;
}

static int open_corpora(struct run *run, uint32_t index, char corpus_hash[HEX_128_SIZE], struct error *error) {
        struct run_stage *stage = &run->job->stages[index];

        int r = run_open_part(run, index, PART_TRAIN, error);
        if (r >= 0)
                r = run_count_steps(run, stage, error);
        if (r >= 0 && stage->spec->data.n_validation > 0)
                r = run_open_part(run, index, PART_VALIDATION, error);
        if (r >= 0)
                r = exchange_agree(run->ranks.exchange, corpora_hash(stage->corpora[PART_TRAIN], corpus_hash, error),
                                   error);
        return r;
}

static int fill_meta(struct run *run, uint32_t index, const char *hash, struct error *error) {
        struct run_stage *stage = &run->job->stages[index];

        int r = run_meta_fill(run, index, hash, error);
        description_set_text(&stage->meta, run->job->vocab_path,
                             run_text_is_models(run) ? &run->job->text
                                                     : corpus_text_options(stage->corpora[PART_TRAIN]->part[0]));
        return exchange_agree(run->ranks.exchange, r, error);
}

/* Texts are open already. */
static int open_stage(struct run *run, uint32_t index, struct error *error) {
        char hash[HEX_128_SIZE] = "";
        int r = 0;

        if (run_stage_classifies(run, index))
                texts_hash(run->job->stages[index].texts[PART_TRAIN], hash);
        else
                r = open_corpora(run, index, hash, error);
        return r < 0 ? r : fill_meta(run, index, hash, error);
}

static int name_stage(const struct run *run, uint32_t index, int r, struct error *error) {
        return r < 0 && run->job->n_stages > 1 ? error_prefix(error, "stage %u", index) : r;
}

/* The classes of all stages are counted before any stage's meta describes the model. */
static int open_stages(struct run *run, struct error *error) {
        int r = 0;

        for (uint32_t s = 0; r >= 0 && s < run->job->n_stages; s++)
                if (run_stage_classifies(run, s))
                        r = name_stage(run, s,
                                       exchange_agree(run->ranks.exchange, run_open_texts(run, s, error), error),
                                       error);
        if (r >= 0)
                r = exchange_agree(run->ranks.exchange, run_set_class_ranges(run, error), error);
        for (uint32_t s = 0; r >= 0 && s < run->job->n_stages; s++)
                r = name_stage(run, s, open_stage(run, s, error), error);
        return r;
}

int run_open_stages(struct run *run, struct error *error) {
        run->making->n_stages = spec_n_stages(run->job->whole);
        run->making->stages = calloc(run->job->n_stages, sizeof(*run->job->stages));
        int r = exchange_agree(run->ranks.exchange, run->job->stages ? 0 : error_errno(error, ENOMEM, "stages"), error);
        if (r < 0)
                return r;
        for (uint32_t s = 0; s < run->job->n_stages; s++)
                run->job->stages[s].spec = spec_at(run->job->whole, s);
        return open_stages(run, error);
}

/* Of micro-batches of full samples, segments and all. */
static struct model_limits limits_of(uint64_t micro_batch, const struct sample_source *source) {
        struct model_limits limits = model_limits_of(micro_batch, source->max_length, source->max_predictions);

        limits.max_sequences *= source->max_segments;
        limits.max_length = source->max_length / source->max_segments;
        return limits;
}

struct model_limits run_model_limits_with(const struct run *run, uint32_t stage, uint64_t micro_batch) {
        struct model_limits all = { .training = true };

        for (uint32_t s = 0; s < run->job->n_stages; s++) {
                const struct spec_train *t = &run->job->stages[s].spec->train;
                struct model_limits own =
                        limits_of(s == stage ? micro_batch : t->micro_batch, &run->job->stages[s].source[PART_TRAIN]);
                all.max_tokens = MAX(all.max_tokens, own.max_tokens);
                all.max_sequences = MAX(all.max_sequences, own.max_sequences);
                all.max_masked = MAX(all.max_masked, own.max_masked);
                all.max_length = MAX(all.max_length, own.max_length);
                all.recompute = all.recompute || t->recompute_activations;
                all.fast_gelu = t->fast_gelu; /* every stage's is the same */
        }
        return all;
}

struct model_limits run_model_limits(const struct run *run) {
        return run_model_limits_with(run, 0, run->job->stages[0].spec->train.micro_batch);
}

static struct batches_limits make_limits(const struct run *run, const struct sample_source *source, uint64_t count) {
        uint64_t begin, end;

        batches_share(count, run->ranks.own, run->ranks.n, &begin, &end);
        struct model_limits model = limits_of(run->spec->train.micro_batch, source);
        /* Shares differ by one between steps' samples of one rank never, between ranks by one. */
        return (struct batches_limits) { .max_share = (uint32_t) (end - begin),
                                         .max_tokens = model.max_tokens,
                                         .max_sequences = model.max_sequences,
                                         .max_masked = model.max_masked };
}

static void drop_batches(struct run *run) {
        prefetch_free(run->prefetch);
        batches_free(run->validation_batches);
        run->prefetch = NULL;
        run->validation_batches = NULL;
}

uint64_t run_n_evaluated(const struct run *run, enum run_part part) {
        return run_classifies(run) ? run->now->n[part] : MIN(run->spec->train.evaluate_samples, run->now->n[part]);
}

int run_evaluation_batches(struct run *run, enum run_part part, struct batches **ret, struct error *error) {
        const struct sample_source *source = &run->now->source[part];
        struct batches_limits limits = make_limits(run, source, run_n_evaluated(run, part));

        limits.max_share = MIN(limits.max_share, EVALUATION_SHARE_MAX);
        return batches_new(source, &limits, ret, error);
}

static int make_batches(struct run *run, struct error *error) {
        const struct sample_source *train = &run->now->source[PART_TRAIN];
        struct batches_limits limits = make_limits(run, train, run->spec->train.global_batch);

        int r = prefetch_new(train, &limits, &run->prefetch, error);
        if (r >= 0 && run->now->n[PART_VALIDATION] > 0)
                r = run_evaluation_batches(run, PART_VALIDATION, &run->validation_batches, error);
        return r;
}

int run_use_stage(struct run *run, uint32_t stage, struct error *error) {
        drop_batches(run);
        run->state.stage = stage;
        run->now = &run->job->stages[stage];
        run->spec = run->now->spec;
        return exchange_agree(run->ranks.exchange, make_batches(run, error), error);
}

static void reset_moments(struct run *run) {
        run_settle(run);
        run->ops->zero(model_state(run->model)->moment1, model_state(run->model)->run_bytes);
        run->ops->zero(model_state(run->model)->moment2, model_state(run->model)->run_bytes);
}

static bool had_task(const struct run *run, const char *name) {
        for (uint32_t s = 0; s < run->state.stage; s++)
                for (uint32_t t = 0; run_stage_classifies(run, s) && t < spec_n_tasks(run->job->stages[s].spec); t++) {
                        const char *task = spec_task(run->job->stages[s].spec, t)->task;
                        if (task && strcmp(task, name) == 0)
                                return true;
                }
        return false;
}

/* Of tasks by name, where heads were trained before: a name that was meant to be another's would show nowhere else. */
static void say_fresh(const struct run *run) {
        bool trained = false;

        for (uint32_t s = 0; s < run->state.stage; s++)
                trained = trained || run_stage_classifies(run, s);
        for (uint32_t t = 0; trained && run_stage_classifies(run, run->state.stage) && t < spec_n_tasks(run->spec);
             t++) {
                const char *name = spec_task(run->spec, t)->task;
                if (name && !had_task(run, name))
                        (void) fprintf(stderr, "task %s: its head is initialised randomly: no earlier stage has it\n",
                                       name);
        }
}

/* Files may have changed since they were opened. */
static int compare_again(struct run *run, uint32_t stage, struct error *error) {
        int r = 0;

        for (enum run_part part = 0; r >= 0 && part < PART_MAX; part++)
                r = name_stage(run, stage, run_compare_corpora(run, stage, part, error), error);
        return r < 0 ? r : run_compare_data(run, stage, 1, error);
}

int run_next_stage(struct run *run, struct error *error) {
        int r = compare_again(run, run->state.stage + 1, error);
        if (r >= 0)
                r = run_use_stage(run, run->state.stage + 1, error);
        if (r < 0)
                return r;

        const struct spec_stage *begin = &run->spec->stage;
        run->state.stage_step = 0;
        if (begin->moments == MOMENTS_RESET)
                reset_moments(run);
        if (begin->moments == MOMENTS_RESET || begin->bias_correction == BIAS_CORRECTION_RESTART)
                run->state.correction_step = 0;
        run_next_best(run); /* of other data, perhaps: not to be compared */
        if (run->ranks.own == 0) {
                metrics_set_stage(run->out.metrics, run->state.stage, spec_task(run->spec, 0));
                progress_end_line(run->out.progress);
                (void) fprintf(stderr, "stage %u%s%s begins\n", run->state.stage, begin->name ? ": " : "",
                               begin->name ? begin->name : "");
                say_fresh(run);
        }
        return 0;
}

uint64_t run_total_steps(const struct run *run) {
        uint64_t total = run->state.step - run->state.stage_step;

        for (uint32_t s = run->state.stage; s < run->job->n_stages; s++)
                total += run->job->stages[s].spec->train.steps;
        return total;
}

void run_close_stages(struct run *run, struct run_job *job) {
        drop_batches(run);
        for (uint32_t s = 0; job->stages && s < job->n_stages; s++) {
                struct run_stage *stage = &job->stages[s];
                for (unsigned p = 0; p < PART_MAX; p++) {
                        samples_free(stage->samples[p]);
                        corpora_close(stage->corpora[p]);
                        free(stage->made_prefix[p]);
                }
                run_close_texts(stage);
                checkpoint_meta_free(&stage->meta);
        }
        free(job->stages);
}
