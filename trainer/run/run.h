/*
 * One rank of a run that trains, for the files of run/ and commands/train.c only.
 *
 *   run_setup → run_restore → { run_step } → run_free
 *
 * A run is its job (job.h: const once it is set up), its ranks, its state (state.h: the same on all ranks between steps, as weights and
 * moments are), its outputs (rank 0's alone) and what computes. A step of B samples at update s of its stage takes samples [s·B, (s + 1)·B) of the
 * stage's stream. `step` counts through all stages and names checkpoints and rows; `stage_step` is what the schedule goes by;
 * `correction_step` counts updates since the moments were 0, or were taken to be (T9).
 */
#ifndef TRAINER_RUN_RUN_H
#define TRAINER_RUN_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/data/prefetch.h"
#include "trainer/model/model.h"
#include "trainer/ops/ops.h"
#include "trainer/report/metrics.h"
#include "trainer/report/pace.h"
#include "trainer/report/progress.h"
#include "trainer/run/exchange.h"
#include "trainer/run/job.h"
#include "trainer/run/rundir.h"
#include "trainer/run/state.h"

struct run_options {
        enum job_kind kind;
        const char *spec_path, *run_dir;
        const char *resume; /* NULL: the newest good one in the run folder */
        bool abandon_newer;
        bool own_spec, own_resume; /* rank 0; another rank that was started with another path than rank 0 */
        bool compares_files;       /* some other rank was */
};

/* The processes that train together. */
struct run_ranks {
        struct exchange *exchange;
        uint32_t own, n;
};

/* What rank 0 writes, and what it remembers for that. Pointers are NULL on other ranks; pace with one rank. */
struct run_outputs {
        struct rundir *rundir;
        struct saver *saver;
        struct metrics *metrics;
        struct progress *progress;
        struct pace *pace;
        unsigned fresh;          /* heads that nobody had trained when this run began or was resumed (model/heads.h) */
        uint64_t best_kept_step; /* of the best checkpoint that is on disk; 0: none is */
        uint64_t first_step;     /* restored from another folder: what this one has of before is not of this run */
        bool link_said;          /* that best.ckpt cannot be made */
        struct error not_finite; /* of a snapshot that was refused for that */
        uint64_t last_checkpoint_usec; /* boot time; all ranks, as the two below */
        double checkpoint_sec;         /* the loop stood still for snapshots since the last row */
        double stall_sec;              /* it stood still for the checkpoint that was begun last */
};

struct run {
        const struct run_options *options;
        struct run_ranks ranks;
        struct run_job *making; /* `job`, while set-up and restore make it; then NULL */
        const struct run_job *job;
        const struct run_stage *now; /* the current stage */
        const struct spec *spec;     /* its spec */
        struct run_state state;
        struct run_outputs out;

        const struct ops *ops;
        struct device *device;    /* owns `ops` */
        enum precision precision; /* of the device: never PRECISION_AUTO */
        struct model *model;
        struct buckets *buckets; /* NULL: gradients are summed by the exchange, after backward */
        struct prefetch *prefetch;
        struct batches *validation_batches;
        double peak_flops; /* of all ranks together */
};

/* main.c: the subcommand; returns its exit code. */
int run_main(int argc, char **argv, enum job_kind kind, const char *help);

/* setup.c: everything up to a fresh model. All ranks return alike, with the same error. */
int run_setup(struct run *run, struct error *error);
void run_free(struct run *run, struct run_job *job);

/* inputs.c: spec, config, vocabulary. Not collective. The first two read files; the last follows from what they found. */
int run_read_spec(struct run *run, struct error *error);
int run_read_model(struct run *run, struct error *error);
int run_settle_inputs(struct run *run, struct error *error);
bool run_init_is_folder(const struct run *run); /* model.init, if given */

/* share.c: what rank 0 was given as arguments or by bertd, on every rank that was given none; the caller frees the buffers. Then spec,
 * config and vocabulary from rank 0, who alone needs the files (C11). A rank that was started with another spec reads its own, which
 * run_compare_inputs then holds against rank 0's. Collective. */
struct run_given {
        char *spec_path, *run_dir, *resume;
};
int run_share_options(struct exchange *exchange, struct run_options *options, struct run_given *ret,
                      struct error *error);
void run_given_free(struct run_given *given);
int run_share_inputs(struct run *run, struct error *error);

#define RUN_SKIP_EMPTY "data.empty: skip"

/* compare.c: ranks whose inputs are not the same are refused (exit 65) with rank, host and the first thing that differs.
 * Collective. Before anything whose order the spec decides; the kernels; corpora, before
 * their window map is used; all data of stages [first, first + n); the weights. */
int run_compare_inputs(struct run *run, struct error *error);
int run_compare_backend(struct run *run, struct error *error);
int run_compare_corpora(struct run *run, uint32_t stage, enum run_part part, struct error *error);
int run_compare_data(struct run *run, uint32_t first, uint32_t n, struct error *error);
int run_compare_weights(struct run *run, struct error *error);
bool run_find_odd_weights(struct run *run, uint32_t *ret_rank); /* the first rank whose weights are not rank 0's */

/* pairs.c: whether two columns of text were joined in the run that is resumed, read by rank 0; then what data.join: auto is, on every rank.
 * What a stage's checkpoints record of it; < 0: no memory; and whether two such records mean the same. */
bool run_pairs_were_joined(const struct run *run);
void run_pairs_settle(struct run *run, bool joined);
int run_pairs_fill(const struct run *run, const struct spec *stage, struct checkpoint_meta *ret);
bool run_pairs_are_same(const char *then, const char *now);

/* texts.c: a stage's texts, and how many steps its epochs are. Not collective. */
int run_open_texts(struct run *run, uint32_t stage, struct error *error);
void run_close_texts(struct run_stage *stage);
bool run_holds_out(const struct spec *spec); /* the stage has something to validate on */
/* Epochs become steps, fewer than which warm-up takes; finetune evaluates once an epoch. */
int run_count_steps(struct run *run, struct run_stage *stage, struct error *error);
int run_set_class_ranges(struct run *run, struct error *error); /* once all stages' texts are read */
struct records_options run_records_of(const struct spec_data *data);
const struct run_task *run_task_of(const struct run *run, const struct spec_data *data);

/* describe.c: on stderr, what there is to train on, and what looks like a mistake. */
void run_describe_texts(const struct run *run);

/* corpus.c: a corpus RUN_DIR/NAME of the texts of such files as spec_is_texts; labels do not count. Rank 0, not collective. */
int run_make_corpus(struct run *run, const struct spec_data *data, char *const *files, uint32_t n, const char *prefix,
                    struct error *error);

/* The same corpus on all ranks: one that does not see rank 0's files at *prefix makes it for itself elsewhere, which
 * run_remove_corpus removes once it is open. Collective. */
int run_share_corpus(struct run *run, const struct spec_data *data, char *const *files, uint32_t n, char **prefix,
                     bool *ret_elsewhere, struct error *error);
void run_remove_corpus(const char *prefix);

/* map.c. Collective. Every id of the corpora is below the vocabulary's size, or exit 65; read only if it is
 * not known already. Then the window map that rank 0 has built at `path`, on all ranks. */
int run_check_ids(struct run *run, const struct corpora *corpora, struct error *error);
int run_share_map(struct run *run, const char *path, struct windows **ret, struct error *error);

/* head.c: for each class of the run the row of model.init's head that has its name, −1 if none has, which is printed on
 * stderr; refused (65) if only some have. `checkpoint` NULL: init is a folder. The caller frees. */
int run_head_rows(const struct run *run, const struct checkpoint *checkpoint, int32_t **ret, struct error *error);

/* restore.c: finds a checkpoint, checks that it fits, gives it to all ranks. Collective. */
int run_restore(struct run *run, struct error *error);
/* What the checkpoint to continue from was made in; PRECISION_AUTO: there is none. Rank 0 alone. */
enum precision run_restored_precision(const struct run *run);
/* Rank 0's parameters (n_runs 1), or those and both moments (3), to all ranks. Collective. */
int run_broadcast(struct run *run, uint32_t n_runs, struct error *error);

/* streams.c. Collective. Opens the corpora of one part of a stage, and its samples. */
int run_open_part(struct run *run, uint32_t stage, enum run_part part, struct error *error);
bool run_text_is_models(
        const struct run *run); /* how text is folded follows from the model, not from the first corpus */

/* stage.c. Collective but for the checks, limits, steps and closing. */
int run_check_stages(const struct run *run, struct error *error);
int run_open_stages(struct run *run, struct error *error);   /* data and meta of all stages */
struct model_limits run_model_limits(const struct run *run); /* that fit every stage */
/* The same if one stage had another micro-batch. */
struct model_limits run_model_limits_with(const struct run *run, uint32_t stage, uint64_t micro_batch);
int run_use_stage(struct run *run, uint32_t stage, struct error *error); /* batches; no counter changes */
int run_next_stage(struct run *run, struct error *error);                /* of the new one's spec */
uint64_t run_n_evaluated(const struct run *run, enum run_part part);     /* samples of it that an evaluation takes */
/* For one part of the stage, at most EVALUATION_SHARE_MAX samples a fill. */
#define EVALUATION_SHARE_MAX 4096u
int run_evaluation_batches(struct run *run, enum run_part part, struct batches **ret, struct error *error);
uint64_t run_total_steps(const struct run *run); /* of all stages, those done as they were */
void run_close_stages(struct run *run, struct run_job *job);

/* state_meta.c */
int run_meta_fill(struct run *run, uint32_t stage, const char *corpus_hash, struct error *error);
void run_meta_now(const struct run *run, struct checkpoint_meta *ret); /* added to it */
/* Exit 78 naming the key if a checkpoint was made with something that may not change. What may and did is printed
 * on stderr. */
int run_meta_compare(const struct run *run, uint32_t stage, const struct checkpoint_meta *found, const char *path,
                     struct error *error);
void run_meta_say(const struct run *run, uint32_t stage, const struct checkpoint_meta *found);
char *run_plainly(const char *text); /* its numbers as a person writes them; caller frees; NULL: no memory */

/* step.c: one update. 0; 1: stopped on request, the update was not made; −errno: the same on all ranks.
 * *ret_flags: RUN_* bits that any rank raised. */
enum { RUN_STOP = 1 << 0, RUN_CHECKPOINT = 1 << 1, RUN_INTERVAL = 1 << 2 };
int run_step(struct run *run, uint64_t *ret_flags, struct error *error);

/* Rank 0: gives progress the samples that the update that begins now takes. */
void run_announce_samples(struct run *run);

/* bind.c. Collective. Puts this process onto the CPUs next to its GPU, of those that it may use; ranks of a host that have some in common
 * divide them. Does nothing without a GPU, or if the kernel does not report its CPUs. */
void run_bind(const struct run *run);

/* memory.c. Not collective. Refuses a model that does not fit this rank's GPU, with the micro-batch that fits: exit 78, or 71 if other processes
 * use the memory. */
int run_check_memory(const struct run *run, struct error *error);

/* device_check.c. A rank whose device broke leaves at once: the others may be waiting for its part of a sum, and end with it. */
void run_check_device(struct run *run);

/* sums.c: of one pass of all ranks, taken in rank order. */
struct run_sums {
        struct model_loss loss;
        double flops;
        double compute_sec; /* this rank's, in which it waited for no other; not summed */
        uint64_t tokens;    /* valid ones */
};
/* `ret_shares`: (n_ranks) what each rank did, or NULL. */
struct run_sums run_agree_sums(struct run *run, const struct run_sums *mine, struct pace_share *ret_shares);
/* Means; NaN if nothing was counted. False: nothing at all, as in a step in which no token is masked. */
bool run_losses(const struct run *run, const struct model_loss *loss, struct metrics_losses *ret);

/* buckets.c: sums of gradients beside backward, where the backend can (T8). Collective but for the last three. */
int run_buckets_new(struct run *run, struct error *error);
void run_buckets_free(struct run *run);
void run_buckets_ready(void *run, uint32_t tensor); /* model_pass's `ready`, of the last micro-batch */
void run_sum_gradients(struct run *run);            /* the rest, or all */

/* evaluate.c: validation, all ranks; adds a row. True: better than any before, and worth keeping. If a stop is asked for it ends
 * without one, and sets evaluation_due. */
bool run_evaluate(struct run *run);

/* The best checkpoint, if any, on the test set, else the last; the weights are then that checkpoint's. 1: a stop was asked for.
 * Collective. */
int run_test(struct run *run, struct error *error);

static inline bool run_stage_classifies(const struct run *run, uint32_t stage) {
        return run->job->stages[stage].spec->data.objective == OBJECTIVE_CLASSIFY;
}
static inline bool run_classifies(const struct run *run) { return run->spec->data.objective == OBJECTIVE_CLASSIFY; }
/* Its labels are numbers: it "classifies", with a loss and without an accuracy. */
static inline bool run_regresses(const struct run *run) {
        return run_classifies(run) && run->job->config.classifier.target == TARGET_NUMBER;
}

/* checkpoint.c. Begins one of the current step; `last`: waits until it is durable and fails where it cannot be.
 * Collective. */
int run_checkpoint(struct run *run, bool last, struct error *error);
void run_checkpoint_poll(struct run *run);
/* Waits until the state is copied for the checkpoint begun last: before anything changes it. */
void run_settle(struct run *run);

/* best.c: the best checkpoint of a stage that classifies. Rank 0 but for run_next_best; not collective. */
bool run_is_better(const struct run *run, double loss, double accuracy, bool classifies); /* than the best so far */
/* After a restore: a best checkpoint that is missing, broken or of another run is reported and replaced by the best of those that exist;
 * evaluation_due is set if the weights that the run continues with must be validated. */
void run_check_best(struct run *run);
void run_lose_best(struct run *run, const struct error *why); /* the same for one that could not be written, or read */
void run_keep_best(struct run *run, uint64_t step);           /* the checkpoint of that step is on disk */
void run_next_best(struct run *run);                          /* a stage begins without one */
void run_link_best(struct run *run); /* RUN_DIR/best.ckpt leads to the best checkpoint; without one it does not exist */
/* At the end: the best checkpoint exists, and is linked; or there is none. */
void run_settle_best(struct run *run);
/* After run_settle: reads the weights of the best checkpoint, if that is not the last. */
int run_read_best(struct run *run, bool *ret_read, struct error *error);

#endif
