/* See fields.h. The table: a row for each key of a spec, and the names of its choices. Owns nothing. */
#include "common/spec/fields.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/job.h"
#include "bertd/logs.h"
#include "common/cleanup.h"

#define COUNT_MAX BERTD_STEPS_MAX

static const char *const kind_names[] = JOB_KIND_NAMES;
static const char *const objective_names[] = { "mlm+nsp", "mlm+sop", "mlm", "classify" };
static const char *const masking_names[] = { "dynamic", "static" };
static const char *const mask_unit_names[] = { "token", "whole_word", "ngram" };
static const char *const optimizer_names[] = { "adamw", "bertadam", "lamb", "lamb_google" };
static const char *const schedule_names[] = { "linear", "poly", "cosine", "constant" };
static const char *const decay_from_names[] = { "start", "warmup" };
static const char *const step_count_names[] = { "full", "from_zero", "from_one" };
static const char *const clip_by_names[] = { "global", "tensor" };
static const char *const truth_names[] = { "false", "true" };
static const char *const moments_names[] = { "keep", "reset" };
static const char *const bias_correction_names[] = { "continue", "restart" };
static const char *const on_nan_names[] = ON_NAN_NAMES;
static const char *const ends_with_names[] = ENDS_WITH_NAMES;
static const char *const format_names[] = DATA_FORMAT_NAMES;
static const char *const encoding_names[] = DATA_ENCODING_NAMES;
static const char *const header_names[] = DATA_HEADER_NAMES;
static const char *const join_names[] = DATA_JOIN_NAMES;
static const char *const empty_names[] = DATA_EMPTY_NAMES;
static const char *const init_head_names[] = { "keep", "fresh" };
static const char *const truncation_names[] = TRUNCATION_NAMES;
static const char *const combine_names[] = { "concat", "mean", "max" };
static const char *const input_names[] = { "auto", "pooled", "cls" };
static const char *const segments_names[] = { "mean", "max", "attention" };
static const char *const freeze_names[] = { "none", "embeddings", "encoder", "features" };
static const char *const precision_names[] = PRECISION_NAMES;
static const char *const device_names[] = DEVICE_KIND_NAMES;

static_assert(ELEMENTSOF(kind_names) == JOB_KIND_MAX, "a name for each kind");
static_assert(ELEMENTSOF(objective_names) == OBJECTIVE_MAX, "a name for each objective");
static_assert(ELEMENTSOF(masking_names) == MASKING_MAX, "a name for each masking");
static_assert(ELEMENTSOF(mask_unit_names) == MASK_UNIT_MAX, "a name for each unit");
static_assert(ELEMENTSOF(optimizer_names) == OPTIMIZER_NAME_MAX, "a name for each optimizer");
static_assert(ELEMENTSOF(schedule_names) == SCHEDULE_MAX, "a name for each schedule");
static_assert(ELEMENTSOF(decay_from_names) == DECAY_FROM_MAX, "a name for each begin of decay");
static_assert(ELEMENTSOF(step_count_names) == STEP_COUNT_MAX, "a name for each way to count");
static_assert(ELEMENTSOF(clip_by_names) == CLIP_BY_MAX, "a name for each way to clip");
static_assert(ELEMENTSOF(moments_names) == MOMENTS_MAX, "a name for each way to begin a stage");
static_assert(ELEMENTSOF(bias_correction_names) == BIAS_CORRECTION_MAX, "a name for each way to begin a stage");
static_assert(ELEMENTSOF(on_nan_names) == ON_NAN_MAX, "a name for each answer to NaN");
static_assert(ELEMENTSOF(ends_with_names) == ENDS_WITH_MAX, "a name for each end");
static_assert(ELEMENTSOF(format_names) == FORMAT_MAX, "a name for each format");
static_assert(ELEMENTSOF(encoding_names) == ENCODING_MAX, "a name for each encoding");
static_assert(ELEMENTSOF(join_names) == JOIN_MAX, "a name for each way with several columns");
static_assert(ELEMENTSOF(header_names) == HEADER_MAX, "a name for each kind of header");
static_assert(ELEMENTSOF(empty_names) == EMPTY_MAX, "a name for each way with empty texts");
static_assert(ELEMENTSOF(init_head_names) == INIT_HEAD_MAX, "a name for each way to begin");
static_assert(ELEMENTSOF(truncation_names) == TRUNCATION_MAX, "a name for each way to shorten");
static_assert(ELEMENTSOF(combine_names) == CLASSIFIER_COMBINE_MAX, "a name for each way to combine");
static_assert(ELEMENTSOF(input_names) == CLASSIFIER_INPUT_MAX, "a name for each input");
static_assert(ELEMENTSOF(segments_names) == CLASSIFIER_SEGMENTS_MAX, "a name for each way to pool");
static_assert(ELEMENTSOF(freeze_names) == FREEZE_MAX, "a name for each part");
static_assert(ELEMENTSOF(precision_names) == PRECISION_MAX, "a name for each precision");
static_assert(ELEMENTSOF(device_names) == DEVICE_KIND_MAX, "a name for each device");

#define TOP(member, ...) \
        { .key = #member, .offset = offsetof(struct spec, member), .kinds = ALL, __VA_ARGS__ }
#define IN(part, member, ...) \
        { .key = #part "." #member, .offset = offsetof(struct spec, part.member), __VA_ARGS__ }
#define STAGE(member, ...) \
        { .key = STAGE_PREFIX #member, .offset = offsetof(struct spec, stage.member), .kinds = TRAINING, __VA_ARGS__ }
#define LIST(part, member, list_type, ...)                                                                 \
        {                                                                                                  \
                .key = #part "." #member, .type = list_type, .offset = offsetof(struct spec, part.member), \
                .count = offsetof(struct spec, part.n_##member), __VA_ARGS__                               \
        }
#define TEXT(bytes) .type = FIELD_TEXT, .max = bytes
#define NUMBER(field_type, low, high, text) .type = field_type, .min = low, .max = high, .fallback = text
#define CHOICE(table, text) .type = FIELD_ENUM, .names = table, .n_names = ELEMENTSOF(table), .fallback = text
#define TRUTH(text) .type = FIELD_BOOL, .names = truth_names, .n_names = ELEMENTSOF(truth_names), .fallback = text
#define SENT(key) .wire = key
#define SPARSE(key) .wire = key, .sparse = true

const struct field spec_fields[] = {
        STAGE(name, .type = FIELD_TEXT),
        STAGE(moments, CHOICE(moments_names, "keep")),
        STAGE(bias_correction, CHOICE(bias_correction_names, "continue")),
        TOP(name, TEXT(BERTD_NAME_MAX), SENT("name")),
        TOP(kind, CHOICE(kind_names, NULL), SENT("kind")),
        TOP(priority, NUMBER(FIELD_I32, BERTD_PRIORITY_MIN, BERTD_PRIORITY_MAX, BERTD_TEXT(BERTD_PRIORITY_DEFAULT)),
            SENT("priority")),
        TOP(comment, TEXT(BERTD_COMMENT_MAX), SPARSE("comment")),
        TOP(run_dir, .type = FIELD_PATH, SENT("run_dir")),
        { .key = "device", .offset = offsetof(struct spec, device), CHOICE(device_names, "auto"), .kinds = TRAINING },
        TOP(on_exit, .type = FIELD_PROGRAM, SENT("on_exit")),
        { .key = "ends_with",
          .offset = offsetof(struct spec, ends_with),
          CHOICE(ends_with_names, "first"),
          .kinds = COMMAND,
          SPARSE("ends_with") },
        { .key = "command",
          .type = FIELD_LIST,
          .offset = offsetof(struct spec, command),
          .count = offsetof(struct spec, n_command),
          .kinds = COMMAND,
          .required = true,
          SENT("command") },
        IN(resources, ranks, NUMBER(FIELD_U32, 1, BERTD_RANKS_MAX, BERTD_TEXT(BERTD_RANKS_DEFAULT)), .kinds = ALL,
           SENT("ranks")),
        IN(resources, gpus, NUMBER(FIELD_U32, 0, BERTD_GPUS_MAX, BERTD_TEXT(BERTD_GPUS_DEFAULT)), .kinds = ALL,
           SENT("gpus")),
        IN(resources, threads, NUMBER(FIELD_U32, 1, BERTD_THREADS_MAX, BERTD_TEXT(BERTD_THREADS_DEFAULT)), .kinds = ALL,
           SENT("threads")),
        IN(resources, memory, NUMBER(FIELD_SIZE, BERTD_MEMORY_MIN, BERTD_MEMORY_MAX, NULL), .optional = true,
           .kinds = ALL, SPARSE("memory")),
        IN(resources, cpus, NUMBER(FIELD_DOUBLE, BERTD_CPUS_MIN, BERTD_CPUS_MAX, NULL), .optional = true, .kinds = ALL,
           SPARSE("cpus")),
        LIST(resources, hosts, FIELD_NAMES, .kinds = ALL, .hosts = true, SPARSE("hosts")),
        IN(resources, use, NUMBER(FIELD_U32, 1, BERTD_HOSTS_MAX, NULL), .optional = true, .kinds = ALL, SPARSE("use")),
        IN(resources, network, TEXT(BERTD_NETWORK_MAX), .kinds = ALL, SPARSE("network")),
        LIST(resources, environment, FIELD_NAMES, .kinds = ALL, SPARSE("travels")),
        IN(resources, unmanaged, TRUTH("false"), .kinds = ALL, SPARSE("unmanaged")),
        IN(resources, host_timeout_sec,
           NUMBER(FIELD_U32, BERTD_HOST_TIMEOUT_MIN, BERTD_HOST_TIMEOUT_MAX, BERTD_TEXT(BERTD_HOST_TIMEOUT_DEFAULT)),
           .kinds = ALL, SPARSE("host_timeout_sec")),
        IN(restart, max_without_progress, NUMBER(FIELD_U32, 0, BERTD_RETRIES_MAX, BERTD_TEXT(BERTD_RETRIES_DEFAULT)),
           .kinds = ALL, SENT("max_without_progress")),
        { .key = "restart.backoff_sec",
          .offset = offsetof(struct spec, restart.backoff_sec[0]),
          NUMBER(FIELD_U32, 0, BERTD_BACKOFF_FIRST_MAX, BERTD_TEXT(BERTD_BACKOFF_FIRST_DEFAULT)),
          .kinds = ALL,
          .entry = 1,
          SENT("backoff_min_sec") },
        { .key = "restart.backoff_sec",
          .offset = offsetof(struct spec, restart.backoff_sec[1]),
          NUMBER(FIELD_U32, 0, BERTD_BACKOFF_LAST_MAX, BERTD_TEXT(BERTD_BACKOFF_LAST_DEFAULT)),
          .kinds = ALL,
          .entry = 2,
          SENT("backoff_max_sec") },
        IN(restart, grace_sec, NUMBER(FIELD_U32, 1, BERTD_GRACE_MAX, BERTD_TEXT(BERTD_GRACE_DEFAULT)), .kinds = ALL,
           SENT("grace_sec")),
        IN(restart, hang_sec, NUMBER(FIELD_I32, 0, BERTD_HANG_MAX, NULL), .optional = true, .absent = -1, .kinds = ALL,
           SPARSE("hang_sec")),
        IN(restart, start_sec, NUMBER(FIELD_I32, 0, BERTD_HANG_MAX, NULL), .optional = true, .absent = -1, .kinds = ALL,
           SPARSE("start_sec")),
        IN(restart, on_nan, CHOICE(on_nan_names, "stop"), .kinds = ALL, SENT("on_nan")),
        IN(restart, shrink, TRUTH("false"), .kinds = ALL, SPARSE("shrink")),
        { .key = "restart.host_cooldown_sec",
          .offset = offsetof(struct spec, restart.host_cooldown_sec[0]),
          NUMBER(FIELD_U32, 1, BERTD_COOLDOWN_MAX, BERTD_TEXT(BERTD_COOLDOWN_FIRST_DEFAULT)),
          .kinds = ALL,
          .entry = 1,
          SPARSE("host_cooldown_min_sec") },
        { .key = "restart.host_cooldown_sec",
          .offset = offsetof(struct spec, restart.host_cooldown_sec[1]),
          NUMBER(FIELD_U32, 1, BERTD_COOLDOWN_MAX, BERTD_TEXT(BERTD_COOLDOWN_LAST_DEFAULT)),
          .kinds = ALL,
          .entry = 2,
          SPARSE("host_cooldown_max_sec") },
        IN(checkpoint, every_steps, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = ALL),
        IN(checkpoint, every_sec, NUMBER(FIELD_U64, 0, BERTD_EVERY_SEC_MAX, BERTD_TEXT(BERTD_EVERY_SEC_DEFAULT)),
           .kinds = ALL),
        IN(checkpoint, keep, NUMBER(FIELD_U32, 1, BERTD_KEEP_MAX, BERTD_TEXT(BERTD_KEEP_DEFAULT)), .kinds = ALL,
           SENT("keep")),
        IN(checkpoint, keep_every, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = ALL, SENT("keep_every")),
        IN(checkpoint, copy_to, TEXT(BERTD_PATH_MAX), .kinds = TRAINING, SPARSE("copy_to")),
        IN(log, max_size,
           NUMBER(FIELD_SIZE, BERTD_LOG_SIZE_MIN, BERTD_LOG_SIZE_MAX, BERTD_TEXT(BERTD_LOG_SIZE_DEFAULT)), .kinds = ALL,
           SPARSE("log_max_size")),
        IN(log, keep, NUMBER(FIELD_U32, 1, BERTD_LOG_KEEP_MAX, BERTD_TEXT(BERTD_LOG_KEEP_DEFAULT)), .kinds = ALL,
           SPARSE("log_keep")),
        IN(model, config, .type = FIELD_PATH, .kinds = TRAINING),
        IN(model, vocab, .type = FIELD_PATH, .kinds = TRAINING),
        IN(model, init, .type = FIELD_PATH, .kinds = TRAINING),
        IN(model, head, CHOICE(init_head_names, "keep"), .kinds = FINETUNE),
        LIST(data, train, FIELD_PATHS, .kinds = TRAINING, .required = true),
        LIST(data, train_weights, FIELD_LIST, .kinds = TRAINING),
        LIST(data, validation, FIELD_PATHS, .kinds = TRAINING),
        IN(data, sequence_length, NUMBER(FIELD_U32, 8, 65536, NULL), .optional = true, .kinds = TRAINING),
        IN(data, objective, CHOICE(objective_names, "mlm+nsp"), .kinds = TRAINING),
        IN(data, masked_fraction, NUMBER(FIELD_DOUBLE, 0.001, 1, "0.15"), .kinds = TRAINING),
        IN(data, max_predictions, NUMBER(FIELD_U32, 0, 65536, "0"), .kinds = TRAINING),
        IN(data, short_sequence_probability, NUMBER(FIELD_DOUBLE, 0, 1, "0.1"), .kinds = TRAINING),
        IN(data, masking, CHOICE(masking_names, "dynamic"), .kinds = TRAINING),
        IN(data, dupe_factor, NUMBER(FIELD_U32, 1, 1000000, "10"), .kinds = TRAINING),
        IN(data, mask_unit, CHOICE(mask_unit_names, "token"), .kinds = TRAINING),
        LIST(data, test, FIELD_PATHS, .kinds = FINETUNE),
        LIST(data, text, FIELD_LIST, .kinds = FINETUNE),
        IN(data, join, CHOICE(join_names, "auto"), .kinds = FINETUNE),
        LIST(data, labels, FIELD_LIST, .kinds = FINETUNE, .word = "number",
             .word_at = offsetof(struct spec, data.numbers)),
        IN(data, task, .type = FIELD_TEXT, .kinds = FINETUNE),
        IN(data, label, .type = FIELD_TEXT, .fallback = "label", .kinds = FINETUNE),
        IN(data, format, CHOICE(format_names, "auto"), .kinds = FINETUNE),
        IN(data, encoding, CHOICE(encoding_names, "utf-8"), .kinds = FINETUNE),
        IN(data, header, CHOICE(header_names, "auto"), .kinds = FINETUNE),
        IN(data, delimiter, .type = FIELD_TEXT, .kinds = FINETUNE),
        IN(data, empty, CHOICE(empty_names, "refuse"), .kinds = FINETUNE),
        IN(data, split, NUMBER(FIELD_DOUBLE, 0, 0.9, "0"), .kinds = FINETUNE),
        IN(data, fraction, NUMBER(FIELD_DOUBLE, 1e-6, 1, "1"), .kinds = FINETUNE),
        IN(data, per_class, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = FINETUNE),
        IN(data, truncation, CHOICE(truncation_names, "auto"), .kinds = FINETUNE),
        IN(data, head_tokens, NUMBER(FIELD_U32, 0, 65536, "0"), .kinds = FINETUNE),
        IN(data, max_segments, NUMBER(FIELD_U32, 1, SPEC_SEGMENTS_MAX, "4"), .kinds = FINETUNE),
        IN(data, shuffle, TRUTH("true"), .kinds = FINETUNE),
        IN(data, lowercase, TRUTH("true"), .kinds = FINETUNE),
        IN(classifier, layers, .type = FIELD_TEXT, .fallback = "last", .kinds = FINETUNE),
        IN(classifier, combine, CHOICE(combine_names, "concat"), .kinds = FINETUNE),
        IN(classifier, input, CHOICE(input_names, "auto"), .kinds = FINETUNE),
        IN(classifier, segments, CHOICE(segments_names, "mean"), .kinds = FINETUNE),
        IN(classifier, dropout, NUMBER(FIELD_DOUBLE, 0, 0.99, NULL), .optional = true, .absent = -1, .kinds = FINETUNE),
        IN(optimizer, name, CHOICE(optimizer_names, "adamw"), .kinds = TRAINING),
        IN(optimizer, learning_rate, NUMBER(FIELD_DOUBLE, 0, 1000, "1e-4"), .kinds = TRAINING),
        IN(optimizer, warmup_ratio, NUMBER(FIELD_DOUBLE, 0, 1, "0"), .kinds = TRAINING),
        IN(optimizer, warmup_steps, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = TRAINING),
        IN(optimizer, schedule, CHOICE(schedule_names, "linear"), .kinds = TRAINING),
        IN(optimizer, power, NUMBER(FIELD_DOUBLE, 0, 100, "0.5"), .kinds = TRAINING),
        IN(optimizer, decay_from, CHOICE(decay_from_names, "start"), .kinds = TRAINING),
        IN(optimizer, step_count, CHOICE(step_count_names, "full"), .kinds = TRAINING),
        IN(optimizer, beta1, NUMBER(FIELD_DOUBLE, 0, 0.999999999, "0.9"), .kinds = TRAINING),
        IN(optimizer, beta2, NUMBER(FIELD_DOUBLE, 0, 0.999999999, "0.999"), .kinds = TRAINING),
        IN(optimizer, epsilon, NUMBER(FIELD_DOUBLE, 1e-30, 1, "1e-6"), .kinds = TRAINING),
        IN(optimizer, weight_decay, NUMBER(FIELD_DOUBLE, 0, 1000, "0.01"), .kinds = TRAINING),
        IN(optimizer, clip_norm, NUMBER(FIELD_DOUBLE, 0, 1e9, "1"), .kinds = TRAINING),
        IN(optimizer, clip_by, CHOICE(clip_by_names, "global"), .kinds = TRAINING),
        IN(optimizer, layer_decay, NUMBER(FIELD_DOUBLE, 0.01, 1, "1"), .kinds = FINETUNE),
        IN(optimizer, freeze, CHOICE(freeze_names, "none"), .kinds = FINETUNE),
        IN(train, global_batch, NUMBER(FIELD_U64, 1, 1 << 24, "32"), .kinds = TRAINING),
        IN(train, micro_batch, NUMBER(FIELD_U64, 1, 1 << 24, "32"), .kinds = TRAINING),
        IN(train, steps, NUMBER(FIELD_U64, 1, COUNT_MAX, NULL), .optional = true, .kinds = TRAINING),
        IN(train, epochs, NUMBER(FIELD_DOUBLE, 0.001, 1e6, NULL), .optional = true, .kinds = FINETUNE),
        IN(train, precision, CHOICE(precision_names, "auto"), .kinds = TRAINING),
        IN(train, recompute_activations, TRUTH("false"), .kinds = TRAINING),
        IN(train, fast_gelu, TRUTH("false"), .kinds = TRAINING),
        IN(train, seed, NUMBER(FIELD_U64, 0, SEED_MAX, "42"), .kinds = TRAINING),
        IN(train, evaluate_every, NUMBER(FIELD_U64, 0, COUNT_MAX, "0"), .kinds = TRAINING),
        IN(train, evaluate_samples, NUMBER(FIELD_U64, 1, 1 << 30, "512"), .kinds = TRAINING),
        IN(train, log_every, NUMBER(FIELD_U64, 1, COUNT_MAX, "1"), .kinds = TRAINING),
};
const size_t spec_n_fields = ELEMENTSOF(spec_fields);
static_assert(ELEMENTSOF(spec_fields) <= SPEC_FIELDS_MAX, "a row without a place");

bool is_staged(const struct field *field) {
        static const char *const sections[] = { "data.", "optimizer.", "train.", STAGE_PREFIX };

        for (size_t i = 0; i < ELEMENTSOF(sections); i++)
                if (strncmp(field->key, sections[i], strlen(sections[i])) == 0)
                        return true;
        return false;
}

size_t field_of(const char *key) {
        size_t row = 0;

        while (strcmp(spec_fields[row].key, key) != 0) {
                row++;
                assert(row < spec_n_fields);
        }
        return row;
}

bool is_absent(const struct field *field, const void *from) {
        if (!field->optional)
                return false;
        if (field->type == FIELD_I32)
                return *(const int32_t *) from == field->absent;
        if (field->type == FIELD_U32)
                return *(const uint32_t *) from == (uint32_t) field->absent;
        if (field->type == FIELD_DOUBLE)
                return *(const double *) from <= field->absent;
        return *(const uint64_t *) from == (uint64_t) field->absent;
}

void given_clear(struct given *given) {
        for (uint32_t i = 0; i < given->n; i++)
                free(given->entries[i]);
        free(given->entries);
        free(given->text);
        free(given->name);
        *given = (struct given) {};
}

void part_free(struct part *part) {
        for (size_t i = 0; i < spec_n_fields; i++)
                given_clear(&part->given[i]);
        for (uint32_t i = 0; i < part->n_parts; i++)
                part_free(&part->parts[i]);
        free(part->parts);
        *part = (struct part) {};
}
