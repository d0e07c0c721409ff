/*
 * Finds the checkpoint to continue from and gives its state to all ranks; see run.h. Rank 0 alone reads files. An
 * explicitly named checkpoint is used or refused; without one the newest good one of the run folder is, and each bad
 * one passed over is reported.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/hf/folder.h"
#include "trainer/infer/fit.h"
#include "trainer/model/heads.h"
#include "trainer/ops/device.h"
#include "trainer/run/run.h"

static const char *const kinds[] = { "param", "moment1", "moment2" };

static int restore_model(struct run *run, struct checkpoint *c, struct error *error) {
        void *runs[] = { model_state(run->model)->parameters, model_state(run->model)->moment1,
                         model_state(run->model)->moment2 };
        uint32_t n = model_n_tensors(run->model);
        int r = 0;

        if (checkpoint_n_tensors(c) != ELEMENTSOF(kinds) * n)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: %u tensors, this model has %zu",
                                   checkpoint_path(c), checkpoint_n_tensors(c), ELEMENTSOF(kinds) * n);
        for (uint32_t kind = 0; r >= 0 && kind < ELEMENTSOF(kinds); kind++)
                r = weights_read_run(c, run->model, kinds[kind], runs[kind], error);
        state_parameters_changed(model_state(run->model));
        return r;
}

/* Which stage of the spec a checkpoint belongs to. */
static int read_stage(const struct run *run, const struct checkpoint *c, uint32_t *ret_stage, struct error *error) {
        uint64_t stage = 0;
        int r = checkpoint_meta_u64(checkpoint_meta(c), checkpoint_path(c), "stage", &stage, error);

        if (r < 0)
                return r;
        if (stage >= run->job->n_stages)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: made in stage %" PRIu64 ", the spec now has %u: this may not change on resume",
                                   checkpoint_path(c), stage, run->job->n_stages);
        *ret_stage = (uint32_t) stage;
        return 0;
}

static int too_few_steps(const struct run *run, const char *path, struct error *error) {
        const struct spec *spec = run->job->stages[run->state.stage].spec;
        char epochs[32];

        if (spec->train.epochs > 0)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: train.epochs: %s is %" PRIu64
                                   " steps, but the checkpoint %s is already at step %" PRIu64,
                                   run->options->spec_path, spec_get(spec, "train.epochs", epochs, sizeof(epochs)),
                                   spec->train.steps, path, run->state.stage_step);
        return error_input(error, BERTD_EXIT_CONFIG,
                           "%s: train.steps: %" PRIu64 ", but the checkpoint %s is already at step %" PRIu64,
                           run->options->spec_path, spec->train.steps, path, run->state.stage_step);
}

static int restore_counters(struct run *run, const struct checkpoint *c, struct error *error) {
        const struct spec_train *train = &run->job->stages[run->state.stage].spec->train;
        const char *path = checkpoint_path(c);

        int r = state_from_meta(&run->state, train->global_batch, checkpoint_meta(c), path, error);
        return r >= 0 && run->state.stage_step > train->steps ? too_few_steps(run, path, error) : r;
}

/* A checkpoint from elsewhere is written again here at the first occasion: the next attempt looks only here. */
static void note_checkpoint(struct run *run, const char *restored) {
        cleanup_free char *path = rundir_checkpoint_path(run->out.rundir, run->state.step);
        struct stat own, its;

        if (path && stat(path, &own) == 0 && stat(restored, &its) == 0 && own.st_dev == its.st_dev &&
            own.st_ino == its.st_ino)
                run->state.last_checkpoint_step = run->state.step;
}

/* What the run does not know by itself: heads that are still fresh, and files that belong to the vocabulary. */
static int keep_rest(struct run *run, struct checkpoint *c, struct error *error) {
        cleanup_assets struct assets assets = {};

        int r = description_fresh(c, &run->out.fresh, error);
        if (r >= 0)
                r = checkpoint_read_assets(c, &assets, error);
        for (uint32_t i = 0; r >= 0 && i < assets.n; i++)
                if (!assets_find(&run->job->assets, assets.item[i].name))
                        r = assets_add(&run->making->assets, assets.item[i].name, assets.item[i].data,
                                       assets.item[i].size, error);
        return r;
}

static int restore_from(struct run *run, const char *path, struct error *error) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        uint32_t stage = 0;

        int r = checkpoint_open(path, &c, error);
        if (r >= 0 && checkpoint_meta_get(checkpoint_meta(c), DESCRIPTION_WEIGHTS_ONLY))
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: holds weights only and no run to resume: name it as model.init in the spec",
                                   path);
        if (r >= 0)
                r = read_stage(run, c, &stage, error);
        if (r >= 0)
                r = run_meta_compare(run, stage, checkpoint_meta(c), path, error);
        if (r >= 0)
                r = restore_model(run, c, error);
        if (r >= 0)
                r = keep_rest(run, c, error);
        if (r >= 0)
                r = checkpoint_check_file(c, error);
        run->state.stage = stage;
        if (r >= 0)
                r = restore_counters(run, c, error);
        if (r < 0)
                return r;
        run_meta_say(run, stage, checkpoint_meta(c));
        note_checkpoint(run, path);
        (void) fprintf(stderr, "resuming from %s, step %" PRIu64 " of %" PRIu64 "\n", path, run->state.step,
                       run_total_steps(run));
        return 0;
}

static int restore_newest(struct run *run, struct error *error) {
        cleanup_free uint64_t *steps = NULL;
        size_t n = 0;

        int r = rundir_list(run->out.rundir, &steps, &n, error);
        for (size_t i = n; r >= 0 && i-- > 0;) {
                cleanup_free char *path = rundir_checkpoint_path(run->out.rundir, steps[i]);
                struct error why = {};
                if (!path)
                        return error_errno(error, ENOMEM, "%s", run->options->run_dir);
                int restored = restore_from(run, path, &why);
                if (restored >= 0)
                        return 0;
                if (why.exit != BERTD_EXIT_BAD_CHECKPOINT || i == 0) {
                        *error = why;
                        return restored;
                }
                (void) fprintf(stderr, "bert-trainer: %s: trying an older one\n", why.text);
        }
        return r;
}

/* The newest one that can be read: which of them restores is not known yet, and a run has one precision. */
enum precision run_restored_precision(const struct run *run) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        cleanup_free uint64_t *steps = NULL;
        struct error ignored = {};
        size_t n = 0;

        if (run->options->resume)
                (void) checkpoint_open(run->options->resume, &c, &ignored);
        else
                (void) rundir_list(run->out.rundir, &steps, &n, &ignored);
        while (!c && n-- > 0) {
                cleanup_free char *path = rundir_checkpoint_path(run->out.rundir, steps[n]);
                if (path)
                        (void) checkpoint_open(path, &c, &ignored);
        }
        const char *name = c ? checkpoint_meta_get(checkpoint_meta(c), "precision") : NULL;
        int precision = name ? parse_choice(name, precision_names, PRECISION_MAX) : -1;
        return precision < 0 ? PRECISION_AUTO : (enum precision) precision;
}

static void say_cuts(const struct run *run) {
        const struct spec_data *d = &run->spec->data;

        if (run->job->init_cuts)
                (void) fprintf(stderr, "as recorded there, the %s of a text is kept, at most %u tokens\n",
                               d->truncation == TRUNCATION_TAIL ? "tail" : "head", d->sequence_length);
}

/* A run that has no checkpoint yet begins with the weights of another; moments and steps are not taken. */
static int begin_with(struct run *run, const char *path, struct error *error) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        cleanup_free int32_t *rows = NULL;
        bool folder = run_init_is_folder(run), tunes = run->job->whole->kind == JOB_FINETUNE;

        int r = folder ? 0 : checkpoint_open(path, &c, error);
        run->out.fresh = 0;
        if (r >= 0 && tunes)
                r = run_head_rows(run, c, &rows, error);
        if (r >= 0 && c)
                r = description_fresh(c, &run->out.fresh, error);
        if (r >= 0 && folder)
                r = hf_folder_read(path, run->model, rows, &run->out.fresh, error);
        else if (r >= 0)
                r = tunes ? weights_begin(c, run->model, rows, &run->out.fresh, error)
                          : weights_read(c, run->model, error);
        for (uint32_t i = 0; r >= 0 && rows && i < run->job->n_classes; i++)
                run->out.fresh |= rows[i] < 0 ? HEAD(PART_CLASSIFIER) : 0;
        if (r >= 0) {
                (void) fprintf(stderr, "beginning with the weights of %s\n", path);
                say_cuts(run);
        } else if (error->exit == BERTD_EXIT_BAD_CHECKPOINT)
                error->exit = BERTD_EXIT_DATA; /* it is an input: there is no older one to try */
        return r < 0 ? error_prefix(error, "model.init") : 0;
}

static int restore_on_rank_0(struct run *run, struct error *error) {
        bool explicitly = run->options->resume != NULL;

        run->out.fresh = ALL_HEADS; /* unless a checkpoint has another */

        int r = explicitly ? restore_from(run, run->options->resume, error) : restore_newest(run, error);
        if (r >= 0 && run->state.last_checkpoint_step == UINT64_MAX && run->state.step == 0 &&
            run->job->whole->model.init)
                r = begin_with(run, run->job->whole->model.init, error);
        if (r >= 0)
                run_check_best(run);
        if (r >= 0 && run->options->abandon_newer)
                r = rundir_abandon_newer(run->out.rundir, run->state.step, error);
        return r;
}

int run_broadcast(struct run *run, uint32_t n_runs, struct error *error) {
        void *runs[] = { model_state(run->model)->parameters, model_state(run->model)->moment1,
                         model_state(run->model)->moment2 };
        size_t size = model_state(run->model)->run_bytes;
        bool direct = state_in_host_memory(model_state(run->model));
        void *host = direct ? NULL : state_allocate_host(model_state(run->model), size);

        int r = exchange_agree(run->ranks.exchange, direct || host ? 0 : error_errno(error, ENOMEM, "restored state"),
                               error);
        for (size_t i = 0; r >= 0 && i < n_runs; i++) {
                if (!direct && run->ranks.own == 0)
                        state_download(model_state(run->model), host, runs[i]);
                exchange_broadcast(run->ranks.exchange, direct ? runs[i] : host, size);
                if (!direct && run->ranks.own != 0)
                        state_upload(model_state(run->model), runs[i], host);
        }
        if (host)
                state_release_host(model_state(run->model), host, size);
        state_parameters_changed(model_state(run->model));
        return r;
}

/* A rank that did not get them would train another model: all three spans go to everyone. */
static int broadcast_state(struct run *run, struct error *error) {
        exchange_broadcast(run->ranks.exchange, &run->state, sizeof(run->state));
        return run->state.step > 0 || run->job->whole->model.init ? run_broadcast(run, 3, error) : 0;
}

static int open_outputs(struct run *run, struct error *error) {
        run->out.progress = progress_new(run_total_steps(run));
        run->out.pace = run->ranks.n > 1 ? pace_new(run->ranks.n) : NULL;
        if (!run->out.progress || (run->ranks.n > 1 && !run->out.pace))
                return error_errno(error, ENOMEM, "%s", run->options->run_dir);
        int r = metrics_open(run->options->run_dir, run->state.step, run->state.evaluation_due, &run->out.metrics,
                             error);
        if (r >= 0)
                metrics_set_stage(run->out.metrics, run->state.stage,
                                  spec_task(run->job->stages[run->state.stage].spec, 0));
        return r;
}

/* `spec`: of the stage whose steps they are; NULL: of several. */
static void say_beyond(const struct run *run, const struct spec *spec, const char *key, uint64_t every, uint64_t steps,
                       const char *then) {
        char epochs[32], made[64] = "";

        if (every <= steps)
                return;
        if (spec && spec->train.epochs > 0)
                (void) snprintf(made, sizeof(made), " (train.epochs %s)",
                                spec_get(spec, "train.epochs", epochs, sizeof(epochs)));
        (void) fprintf(stderr, "%s: %s: %" PRIu64 ", but there are %" PRIu64 " steps%s: %s\n", run->options->spec_path,
                       key, every, steps, made, then);
}

static void say_validation(const struct run *run, uint32_t stage) {
        const struct spec *spec = run->job->stages[stage].spec;
        uint64_t every = spec->train.evaluate_every;
        char in_stage[32] = "";

        if (run_holds_out(spec)) {
                say_beyond(run, spec, "train.evaluate_every", every, spec->train.steps,
                           "validation comes at the end of the stage only");
                return;
        }
        if (run->job->n_stages > 1)
                (void) snprintf(in_stage, sizeof(in_stage), "stage %u: ", stage);
        if (every > 0)
                (void) fprintf(stderr,
                               "%s: %strain.evaluate_every: %" PRIu64
                               ", but nothing is held out to evaluate: give data.validation%s, or leave it out\n",
                               run->options->spec_path, in_stage, every,
                               spec->data.objective == OBJECTIVE_CLASSIFY ? " or data.split" : "");
}

/* What would be done every so many steps, of which there are fewer. */
static void say_cadences(const struct run *run) {
        const struct spec *all = run->job->n_stages > 1 ? NULL : run->spec;
        const struct spec_checkpoint *c = &run->spec->checkpoint;
        uint64_t total = run_total_steps(run);

        say_beyond(run, all, "checkpoint.every_steps", c->every_steps, total,
                   "by steps there is one at the end of a stage only");
        say_beyond(run, all, "checkpoint.keep_every", c->keep_every, total, "none is kept for it");
        say_beyond(run, all, "train.log_every", run->spec->train.log_every, total,
                   "metrics.jsonl has the last step of a stage only");
        for (uint32_t s = run->state.stage; s < run->job->n_stages; s++)
                say_validation(run, s);
}

int run_restore(struct run *run, struct error *error) {
        int r = run->ranks.own == 0 ? restore_on_rank_0(run, error) : 0;

        if (r >= 0 && run->ranks.own == 0)
                r = open_outputs(run, error);
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r < 0)
                return r;
        r = broadcast_state(run, error);
        if (r >= 0)
                r = run_compare_weights(run, error);
        if (r < 0)
                return r;
        run->out.last_checkpoint_usec = clock_boottime_usec();
        r = run_use_stage(run, run->state.stage, error);
        if (r >= 0 && run->ranks.own == 0) {
                say_cadences(run);
                run_link_best(run);
        }
        return r;
}
