/*
 * What a checkpoint says of the run that made it, and what may differ on resume (contract T10). One table decides: a
 * key that is not FREE or SAID is refused by name, since training would silently become another run.
 */
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sqlite3.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/run.h"
#include "trainer/weights.h"

enum policy { SAID, FIXED, FIXED_OR_NONE }; /* the last: where an older checkpoint lacks it, it had none */
#define NO_WEIGHTS "none"

static const struct rule {
        const char *key, *spec_key; /* spec_key: where the user would change it back */
        enum policy policy;
} rules[] = {
        { "seed", "train.seed", FIXED },
        { "config_hash", "model.config", FIXED },
        { "vocab_hash", "model.vocab", FIXED },
        { "objective", "data.objective", FIXED },
        { "sequence_length", "data.sequence_length", FIXED },
        { "masked_fraction", "data.masked_fraction", FIXED },
        { "max_predictions", "data.max_predictions", FIXED },
        { "short_sequence_probability", "data.short_sequence_probability", FIXED },
        { "masking", "data.masking, dupe_factor", FIXED },
        { "mask_unit", "data.mask_unit", FIXED },
        { "corpus_hash", "data.train", FIXED },
        { "window_map_hash", "data.train", FIXED },
        { "train_weights", "data.train_weights", FIXED_OR_NONE },
        { "global_batch", "train.global_batch", FIXED },
        { "precision", "train.precision", FIXED },
        { "optimizer", "optimizer.name", FIXED },
        { "betas", "optimizer.beta1, beta2", FIXED },
        { "epsilon", "optimizer.epsilon", FIXED },
        { "weight_decay", "optimizer.weight_decay", FIXED },
        { "clip_norm", "optimizer.clip_norm, clip_by", FIXED },
        { "schedule", "optimizer.schedule, power, decay_from, step_count", FIXED },
        { "warmup", "optimizer.warmup_ratio, warmup_steps", FIXED },
        { "micro_batch", "train.micro_batch", SAID },
        { "ranks", "resources.ranks", SAID },
        { "backend", "device", SAID },
        { "kernel", "the machine", SAID },
        { "steps", "train.steps", SAID },
        { "learning_rate", "optimizer.learning_rate", SAID },
        { "version", "the program", SAID },
};

/* Several keys of the spec in one row, as the spec writes them. */
static void set_from_spec(struct checkpoint_meta *m, const char *key, const struct spec *spec,
                          const char *const spec_keys[], size_t n) {
        char all[128] = "", one[40];
        size_t used = 0;

        for (size_t i = 0; i < n && used < sizeof(all); i++)
                used += (size_t) snprintf(all + used, sizeof(all) - used, "%s%s", i ? " " : "",
                                          spec_get(spec, spec_keys[i], one, sizeof(one)));
        checkpoint_meta_set(m, key, "%s", all);
}
#define SET(m, key, spec, ...)                                             \
        set_from_spec(m, key, spec, (const char *const[]) { __VA_ARGS__ }, \
                      ELEMENTSOF(((const char *[]) { __VA_ARGS__ })))

/* Each corpus' share of the samples; of many corpora a hash. */
static void fill_weights(struct checkpoint_meta *m, const struct spec_data *d) {
        char text[sizeof(m->items->value)] = "";
        size_t used = 0;
        double sum = 0;

        for (uint32_t i = 0; d->weights && i < d->n_train; i++)
                sum += d->weights[i];
        for (uint32_t i = 0; d->weights && i < d->n_train && used < sizeof(text); i++)
                used += (size_t) snprintf(text + used, sizeof(text) - used, "%s%.6g", i ? " " : "",
                                          d->weights[i] / sum);
        if (!d->weights)
                checkpoint_meta_set(m, "train_weights", NO_WEIGHTS);
        else if (used < sizeof(text))
                checkpoint_meta_set(m, "train_weights", "%s", text);
        else
                checkpoint_meta_set(m, "train_weights", "%016" PRIx64,
                                    (uint64_t) XXH3_64bits(d->weights, d->n_train * sizeof(*d->weights)));
}

static void fill_data(struct checkpoint_meta *m, const struct spec *spec, const struct samples_options *o) {
        SET(m, "objective", spec, "data.objective");
        checkpoint_meta_set(m, "sequence_length", "%u", o->sequence_length);
        checkpoint_meta_set(m, "masked_fraction", "%.17g", o->masked_fraction);
        checkpoint_meta_set(m, "max_predictions", "%u", o->max_predictions);
        checkpoint_meta_set(m, "short_sequence_probability", "%.17g", o->short_probability);
        if (o->dupe_factor > 0)
                SET(m, "masking", spec, "data.masking", "data.dupe_factor");
        else
                SET(m, "masking", spec, "data.masking");
        SET(m, "mask_unit", spec, "data.mask_unit");
        fill_weights(m, &spec->data);
        SET(m, "global_batch", spec, "train.global_batch");
        SET(m, "micro_batch", spec, "train.micro_batch");
        SET(m, "steps", spec, "train.steps");
}

static void fill_optimizer(struct checkpoint_meta *m, const struct spec *spec) {
        const struct spec_optimizer *o = &spec->optimizer;

        SET(m, "optimizer", spec, "optimizer.name");
        checkpoint_meta_set(m, "learning_rate", "%.17g", o->learning_rate);
        checkpoint_meta_set(m, "betas", "%.17g %.17g", o->beta1, o->beta2);
        checkpoint_meta_set(m, "epsilon", "%.17g", o->epsilon);
        checkpoint_meta_set(m, "weight_decay", "%.17g", o->weight_decay);
        SET(m, "clip_norm", spec, "optimizer.clip_norm", "optimizer.clip_by");
        if (o->schedule == SCHEDULE_POLY)
                SET(m, "schedule", spec, "optimizer.schedule", "optimizer.power", "optimizer.decay_from",
                    "optimizer.step_count");
        else
                SET(m, "schedule", spec, "optimizer.schedule", "optimizer.decay_from", "optimizer.step_count");
        checkpoint_meta_set(m, "warmup", "%.17g %" PRIu64, o->warmup_ratio, o->warmup_steps);
}

static void fill_machine(struct checkpoint_meta *m, const struct run *run) {
        SET(m, "precision", run->spec, "train.precision");
        checkpoint_meta_set(m, "ranks", "%u", run->n_ranks);
        checkpoint_meta_set(m, "threads", "%d", omp_get_max_threads());
        checkpoint_meta_set(m, "backend", "%s", run->ops->name);
        checkpoint_meta_set(m, "kernel", "%s", run->ops->variant ? run->ops->variant() : "");
        checkpoint_meta_set(m, "libraries", "sqlite %s, xxhash %u", sqlite3_libversion(), XXH_versionNumber());
        checkpoint_meta_set(m, "version", "%s", BERTD_VERSION);
}

void run_meta_fill(struct run *run, uint32_t index, const char *corpus_hash) {
        struct run_stage *stage = &run->stages[index];
        struct checkpoint_meta *m = &stage->meta;
        char hex[33];

        checkpoint_meta_set(m, "name", "%s", run->whole->name ? run->whole->name : "");
        checkpoint_meta_set(m, "seed", "%" PRIu64, run->whole->train.seed);
        checkpoint_meta_set(m, "stage", "%u", index);
        checkpoint_meta_set(m, "stage_name", "%s", stage->spec->stage.name ? stage->spec->stage.name : "");
        config_hash(&run->config, hex);
        (void) weights_set_config(m, &run->config, NULL); /* without memory it lacks the key, and is whole otherwise */
        checkpoint_meta_set(m, "config_hash", "%s", hex);
        vocab_hash(run->vocab, hex);
        checkpoint_meta_set(m, "vocab_hash", "%s", hex);
        checkpoint_meta_set(m, "corpus_hash", "%s", corpus_hash);
        samples_map_hash(stage->train_samples, hex);
        checkpoint_meta_set(m, "window_map_hash", "%s", hex);
        fill_data(m, stage->spec, samples_options(stage->train_samples));
        fill_optimizer(m, stage->spec);
        fill_machine(m, run);
}

struct checkpoint_meta run_meta_now(const struct run *run) {
        struct checkpoint_meta meta = run->now->meta;
        char scale[64];

        loss_scale_format(&run->loss_scale, scale, sizeof(scale));
        checkpoint_meta_set(&meta, "loss_scale", "%s", scale);
        checkpoint_meta_set(&meta, "format", "%d", CHECKPOINT_FORMAT);
        checkpoint_meta_set(&meta, "step", "%" PRIu64, run->step);
        checkpoint_meta_set(&meta, "samples", "%" PRIu64, run->stage_step * run->spec->train.global_batch);
        checkpoint_meta_set(&meta, "schedule_step", "%" PRIu64, run->stage_step);
        checkpoint_meta_set(&meta, "correction_step", "%" PRIu64, run->correction_step);
        checkpoint_meta_set(&meta, "best_validation_loss", "%.17g", run->best_validation_loss);
        checkpoint_meta_set(&meta, "best_validation_step", "%" PRIu64, run->best_validation_step);
        return meta;
}

int run_meta_compare(const struct run *run, uint32_t stage, const struct checkpoint_meta *found, const char *path,
                     struct error *error) {
        char in_stage[32] = "";

        if (run->n_stages > 1)
                (void) snprintf(in_stage, sizeof(in_stage), "stage %u, ", stage);
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                const struct rule *rule = &rules[i];
                const char *then = checkpoint_meta_get(found, rule->key),
                           *now = checkpoint_meta_get(&run->stages[stage].meta, rule->key);
                if (!then && rule->policy == FIXED_OR_NONE)
                        then = NO_WEIGHTS;
                if (!then)
                        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key %s is missing", path,
                                           rule->key);
                if (rule->policy != SAID && strcmp(then, now) != 0)
                        return error_input(
                                error, BERTD_EXIT_CONFIG,
                                "%s: made with %s %s, the spec (%s%s) now gives %s: this may not change on resume",
                                path, rule->key, then, in_stage, rule->spec_key, now);
        }
        return 0;
}

void run_meta_say(const struct run *run, uint32_t stage, const struct checkpoint_meta *found) {
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                const char *then = checkpoint_meta_get(found, rules[i].key),
                           *now = checkpoint_meta_get(&run->stages[stage].meta, rules[i].key);
                if (rules[i].policy == SAID && strcmp(then, now) != 0)
                        (void) fprintf(stderr, "resuming with another %s: %s, was %s\n", rules[i].key, now, then);
        }
}
