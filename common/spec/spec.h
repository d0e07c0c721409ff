/*
 * A job spec: YAML read with libyaml, checked, its relative paths made absolute. bertctl submits the normalised text
 * (spec_format); the trainer reads it again. What is wrong is refused with file, line and key (contract C10), or with
 * the option that set the key. An absent key has the default stated here.
 */
#ifndef COMMON_SPEC_SPEC_H
#define COMMON_SPEC_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/job.h"
#include "common/cleanup.h"
#include "common/error.h"

enum objective { OBJECTIVE_MLM_NSP, OBJECTIVE_MLM_SOP, OBJECTIVE_MLM, OBJECTIVE_CLASSIFY, OBJECTIVE_MAX };
enum data_format { FORMAT_AUTO, FORMAT_CSV, FORMAT_TSV, FORMAT_JSONL, FORMAT_LINES, FORMAT_MAX };
#define DATA_FORMAT_NAMES \
        { "auto", "csv", "tsv", "jsonl", "lines" }
enum data_encoding { ENCODING_UTF8, ENCODING_LATIN1, ENCODING_MAX };
#define DATA_ENCODING_NAMES \
        { "utf-8", "latin-1" }
enum data_header { HEADER_AUTO, HEADER_FALSE, HEADER_TRUE, HEADER_MAX };
#define DATA_HEADER_NAMES \
        { "auto", "false", "true" }
enum data_join { JOIN_AUTO, JOIN_FALSE, JOIN_TRUE, JOIN_MAX };
#define DATA_JOIN_NAMES \
        { "auto", "false", "true" }
enum data_empty { EMPTY_REFUSE, EMPTY_SKIP, EMPTY_MAX };
#define DATA_EMPTY_NAMES \
        { "refuse", "skip" }
#define SPEC_LENGTH_DEFAULT 128 /* tokens of a sample */
enum init_head { INIT_HEAD_KEEP, INIT_HEAD_FRESH, INIT_HEAD_MAX };
enum truncation {
        TRUNCATION_HEAD,
        TRUNCATION_TAIL,
        TRUNCATION_HEAD_TAIL,
        TRUNCATION_SEGMENTS,
        TRUNCATION_AUTO, /* only in a spec: model.init's, else head */
        TRUNCATION_MAX
};
#define TRUNCATION_NAMES \
        { "head", "tail", "head_tail", "segments", "auto" }
enum classifier_combine { COMBINE_CONCAT, COMBINE_MEAN, COMBINE_MAX, CLASSIFIER_COMBINE_MAX };
enum classifier_input { INPUT_AUTO, INPUT_POOLED, INPUT_CLS, CLASSIFIER_INPUT_MAX };
enum classifier_segments { SEGMENTS_MEAN, SEGMENTS_MAX, SEGMENTS_ATTENTION, CLASSIFIER_SEGMENTS_MAX };
enum freeze { FREEZE_NONE, FREEZE_EMBEDDINGS, FREEZE_ENCODER, FREEZE_FEATURES, FREEZE_MAX };
enum masking_mode { MASKING_DYNAMIC, MASKING_STATIC, MASKING_MAX };
enum mask_unit { MASK_UNIT_TOKEN, MASK_UNIT_WHOLE_WORD, MASK_UNIT_NGRAM, MASK_UNIT_MAX };
enum optimizer_name { OPTIMIZER_ADAMW, OPTIMIZER_BERTADAM, OPTIMIZER_LAMB, OPTIMIZER_LAMB_GOOGLE, OPTIMIZER_NAME_MAX };
enum schedule { SCHEDULE_LINEAR, SCHEDULE_POLY, SCHEDULE_COSINE, SCHEDULE_CONSTANT, SCHEDULE_MAX };
enum decay_from { DECAY_FROM_START, DECAY_FROM_WARMUP, DECAY_FROM_MAX };
enum step_count { STEP_COUNT_FULL, STEP_COUNT_FROM_ZERO, STEP_COUNT_FROM_ONE, STEP_COUNT_MAX };
enum clip_by { CLIP_BY_GLOBAL, CLIP_BY_TENSOR, CLIP_BY_MAX };
enum moments { MOMENTS_KEEP, MOMENTS_RESET, MOMENTS_MAX };
enum bias_correction { BIAS_CORRECTION_CONTINUE, BIAS_CORRECTION_RESTART, BIAS_CORRECTION_MAX };
#define SPEC_SEGMENTS_MAX 64 /* of a text */
#define SPEC_TASKS_MAX 32    /* of a run */
#define SPEC_STAGES_MAX 16   /* four bits in the random numbers' keys */
enum precision {
        PRECISION_AUTO,
        PRECISION_FP32,
        PRECISION_FP64,
        PRECISION_TF32,
        PRECISION_BF16,
        PRECISION_FP16,
        PRECISION_MAX
};
#define PRECISION_NAMES \
        { "auto", "fp32", "fp64", "tf32", "bf16", "fp16" }
enum device_kind { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA, DEVICE_KIND_MAX };
#define DEVICE_KIND_NAMES \
        { "auto", "cpu", "cuda" }

/* 1, 0, 1; ranks 1..BERTD_RANKS_MAX; all of one host */
struct spec_resources {
        uint32_t ranks, gpus, threads;
        char **hosts; /* (n_hosts) names; none: the host of the bertd it is submitted to */
        uint32_t n_hosts;
        uint32_t use;       /* number of them that run it; 0 = all, the rest are spares */
        char *network;      /* CIDR or interface of MPI's connections; NULL: Open MPI chooses */
        char **environment; /* (n_environment) further variables that the ranks of other hosts get */
        uint32_t n_environment;
        bool unmanaged;            /* false; true: hosts without a bertd may be used */
        uint32_t host_timeout_sec; /* 20; silence after which another host is lost */
        bool ranks_given;          /* the file has ranks: else they are not written back */
        uint64_t memory;           /* bytes, in the file with K, M, G or T; 0 = no limit */
        double cpus;               /* 0 = no limit */
};
struct spec_restart {
        uint32_t max_without_progress; /* 5 */
        uint32_t backoff_sec[2];       /* first and longest: [5, 600] */
        uint32_t grace_sec;            /* 120 */
        int32_t hang_sec, start_sec;   /* without a step, to the first step; 0 = never, absent: -1 = bertd's own */
        enum on_nan on_nan;            /* stop */
        bool shrink;                   /* false; true: starts with fewer hosts if there are no more */
        uint32_t host_cooldown_sec[2]; /* of a lost host, first and longest: [10, 600] */
};
/* 0 = off; 0, 600, 3, 0 */
struct spec_checkpoint {
        uint64_t every_steps, every_sec;
        uint32_t keep;
        uint64_t keep_every;
        char *copy_to; /* NULL; folder, or HOST:FOLDER, that gets a copy of each */
};
/* Of an attempt's output: bytes of its files together, in the file with K, M, G or T; and how many files; 64M, 2 */
struct spec_log {
        uint64_t max_size;
        uint32_t keep;
};
/* config.json (Hugging Face keys), vocab.txt; the checkpoint (finetune: or the Hugging Face folder) whose weights the
 * run begins with, NULL: random ones. finetune takes config and vocab from there where they are NULL. */
struct spec_model {
        char *config, *vocab, *init;
        enum init_head head; /* keep; finetune: whether init's classifier is kept, each class by its name */
};
struct spec_data {
        char **train; /* prefixes of .bin/.idx pairs, at least one; finetune: or files of texts (spec_is_texts) */
        uint32_t n_train;
        char **train_weights; /* optional: shares of the samples, one for each of train, above 0; as the file has them
                               */
        uint32_t n_train_weights;
        double *weights;   /* (n_train) train_weights as numbers; NULL: every window once an epoch */
        char **validation; /* optional, as train */
        uint32_t n_validation;
        uint32_t sequence_length;          /* 128; 0: absent, to be asked of model.init (spec_data_set_length) */
        enum objective objective;          /* mlm+nsp */
        double masked_fraction;            /* 0.15 */
        uint32_t max_predictions;          /* 0 in the file: ceil(masked_fraction × sequence_length) */
        double short_sequence_probability; /* 0.1 */
        enum masking_mode masking;         /* dynamic */
        uint32_t dupe_factor;              /* 10; static: epochs until pairs and masks repeat */
        enum mask_unit mask_unit;          /* token */
        /* finetune, whose `train` and `validation` are files of labelled texts (records.h) */
        char **test, **text,
                **labels; /* files; columns whose texts are joined, [text]; class names, with train's spelling */
        uint32_t n_test, n_text, n_labels;
        enum data_join join;         /* auto: two columns of text are a pair, others are joined (spec_is_pair) */
        bool numbers;                /* false; labels: number: a label is one, to be predicted as such */
        char *task;                  /* NULL: the only one; whose head the classes are of */
        char *label;                 /* "label": its column */
        enum data_format format;     /* auto: by the file's name */
        enum data_encoding encoding; /* utf-8 */
        enum data_header header;     /* auto: there is one where a column is named */
        char *delimiter;             /* NULL: a comma; of csv (spec_delimiter) */
        enum data_empty empty;       /* refuse; texts that are empty */
        double split;                /* 0; without validation, the share of train that is held out for it */
        double fraction;             /* 1; share of train that is used */
        uint64_t per_class;          /* 0 = all; examples of each class that are used */
        enum truncation truncation;  /* auto */
        uint32_t head_tokens;        /* 0 = 128 of 510, scaled; of head_tail */
        uint32_t max_segments;       /* 4; of segments */
        bool shuffle, lowercase;     /* true, true: unless the model has its own */
};
/* The input of the classifier; finetune only. */
struct spec_classifier {
        char *layers;                      /* "last": or first4, last4, all, or a layer's number from 0 */
        enum classifier_combine combine;   /* concat; of several layers */
        enum classifier_input input;       /* auto: pooled where that fits */
        enum classifier_segments segments; /* mean; of a long text's */
        double dropout;                    /* absent: the model's own, -1 */
};
struct spec_optimizer {
        enum optimizer_name name;                   /* adamw */
        double learning_rate;                       /* 1e-4 */
        double warmup_ratio;                        /* 0.0; of steps */
        uint64_t warmup_steps;                      /* 0; wins over warmup_ratio when > 0 */
        enum schedule schedule;                     /* linear */
        double power;                               /* 0.5; of poly */
        enum decay_from decay_from;                 /* start: of the stage; or the end of warm-up */
        enum step_count step_count;                 /* full; see optimizer.h */
        double beta1, beta2, epsilon, weight_decay; /* .9 .999 1e-6 .01 */
        double clip_norm;                           /* 1.0; 0 = off */
        enum clip_by clip_by;                       /* global: one norm for all gradients; or one for each tensor */
        double layer_decay;                         /* 1; each layer's rate is that of the one above times this */
        enum freeze freeze;                         /* none; which weights stay as they are */
};
struct spec_train {
        uint64_t global_batch, micro_batch, steps; /* samples, samples of full length, updates; 32, 32, required */
        double epochs;                             /* finetune: instead of steps, which are then 0 */
        enum precision precision;   /* auto; fp64 is the CPU's reference, tf32, bf16 and fp16 need a GPU */
        bool recompute_activations; /* false; less memory for more work */
        bool fast_gelu;             /* false; gelu is computed as gelu_new */
        uint64_t seed;              /* 42 */
        uint64_t evaluate_every;    /* 0 = at the end only, where validation is given */
        uint64_t evaluate_samples;  /* 512 */
        uint64_t log_every;         /* 1: metrics rows */
};

/* How a stage begins that is not the first one. */
struct spec_stage {
        char *name;           /* NULL */
        enum moments moments; /* keep */
        enum bias_correction
                bias_correction; /* continue: its count continues with the moments; restart: as if they were new */
};

/*
 * A run of several stages has one spec for each in `stages`: the whole file, overridden by the stage's own keys. The
 * outer one then has the values of the first stage. spec_at gives the spec that a stage runs by, with or without
 * stages.
 */
struct spec {
        char *name;               /* default: the spec file's name without .yaml, or "job" */
        enum job_kind kind;       /* required */
        int32_t priority;         /* 0; -1000..1000, higher first */
        char *comment;            /* NULL */
        char *run_dir;            /* NULL: the job's own folder */
        enum device_kind device;  /* auto: a GPU if the host has one */
        char *on_exit;            /* NULL */
        enum ends_with ends_with; /* first; kind command only, as the next */
        char **command;
        uint32_t n_command;
        struct spec_resources resources;
        struct spec_restart restart;
        struct spec_checkpoint checkpoint;
        struct spec_log log;
        struct spec_model model;
        struct spec_data data;
        struct spec_classifier classifier;
        struct spec_optimizer optimizer;
        struct spec_train train;
        struct spec_stage stage; /* of one in `stages` */
        struct spec *
                *tasks; /* (n_tasks) of one in `stages`: the same with each task's data; its own are the first task's */
        uint32_t n_tasks;     /* 0: the data are of one task */
        struct spec **stages; /* (n_stages), at most SPEC_STAGES_MAX */
        uint32_t n_stages;    /* 0: one stage, which is the file's */
};

static inline uint32_t spec_n_stages(const struct spec *spec) { return spec->n_stages > 0 ? spec->n_stages : 1; }
static inline const struct spec *spec_at(const struct spec *spec, uint32_t stage) {
        return spec->n_stages > 0 ? spec->stages[stage] : spec;
}

/* The data of a stage's task, of which there is one at least. */
static inline uint32_t spec_n_tasks(const struct spec *stage) { return stage->n_tasks > 0 ? stage->n_tasks : 1; }
static inline const struct spec_data *spec_task(const struct spec *stage, uint32_t task) {
        return stage->n_tasks > 0 ? &stage->tasks[task]->data : &stage->data;
}

/* Whether the texts of two columns are a pair, segments 0 and 1 of one sequence. */
static inline bool spec_is_pair(const struct spec_data *data) { return data->n_text == 2 && data->join != JOIN_TRUE; }

/* The file or folder that defines the model. */
static inline const char *spec_model_path(const struct spec *spec) {
        return spec->model.config ? spec->model.config : spec->model.init;
}

/* The character that data.delimiter names: itself, a punctuation mark or a tab, or "tab", "\\t"; NUL: none. */
char spec_delimiter(const char *text);

/* Whether the path is a file of texts (.csv, .tsv, .jsonl), from which finetune makes a corpus, rather than a corpus'
 * prefix. */
bool spec_is_texts(const char *path);

#define SPEC_STDIN "-" /* as a path: standard input */

/* Reads and checks a spec; relative paths are taken from the file's folder; of standard input, a pipe or a device, from
 * the current one, and its name by default is "job". The caller frees with spec_free. */
int spec_load(const char *path, struct spec **ret_spec, struct error *error);

/* A key set by an option, which overrides the file's. */
struct spec_setting {
        const char *option; /* "ranks", as messages name it */
        const char *key;    /* "resources.ranks"; NULL: the value is KEY=VALUE, a scalar of the file, not of a stage */
        const char *value;
};

/* The two halves of spec_load. `path` is the name in messages, and determines the folder. A pipe can only be read once.
 * Caller frees the text. */
int spec_read(const char *path, char **ret_text, size_t *ret_size, struct error *error);
int spec_parse(const char *path, const char *text, size_t size, const struct spec_setting *settings, size_t n,
               struct spec **ret_spec, struct error *error);

/* A job of kind command without a file, from a NULL-terminated command and options. Relative paths are relative to the
 * current folder; the default name is the program's. */
int spec_of_command(char *const *command, const struct spec_setting *settings, size_t n, struct spec **ret_spec,
                    struct error *error);

void spec_free(struct spec *spec);
static inline void cleanup_spec_p(struct spec **spec) { spec_free(*spec); }
#define cleanup_spec cleanup(cleanup_spec_p)

/* Sets the length of a spec that leaves it to model.init, and what follows from it. */
void spec_data_set_length(struct spec_data *data, uint32_t sequence_length);

/* The text of one key, "optimizer.schedule", as spec_format writes it; cut to the buffer. Returns the buffer. */
const char *spec_get(const struct spec *spec, const char *key, char *buffer, size_t size);

/* Each key of the spec's kind, in the table's order, then each list, with its text as spec_format writes it; of a
 * list first how many it has, then one by one. NULL: absent. */
typedef void (*spec_each_t)(void *userdata, const char *key, bool path, const char *value);
void spec_walk(const struct spec *spec, spec_each_t each, void *userdata);

/* Calls `each` for every value that Submit takes (include/bertd/bus.h): its key, D-Bus type ('a': as) and the value as
 * sd_bus_message_append_basic expects it; for a list, the NULL-terminated array. Skips absent values. Stops at the
 * first negative result and returns it, else 0. */
typedef int (*spec_sent_t)(void *userdata, const char *key, char type, const void *value);
int spec_each_sent(const struct spec *spec, spec_sent_t each, void *userdata);

/* The normalised YAML text: every key, absolute paths; spec_load of it gives the same spec. Caller frees. */
int spec_format(const struct spec *spec, char **ret_text, struct error *error);

#endif
