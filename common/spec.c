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

#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(structure, member) CYAML_FIELD_STRING_PTR(#member, OPTIONAL, structure, member, 0, CYAML_UNLIMITED)
#define LIST(structure, member, min, max)                                                                             \
        CYAML_FIELD_SEQUENCE_COUNT(#member, OPTIONAL, structure, member, n_##member, &list_entry, min, max)
#define SECTION(member) CYAML_FIELD_MAPPING_PTR(#member, OPTIONAL, struct raw, member, member##_schema)

static const cyaml_schema_value_t list_entry = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED) };

static const cyaml_schema_field_t resources_schema[] = {
        TEXT(struct raw_resources, ranks), TEXT(struct raw_resources, gpus), TEXT(struct raw_resources, threads),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t restart_schema[] = {
        TEXT(struct raw_restart, max_without_progress),
        LIST(struct raw_restart, backoff_sec, 2, 2),
        TEXT(struct raw_restart, grace_sec),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t checkpoint_schema[] = {
        TEXT(struct raw_checkpoint, every_steps), TEXT(struct raw_checkpoint, every_sec),
        TEXT(struct raw_checkpoint, keep), TEXT(struct raw_checkpoint, keep_every),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t model_schema[] = {
        TEXT(struct raw_model, config), TEXT(struct raw_model, vocab), CYAML_FIELD_END
};
static const cyaml_schema_field_t data_schema[] = {
        LIST(struct raw_data, train, 1, LIST_MAX),
        LIST(struct raw_data, validation, 0, LIST_MAX),
        TEXT(struct raw_data, sequence_length), TEXT(struct raw_data, objective),
        TEXT(struct raw_data, masked_fraction), TEXT(struct raw_data, max_predictions),
        TEXT(struct raw_data, short_sequence_probability),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t optimizer_schema[] = {
        TEXT(struct raw_optimizer, name), TEXT(struct raw_optimizer, learning_rate),
        TEXT(struct raw_optimizer, warmup_ratio), TEXT(struct raw_optimizer, warmup_steps),
        TEXT(struct raw_optimizer, schedule), TEXT(struct raw_optimizer, beta1), TEXT(struct raw_optimizer, beta2),
        TEXT(struct raw_optimizer, epsilon), TEXT(struct raw_optimizer, weight_decay),
        TEXT(struct raw_optimizer, clip_norm),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t train_schema[] = {
        TEXT(struct raw_train, global_batch), TEXT(struct raw_train, micro_batch), TEXT(struct raw_train, steps),
        TEXT(struct raw_train, precision), TEXT(struct raw_train, seed), TEXT(struct raw_train, evaluate_every),
        TEXT(struct raw_train, evaluate_samples), TEXT(struct raw_train, log_every),
        CYAML_FIELD_END
};
static const cyaml_schema_field_t spec_schema[] = {
        TEXT(struct raw, name), TEXT(struct raw, kind), TEXT(struct raw, priority), TEXT(struct raw, run_dir),
        TEXT(struct raw, on_exit),
        LIST(struct raw, command, 1, LIST_MAX),
        SECTION(resources), SECTION(restart), SECTION(checkpoint), SECTION(model), SECTION(data), SECTION(optimizer),
        SECTION(train),
        CYAML_FIELD_END
};
static const cyaml_schema_value_t top_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, spec_schema) };

static const char *const kind_names[] = JOB_KIND_NAMES;
static const char *const objective_names[] = { "mlm+nsp", "mlm+sop", "mlm" };
static const char *const optimizer_names[] = { "adamw" };
static const char *const schedule_names[] = { "linear", "constant" };
static const char *const precision_names[] = { "fp32", "fp64" };

static_assert(ELEMENTSOF(kind_names) == JOB_KIND_MAX, "a name for each kind");
static_assert(ELEMENTSOF(objective_names) == OBJECTIVE_MAX, "a name for each objective");
static_assert(ELEMENTSOF(optimizer_names) == OPTIMIZER_NAME_MAX, "a name for each optimizer");
static_assert(ELEMENTSOF(schedule_names) == SCHEDULE_MAX, "a name for each schedule");
static_assert(ELEMENTSOF(precision_names) == PRECISION_MAX, "a name for each precision");

enum field_type { FIELD_TEXT, FIELD_PATH, FIELD_PROGRAM, FIELD_I32, FIELD_U32, FIELD_U64, FIELD_DOUBLE, FIELD_ENUM };
enum { TRAINING = (1 << JOB_PRETRAIN) | (1 << JOB_FINETUNE), ALL = TRAINING | (1 << JOB_COMMAND) };
#define NO_SECTION SIZE_MAX

/* One scalar of a spec. `value` NULL: required where `required` says so, else left NULL or 0. */
struct field {
        const char *key;                 /* as messages name it */
        size_t section, raw, spec;       /* offsets: of the section's pointer in struct raw, in the section, in struct spec */
        enum field_type type;
        int kinds;                       /* bit set of job kinds in which the key may appear */
        const char *fallback;            /* default, as text */
        double min, max;                 /* numbers only; exact, for all are below 2^53 but INT64_MAX (see parse_integer) */
        const char *const *names;        /* enums only */
        size_t n_names;
};

#define TOP(member, ...)                                                                                              \
        { .key = #member, .section = NO_SECTION, .raw = offsetof(struct raw, member),                                 \
          .spec = offsetof(struct spec, member), .kinds = ALL, __VA_ARGS__ }
#define IN(part, member, ...)                                                                                         \
        { .key = #part "." #member, .section = offsetof(struct raw, part), .raw = offsetof(struct raw_##part, member), \
          .spec = offsetof(struct spec, part.member), __VA_ARGS__ }
#define NUMBER(field_type, low, high, text) .type = field_type, .min = low, .max = high, .fallback = text
#define CHOICE(table, text) .type = FIELD_ENUM, .names = table, .n_names = ELEMENTSOF(table), .fallback = text
#define SEED_MAX 9223372036854775807.0

static const struct field fields[] = {
        TOP(kind, CHOICE(kind_names, NULL)),
        TOP(name, .type = FIELD_TEXT),
        TOP(priority, NUMBER(FIELD_I32, -1000, 1000, "0")),
        TOP(run_dir, .type = FIELD_PATH),
        TOP(on_exit, .type = FIELD_PROGRAM),
        IN(resources, ranks, NUMBER(FIELD_U32, 1, BERTD_RANKS_MAX, "1"), .kinds = ALL),
        IN(resources, gpus, NUMBER(FIELD_U32, 0, BERTD_RANKS_MAX, "0"), .kinds = ALL),
        IN(resources, threads, NUMBER(FIELD_U32, 1, BERTD_THREADS_MAX, "1"), .kinds = ALL),
        IN(restart, max_without_progress, NUMBER(FIELD_U32, 0, 1000000, "5"), .kinds = ALL),
        IN(restart, grace_sec, NUMBER(FIELD_U32, 1, 86400, "120"), .kinds = ALL),
        IN(checkpoint, every_steps, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = ALL),
        IN(checkpoint, every_sec, NUMBER(FIELD_U64, 0, 1000000000, "600"), .kinds = ALL),
        IN(checkpoint, keep, NUMBER(FIELD_U32, 1, 1000000, "3"), .kinds = ALL),
        IN(checkpoint, keep_every, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = ALL),
        IN(model, config, .type = FIELD_PATH, .kinds = TRAINING),
        IN(model, vocab, .type = FIELD_PATH, .kinds = TRAINING),
        IN(data, sequence_length, NUMBER(FIELD_U32, 8, 65536, "128"), .kinds = TRAINING),
        IN(data, objective, CHOICE(objective_names, "mlm+nsp"), .kinds = TRAINING),
        IN(data, masked_fraction, NUMBER(FIELD_DOUBLE, 0.001, 1, "0.15"), .kinds = TRAINING),
        IN(data, max_predictions, NUMBER(FIELD_U32, 0, 65536, "0"), .kinds = TRAINING),
        IN(data, short_sequence_probability, NUMBER(FIELD_DOUBLE, 0, 1, "0.1"), .kinds = TRAINING),
        IN(optimizer, name, CHOICE(optimizer_names, "adamw"), .kinds = TRAINING),
        IN(optimizer, learning_rate, NUMBER(FIELD_DOUBLE, 0, 1000, "1e-4"), .kinds = TRAINING),
        IN(optimizer, warmup_ratio, NUMBER(FIELD_DOUBLE, 0, 1, "0"), .kinds = TRAINING),
        IN(optimizer, warmup_steps, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = TRAINING),
        IN(optimizer, schedule, CHOICE(schedule_names, "linear"), .kinds = TRAINING),
        IN(optimizer, beta1, NUMBER(FIELD_DOUBLE, 0, 0.999999999, "0.9"), .kinds = TRAINING),
        IN(optimizer, beta2, NUMBER(FIELD_DOUBLE, 0, 0.999999999, "0.999"), .kinds = TRAINING),
        IN(optimizer, epsilon, NUMBER(FIELD_DOUBLE, 1e-30, 1, "1e-6"), .kinds = TRAINING),
        IN(optimizer, weight_decay, NUMBER(FIELD_DOUBLE, 0, 1000, "0.01"), .kinds = TRAINING),
        IN(optimizer, clip_norm, NUMBER(FIELD_DOUBLE, 0, 1e9, "1"), .kinds = TRAINING),
        IN(train, global_batch, NUMBER(FIELD_U64, 1, 1 << 24, "32"), .kinds = TRAINING),
        IN(train, micro_batch, NUMBER(FIELD_U64, 0, 1 << 24, "0"), .kinds = TRAINING),
        IN(train, steps, NUMBER(FIELD_U64, 1, COUNT_MAX, NULL), .kinds = TRAINING),
        IN(train, precision, CHOICE(precision_names, "fp32"), .kinds = TRAINING),
        IN(train, seed, NUMBER(FIELD_U64, 0, SEED_MAX, "42"), .kinds = TRAINING),
        IN(train, evaluate_every, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = TRAINING),
        IN(train, evaluate_samples, NUMBER(FIELD_U64, 1, 1 << 30, "512"), .kinds = TRAINING),
        IN(train, log_every, NUMBER(FIELD_U64, 1, COUNT_MAX, "1"), .kinds = TRAINING),
};
