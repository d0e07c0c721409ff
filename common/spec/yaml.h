/*
 * The shape of a job spec's YAML: from a file's text to `struct raw`, in which every scalar is still text, and back. What the
 * values mean is spec.c's. Only spec.c and the tests use this.
 */
#ifndef COMMON_SPEC_YAML_H
#define COMMON_SPEC_YAML_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"

#define SPEC_LIST_MAX 4096 /* entries of a list */

/* The file as it is written. The layout mirrors struct spec so that one name serves both offsets of a field. A list that a stage, or a task
 * of one, says to be empty is not NULL and has no entries. */
struct raw_resources {
        char *ranks, *gpus, *threads, *memory, *cpus;
};
struct raw_restart {
        char *max_without_progress, **backoff_sec;
        uint32_t n_backoff_sec;
        char *grace_sec, *hang_sec, *start_sec, *on_nan;
};
struct raw_checkpoint {
        char *every_steps, *every_sec, *keep, *keep_every;
};
struct raw_log {
        char *max_size, *keep;
};
struct raw_model {
        char *config, *vocab, *init, *head;
};
struct raw_data {
        char **train, **train_weights, **validation;
        uint32_t n_train, n_train_weights, n_validation;
        char *sequence_length, *objective, *masked_fraction, *max_predictions, *short_sequence_probability;
        char *masking, *dupe_factor, *mask_unit;
        char **test, **text, **labels;
        uint32_t n_test, n_text, n_labels;
        char *task, *label, *format, *encoding, *header, *delimiter, *empty, *split, *fraction, *per_class;
        char *truncation, *head_tokens, *max_segments, *shuffle, *lowercase;
};
struct raw_classifier {
        char *layers, *combine, *input, *segments, *dropout;
};
struct raw_optimizer {
        char *name, *learning_rate, *warmup_ratio, *warmup_steps, *schedule;
        char *power, *decay_from, *step_count, *beta1, *beta2, *epsilon, *weight_decay, *clip_norm, *clip_by;
        char *layer_decay, *freeze;
};
struct raw_train {
        char *global_batch, *micro_batch, *steps, *epochs, *precision, *recompute_activations, *seed;
        char *evaluate_every, *evaluate_samples, *log_every;
};
/* What a stage has of its own; the rest is the file's. */
struct raw_stage {
        char *name, *moments, *bias_correction;
        struct raw_data *data, *tasks;
        uint32_t n_tasks;
        struct raw_optimizer *optimizer;
        struct raw_train *train;
};
struct raw {
        char *name, *kind, *priority, *run_dir, *device, *on_exit, *ends_with, **command;
        uint32_t n_command;
        struct raw_resources *resources;
        struct raw_restart *restart;
        struct raw_checkpoint *checkpoint;
        struct raw_log *log;
        struct raw_model *model;
        struct raw_data *data;
        struct raw_classifier *classifier;
        struct raw_optimizer *optimizer;
        struct raw_train *train;
        struct raw_stage *stages;
        uint32_t n_stages;
        struct raw_stage *stage; /* not of the file: spec.c's, the stage whose values are being read */
};

/* A file being read; the caller owns all of it. */
struct spec_text {
        const char *path; /* for messages */
        char *text;
        size_t size;
};

/* Refuses what is not one plain YAML document (syntax, anchors, aliases, NUL, deep nesting), naming the line; then unknown and
 * repeated keys and wrong shapes, naming line and key. An empty document gives NULL. The caller frees with spec_raw_free. */
int spec_raw_read(const struct spec_text *file, struct raw **ret, struct error *error);
void spec_raw_free(struct raw *raw);

/* YAML text of a raw spec, whose texts must be valid UTF-8; NULL members are left out. Caller frees. */
int spec_raw_write(const struct raw *raw, char **ret_text, struct error *error);

/* The last line that names "key", "section.key" or "stages[1].section.key"; one of the file's own "section.key" or of any stage's
 * where the key stands elsewhere only; 1 where none does. */
size_t spec_line_of(const struct spec_text *file, const char *key);

#endif
