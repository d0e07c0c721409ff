/*
 * One rank of a run that trains, for the files run_*.c, pretrain.c and finetune.c only.
 *
 *   run_setup → run_restore → { run_step } → run_free
 *
 * Between steps every rank holds the same weights, moments and counters. Rank 0 alone owns the run folder, the saver,
 * metrics and progress (NULL elsewhere). A step of B samples at update s of its stage takes samples [s·B, (s + 1)·B) of the
 * stage's stream. `step` counts through all stages and names checkpoints and rows; `stage_step` is what the schedule goes by;
 * `correction_step` counts updates since the moments were 0, or were said to be (T9).
 */
#ifndef TRAINER_RUN_H
#define TRAINER_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"
#include "trainer/checkpoint.h"
#include "trainer/config.h"
#include "trainer/corpora.h"
#include "trainer/exchange.h"
#include "trainer/loss_scale.h"
#include "trainer/metrics.h"
#include "trainer/model.h"
#include "trainer/ops.h"
#include "trainer/prefetch.h"
#include "trainer/progress.h"
#include "trainer/rundir.h"
#include "trainer/samples.h"
#include "trainer/saver.h"
#include "trainer/text/encoder.h"
#include "trainer/text/wordpiece.h"
#include "trainer/texts.h"

struct run_options {
        enum job_kind kind;
        const char *spec_path, *run_dir;
        const char *resume; /* NULL: the newest good one in the run folder */
        bool abandon_newer;
};

enum run_part { PART_TRAIN, PART_VALIDATION, PART_TEST, PART_MAX };

/* A head of the classifier: classes [first, first + labels.n) of all. */
struct run_task {
        char *name; /* "": the only one */
        struct labels labels;
        uint32_t first;
};

/* Of the three parts a stage has those whose n is not 0: of corpora (pretraining) or of texts (classification). */
struct run_stage {
        const struct spec *spec; /* borrowed from the whole one */
        struct sample_source source[PART_MAX];
        uint64_t n[PART_MAX]; /* samples in one epoch */
        struct corpora *corpora[PART_MAX];
        char *made_prefix[PART_MAX]; /* of a corpus that the run made of texts */
        struct samples *samples[PART_MAX];
        struct texts *texts[PART_MAX];
        struct text_set set[PART_MAX];
        struct checkpoint_meta meta; /* what never changes during the stage */
};

struct run {
        const struct run_options *options;
        struct exchange *exchange;
        uint32_t rank, n_ranks;

        struct spec *whole;
        struct run_stage *stages; /* (n_stages) */
        uint32_t n_stages, stage;
        struct run_stage *now;   /* the stage under way */
        const struct spec *spec; /* its spec */
        struct model_config config;
        struct vocab *vocab;
        char *vocab_path;
        struct samples_vocab samples_vocab;
        struct text_options text; /* fine-tuning: as all below */
        struct encoder *encoder;
        struct run_task tasks[SPEC_TASKS_MAX];
        uint32_t n_tasks, n_classes;
        struct class_range *class_ranges; /* (n_classes) each class' task; NULL: one task */
        const struct ops *ops;
        struct device *device; /* owns `ops` */
        struct model *model;
        struct prefetch *prefetch;
        struct batches *validation_batches;

        struct rundir *rundir;
        struct saver *saver;
        struct metrics *metrics;
        struct progress *progress;

        uint64_t step, stage_step, correction_step; /* updates completed */
        struct loss_scale loss_scale;               /* 1 unless fp16 */
        double best_validation_loss;                /* NaN: none yet */
        double best_validation_accuracy;            /* classification: comes before the loss */
        uint64_t best_validation_step;
        bool evaluation_due;           /* of this step: a stop came before its end */
        double peak_flops;             /* of sgemm, all ranks together, measured */
        uint64_t last_checkpoint_step; /* begun or restored; UINT64_MAX: none */
        uint64_t last_checkpoint_usec; /* boot time */
        double checkpoint_sec;         /* the loop stood still for snapshots since the last row */
        struct error not_finite;       /* rank 0: of a snapshot that was refused for that */
        double stall_sec;              /* it stood still for the checkpoint that was begun last */
        struct buckets *buckets;       /* NULL: gradients are summed by the exchange, after backward */
};

/* run_main.c: the subcommand; returns its exit code. */
int run_main(int argc, char **argv, enum job_kind kind, const char *usage);

/* run_setup.c: everything up to a fresh model. All ranks return alike, with the same error. */
int run_setup(struct run *run, struct error *error);
void run_free(struct run *run);

/* A rank whose device broke leaves at once: the others may be waiting for its part of a sum, and go with it. */
void run_check_device(struct run *run);

/* run_inputs.c: spec, config, vocabulary. Not collective. */
int run_load_inputs(struct run *run, struct error *error);
bool run_init_is_folder(const struct run *run); /* model.init, where there is one */

/* run_texts.c: a stage's texts, and how many steps its epochs are. Not collective. */
int run_open_texts(struct run *run, uint32_t stage, struct error *error);
void run_close_texts(struct run_stage *stage);
void run_count_steps(struct run *run,
                     struct run_stage *stage); /* epochs become steps; finetune evaluates once an epoch */
int run_set_class_ranges(struct run *run, struct error *error); /* once all stages' texts are there */
struct records_options run_records_of(const struct spec_data *data);
const struct run_task *run_task_of(const struct run *run, const struct spec_data *data);

/* run_corpus.c: a corpus RUN_DIR/NAME of the texts of such files as spec_is_texts; labels do not count. Rank 0, not collective. */
int run_make_corpus(struct run *run, const struct spec_data *data, char *const *files, uint32_t n, const char *prefix,
                    struct error *error);

/* run_restore.c: finds a checkpoint, checks that it fits, gives it to all ranks. Collective. */
int run_restore(struct run *run, struct error *error);
/* Rank 0's parameters (n_runs 1), or those and both moments (3), to all ranks. Collective. */
int run_broadcast(struct run *run, uint32_t n_runs, struct error *error);

/* run_stage.c. Collective but for the checks, limits, steps and closing. */
int run_check_stages(const struct run *run, struct error *error);
int run_open_stages(struct run *run, struct error *error);               /* data and meta of all stages */
struct model_limits run_model_limits(const struct run *run);             /* that fit every stage */
int run_use_stage(struct run *run, uint32_t stage, struct error *error); /* batches; no counter changes */
int run_next_stage(struct run *run, struct error *error);                /* as the new one's spec says */
uint64_t run_n_evaluated(const struct run *run, enum run_part part);     /* samples of it that an evaluation takes */
/* For one part of the stage, at most EVALUATION_SHARE_MAX samples a fill. */
#define EVALUATION_SHARE_MAX 4096u
int run_evaluation_batches(struct run *run, enum run_part part, struct batches **ret, struct error *error);
uint64_t run_total_steps(const struct run *run); /* of all stages, those done as they were */
void run_close_stages(struct run *run);

/* run_meta.c */
int run_meta_fill(struct run *run, uint32_t stage, const char *corpus_hash, struct error *error);
struct checkpoint_meta run_meta_now(const struct run *run);
/* Exit 78 naming the key where a checkpoint was made with something that may not change. What may and did is said
 * on stderr. */
int run_meta_compare(const struct run *run, uint32_t stage, const struct checkpoint_meta *found, const char *path,
                     struct error *error);
void run_meta_say(const struct run *run, uint32_t stage, const struct checkpoint_meta *found);

/* run_step.c: one update. 0; 1: stopped on request, the update was not made; −errno: the same on all ranks.
 * *ret_flags: RUN_* bits that any rank raised. */
enum { RUN_STOP = 1 << 0, RUN_CHECKPOINT = 1 << 1, RUN_INTERVAL = 1 << 2 };
int run_step(struct run *run, uint64_t *ret_flags, struct error *error);

/* Rank 0: tells progress which samples the update that begins now takes. */
void run_announce_samples(struct run *run);

/* Sums of one pass of all ranks, taken in rank order. */
struct run_sums {
        struct model_loss loss;
        double flops;
        uint64_t tokens; /* valid ones */
};
struct run_sums run_agree_sums(struct run *run, const struct run_sums *mine);
void run_losses(const struct run *run, const struct model_loss *loss,
                struct metrics_losses *ret); /* means; NaN where nothing was counted */

/* run_buckets.c: sums of gradients beside backward, where the backend can (T8). Collective but for the last three. */
int run_buckets_new(struct run *run, struct error *error);
void run_buckets_free(struct run *run);
void run_buckets_ready(void *run, uint32_t tensor); /* model_pass's `ready`, of the last micro-batch */
void run_sum_gradients(struct run *run);            /* the rest, or all */

/* run_evaluate.c: validation, all ranks; adds a row. True: better than any before, and worth keeping. Where a stop is asked for it ends
 * without one, and evaluation_due tells. */
bool run_evaluate(struct run *run);

/* The best checkpoint on the test set, where there is one; the weights are then that checkpoint's. 1: a stop was asked for. Collective. */
int run_test(struct run *run, struct error *error);

static inline bool run_classifies(const struct run *run) { return run->spec->data.objective == OBJECTIVE_CLASSIFY; }

/* run_checkpoint.c. Begins one of the current step; `last`: waits until it is durable and fails where it cannot be.
 * Collective. */
int run_checkpoint(struct run *run, bool last, struct error *error);
void run_checkpoint_poll(struct run *run);
/* Waits until the state is copied for the checkpoint begun last: before anything changes it. */
void run_settle(struct run *run);

/* RUN_DIR/best.ckpt leads to the best checkpoint, where that is there. Rank 0. */
void run_link_best(struct run *run);

/* run_measure.c: FLOP/s of the sgemm peak, this rank, all its threads. */
double run_measure_peak(void);

#endif
