/* See reader.h: checks that involve several keys. */
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/spec/reader.h"

/* Completes and checks a spec for fine-tuning. */
static int check_finetune(struct spec_reader *reader, struct spec *spec) {
        if (spec->kind == JOB_FINETUNE && !is_given(reader, "data.objective"))
                spec->data.objective = OBJECTIVE_CLASSIFY;
        if (spec->kind != JOB_FINETUNE && spec->data.objective == OBJECTIVE_CLASSIFY)
                return spec_refuse(reader, "data.objective", "classify requires kind: finetune");
        if (spec->data.objective == OBJECTIVE_CLASSIFY && spec->data.n_train_weights > 0)
                return spec_refuse(reader, "data.train_weights",
                                   "applies to corpora, not to labelled texts; leave it out");
        if (spec->train.steps > 0 && spec->train.epochs > 0)
                return spec_refuse(reader, "train.epochs", "conflicts with train.steps; set only one");
        if (spec->data.sequence_length > 0 && spec->data.head_tokens > spec->data.sequence_length)
                return spec_refuse(reader, "data.head_tokens", "%u is greater than data.sequence_length, %u",
                                   spec->data.head_tokens, spec->data.sequence_length);
        if (spec->train.steps == 0 && spec->train.epochs <= 0)
                return spec_refuse(reader, "train.steps", "missing; expected a whole number%s",
                                   spec->kind == JOB_FINETUNE ? ", or train.epochs" : "");
        return 0;
}

static int check_delimiter(struct spec_reader *reader, const struct spec_data *data) {
        const char *problem = NULL;

        if (!data->delimiter)
                return 0;
        char delimiter = spec_delimiter(data->delimiter);
        if (!delimiter)
                problem = "expected tab or a character such as ; or |";
        else if (data->format != FORMAT_AUTO && data->format != FORMAT_CSV &&
                 !(data->format == FORMAT_TSV && delimiter == '\t'))
                problem = "only applies to data.format: csv";
        if (!problem)
                return 0;
        return spec_refuse(reader, "data.delimiter", "'%.16s': %s", data->delimiter, problem);
}

static int check_columns(struct spec_reader *reader, const struct spec_data *data) {
        const char *label = data->label ? data->label : "label";
        bool same = data->n_text == 0 && strcmp(label, "text") == 0; /* the default */

        for (uint32_t i = 0; i < data->n_text; i++)
                same = same || strcmp(data->text[i], label) == 0;
        return same ? spec_refuse(reader, "data.label", "'%.64s' is also in data.text; the model would read the answer",
                                  label)
                    : 0;
}

/* A pair is one sequence, of which each end is cut as transformers does. */
static int check_pair(struct spec_reader *reader, const struct spec_data *data) {
        static const char *const names[] = TRUNCATION_NAMES;

        if (data->join == JOIN_FALSE && data->n_text != 2)
                return spec_refuse(reader, "data.join", "false: a pair has two columns, but data.text has %u",
                                   data->n_text > 0 ? data->n_text : 1);
        if (spec_is_pair(data) && strcmp(data->text[0], data->text[1]) == 0)
                return spec_refuse(reader, "data.text", "'%.64s' is given twice; a pair has two columns",
                                   data->text[0]);
        if (spec_is_pair(data) && (data->truncation == TRUNCATION_HEAD_TAIL || data->truncation == TRUNCATION_SEGMENTS))
                return spec_refuse(reader, "data.truncation",
                                   "%s: not for a pair of texts (data.text); use head or tail, or data.join: true",
                                   names[data->truncation]);
        return 0;
}

void spec_data_set_length(struct spec_data *data, uint32_t sequence_length) {
        data->sequence_length = sequence_length;
        if (data->max_predictions == 0)
                data->max_predictions =
                        1 + (uint32_t) (data->masked_fraction * sequence_length - 1e-9); /* rounded up */
}

/* For a classifier the length may come from model.init; everything else has a default. */
static void default_length(const struct spec_reader *reader, struct spec *spec) {
        bool given = is_given(reader, "data.objective"),
             classifies = spec->kind == JOB_FINETUNE && (!given || spec->data.objective == OBJECTIVE_CLASSIFY);

        if (spec->data.sequence_length == 0 && !(classifies && spec->model.init))
                spec->data.sequence_length = SPEC_LENGTH_DEFAULT;
}

/* ---- keys that have no effect beside others ---- */

static bool with_validation(const struct spec *spec) { return spec->data.n_validation > 0; }
static bool with_numbers(const struct spec *spec) { return spec->data.numbers; }
static bool is_not_poly(const struct spec *spec) { return spec->optimizer.schedule != SCHEDULE_POLY; }

static const struct idle_rule {
        const char *key;
        bool (*is_idle)(const struct spec *spec);
        const char *why; /* and the cure */
} idle_rules[] = {
        { "data.split", with_validation, "conflicts with data.validation; set only one" },
        { "data.per_class", with_numbers,
          "has no effect with data.labels: number; use data.fraction or leave this out" },
        { "optimizer.power", is_not_poly,
          "has no effect without optimizer.schedule: poly; set that or leave this out" },
};
static_assert(ELEMENTSOF(idle_rules) == SPEC_IDLE_RULES, "a rule without a count");

/* Whether the key is set in the spec being read (the file, a stage or one of its tasks), not inherited. */
static bool is_its_own(const struct spec_reader *reader, size_t row) {
        if (!reader->stage)
                return reader->file->n_parts == 0 && reader->given[row].name;
        bool own = reader->stage->given[row].name;
        for (uint32_t t = 0; t < reader->stage->n_parts; t++)
                own = own || reader->stage->parts[t].given[row].name;
        return own;
}

static int refuse_idle(struct spec_reader *reader, const struct idle_rule *rule) {
        return spec_refuse(reader, rule->key, "%.32s: %s", given_for(reader, rule->key)->text, rule->why);
}

/* Refused if it is set here; ignored in a stage that inherits it. */
static int check_idle(struct spec_reader *reader, struct spec *spec) {
        char now[32], neutral[32];
        struct spec fallback = {};

        for (size_t i = 0; i < SPEC_IDLE_RULES; i++) {
                size_t row = field_of(idle_rules[i].key);
                const struct field *field = &spec_fields[row];
                int r = spec_read_value(reader, field, field->fallback, AT(&fallback, field->offset, void));
                if (r < 0 || strcmp(spec_get(spec, field->key, now, sizeof(now)),
                                    spec_get(&fallback, field->key, neutral, sizeof(neutral))) == 0)
                        continue;
                bool idle = idle_rules[i].is_idle(spec);
                if (idle && is_its_own(reader, row))
                        return refuse_idle(reader, &idle_rules[i]);
                if (idle)
                        (void) spec_read_value(reader, field, field->fallback, AT(spec, field->offset, void));
                if (reader->stage) {
                        reader->idle[i].idle += idle;
                        reader->idle[i].used += !idle;
                }
        }
        return 0;
}

/* Set in the file, without effect in any stage. */
int spec_check_stages(struct spec_reader *reader) {
        for (size_t i = 0; i < SPEC_IDLE_RULES; i++)
                if (reader->idle[i].idle > 0 && reader->idle[i].used == 0)
                        return refuse_idle(reader, &idle_rules[i]);
        return 0;
}

static int check_warmup(struct spec_reader *reader, const struct spec *spec) {
        const struct spec_optimizer *o = &spec->optimizer;
        static const char key[] = "optimizer.warmup_steps";

        if (o->warmup_steps > 0 && o->warmup_ratio > 0)
                return spec_refuse(reader, key, "conflicts with optimizer.warmup_ratio; set only one");
        if (spec->train.steps > 0 && o->warmup_steps > spec->train.steps)
                return spec_refuse(reader, key,
                                   "%" PRIu64 " is more than train.steps, %" PRIu64 "; give fewer, or more steps",
                                   o->warmup_steps, spec->train.steps);
        return 0;
}

/* A checkpoint can only be kept at a step at which every_steps writes one. */
static int check_keep(struct spec_reader *reader, const struct spec_checkpoint *c) {
        static const char key[] = "checkpoint.keep_every";
        uint64_t keep = c->keep_every, every = c->every_steps;

        if (keep == 0 || (every > 0 && (keep % every == 0 || every % keep == 0)))
                return 0;
        if (every == 0)
                return spec_refuse(reader, key,
                                   "%" PRIu64
                                   ", but checkpoint.every_steps is 0, so none is written at such steps; give "
                                   "every_steps, or leave it out",
                                   keep);
        return spec_refuse(reader, key,
                           "%" PRIu64 " is not a multiple of checkpoint.every_steps, %" PRIu64 "; give %" PRIu64, keep,
                           every, (keep / every + 1) * every);
}

/* Checks that need more than one key. */
int spec_check(struct spec_reader *reader, struct spec *spec) {
        const struct spec_model *model = &spec->model;
        struct spec_data *data = &spec->data;

        if (spec->kind == JOB_COMMAND)
                return 0;
        if ((!model->config || !model->vocab) && !model->init)
                return spec_refuse(reader, model->config ? "model.vocab" : "model.config", "missing; expected a file");
        default_length(reader, spec);
        if (data->sequence_length > 0 && data->max_predictions > data->sequence_length)
                return spec_refuse(reader, "data.max_predictions", "%u is greater than data.sequence_length, %u",
                                   data->max_predictions, data->sequence_length);
        if (data->sequence_length > 0)
                spec_data_set_length(data, data->sequence_length);
        if (spec->train.micro_batch > spec->train.global_batch && !is_given(reader, "train.micro_batch"))
                spec->train.micro_batch = spec->train.global_batch;
        int r = check_finetune(reader, spec);
        if (r == 0)
                r = check_idle(reader, spec);
        if (r == 0)
                r = check_warmup(reader, spec);
        if (r == 0)
                r = check_keep(reader, &spec->checkpoint);
        if (r == 0 && data->objective == OBJECTIVE_CLASSIFY)
                r = check_columns(reader, data);
        if (r == 0 && data->objective == OBJECTIVE_CLASSIFY)
                r = check_pair(reader, data);
        return r < 0 ? r : check_delimiter(reader, data);
}
