/*
 * See spec.h. Three steps, each with its own kind of error:
 *   1. libyaml walks the text: syntax, anchors, aliases, a second document (line known);
 *   2. libcyaml maps it onto `struct raw`, all scalars as text: unknown and repeated keys, wrong shapes (line known);
 *   3. one table, `fields`, turns text into numbers, enums and absolute paths, with ranges and defaults.
 * libcyaml's own numbers are not used: it takes "5x" for 5 and "010" for 8. Nothing here is kept between calls.
 */
#include "common/spec.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <yaml.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

#define DEPTH_MAX 8        /* of nested YAML collections; a spec has 3 */
#define LIST_MAX 4096      /* entries */
#define COUNT_MAX 1000000000000 /* steps, samples */

/* The file as it is written. The layout mirrors struct spec so that one name serves both offsets of a field. */
struct raw_resources { char *ranks, *gpus, *threads; };
struct raw_restart { char *max_without_progress, **backoff_sec; uint32_t n_backoff_sec; char *grace_sec; };
struct raw_checkpoint { char *every_steps, *every_sec, *keep, *keep_every; };
struct raw_model { char *config, *vocab; };
struct raw_data {
        char **train, **validation;
        uint32_t n_train, n_validation;
        char *sequence_length, *objective, *masked_fraction, *max_predictions, *short_sequence_probability;
};
struct raw_optimizer {
        char *name, *learning_rate, *warmup_ratio, *warmup_steps, *schedule;
        char *beta1, *beta2, *epsilon, *weight_decay, *clip_norm;
};
struct raw_train {
        char *global_batch, *micro_batch, *steps, *precision, *seed;
        char *evaluate_every, *evaluate_samples, *log_every;
};
struct raw {
        char *name, *kind, *priority, *run_dir, *on_exit, **command;
        uint32_t n_command;
        struct raw_resources *resources;
        struct raw_restart *restart;
        struct raw_checkpoint *checkpoint;
        struct raw_model *model;
        struct raw_data *data;
        struct raw_optimizer *optimizer;
        struct raw_train *train;
};
